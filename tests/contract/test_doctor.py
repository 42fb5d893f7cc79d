"""The doctor's visit: with a real libvirt, and with none; on this host, and on one of files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from balloond.cli import main
from balloond.config.settings import Config
from balloond.diagnosis.finding import Finding, Severity
from balloond.doctor import visit
from balloond.host.domain_xml import read_facts
from balloond.host.guests import Guests
from balloond.model import Obstacle, Result
from balloond.publish.findings import describe_findings
from balloond.units import GIB, MIB
from tests.contract.tiny_guests import URI, Stable, setting, virsh
from tests.fixtures.hosts import cgroup_v2, kernel, new_ksm, on_v2, plant, process
from tests.pasted import pasteable, printed

pytestmark = pytest.mark.contract

NOBODY = "qemu+unix:///system?socket=/nonexistent/libvirt-sock"


def of(findings: tuple[Finding, ...], subject: str) -> list[str]:
    return [finding.what for finding in findings if finding.subject == subject]


def test_without_libvirt_the_host_is_judged_all_the_same_and_it_says_so(tmp_path: Path) -> None:
    plant(tmp_path, kernel())
    findings = visit(Config(libvirt_uri=NOBODY, state_directory=str(tmp_path)), tmp_path)
    assert {finding.subject for finding in findings} == {"host"}
    assert any("libvirt does not answer" in finding.what for finding in pasteable(list(findings)))
    assert any("no /dev/kvm" in what or "neither VT-x" in what for what in of(findings, "host"))


def test_on_a_host_of_which_nothing_can_be_read_it_says_so_and_ends_well(tmp_path: Path) -> None:
    findings = visit(Config(libvirt_uri=NOBODY, state_directory=str(tmp_path)), tmp_path)
    assert any("the host's memory can't be read" in finding.what for finding in pasteable(list(findings)))


def test_each_guests_definition_is_judged(stable: Stable, tmp_path: Path) -> None:
    good = stable.start(GOOD)
    bad = stable.start(head="<memoryBacking><nosharepages/></memoryBacking>")
    bare = stable.start("<memballoon model='none'/>")
    findings = visit(Config(libvirt_uri=URI, state_directory=str(tmp_path)))
    assert of(findings, good.name) == ["its processor is emulated (TCG)"]
    assert set(of(findings, bad.name)) == {
        "its processor is emulated (TCG)",
        "free page reporting is off",
        "deflate-on-oom is off",
        "its pages are not merged (<nosharepages/>, or memory behind a file or memfd)",
    }
    assert "it has no virtio balloon" in of(findings, bare.name)
    assert not any("libvirt does not answer" in what for what in of(findings, "host"))


BAD = "<memballoon model='virtio' autodeflate='off' freePageReporting='off'><stats period='60'/></memballoon>"
GOOD = "<memballoon model='virtio' autodeflate='on' freePageReporting='on'/>"


def lines_for(name: str, findings: tuple[Finding, ...]) -> list[str]:
    """What a person is told to do for one guest."""
    mine = pasteable([finding for finding in findings if finding.subject == name])
    return [line for finding in mine for line in printed(describe_findings([finding], URI))]


@pytest.mark.parametrize("balloon", ["<memballoon model='none'/>", "<memballoon model='virtio'/>", BAD])
def test_what_is_said_of_a_shut_off_guest_is_mended_by_the_lines_that_are_printed(
    stable: Stable, tmp_path: Path, balloon: str
) -> None:
    tiny = stable.start(balloon, name='it\'s "quoted" \\ $HOME', order="define")
    config = Config(libvirt_uri=URI, state_directory=str(tmp_path))
    lines = lines_for(tiny.name, visit(config))
    assert lines
    nobodys = {**os.environ, "VISUAL": "false", "EDITOR": "false", "LIBVIRT_DEFAULT_URI": "test:///default"}
    for line in lines:
        subprocess.run(["bash", "-c", line], check=True, env=nobodys, stdin=subprocess.DEVNULL, timeout=30)
    assert lines_for(tiny.name, visit(config)) == []  # emulation too, where KVM could run it
    facts = read_facts(virsh("dumpxml", tiny.uuid))
    assert (facts.obstacle, facts.deflates_on_oom, facts.reports_free_pages) == (None, True, True)


def test_a_running_guest_whose_definition_is_mended_is_not_advised_of_again(
    stable: Stable, tmp_path: Path
) -> None:
    tiny = stable.start(BAD, order="define")
    virsh("start", tiny.uuid)
    config = Config(libvirt_uri=URI, state_directory=str(tmp_path))
    before = visit(config)
    for line in lines_for(tiny.name, before):
        subprocess.run(["bash", "-c", line], check=True, stdin=subprocess.DEVNULL, timeout=30)
    after = [each for each in visit(config) if each.subject == tiny.name]
    to_come = {each.what for each in before if each.subject == tiny.name and "edit GUEST" in each.command}
    assert {"free page reporting is off", "deflate-on-oom is off"} <= to_come
    assert {f"{what}: mended in its definition, counts from its next start" for what in to_come} <= {
        each.what for each in after if each.severity is Severity.TOLD
    }
    assert not any("edit GUEST" in each.command for each in after)
    assert "it tells its statistics each 60 s only" not in {each.what for each in after}


def test_a_guest_that_is_not_stored_is_known_as_such(stable: Stable, tmp_path: Path) -> None:
    tiny = stable.start(BAD)
    guests = Guests(uri=URI, period_s=2.0, state_directory=tmp_path, read_only=True)
    try:
        guests.observe(5.0, active=False)
        definitions, missing = guests.definitions(5.0)
    finally:
        guests.close()
    (mine,) = [each for each in definitions if each.guest.uuid == tiny.uuid]
    assert missing == ""
    assert (mine.stored, mine.architecture, mine.guest.deflates_on_oom) == (False, "x86_64", False)


def test_definitions_that_do_not_come_in_time_are_said_to_be_missing(stable: Stable, tmp_path: Path) -> None:
    stable.start(GOOD, order="define")
    guests = Guests(uri=URI, period_s=2.0, state_directory=tmp_path, read_only=True)
    try:
        guests.observe(5.0, active=False)
        assert guests.definitions(0.0) == ((), "definitions passed its deadline")
        definitions, missing = guests.definitions(5.0)
        assert definitions and not missing
    finally:
        guests.close()


def test_a_doctor_that_was_not_shown_every_definition_says_so(
    stable: Stable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stable.start(order="define")
    monkeypatch.setattr("balloond.doctor.DEFINITIONS_S", 0.0)
    findings = visit(Config(libvirt_uri=URI, state_directory=str(tmp_path)))
    (found,) = pasteable([finding for finding in findings if "not every guest's" in finding.what])
    assert (found.severity, found.why) == (Severity.ADVICE, "definitions passed its deadline")


def test_solvency_is_judged_without_a_daemon(stable: Stable, tmp_path: Path) -> None:
    stable.start(memory=300 * MIB)
    plant(tmp_path, kernel(total=256 * MIB, available=250 * MIB))
    findings = visit(Config(libvirt_uri=URI, state_directory=str(tmp_path)), tmp_path)
    short = [finding for finding in findings if "of swap on disk are missing" in finding.what]
    assert [finding.severity for finding in short] == [Severity.UNSAFE]
    assert "fallocate" in short[0].command


def test_guests_under_different_limits_are_unsafe(stable: Stable, tmp_path: Path) -> None:
    plant(tmp_path, kernel())
    for slice_, limit in (("gold", 8 * GIB), ("tin", 2 * GIB)):
        membership = on_v2(f"/{slice_}.slice/machine-qemu\\x2d1.scope")
        plant(tmp_path, process(stable.start().pid, membership) | cgroup_v2(f"/{slice_}.slice", limit=limit))
    findings = visit(Config(libvirt_uri=URI, state_directory=str(tmp_path)), tmp_path)
    (divided,) = [finding for finding in findings if "different memory limits" in finding.what]
    assert divided.severity is Severity.UNSAFE
    assert "/gold.slice 8 GiB, /tin.slice 2 GiB" in divided.why


def test_over_a_read_only_connection_guests_are_read_and_nothing_can_be_set(
    stable: Stable, tmp_path: Path
) -> None:
    tiny = stable.start("<memballoon model='virtio'><stats period='5'/></memballoon>")
    guests = Guests(uri=URI, period_s=2.0, state_directory=tmp_path, read_only=True)
    try:
        seen, _ = guests.observe(5.0, active=False)
        (mine,) = (guest for guest in seen or () if guest.uuid == tiny.uuid)
        assert mine.obstacle is not Obstacle.UNREADABLE
        assert mine.statistics_period_s == 5
        outcome = guests.set_target(setting(tiny, 32 * MIB), 2.0)
        assert outcome.result is Result.REFUSED
        version = guests.hypervisor(2.0)
        assert version is not None and version >= (5, 0, 0)
    finally:
        guests.close()


WELL_SET = """
<node><domain type='test' xmlns:test='http://libvirt.org/schemas/domain/test/1.0'><name>well-set</name>
  <memory unit='GiB'>2</memory><os><type>hvm</type></os>
  <devices><memballoon model='virtio' autodeflate='on' freePageReporting='on'/></devices>
  <test:runstate>5</test:runstate></domain></node>"""


def test_on_a_host_that_is_as_it_should_be_the_command_ends_with_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    node, config, host = tmp_path / "node.xml", tmp_path / "balloond.yaml", tmp_path / "host"
    node.write_text(WELL_SET)
    config.write_text(
        json.dumps({"libvirt": {"uri": f"test://{node}"}, "state": {"directory": str(tmp_path)}})
    )
    plant(host, kernel(swap_total=8 * GIB, swap_free=8 * GIB) | cgroup_v2("/machine.slice") | new_ksm())
    well_set = {
        "/dev/kvm": "",
        "/proc/cpuinfo": "flags\t: fpu vmx\n",
        "/proc/1/cmdline": "/usr/bin/balloond\0",
        "/proc/sys/vm/swappiness": "60\n",
        "/sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
        "/sys/module/kvm_intel/parameters/nested": "N\n",
    }
    plant(host, well_set)
    monkeypatch.setattr("balloond.doctor.visit", lambda config: visit(config, host))
    status = main(["doctor", "--config", str(config)])
    shown = capsys.readouterr().out
    assert status == 0, shown
    assert shown.endswith("all is as it should be\n")
    assert "solvent" in shown and "(PSI)" in shown and "nesting is off" in shown


def test_the_command_ends_with_the_worst_findings_severity(tmp_path: Path) -> None:
    config = tmp_path / "balloond.yaml"
    config.write_text(json.dumps({"libvirt": {"uri": NOBODY}, "state": {"directory": str(tmp_path)}}))
    command = [sys.executable, "-m", "balloond.cli", "doctor", "--json", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    told = json.loads(done.stdout)
    assert done.returncode == {"told": 0, "advice": 1, "unsafe": 2}[told["worst"]] >= 1
    assert done.stderr == ""
    assert any("libvirt does not answer" in finding["what"] for finding in told["findings"])
    reader, writer = os.pipe()
    os.close(reader)  # as with `| head`, and nothing read
    unread = subprocess.run(command, stdout=writer, check=False)
    os.close(writer)
    assert unread.returncode == done.returncode
