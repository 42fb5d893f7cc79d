"""What did the operator ask for? The values, with their defaults; reading them from YAML is `config.read`.

An empty file means exactly `Config()`, which is safe on any host.
"""

from __future__ import annotations

import enum
import fnmatch
from dataclasses import dataclass

from balloond.units import GIB, MIB


class Mode(enum.StrEnum):
    ACTIVE = "active"
    OBSERVE = "observe"  # decides, logs and exports; never touches a guest


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """A size in bytes, or a share (0 to 1) of something that the host or the guest has."""

    size: int | None = None
    share: float | None = None

    def of(self, whole: int) -> int:
        """Bytes, given what a share is a share of."""
        if self.size is not None:
            return self.size
        assert self.share is not None  # noqa: S101  (one of the two is set; config.read sees to it)
        return int(self.share * whole)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestPolicy:
    """How one guest is to be treated."""

    manage: bool = True
    minimum: Amount = Amount(share=0.25)  # the guarantee; a share is of the guest's maximum
    maximum: Amount | None = None  # None: the guest's own maximum
    shares: int = 1000  # weight in dividing what is left; twice the shares, twice the claim


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestRule:
    """Guests for which every given pattern fits get `policy`. Patterns are shell globs, case-sensitive."""

    policy: GuestPolicy
    name: str | None = None
    uuid: str | None = None
    title: str | None = None

    def fits(self, uuid: str, name: str, title: str) -> bool:
        pairs = ((self.uuid, uuid), (self.name, name), (self.title, title))
        return all(pattern is None or fnmatch.fnmatchcase(text, pattern) for pattern, text in pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPolicy:
    memory: int | None = None  # the pool, where it is to be less than the host or its cgroup has
    reserve: Amount = Amount(size=1 * GIB)  # never given away
    pool: Amount = Amount(share=0.05)  # kept free for growth


class KsmMode(enum.StrEnum):
    LEAVE = "leave"  # merging is as somebody else set it
    STEER = "steer"
    OFF = "off"  # nothing is merged, and what is merged is taken apart when there is room


@dataclass(frozen=True, slots=True, kw_only=True)
class KsmPolicy:
    mode: KsmMode = KsmMode.LEAVE  # merging between tenants is a risk that only the operator can take
    cpu: float = (
        0.7  # of one processor, the most for ksmd at the worst; the kernel's advisor has the same default
    )
    restore: bool = True  # at a stop


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    host: str = "127.0.0.1"
    port: int = 9710


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    mode: Mode = Mode.ACTIVE
    interval_s: float = 2.0
    libvirt_uri: str = "qemu:///system"
    host: HostPolicy = HostPolicy()
    ksm: KsmPolicy = KsmPolicy()
    defaults: GuestPolicy = GuestPolicy()
    guests: tuple[GuestRule, ...] = ()
    metrics: Listen | None = Listen()  # None: no port is opened
    control_socket: str = "/run/balloond/control.sock"
    state_directory: str = "/run/balloond"  # what must be put back at exit is noted here

    def policy_for(self, uuid: str, name: str, title: str) -> GuestPolicy:
        """The first rule that fits, else the defaults."""
        for rule in self.guests:
            if rule.fits(uuid, name, title):
                return rule.policy
        return self.defaults


SMALLEST_GUEST = 96 * MIB
"""No target is ever below this: a stock Linux kernel needs about 60 MiB for itself, and a guest set to 60 MiB
was left stuck at 74 with 4 usable (Debian's 6.1 cloud kernel)."""
