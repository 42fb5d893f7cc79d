"""Does `vagrant/check.sh` leave a host as it found it, and fail where a half of it does?

The script itself, over stand-ins for Python and systemctl that note what they are asked for; see
test_installation.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.image.disk import ALONE

pytestmark = pytest.mark.contract

CHECK: Final = Path(__file__).parents[2] / "vagrant/check.sh"
SYSTEMCTL: Final = 'echo "$*" >>"$WORLD/asked"'
PYTHON: Final = """
case "$*" in
  *" end_to_end "*) echo "$*" >>"$WORLD/asked"; eval "$AT_END_TO_END" ;;
  *probe) echo tcg ;;
esac"""


@pytest.fixture
def world(tmp_path: Path) -> Path:
    if os.geteuid() != 0:
        pytest.skip("a view of the file system of one's own needs root")
    for name, does in {"bin/systemctl": SYSTEMCTL, "opt/balloond/bin/python": PYTHON}.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(f"#!/bin/bash\n{does}\n")
        (tmp_path / name).chmod(0o755)
    return tmp_path


def report(world: Path, **environment: str) -> tuple[int, list[str]]:
    """The script's exit status, and what the stand-ins were asked for."""
    does = 'mount --bind "$WORLD/opt" /opt && PATH=$WORLD/bin:$PATH "$0" no-check; exit $?'
    done = subprocess.run(
        [*ALONE, "bash", "-c", does, str(CHECK)],
        env=os.environ | {"WORLD": str(world), "AT_END_TO_END": "true"} | environment,
        stdout=subprocess.DEVNULL,
        check=False,
    )
    asked = world / "asked"
    return done.returncode, asked.read_text().splitlines() if asked.exists() else []


def test_the_daemon_is_stopped_for_the_end_to_end_tests_and_started_again(world: Path) -> None:
    status, (first, tests, last) = report(world)
    assert (status, first, last) == (0, "stop balloond", "start balloond")
    assert tests.endswith("-m end_to_end tests/end_to_end")


@pytest.mark.parametrize("how", ["false", "kill -TERM $PPID"])
def test_the_daemon_is_started_again_however_these_tests_end(world: Path, how: str) -> None:
    status, asked = report(world, AT_END_TO_END=how)
    assert status != 0
    assert asked[-1] == "start balloond"


def test_some_of_them_can_be_chosen_or_none(world: Path) -> None:
    assert report(world, END_TO_END="no") == (0, [])
    assert report(world, END_TO_END="one or other")[1][1].endswith(
        "-m end_to_end -k one or other tests/end_to_end"
    )
