"""Does each thing that is set badly make its finding, and only then?"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from balloond.config.settings import KsmMode
from balloond.diagnosis.finding import Finding, Severity, told, unsafe, worst
from balloond.diagnosis.guests import examine_guests
from balloond.diagnosis.host import examine_faults, examine_host
from balloond.diagnosis.traits import Cgroups, Definition, Program, Traits
from balloond.model import Fault, FaultKind, Guest, Host, Ksm, Obstacle, Solvency, State, Statistics
from balloond.policy.solvency import judge
from balloond.publish.findings import describe_findings, report
from balloond.units import GIB, MIB
from tests.pasted import pasteable, printed

URI = "qemu:///system"
KSM = Ksm(run=1, saved=0, profit=None, full_scans=0, pages_to_scan=100, advisor=None)
GOOD = Traits(
    release="6.12.0",
    kvm_runs=("i686", "x86_64"),
    virtualization="vmx",
    kvm=True,
    nested=False,
    psi=True,
    ksm=KSM,
    huge_pages="madvise",
    max_ptes_none=0,
    cgroups=Cgroups.V2,
    programs=(Program(name="balloond", pid=7),),
    zeroes_on_alloc=True,
    zeroes_on_free=False,
    total=64 * GIB,
    swap_total=8 * GIB,
    min_free=66 * MIB,
    overcommit=0,
    swappiness=60,
    hypervisor=(9, 2, 0),
)
WEB, DB = "4dea22b3-1d52-d8f3-2516-782e98ab3fa0", "5dea22b3-1d52-d8f3-2516-782e98ab3fa0"
GUEST = Guest(
    uuid=WEB,
    name="web",
    maximum=4 * GIB,
    actual=4 * GIB,
    statistics=Statistics(last_update_s=1),
    statistics_period_s=2,
    deflates_on_oom=True,
    reports_free_pages=True,
)


def of_host(
    solvency: Solvency | None = None, *, ksm_mode: KsmMode = KsmMode.LEAVE, **changed: Any
) -> list[Finding]:
    return pasteable(list(examine_host(replace(GOOD, **changed), solvency, ksm_mode)))


def of_guest(
    *,
    traits: Traits = GOOD,
    active: bool = True,
    definition: Definition | None = None,
    **changed: Any,
) -> list[Finding]:
    """Of one that runs, and was started from the definition that is stored unless another one is given."""
    guest = replace(GUEST, **changed)
    same = Definition(guest=guest, stored=True, architecture="x86_64")
    return of_guests([guest], [definition or same], traits=traits, active=active)


def of_guests(
    guests: Sequence[Guest], definitions: Sequence[Definition], *, traits: Traits = GOOD, active: bool = True
) -> list[Finding]:
    return pasteable(list(examine_guests(guests, definitions, traits, interval_s=2.0, active=active)))


def judged(findings: list[Finding], severity: Severity) -> list[str]:
    return [finding.what for finding in findings if finding.severity is severity]


def test_limits_that_the_sum_over_the_host_leaves_out_are_told() -> None:
    divided = Fault(kind=FaultKind.POOL_DIVIDED, subject="/gold.slice", detail="/gold.slice 8 GiB")
    unseen = Fault(kind=FaultKind.KERNEL_UNREADABLE, subject="/sys/fs/cgroup/x", detail="can't be seen")
    unread = Fault(kind=FaultKind.GUEST_UNREADABLE, subject=WEB, detail="told with the guest")
    findings = pasteable(list(examine_faults((divided, unseen, unread))))
    assert [(each.severity, each.why) for each in findings] == [
        (Severity.UNSAFE, "/gold.slice 8 GiB"),
        (Severity.ADVICE, "can't be seen"),
    ]


def test_nothing_is_said_of_nesting_where_it_is_not_known() -> None:
    assert not any("nest" in finding.what for finding in of_host(nested=None))


def test_a_host_that_is_as_it_should_be_has_nothing_to_mend() -> None:
    assert worst(of_host()) is Severity.TOLD
    assert of_guest() == []


@pytest.mark.parametrize(
    ("changed", "severity", "words"),
    [
        ({"virtualization": None}, Severity.ADVICE, "neither VT-x nor AMD-V"),
        ({"kvm": False}, Severity.ADVICE, "no /dev/kvm"),
        ({"virtualization": "svm", "kvm": False}, Severity.ADVICE, "no /dev/kvm"),
        ({"nested": True}, Severity.TOLD, "(nested)"),
        ({"nested": False}, Severity.TOLD, "nesting is off"),
        ({"psi": False}, Severity.ADVICE, "no pressure figures (PSI)"),
        ({"psi": True}, Severity.TOLD, "keeps pressure figures (PSI)"),
        ({"ksm": None}, Severity.TOLD, "no same-page merging"),
        ({"ksm": replace(KSM, run=2)}, Severity.TOLD, "KSM is off"),
        ({"ksm": replace(KSM, run=2, saved=GIB)}, Severity.ADVICE, "1 GiB are still merged"),
        ({"ksm": replace(KSM, run=2, saved=GIB), "ksm_mode": KsmMode.OFF}, Severity.TOLD, "KSM is off"),
        ({"ksm": replace(KSM, saved=GIB), "ksm_mode": KsmMode.OFF}, Severity.UNSAFE, "says ksm.mode: off"),
        ({"ksm_mode": KsmMode.OFF}, Severity.ADVICE, "says ksm.mode: off"),
        ({"ksm": replace(KSM, run=0, saved=GIB)}, Severity.TOLD, "off, which saves 1 GiB"),
        ({"ksm": replace(KSM, run=0)}, Severity.TOLD, "KSM is off"),
        ({"ksm": replace(KSM, saved=GIB)}, Severity.TOLD, "KSM is on, which saves 1 GiB"),
        ({"swap_total": 0}, Severity.TOLD, "no swap"),
        ({"zram_total": GIB}, Severity.TOLD, "on zram"),
        ({"zswap": True}, Severity.TOLD, "zswap is on"),
        ({"swappiness": 0}, Severity.ADVICE, "vm.swappiness is 0"),
        ({"huge_pages": "never"}, Severity.ADVICE, "transparent huge pages are off"),
        ({"max_ptes_none": 511}, Severity.ADVICE, "khugepaged may fill 511"),
        ({"cgroups": Cgroups.NONE}, Severity.ADVICE, "not accounted in cgroups"),
        ({"cgroups": Cgroups.V1}, Severity.ADVICE, "version 1 (v1)"),
        ({"cgroups": Cgroups.HYBRID}, Severity.ADVICE, "version 1 (hybrid)"),
        ({"programs": ()}, Severity.TOLD, "no balloond runs"),
        ({"min_free": 8 * GIB}, Severity.ADVICE, "keeps 8 GiB free"),
        ({"overcommit": 2}, Severity.ADVICE, "vm.overcommit_memory is 2"),
        ({"zeroes_on_alloc": None}, Severity.TOLD, "on allocation: unknown, on release: off"),
    ],
)
def test_each_thing_makes_one_finding_of_its_severity(
    changed: dict[str, Any], severity: Severity, words: str
) -> None:
    found = [finding for finding in of_host(**changed) if words in finding.what]
    assert [finding.severity for finding in found] == [severity]
    unlike: dict[str, Any] = {name: not value for name, value in changed.items() if isinstance(value, bool)}
    assert not any(words in finding.what for finding in of_host(**unlike))
    assert bool(found[0].command) == (severity is not Severity.TOLD)


@pytest.mark.parametrize(
    "unknown", [{"huge_pages": None}, {"swappiness": 0, "swap_total": 0}, {"min_free": None, "total": None}]
)
def test_what_is_not_known_or_does_not_matter_is_no_ground_for_advice(unknown: dict[str, Any]) -> None:
    assert worst(of_host(**unknown)) is Severity.TOLD


@pytest.mark.parametrize(
    ("name", "severity"),
    [
        ("momd", Severity.UNSAFE),
        ("pvestatd", Severity.UNSAFE),
        ("earlyoom", Severity.UNSAFE),
        ("ksmtuned", Severity.ADVICE),
        ("virt-handler", Severity.ADVICE),
        ("systemd-oomd", Severity.TOLD),
    ],
)
def test_other_programs_that_meddle_are_told_with_their_process(name: str, severity: Severity) -> None:
    programs = (*GOOD.programs, Program(name=name, pid=99))
    (found,) = (finding for finding in of_host(programs=programs) if name in finding.what)
    assert found.severity is severity
    assert "99" in found.what


def test_two_balloonds_are_unsafe_and_one_under_either_name_is_not() -> None:
    one = Program(name="balloond.daemon", pid=8)
    assert worst(of_host(programs=(one,))) is Severity.TOLD
    assert judged(of_host(programs=(*GOOD.programs, one)), Severity.UNSAFE) == [
        "2 balloonds run (processes 7, 8)"
    ]


def test_a_shortage_is_unsafe_and_comes_with_the_swap_that_mends_it() -> None:
    host = Host(total=8 * GIB, available=8 * GIB)
    two = (GUEST, replace(GUEST, uuid=DB))
    assert judged(of_host(judge(host, two[:1], own=0, reserve=0)), Severity.UNSAFE) == []
    (short,) = (
        finding
        for finding in of_host(judge(host, two, own=0, reserve=0))
        if finding.severity is Severity.UNSAFE
    )
    assert "32 MiB of swap on disk are missing" in short.what
    assert "fallocate -l 33MiB" in short.command
    (bounded,) = (
        finding
        for finding in of_host(judge(replace(host, swap_withheld=GIB), two, own=0, reserve=0))
        if finding.severity is Severity.UNSAFE
    )
    assert bounded.command.startswith("# raise memory.swap.max") and "fallocate" not in bounded.command
    (both,) = (
        finding
        for finding in of_host(judge(replace(host, swap_withheld=16 * MIB), two, own=0, reserve=0))
        if finding.severity is Severity.UNSAFE
    )
    assert [line[:7] for line in both.command.splitlines()] == ["f=$(mkt", "# raise"]


def test_memory_that_no_swap_can_stand_for_is_unsafe_whatever_swap_there_is() -> None:
    host = Host(total=3 * GIB, available=3 * GIB, swap_total=64 * GIB, swap_free=64 * GIB)
    locked = judge(host, (replace(GUEST, obstacle=Obstacle.LOCKED),), own=0, reserve=0)
    (short,) = judged(of_host(locked), Severity.UNSAFE)
    assert "can't be swapped" in short


# --- guests ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"reports_free_pages": False}, "free page reporting is off"),
        ({"deflates_on_oom": False}, "deflate-on-oom is off"),
        ({"obstacle": Obstacle.NO_BALLOON}, "no virtio balloon"),
        ({"obstacle": Obstacle.UNREADABLE}, "could not be read"),
        ({"translations": 32 * MIB}, "emulated"),
        ({"statistics_period_s": 60}, "each 60 s only"),
        ({"statistics": Statistics(last_update_s=0)}, "never answered"),
    ],
)
def test_what_is_set_badly_in_a_guest_is_advised_with_a_command(changed: dict[str, Any], words: str) -> None:
    (found,) = of_guest(**changed)
    assert words in found.what
    assert found.severity is Severity.ADVICE
    assert found.subject == "web"
    assert found.command


@pytest.mark.parametrize(
    ("obstacle", "words"),
    [
        (Obstacle.LOCKED, "<locked/>"),
        (Obstacle.HUGEPAGES, "<hugepages/>"),
        (Obstacle.PASSTHROUGH, "VFIO"),
        (Obstacle.CONFIDENTIAL, "<launchSecurity>"),
    ],
)
def test_a_guest_whose_balloon_is_of_no_use_is_told_and_its_balloon_is_not_judged(
    obstacle: Obstacle, words: str
) -> None:
    (found,) = of_guest(obstacle=obstacle, reports_free_pages=False, deflates_on_oom=False)
    assert words in found.what
    assert found.severity is Severity.TOLD


def test_a_guest_that_is_not_merged_is_told_and_not_judged() -> None:
    (found,) = of_guest(mergeable=False)
    assert "<nosharepages/>" in found.what
    assert found.severity is Severity.TOLD


def test_an_older_qemu_cannot_report_free_pages_and_is_not_blamed() -> None:
    (found,) = of_guest(traits=replace(GOOD, hypervisor=(5, 0, 0)), reports_free_pages=False)
    assert found.severity is Severity.TOLD
    (unknown,) = of_guest(traits=replace(GOOD, hypervisor=None), reports_free_pages=False)
    assert unknown.severity is Severity.ADVICE


def test_a_missing_period_is_the_daemons_to_set_unless_it_only_observes() -> None:
    assert of_guest(statistics_period_s=0, statistics=None) == []
    (found,) = of_guest(statistics_period_s=0, statistics=None, active=False)
    assert found.command == "virsh -c URI dommemstat GUEST --period 2 --live --config"


def test_a_guest_without_a_cgroup_of_its_own_is_advised_of() -> None:
    (found,) = of_guest(traits=replace(GOOD, placeless=(WEB,)))
    assert "no cgroup of its own" in found.what


# --- what the next start will make of them ---------------------------------------------------------------


def stored(**changed: Any) -> Definition:
    guest = replace(GUEST, state=State.OFF, statistics=None, statistics_period_s=0)
    return Definition(guest=replace(guest, **changed), stored=True, architecture="x86_64")


def test_a_guest_that_is_shut_off_is_judged_by_its_definition() -> None:
    bad = stored(deflates_on_oom=False, reports_free_pages=False, statistics_period_s=60)
    found = of_guests([], [bad])
    assert {finding.subject for finding in found} == {"web"}
    assert [finding.what for finding in found] == [
        "free page reporting is off",
        "deflate-on-oom is off",
        "it tells its statistics each 60 s only",
    ]
    assert found[2].command == "virsh -c URI dommemstat GUEST --period 2 --config"
    assert of_guests([], [stored()]) == []


def test_a_definition_that_makes_no_sense_is_advised_of() -> None:
    (found,) = of_guests([], [stored(obstacle=Obstacle.UNREADABLE, defined=False)])
    assert found.severity is Severity.ADVICE
    assert found.command == "virsh -c URI dumpxml GUEST"


def test_a_stored_definition_that_makes_no_sense_is_advised_of_beside_what_runs() -> None:
    nonsense = stored(obstacle=Obstacle.UNREADABLE, defined=False)
    unread, oom = of_guest(deflates_on_oom=False, definition=nonsense)
    assert (unread.severity, unread.what) == (Severity.ADVICE, "its stored definition could not be read")
    assert unread.command == "virsh -c URI dumpxml --inactive GUEST"
    assert (oom.severity, oom.what) == (Severity.ADVICE, "deflate-on-oom is off")
    assert of_guest(definition=replace(nonsense, stored=False)) == []


def test_what_is_mended_in_a_running_guests_definition_is_told_and_no_longer_advised() -> None:
    (found,) = of_guest(deflates_on_oom=False, definition=stored())
    assert found.severity is Severity.TOLD
    assert found.what == "deflate-on-oom is off: mended in its definition, counts from its next start"
    assert not found.command


def test_what_the_next_start_will_bring_is_advised_of_before() -> None:
    (found,) = of_guest(definition=stored(deflates_on_oom=False))
    assert found.severity is Severity.ADVICE
    assert found.what == "from its next start: deflate-on-oom is off"
    assert "virsh -c URI edit GUEST" in found.command


@pytest.mark.parametrize(
    ("period", "active", "what"),
    [
        (60, True, "from its next start: it tells its statistics each 60 s only"),
        (0, False, "from its next start: it tells no statistics: no period is set"),
    ],
)
def test_a_period_that_the_next_start_will_bring_is_advised_of_before(
    period: int, active: bool, what: str
) -> None:
    (found,) = of_guest(active=active, definition=stored(statistics_period_s=period))
    assert (found.severity, found.what) == (Severity.ADVICE, what)
    assert found.command == "virsh -c URI dommemstat GUEST --period 2 --config"


def test_a_period_that_is_to_stay_as_it_is_is_advised_of_once() -> None:
    (found,) = of_guest(statistics_period_s=60, definition=stored(statistics_period_s=60))
    assert found.command == "virsh -c URI dommemstat GUEST --period 2 --live --config"


def test_what_is_as_it_is_for_good_is_told_once() -> None:
    (found,) = of_guest(mergeable=False, definition=stored(mergeable=False))
    assert found.severity is Severity.TOLD
    (still,) = of_guest(mergeable=False, definition=stored())
    assert (still.severity, still.what) == (Severity.TOLD, found.what)


def test_a_guest_that_does_not_answer_has_nothing_mended() -> None:
    (found,) = of_guest(obstacle=Obstacle.UNREADABLE, definition=stored())
    assert (found.severity, found.what) == (Severity.ADVICE, "it could not be read")


def test_a_guest_whose_definition_was_not_read_is_judged_as_it_runs() -> None:
    (found,) = of_guests([replace(GUEST, deflates_on_oom=False)], [])
    assert (found.severity, found.what) == (Severity.ADVICE, "deflate-on-oom is off")


def test_a_guest_without_a_stored_definition_is_to_be_started_anew_from_another_one() -> None:
    bad = replace(GUEST, deflates_on_oom=False, statistics_period_s=60)
    oom, period = of_guests([bad], [Definition(guest=bad, stored=False)])
    assert oom.command.startswith("# ") and "<memballoon model='virtio' autodeflate='on'/>" in oom.command
    assert period.command == "virsh -c URI dommemstat GUEST --period 2 --live"


@pytest.mark.parametrize(
    ("architecture", "kvm", "severity"),
    [
        ("x86_64", True, Severity.ADVICE),
        ("i686", True, Severity.ADVICE),
        ("x86_64", False, Severity.TOLD),
        ("aarch64", True, Severity.TOLD),
        ("", True, Severity.TOLD),
    ],
)
def test_an_emulated_guest_is_to_use_kvm_only_where_kvm_can_run_it(
    architecture: str, kvm: bool, severity: Severity
) -> None:
    emulated = replace(GUEST, translations=32 * MIB)
    definition = Definition(guest=emulated, stored=True, architecture=architecture)
    traits = replace(GOOD, kvm=kvm)
    (found,) = of_guests([emulated], [definition], traits=traits)
    assert (found.severity, "emulated" in found.what) == (severity, True)
    (unread,) = of_guests([emulated], [], traits=traits)
    assert unread.severity is Severity.TOLD


XML = """<domain type='qemu'>
  <title>&lt;memballoon model='none'</title>
{features}  <devices>
    {balloon}
  </devices>
</domain>
"""
TCG = """  <features>
    <tcg>
      <tb-cache unit='KiB'>8192</tb-cache>
    </tcg>
  </features>
"""


@pytest.mark.parametrize(
    ("changed", "balloon", "mended"),
    [
        ({"deflates_on_oom": False}, "<memballoon model='virtio'/>", "autodeflate='on' model='virtio'/>"),
        (
            {"deflates_on_oom": False},
            "<memballoon model='virtio' autodeflate='off'>",
            "autodeflate='on' model='virtio'>",
        ),
        (
            {"reports_free_pages": False},
            "<memballoon model='virtio' freePageReporting='off'/>",
            "freePageReporting='on' model='virtio'/>",
        ),
        (
            {"obstacle": Obstacle.NO_BALLOON},
            "<memballoon model='none'/>",
            "model='virtio' autodeflate='on' freePageReporting='on'/>",
        ),
        ({"translations": MIB}, "<memballoon model='virtio'/>", None),
    ],
)
def test_the_line_that_is_printed_mends_the_definition_that_virsh_hands_to_the_editor(
    tmp_path: Path, changed: dict[str, Any], balloon: str, mended: str | None
) -> None:
    """With a virsh that asks VISUAL before EDITOR, and hands the line to a shell, as the real one does."""
    definition, arguments = tmp_path / "it.xml", tmp_path / "arguments"
    definition.write_text(XML.format(balloon=balloon, features=TCG))
    virsh = tmp_path / "virsh"
    virsh.write_text(f'#!/bin/sh\necho "$@" >> {arguments}\nsh -c "${{VISUAL-$EDITOR}} {definition}"\n')
    virsh.chmod(0o755)
    (line,) = printed(describe_findings(of_guest(**changed), URI))
    home = {"PATH": f"{tmp_path}:/usr/bin:/bin", "VISUAL": "false", "EDITOR": "false"}
    subprocess.run(["bash", "-c", line], check=True, env=home)
    assert arguments.read_text() == f"-c qemu:///system edit {WEB}\n"
    as_wanted = XML.format(balloon=f"<memballoon {mended}", features=TCG)
    if mended is None:
        without = "  <features>\n  </features>\n"
        as_wanted = XML.format(balloon=balloon, features=without).replace("type='qemu'", "type='kvm'")
    assert definition.read_text() == as_wanted


# --- in words --------------------------------------------------------------------------------------------


def test_the_worst_comes_first_and_says_why_and_what_to_do() -> None:
    findings = [told("fine things", "good"), unsafe("bad things", "harm", "mend it\nand this")]
    assert describe_findings(findings, URI).splitlines() == [
        "UNSAFE  host: bad things",
        "        why: harm",
        "        do:  mend it",
        "             and this",
        "note    host: fine things",
        "        why: good",
        "unsafe: see above what has to be mended",
    ]


def test_a_finding_of_many_guests_is_told_once() -> None:
    findings = [told("same", "why", of=f"guest-{number}") for number in range(9)]
    text = describe_findings(findings, URI)
    assert text.count("same") == 1
    assert "guest-0, guest-1, guest-2, guest-3, guest-4, guest-5 and 3 more: same" in text


def advised(command: str, *uuids: str) -> list[Finding]:
    findings = (unsafe("a", "b", command, of=f"name of {uuid}") for uuid in uuids)
    return [replace(finding, uuid=uuid) for finding, uuid in zip(findings, uuids, strict=True)]


def test_a_command_names_the_guest_by_its_uuid_and_the_connection_that_was_read() -> None:
    (found,) = advised("virsh -c URI edit GUEST", WEB)
    assert printed(describe_findings([found], URI)) == [f"virsh -c qemu:///system edit {WEB}"]
    assert report([found], URI)["findings"][0]["command"] == f"virsh -c qemu:///system edit {WEB}"


def test_a_command_for_several_guests_goes_to_each_of_them() -> None:
    findings = advised("echo GUEST at URI", *(str(number) for number in range(9)))
    (line,) = printed(describe_findings(findings, "x y"))
    said = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert said.stdout.splitlines() == [f"{number} at x y" for number in range(9)]
    comments = advised("# in each of them: reboot", WEB, DB)
    assert printed(describe_findings(comments, URI)) == ["# in each of them: reboot"]


@pytest.mark.parametrize(
    "uri", ['it\'s; $(echo no) `echo no` \\ "x" !1', "GUEST URI", "a\nb'c\\d\x1b[2Je", "URI\u202eGUEST'"]
)
def test_a_connections_name_stays_one_word_that_no_terminal_obeys(uri: str) -> None:
    (line,) = printed(describe_findings(advised("printf %s URI", WEB), uri))
    assert line.isprintable()
    said = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert said.stdout == uri


def test_what_is_found_and_why_cannot_pretend_to_be_another_line() -> None:
    text = describe_findings([told("x\n\x1b[2J", "y\nall is well", of="web\nnote    host: fine\x1b[2J")], URI)
    assert "\x1b" not in text
    assert len(text.splitlines()) == 3


def test_a_report_is_json_with_the_worst_severity() -> None:
    answer = json.loads(json.dumps(report([told("a", "b"), unsafe("c", "d", "e")], URI)))
    assert answer["worst"] == "unsafe"
    assert answer["findings"][1] == {
        "severity": "unsafe", "subject": "host", "what": "c", "why": "d", "command": "e",
    }  # fmt: skip
    assert report([], URI)["worst"] == "told"
