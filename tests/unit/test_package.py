"""Is everything that the package needs installed with it?"""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "balloond"


def test_every_file_of_the_package_that_is_no_module_is_installed_with_it() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    installed = {path for pattern in settings["balloond"] for path in PACKAGE.glob(pattern)}
    there = {path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert sorted(there - installed) == []


def test_every_dependency_is_imported_somewhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    sources = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    modules = {"libvirt-python": "libvirt", "prometheus-client": "prometheus_client", "pyyaml": "yaml"}
    for dependency in project["dependencies"]:
        name = dependency.partition(">=")[0]
        module = modules.get(name, name)
        assert f"import {module}" in sources or f"from {module}" in sources, name
