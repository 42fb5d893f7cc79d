"""Do imports only ever point down, and does the core stay clear of the world?

The floors are those of the design: units and model (0), config (1), policy (2), loop (3), the edges (4), the
people's side (5). The checker takes the sources as text, so that the tests can also show it failing.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import balloond

Sources = Mapping[str, str]  # module name -> source

FLOORS = {
    "balloond": 0,  # the package itself: its version, nothing else
    "balloond.units": 0,
    "balloond.value": 0,
    "balloond.model": 0,
    "balloond.config": 1,
    "balloond.policy": 2,
    "balloond.diagnosis": 2,  # judgement over values that an edge has read
    "balloond.loop": 3,
    "balloond.log": 3,  # how a line of the log looks: every edge may say something
    "balloond.host": 4,
    "balloond.sim": 4,
    "balloond.publish": 4,
    "balloond.control": 4,
    "balloond.notify": 4,
    "balloond.wake": 4,
    "balloond.daemon": 5,
    "balloond.doctor": 5,
    "balloond.cli": 5,
    "balloond.lab": 5,
    "balloond.__main__": 5,
}
EDGES = {name for name, floor in FLOORS.items() if floor == 4}
CORE = 2  # the highest floor that must not touch the world

# An allow-list: what is not known to be arithmetic on values is refused.
PURE = {
    *("__future__", "abc", "bisect", "collections", "dataclasses", "decimal", "enum", "fnmatch", "fractions"),
    *("functools", "heapq", "itertools", "math", "operator", "re", "statistics", "string", "types", "typing"),
}
EXCUSED = {
    "balloond.config": {"difflib", "ipaddress", "json"},  # text in, values out
    "balloond.config.document": {"pathlib", "yaml"},  # the one module of the core that opens a file
    "balloond.config.read": {"pathlib", "yaml"},  # is given a path, and reads nodes
}
WORLDLY_CALLS = {"open", "input", "exec", "eval", "compile", "__import__", "breakpoint"}


def test_every_import_of_balloond_points_down_and_its_core_is_pure() -> None:
    sources = _sources(Path(balloond.__file__).parent)
    assert len(sources) > 10, "the walk must have found the package"
    assert faults(sources) == []


def test_an_upward_import_is_found_even_inside_a_function() -> None:
    sources = {
        "balloond.policy.pace": "def late():\n    from balloond.loop import turn\n",
        "balloond.loop": "",
    }
    assert faults(sources) == ["balloond.policy.pace (floor 2) imports balloond.loop (floor 3)"]


def test_a_relative_upward_import_is_found() -> None:
    sources = {
        "balloond.policy": "from .. import daemon",
        "balloond.policy.demand": "from ..loop import turn",
    }
    assert faults({**sources, "balloond.daemon": "", "balloond.loop": ""}) == [
        "balloond.policy (floor 2) imports balloond.daemon (floor 5)",
        "balloond.policy.demand (floor 2) imports balloond.loop (floor 3)",
    ]


def test_an_edge_that_imports_another_edge_is_found() -> None:
    sources = {
        "balloond.sim.world": "from balloond.host.kernel import read_host",
        "balloond.host.kernel": "from balloond.host import files",
        "balloond.host.files": "",
    }
    assert faults(sources) == [
        "balloond.sim.world imports balloond.host.kernel: edges do not know each other"
    ]


def test_a_core_module_that_touches_the_world_is_found() -> None:
    for name in (
        "os",
        "time",
        "random",
        "logging",
        "threading",
        "subprocess",
        "socket",
        "asyncio",
        "libvirt",
    ):
        found = faults({"balloond.policy.decide": f"import {name}"})
        assert found == [f"balloond.policy.decide (floor 2) imports {name}, which is not known to be pure"]
    assert faults({"balloond.model": "from os.path import join"})
    assert faults({"balloond.config.settings": "import yaml"})
    assert faults({"balloond.policy.decide": "import time as bisect"})


def test_a_core_module_that_opens_a_file_without_an_import_is_found() -> None:
    assert faults({"balloond.units": "text = open('/proc/meminfo').read()"}) == [
        "balloond.units calls open()"
    ]


def test_a_module_without_a_floor_is_found() -> None:
    assert faults({"balloond.helper": ""}) == ["balloond.helper stands on no floor"]


def test_downward_imports_and_edges_that_touch_the_world_are_fine() -> None:
    sources = {
        "balloond.daemon": "import os\nfrom balloond.host import kernel\nfrom balloond.publish.web import serve",
        "balloond.host": "",
        "balloond.host.kernel": "import time\nfrom balloond import __version__\nfrom balloond.model import Host",
        "balloond.publish.web": "import socket\nfrom balloond.loop import Publisher",
        "balloond.model": "import enum\nfrom collections.abc import Sequence",
        "balloond.loop": "",
        "balloond": "",
    }
    assert faults(sources) == []


def faults(sources: Sources) -> list[str]:
    """Every breach of the floors, in words, by module name."""
    return [fault for module in sorted(sources) for fault in _faults_of(module, sources)]


def _faults_of(module: str, sources: Sources) -> Iterator[str]:
    floor = _floor(module)
    if floor is None:
        yield f"{module} stands on no floor"
        return
    tree = ast.parse(sources[module])
    for target in sorted(set(_imports(tree, module, sources))):
        if target.split(".")[0] == "balloond":
            yield from _downward(module, floor, target)
        elif floor <= CORE and target.split(".")[0] not in _allowed(module):
            yield f"{module} (floor {floor}) imports {target}, which is not known to be pure"
    if floor <= CORE:
        calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
        names = {call.id for call in calls if isinstance(call, ast.Name)}
        yield from (f"{module} calls {name}()" for name in sorted(names & WORLDLY_CALLS))


def _downward(module: str, floor: int, target: str) -> Iterator[str]:
    reached = _floor(target)
    if reached is None:
        yield f"{module} imports {target}, which stands on no floor"
    elif reached > floor:
        yield f"{module} (floor {floor}) imports {target} (floor {reached})"
    elif floor == 4 and reached == 4 and _place(module) != _place(target):
        yield f"{module} imports {target}: edges do not know each other"


def _imports(tree: ast.Module, module: str, sources: Sources) -> Iterator[str]:
    """The modules that a source imports, wherever in it, by their full names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = _absolute(node, module, sources)
            for alias in node.names:
                inner = f"{origin}.{alias.name}"
                yield inner if inner in sources else origin


def _absolute(node: ast.ImportFrom, module: str, sources: Sources) -> str:
    if node.level == 0:
        return node.module or ""
    is_package = any(name.startswith(f"{module}.") for name in sources)
    package = module.split(".") if is_package else module.split(".")[:-1]
    kept = package[: len(package) - node.level + 1]
    return ".".join([*kept, *([node.module] if node.module else [])])


def _place(module: str) -> str:
    """The entry of FLOORS that a module belongs to."""
    return module if module in ("balloond", "balloond.__main__") else ".".join(module.split(".")[:2])


def _floor(module: str) -> int | None:
    return FLOORS.get(_place(module))


def _allowed(module: str) -> set[str]:
    return PURE | EXCUSED.get(_place(module), set()) | EXCUSED.get(module, set())


def _sources(package: Path) -> dict[str, str]:
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = [package.name, *path.relative_to(package).with_suffix("").parts]
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = path.read_text(encoding="utf-8")
    return found
