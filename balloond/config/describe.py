"""What will the daemon do under this configuration, in a few lines for a person?

Only the configuration is looked at, so nothing is said of this host: `25%` stays `25%`.
"""

from __future__ import annotations

from typing import assert_never

from balloond.config.contradictions import describe_amount
from balloond.config.settings import (
    Config,
    GuestPolicy,
    GuestRule,
    HostPolicy,
    KsmMode,
    KsmPolicy,
    Listen,
    Mode,
)
from balloond.units import format_size


def describe(config: Config) -> str:
    """A line each for mode, host, guests, every rule, metrics and control; without a final line break."""
    lines = [
        _mode(config),
        f"host: {_host(config.host)}",
        f"merging: {_ksm(config.ksm)}",
        f"guests: {_policy(config.defaults)}",
        *(f"  rule {number}: {_rule(rule)}" for number, rule in enumerate(config.guests, start=1)),
        f"metrics: {_listen(config.metrics)}",
        f"control: {config.control_socket}; state in {config.state_directory}",
    ]
    return "\n".join(lines)


def _mode(config: Config) -> str:
    does = "decides and acts" if config.mode is Mode.ACTIVE else "decides and exports, and touches no guest,"
    return f"mode: {config.mode.value}: {does} every {config.interval_s:g} s, over {config.libvirt_uri}"


def _host(host: HostPolicy) -> str:
    memory = (
        "all that the host or the guests' cgroup has" if host.memory is None else format_size(host.memory)
    )
    reserve, pool = describe_amount(host.reserve), describe_amount(host.pool)
    return f"{memory}, less a reserve of {reserve}, with {pool} kept free for growth"


def _ksm(ksm: KsmPolicy) -> str:
    match ksm.mode:
        case KsmMode.LEAVE:
            return "left as it is"
        case KsmMode.OFF:
            return "none; what is merged is taken apart when there is room"
        case KsmMode.STEER:
            after = "put back at a stop" if ksm.restore else "left so at a stop"
            return f"as far as it pays, with at most {ksm.cpu:.0%} of a processor; {after}"
        case _:
            assert_never(ksm.mode)


def _policy(policy: GuestPolicy) -> str:
    if not policy.manage:
        return "watched, never touched"
    maximum = "their own maximum" if policy.maximum is None else _of_maximum(policy.maximum.share, policy)
    return f"at least {_minimum(policy)}, at most {maximum}, {policy.shares} shares"


def _minimum(policy: GuestPolicy) -> str:
    amount = describe_amount(policy.minimum)
    return amount if policy.minimum.size is not None else f"{amount} of their maximum"


def _of_maximum(share: float | None, policy: GuestPolicy) -> str:
    assert policy.maximum is not None  # noqa: S101  (the caller asked)
    amount = describe_amount(policy.maximum)
    return amount if share is None else f"{amount} of it"


def _rule(rule: GuestRule) -> str:
    patterns = (("name", rule.name), ("uuid", rule.uuid), ("title", rule.title))
    fits = " and ".join(f"{key} {pattern}" for key, pattern in patterns if pattern is not None)
    return f"{fits}: {_policy(rule.policy)}"


def _listen(listen: Listen | None) -> str:
    if listen is None:
        return "no port is opened"
    host = f"[{listen.host}]" if ":" in listen.host else listen.host
    return f"http://{host}:{listen.port}/metrics" if listen.port else f"a free port of {host}"
