"""Do systemd, the shell's checker, Prometheus and Vagrant accept the files that are made for them?

What can be said of them without a host: `make test-host` says the rest. `tools/bootstrap tests` brings the tools;
a test is skipped only where one is not here and apt has none.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
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


PACKAGES = {
    **{"systemd-analyze": "systemd", "systemd-sysusers": "systemd"},
    **{"promtool": "prometheus", "shellcheck": "shellcheck", "vagrant": "vagrant", "ruby": "ruby"},
}
"""By tool."""


def tool(name: str) -> str:
    """Its path. Skips where neither it is here nor apt could bring it."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if found is None and not apt_has(PACKAGES[name]):
        pytest.skip(f"no {name} here, and apt has no {PACKAGES[name]}")
    assert found is not None, f"no {name} here: run tools/bootstrap tests"
    return found


def apt_has(package: str) -> bool:
    if shutil.which("apt-cache") is None:
        return False
    return subprocess.run(["apt-cache", "show", package], capture_output=True, check=False).returncode == 0


def said(name: str, *arguments: str, folder: Path = TREE, **environment: str) -> str:
    """What the tool says; empty when it says nothing of fault."""
    done = subprocess.run(
        (tool(name), *arguments),
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
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


@pytest.mark.parametrize("page", ["README.md", "docs/real-hosts.md", "vagrant/provision/2-install.sh"])
def test_whoever_installs_has_the_pages_that_the_unit_refers_to(page: str) -> None:
    unit = (TREE / "systemd/balloond.service").read_text()
    folder, name = re.findall(r"^Documentation=file://(\S+)/(\S+)$", unit, re.MULTILINE)[0]
    assert (TREE / "docs" / name).is_file()
    assert folder in (TREE / page).read_text()


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


def vagrant(folder: Path, **environment: str) -> str:
    """What Vagrant says of its file."""
    own = {"VAGRANT_DOTFILE_PATH": str(folder / "dot"), "VAGRANT_HOME": str(folder / "home")}
    return said("vagrant", "validate", folder=TREE / "vagrant", **own, **environment)


@pytest.mark.parametrize(
    "environment",
    [{}, {"BALLOOND_MEMORY": "", "BALLOOND_BOX": "", "BALLOOND_SECOND": ""}, {"BALLOOND_SECOND": "yes"}],
)
def test_vagrant_takes_its_file(environment: dict[str, str], tmp_path: Path) -> None:
    assert not vagrant(tmp_path, **environment)


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("BALLOOND_MEMORY", "much", "balloond: BALLOOND_MEMORY=much is no number above zero"),
        ("BALLOOND_CPUS", "0", "balloond: BALLOOND_CPUS=0 is no number above zero"),
        ("BALLOOND_SECOND", "perhaps", "balloond: BALLOOND_SECOND=perhaps is neither yes nor no"),
    ],
)
def test_a_wrong_setting_of_the_vagrant_machines_is_told_in_a_line(
    variable: str, value: str, told: str, tmp_path: Path
) -> None:
    complaint = vagrant(tmp_path, **{variable: value})
    assert complaint.startswith(told)
    assert complaint.count("\n") == 1


NESTED = "sys/module/kvm_intel/parameters/nested"
ADVICE = """
module Vagrant; def self.configure(_); end; end
load "vagrant/Vagrantfile"
print nested_advice(ARGV[0].to_sym, ARGV[1])
"""


@pytest.mark.parametrize(
    ("provider", "flags", "nested", "told"),
    [
        ("libvirt", "fpu vmx", "Y", ""),
        ("libvirt", "fpu vmx", "N", "options kvm_intel nested=1"),
        ("libvirt", "fpu vmx", None, "neither kvm_intel nor kvm_amd is loaded"),
        ("libvirt", "fpu", None, "Switch it on in the firmware"),
        ("virtualbox", "svm fpu", None, ""),  # which does without KVM's modules
        ("virtualbox", "fpu svm_lock", None, "Switch it on in the firmware"),
    ],
)
def test_whoever_has_no_nested_virtualisation_is_told_how_to_get_it_from_the_provider_in_use(
    provider: str, flags: str, nested: str | None, told: str, tmp_path: Path
) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(f"flags\t\t: {flags}\n")
    if nested is not None:
        (tmp_path / NESTED).parent.mkdir(parents=True)
        (tmp_path / NESTED).write_text(f"{nested}\n")
    advice = subprocess.run(
        [tool("ruby"), "-e", ADVICE, provider, str(tmp_path)],
        cwd=TREE,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert told in advice
    assert bool(advice) is bool(told)


def test_two_machines_know_each_other_and_themselves_by_their_addresses(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n127.0.1.1 one one\n127.0.2.1 other one\n::1  ip6-localhost\n")
    wanted = (
        "127.0.0.1 localhost\n127.0.2.1 other\n::1  ip6-localhost\n192.168.56.11 one\n192.168.56.12 two\n"
    )
    names = (str(hosts), "192.168.56.11", "one", "192.168.56.12", "two")
    for _ in range(2):
        subprocess.run([TREE / "vagrant/names.sh", *names], check=True)
        assert hosts.read_text() == wanted
