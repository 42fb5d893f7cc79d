"""Which parts of the configuration can't be meant together?

Each key by itself is sound here; what is asked is whether they fit. A part that already has a fault of its own
is left out, so that one mistake is told once.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from balloond.config.form import POLICY_NAMES
from balloond.config.settings import Amount, Config, GuestPolicy, GuestRule
from balloond.units import MIB, format_size

Contradiction = tuple[str, str]
"""The path of the key that is told off, which the file has, and the text: what is wrong; what would be right."""

_WILD: Final = re.compile(r"\[!?\]?[^\]]*\]|[*?]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What the file itself says of the keys, beside their values."""

    present: Collection[str]  # paths of keys that were given and are sound
    broken: Collection[str]  # paths of keys that have a fault

    def sets(self, path: str) -> bool:
        return path in self.present

    def sound(self, *paths: str) -> bool:
        return not any(path in self.broken for path in paths)


def contradictions(config: Config, written: Written) -> Iterator[Contradiction]:
    """Every contradiction, in no particular order."""
    yield from _room(config, written)
    yield from _bounds("defaults", config.defaults, written)
    for index, rule in enumerate(config.guests):
        yield from _rule(f"guests[{index}]", rule.policy, written)
    yield from _out_of_reach(config.guests, written)
    if config.control_socket == config.state_directory:
        path = "control.socket" if written.sets("control.socket") else "state.directory"
        yield (
            path,
            f"the socket and the state directory are both {config.state_directory}; give each its own path",
        )


def describe_amount(amount: Amount) -> str:
    """An amount for people: `1 GiB` or `5%`."""
    if amount.size is not None:
        return format_size(amount.size)
    return f"{(amount.share or 0) * 100:g}%"


def _room(config: Config, written: Written) -> Iterator[Contradiction]:
    """Reserve and pool must leave something for guests, and a guarantee must fit into what they leave."""
    host = config.host
    if not written.sound("host.memory", "host.reserve", "host.pool"):
        return
    kept = f"reserve {describe_amount(host.reserve)} and pool {describe_amount(host.pool)}"
    if host.memory is None:
        if (host.reserve.share or 0) + (host.pool.share or 0) >= 1:
            path = "host.reserve" if written.sets("host.reserve") else "host.pool"
            yield path, f"{kept} are all that the host has; write less, such as 1GiB and 5%"
        return
    left = host.memory - host.reserve.of(host.memory) - host.pool.of(host.memory)
    if left <= 0:
        yield (
            "host.memory",
            f"{kept} leave nothing of {format_size(host.memory)}; write more memory or keep less",
        )
        return
    for where, policy in _policies(config):
        size = policy.minimum.size
        if size is not None and size > left and policy.manage and written.sets(f"{where}.minimum"):
            wanted = f"write at most {left // MIB}MiB, or more host.memory"
            yield (
                f"{where}.minimum",
                f"{format_size(size)} can't be had: {kept} leave {format_size(left)}; {wanted}",
            )


def _rule(where: str, policy: GuestPolicy, written: Written) -> Iterator[Contradiction]:
    given = [name for name in POLICY_NAMES if name != "manage" and written.sets(f"{where}.{name}")]
    if policy.manage:
        if any(name in given for name in ("minimum", "maximum")):
            yield from _bounds(where, policy, written)
    elif given and written.sound(f"{where}.manage", "defaults.manage"):
        own = written.sets(f"{where}.manage")
        wanted = f"remove {' and '.join(given)}, or write manage: true"
        source = "manage: false leaves" if own else "manage: false, from defaults, leaves"
        yield f"{where}.{given[0]}", f"{source} these guests alone, so that this does nothing; {wanted}"


def _bounds(where: str, policy: GuestPolicy, written: Written) -> Iterator[Contradiction]:
    """A size and a share can't be compared before the guest is seen; the policy then keeps the maximum."""
    low, high = policy.minimum, policy.maximum
    sources = {f"{place}.{name}" for place in (where, "defaults") for name in ("minimum", "maximum")}
    if high is None or not written.sound(*sources):
        return
    sizes = low.size is not None and high.size is not None and low.size > high.size
    shares = low.share is not None and high.share is not None and low.share > high.share
    if not (sizes or shares):
        return
    own = written.sets(f"{where}.minimum")
    inherited = "" if where == "defaults" else ", from defaults,"
    minimum = f"minimum {describe_amount(low)}{'' if own else inherited}"
    maximum = f"maximum {describe_amount(high)}{'' if written.sets(f'{where}.maximum') else inherited}"
    path = f"{where}.{'minimum' if own else 'maximum'}"
    yield (
        path,
        f"{minimum} is more than {maximum.rstrip(',')}; write a minimum of at most {describe_amount(high)}",
    )


def _policies(config: Config) -> Iterator[tuple[str, GuestPolicy]]:
    yield "defaults", config.defaults
    for index, rule in enumerate(config.guests):
        yield f"guests[{index}]", rule.policy


def _out_of_reach(rules: tuple[GuestRule, ...], written: Written) -> Iterator[Contradiction]:
    """Rules that no guest gets to, since an earlier one fits all that they fit."""
    usable = [pair for pair in enumerate(rules) if _whole(pair[1], f"guests[{pair[0]}].match", written)]
    for place, (index, rule) in enumerate(usable):
        for earlier_index, earlier in usable[:place]:
            if _covers(earlier, rule):
                why = f"guests[{earlier_index}] takes every guest that this rule fits"
                yield f"guests[{index}].match", f"{why}; move this rule before it, or remove one"
                break


def _whole(rule: GuestRule, path: str, written: Written) -> bool:
    """Whether the rule has a pattern, and none that is left out for its fault."""
    given = any(pattern is not None for pattern in (rule.name, rule.uuid, rule.title))
    return given and written.sound(path, *(f"{path}.{name}" for name in ("name", "uuid", "title")))


def _covers(earlier: GuestRule, later: GuestRule) -> bool:
    pairs = ((earlier.name, later.name), (earlier.uuid, later.uuid), (earlier.title, later.title))
    return all(_fits_all_of(wide, narrow) for wide, narrow in pairs)


def _fits_all_of(wide: str | None, narrow: str | None) -> bool:
    """Whether `wide` surely fits everything that `narrow` fits. False where that would take a proof.

    With `*` as the only wildcard in `wide`, each wildcard of `narrow` may be taken for one strange character:
    only a `*` of `wide` can fit that, and it then fits whatever the wildcard stood for.
    """
    if wide is None or wide == narrow or not wide.strip("*"):
        return True
    if narrow is None or any(wild in wide for wild in "?["):
        return False
    return fnmatch.fnmatchcase(_WILD.sub("\0", narrow), wide)
