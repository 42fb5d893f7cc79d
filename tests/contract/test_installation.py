"""What does `vagrant/provision/2-install.sh` leave behind when something fails in the midst of it?

The script itself runs, as root in a view of the file system of its own: what it writes is gone with that. pip and
systemd are stand-ins that note what they are asked for, and fail on demand.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.image.disk import ALONE

pytestmark = pytest.mark.contract

TREE: Final = Path(__file__).parents[2]
STAND_INS: Final = {
    "systemctl": """
case "$1" in
  is-active) [ -e "$WORLD/active" ] ;;
  restart) [ ! -e "$WORLD/fails-restart" ] && cp "$WORLD/program" "$WORLD/active" ;;
esac""",
    "systemd-sysusers": "",
    "journalctl": "",
    "ln": "",
    "pip": """
shift 2  # --quiet --disable-pip-version-check
case "$*" in
  wheel*) [ ! -e "$WORLD/fails-build" ] && mkdir -p "$4" && cp "$5/balloond/word" "$4/balloond.whl" ;;
  install*--requirement*) [ ! -e "$WORLD/fails-dependencies" ] ;;
  install*) cp "${@: -1}" "$WORLD/program" ;;
  uninstall*) rm -f "$WORLD/program" ;;
esac""",
    "python": 'exec python3 "$@"',
}
IN_A_VIEW_OF_ITS_OWN: Final = """
set -e
for folder in /etc /opt /usr/share/doc; do
  mkdir -p "$WORLD/view$folder"
  mount --bind "$WORLD/view$folder" "$folder"
done
PATH=$WORLD/bin:$PATH "$WORLD/tree/vagrant/provision/2-install.sh"
"""


class World:
    """A host with a tree to install from."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.tree = home / "tree"
        self.opt = home / "view/opt/balloond"
        for name in ("systemd", "vagrant", "etc"):
            shutil.copytree(TREE / name, self.tree / name, ignore=shutil.ignore_patterns(".vagrant"))
        (self.tree / "docs").mkdir()
        (self.tree / "docs/operating.md").write_text("a page")
        (self.tree / "balloond").mkdir()
        for name in ("pyproject.toml", "README.md"):
            shutil.copy(TREE / name, self.tree)
        for folder in (home / "bin", self.opt / "bin"):
            folder.mkdir(parents=True)
            for name, does in STAND_INS.items():
                (folder / name).write_text(f"#!/bin/bash\n{does}\n")
                (folder / name).chmod(0o755)
        self.write("first")

    def write(self, word: str) -> None:
        """The program's source."""
        (self.tree / "balloond/word").write_text(word)

    def install(self) -> str | None:
        """What the script says; None: it failed."""
        done = subprocess.run(
            [*ALONE, "bash", "-c", IN_A_VIEW_OF_ITS_OWN],
            env=os.environ | {"WORLD": str(self.home)},
            capture_output=True,
            text=True,
            check=False,
        )
        print(done.stdout, done.stderr)  # for a person, where a test fails
        return None if done.returncode else done.stdout

    def fails(self, what: str, *, from_now_on: bool = True) -> None:
        file = self.home / f"fails-{what}"
        if from_now_on:
            file.touch()
        else:
            file.unlink()

    @property
    def installed(self) -> str | None:
        return _text(self.home / "program")

    @property
    def running(self) -> str | None:
        return _text(self.home / "active")


def _text(file: Path) -> str | None:
    return file.read_text() if file.exists() else None


@pytest.fixture
def world(tmp_path: Path) -> World:
    if os.geteuid() != 0:
        pytest.skip("a view of the file system of one's own needs root")
    world = World(tmp_path)
    assert world.install() is not None
    assert world.installed == world.running == "first"
    return world


def test_a_second_run_does_not_restart_the_daemon(world: World) -> None:
    said = world.install()
    assert said is not None
    assert "up to date" in said


@pytest.mark.parametrize("what", ["build", "dependencies"])
def test_an_update_that_cannot_be_made_leaves_the_former_program(world: World, what: str) -> None:
    world.write("second")
    world.fails(what)
    assert world.install() is None
    assert world.installed == world.running == "first"
    world.fails(what, from_now_on=False)
    assert world.install() is not None
    assert world.installed == world.running == "second"


def test_after_an_update_that_did_not_start_the_former_tree_can_be_installed_again(world: World) -> None:
    world.write("second")
    world.fails("restart")
    assert world.install() is None
    world.fails("restart", from_now_on=False)
    world.write("first")
    assert world.install() is not None
    assert world.installed == world.running == "first"


def test_a_restart_that_failed_is_made_up_for_by_the_next_run(world: World) -> None:
    world.write("second")
    world.fails("restart")
    assert world.install() is None
    world.fails("restart", from_now_on=False)
    assert world.install() is not None
    assert world.running == "second"


def test_a_page_of_the_manual_alone_restarts_nothing(world: World) -> None:
    (world.tree / "docs/new.md").write_text("a page")
    said = world.install()
    assert said is not None
    assert "new.md" in said
    assert "up to date" in said


def test_a_changed_unit_restarts_the_daemon(world: World) -> None:
    with (world.tree / "systemd/balloond.service").open("a") as unit:
        unit.write("# changed\n")
    said = world.install()
    assert said is not None
    assert "balloond runs" in said
