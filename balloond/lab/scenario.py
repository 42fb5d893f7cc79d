"""Which guests, in how much memory, are asked for what and when? Read from YAML files.

Times are shares of the scenario's length, so that it can be played faster or slower. A file that makes no sense
is one LabError that names the file and the place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from balloond.lab.domain import Machine
from balloond.lab.faults import LabError
from balloond.units import parse_duration, parse_share, parse_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """From a time on, some guests have this order."""

    at: float  # share of the scenario's length
    guests: tuple[int, ...]  # counted from 1
    orders: tuple[str, ...]  # as workload.c knows them


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    title: str
    length_s: float
    pool: int
    swap: int
    machines: tuple[Machine, ...]
    phases: tuple[Phase, ...]
    daemon: Mapping[str, Any] | None = field(hash=False)  # its configuration's keys; None: no daemon

    @property
    def claimed(self) -> int:
        """What the guests together were promised."""
        return sum(machine.memory for machine in self.machines)

    @property
    def overcommit(self) -> float:
        return self.claimed / self.pool


def named(name: str, *, without_daemon: bool = False) -> Scenario:
    """The lab's own scenario of that name, or the one in that file."""
    folder = resources.files("balloond.lab") / "scenarios"
    for candidate in (folder / f"{name}.yaml", Path(name)):
        if candidate.is_file():
            scenario = parse(candidate.read_text(), name)
            return replace(scenario, daemon=None) if without_daemon else scenario
    known = sorted(file.name.removesuffix(".yaml") for file in folder.iterdir())
    raise LabError(f"there is no scenario {name!r}; the lab's own are {', '.join(known)}")


def parse(text: str, source: str) -> Scenario:
    """The scenario in a YAML text. Raises LabError."""
    try:
        content = yaml.safe_load(text)
        machines = tuple(
            machine
            for entry in content["guests"]
            for machine in [_machine(entry)] * int(entry.get("count", 1))
        )
        return Scenario(
            title=str(content["title"]),
            length_s=parse_duration(str(content["length"])),
            pool=parse_size(str(content["pool"])),
            swap=parse_size(str(content.get("swap", "0B"))),
            machines=machines,
            phases=tuple(_phase(entry, len(machines)) for entry in content["phases"]),
            daemon=content.get("daemon", {}),
        )
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise LabError(f"scenario {source}: {type(error).__name__}: {error}") from error


def _machine(entry: Mapping[str, Any]) -> Machine:
    sizes: dict[str, Any] = {key: parse_size(str(entry[key])) for key in ("memory", "swap") if key in entry}
    rest = {key: value for key, value in entry.items() if key not in ("count", "memory", "swap")}
    return Machine(**sizes, **rest)


def _phase(entry: Mapping[str, Any], count: int) -> Phase:
    given = entry["guests"]
    guests = tuple(range(1, count + 1)) if given == "all" else tuple(map(int, given))
    if not all(1 <= guest <= count for guest in guests):
        raise ValueError(f"phase at {entry['at']} names guest {max(guests)} of {count}")
    orders = entry["do"]
    return Phase(
        at=parse_share(str(entry["at"])),
        guests=guests,
        orders=(orders,) if isinstance(orders, str) else tuple(orders),
    )
