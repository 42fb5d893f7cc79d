"""Do systemd, the shell's checker, Prometheus and Vagrant accept the files that are made for them?

What can be said of them without a host: `make test-host` says the rest. Where a tool is not here, its test is
skipped.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.host import sandbox_probe

pytestmark = pytest.mark.contract

TREE = Path(__file__).parents[2]
SCRIPTS = sorted(
    str(path.relative_to(TREE))
    for pattern in ("vagrant/**/*.sh", "tests/image/*.sh", "tools/bootstrap", ".ci/run")
    for path in TREE.glob(pattern)
)


def said(*command: str, folder: Path = TREE, **environment: str) -> str:
    """What the tool says; empty when it says nothing. Skips where there is no such tool."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]} here")
    done = subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    return f"{done.stdout}{done.stderr}" if done.returncode else ""


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A root directory with the unit and the programs that it starts, for systemd to look at."""
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    shutil.copy(TREE / "systemd/balloond.service", units)
    for program in ("usr/bin/balloond", "bin/kill"):
        (tmp_path / program).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / program).touch(mode=0o755)
    for needed in ("machine.slice", "system.slice", "basic.target", "sysinit.target", "multi-user.target"):
        (units / needed).write_text("[Unit]\n")
    return tmp_path


def test_systemd_knows_every_directive_of_the_unit(host: Path) -> None:
    complaints = said(
        *("systemd-analyze", "verify", "--man=no", "--recursive-errors=no"),
        *(f"--root={host}", "/etc/systemd/system/balloond.service"),
    )
    assert not complaints


def test_the_unit_s_exposure_is_two_or_better(host: Path) -> None:
    assert not said(
        *("systemd-analyze", "security", "--no-pager", "--offline=yes", "--threshold=20"),
        *(f"--root={host}", "balloond.service"),
    )


def test_every_secret_that_the_unit_hides_is_tried_on_a_real_host() -> None:
    unit = (TREE / "systemd/balloond.service").read_text()
    hidden = re.findall(r"-(/\S+)", " ".join(re.findall(r"^InaccessiblePaths=(.*)", unit, re.MULTILINE)))
    assert sorted(hidden) == sorted(sandbox_probe.HIDDEN.values())


def test_systemd_makes_the_user_and_puts_it_into_libvirt_s_group(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    assert not said("systemd-sysusers", f"--root={tmp_path}", str(TREE / "systemd/sysusers.conf"))
    assert "\nballoond:" in "\n" + (tmp_path / "etc/passwd").read_text()
    groups = (tmp_path / "etc/group").read_text().splitlines()
    assert [line.rpartition(":")[2] for line in groups if line.startswith("libvirt:")] == ["balloond"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_shell_s_checker_is_content(script: str) -> None:
    assert not said("shellcheck", "--severity=style", "--exclude=SC1091", script)


def test_prometheus_takes_its_configuration() -> None:
    assert not said("promtool", "check", "config", "vagrant/prometheus.yml")


def test_vagrant_takes_its_file(tmp_path: Path) -> None:
    validate = ("vagrant", "validate", "--ignore-provider")
    assert not said(*validate, folder=TREE / "vagrant", VAGRANT_DOTFILE_PATH=str(tmp_path))
