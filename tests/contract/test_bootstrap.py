"""What does `tools/bootstrap` do on a machine without apt?"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

pytestmark = pytest.mark.contract

BOOTSTRAP: Final = Path(__file__).parents[2] / "tools/bootstrap"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def bootstrap(tmp_path: Path) -> Run:
    """Runs it with all of this machine's programs but apt-get, and some others."""

    def run(*words: str, without: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        for folder in (*os.environ["PATH"].split(":"), "/usr/sbin"):
            for program in Path(folder).glob("*"):
                if program.name not in {"apt-get", *without} and not (tmp_path / program.name).is_symlink():
                    (tmp_path / program.name).symlink_to(program)
        environment = os.environ | {"PATH": str(tmp_path), "PYTHON": sys.executable}
        return subprocess.run(
            [str(BOOTSTRAP), *words], env=environment, capture_output=True, text=True, check=False
        )

    return run


def test_without_apt_it_names_what_is_missing_and_nothing_else(bootstrap: Run) -> None:
    done = bootstrap("packages", without=("cpio", "virsh"))
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "bootstrap:   libvirt-clients cpio"


def test_without_apt_it_goes_on_where_nothing_is_missing(bootstrap: Run) -> None:
    done = bootstrap("packages")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
