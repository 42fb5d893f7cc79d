"""What is written to the kernel's merging, in which order, and how it comes back. On a tree of files."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from balloond.host import ksm as edge
from balloond.host import notes
from balloond.host.files import Root
from balloond.host.kernel import KSM, read_ksm, read_ksm_settings
from balloond.host.ksm import NAME, RUN_MOST_S, Merging
from balloond.model import Ksm, KsmSettings, Result
from balloond.policy.merging import strange
from tests.fixtures.hosts import ksmd, new_ksm, old_ksm, plant

pytestmark = pytest.mark.contract

IDLE = {f"{KSM}/run": "0\n", f"{KSM}/advisor_mode": "none\n"}
HANGS = "import time; time.sleep(60)"  # as where the kernel keeps who unmerges
TO = KsmSettings(run=1, pages_to_scan=2000, sleep_ms=40)


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Root]:
    yield Root(plant(tmp_path, old_ksm() | {f"{KSM}/run": "0\n"} | ksmd()))


def state(tree: Root) -> Path:
    return tree.path / "state"


def merging(tree: Root) -> Merging:
    return Merging(tree, state(tree))


def ksm(tree: Root) -> Ksm:
    found = read_ksm(tree)
    assert found is not None
    return found


def advised(tmp_path: Path) -> Root:
    """A plain file keeps what is written; the kernel's shows `none [scan-time]`."""
    files = new_ksm() | {f"{KSM}/run": "0\n", f"{KSM}/advisor_mode": "[none] scan-time\n"}
    return Root(plant(tmp_path, files))


def test_what_is_named_is_set_and_the_rest_stays(tree: Root) -> None:
    assert merging(tree).set(TO) == (Result.DONE, "")
    assert read_ksm_settings(tree) == TO
    assert merging(tree).set(KsmSettings(run=0)) == (Result.DONE, "")
    assert read_ksm_settings(tree) == replace(TO, run=0)


def test_what_was_found_and_how_it_was_left_are_known_and_outlive_the_daemon(tree: Root) -> None:
    found = read_ksm_settings(tree)
    merging(tree).set(TO)
    again = merging(tree)
    assert again.noted
    known = again.complete(ksm(tree))
    assert known is not None
    assert (known.found, known.put) == (found, TO)
    again.set(KsmSettings(run=0))
    known = merging(tree).complete(ksm(tree))
    assert known is not None
    assert (known.found, known.put) == (found, replace(TO, run=0))


def test_it_is_put_back_after_a_restart_and_the_note_goes(tree: Root) -> None:
    found = read_ksm_settings(tree)
    merging(tree).set(TO)
    assert merging(tree).put_back(ksm(tree)) == (Result.DONE, "")
    assert read_ksm_settings(tree) == found
    assert list(state(tree).iterdir()) == []


def test_what_a_killed_writer_left_of_a_note_goes_with_it(tree: Root) -> None:
    merging(tree).set(TO)
    (state(tree) / f".{NAME}.new").write_text("{")
    merging(tree).forget()
    assert list(state(tree).iterdir()) == []


def test_set_as_it_was_found_there_is_nothing_left_to_put_back(tree: Root) -> None:
    one = merging(tree)
    one.set(TO)
    one.set(KsmSettings(run=0, pages_to_scan=100, sleep_ms=20))
    assert not one.noted
    assert list(state(tree).iterdir()) == []


def test_what_somebody_else_set_since_is_not_put_back(tree: Root) -> None:
    one = merging(tree)
    one.set(TO)
    plant(tree.path, {f"{KSM}/pages_to_scan": "1250\n"})
    one.put_back(ksm(tree))
    assert read_ksm_settings(tree) == KsmSettings(run=0, pages_to_scan=1250, sleep_ms=20)


def test_what_is_left_to_somebody_else_stays_theirs_whatever_is_set_beside_it(tree: Root) -> None:
    one = merging(tree)
    one.set(TO)
    plant(tree.path, {f"{KSM}/pages_to_scan": "1250\n"})
    one.set(KsmSettings(run=0))
    assert merging(tree).put_back(ksm(tree)) == (Result.DONE, "")
    assert read_ksm_settings(tree) == KsmSettings(run=0, pages_to_scan=1250, sleep_ms=20)


def test_what_is_taken_over_from_somebody_else_is_put_back_as_they_had_it(tree: Root) -> None:
    one = merging(tree)
    one.set(TO)
    plant(tree.path, {f"{KSM}/pages_to_scan": "1250\n"})
    one.set(TO)
    assert read_ksm_settings(tree) == TO
    one.put_back(ksm(tree))
    assert read_ksm_settings(tree) == KsmSettings(run=0, pages_to_scan=1250, sleep_ms=20)


def test_killed_at_any_write_it_is_put_back_all_the_same(tree: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    class KilledError(Exception):
        pass

    found, write = read_ksm_settings(tree), Merging._write
    left = [0]

    def dying(self: Merging, name: str, value: int | str) -> None:
        if left[0] == 0:
            raise KilledError
        left[0] -= 1
        write(self, name, value)

    for writes in range(4):
        left[0] = writes
        monkeypatch.setattr(Merging, "_write", dying)
        with contextlib.suppress(KilledError):
            merging(tree).set(TO)
        monkeypatch.undo()
        assert merging(tree).put_back(ksm(tree)) == (Result.DONE, "")
        assert read_ksm_settings(tree) == found


def test_nothing_is_written_before_what_was_found_is_on_disk(tree: Root) -> None:
    found = read_ksm_settings(tree)
    state(tree).write_text("a file where the directory should be")
    result, detail = merging(tree).set(TO)
    assert result is Result.REFUSED
    assert "exists" in detail
    assert read_ksm_settings(tree) == found


def test_a_kernel_that_refuses_is_told_of_and_what_was_set_counts(tree: Root) -> None:
    path = Path(tree.real(f"{KSM}/pages_to_scan"))
    path.unlink()
    path.mkdir()  # nobody, root neither, can write a file there
    one = merging(tree)
    result, detail = one.set(TO)
    assert result is Result.REFUSED
    assert "pages_to_scan" in detail
    known = one.complete(ksm(tree))
    assert known is not None
    assert known.put == KsmSettings(run=0, sleep_ms=40)


@pytest.mark.parametrize(
    "text",
    ["[]", "7", '{"found": 1}', '{"found": {"run": "1"}}', '{"found": {"walk": 1}}', '{"put": {}}'],
)
def test_a_broken_note_is_none(tree: Root, text: str) -> None:
    notes.keep(state(tree) / NAME, json.loads(text))
    assert not merging(tree).noted


def test_merging_as_it_was_found_in_another_boot_is_not_put_back(
    tree: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    merging(tree).set(TO)
    plant(tree.path, old_ksm() | {f"{KSM}/run": "0\n", "/boot_id": "another\n"})
    monkeypatch.setattr(notes, "BOOT_ID", tree.path / "boot_id")
    assert not merging(tree).noted


def test_a_pages_count_that_an_advisor_is_to_begin_with_is_its_least_for_a_moment() -> None:
    now = KsmSettings(run=0, pages_to_scan=100, sleep_ms=20, advisor="none", advisor_min_pages=500)
    to = KsmSettings(run=1, pages_to_scan=2000, advisor="scan-time", advisor_target_s=25, advisor_max_cpu=50)
    steps = list(edge._steps(to, replace(now, advisor_target_s=200, advisor_max_cpu=70)))
    assert steps == [
        ("advisor_target_s", 25),
        ("advisor_max_cpu", 50),
        ("advisor", "none"),
        ("advisor_min_pages", 2000),
        ("advisor", "scan-time"),
        ("advisor_min_pages", 500),
        ("run", 1),
    ]


def test_while_an_advisor_is_on_it_is_started_anew_for_another_pages_count() -> None:
    now = KsmSettings(run=1, pages_to_scan=100, advisor="scan-time", advisor_min_pages=500)
    names = [name for name, _ in edge._steps(KsmSettings(pages_to_scan=9), now)]
    assert names == ["advisor", "advisor_min_pages", "advisor", "advisor_min_pages"]


def test_pages_are_set_after_an_advisor_is_off_and_stopping_comes_first() -> None:
    now = KsmSettings(run=1, pages_to_scan=100, advisor="scan-time", advisor_min_pages=500)
    to = KsmSettings(run=0, pages_to_scan=9, advisor="none")
    assert list(edge._steps(to, now)) == [("run", 0), ("advisor", "none"), ("pages_to_scan", 9)]


def test_an_advisor_without_a_least_is_turned_on_as_it_is() -> None:
    now = KsmSettings(run=1, pages_to_scan=100, advisor="none")
    to = KsmSettings(advisor="scan-time", pages_to_scan=9)
    assert list(edge._steps(to, now)) == [("advisor", "none"), ("advisor", "scan-time")]


def test_the_advisors_settings_reach_their_files(tmp_path: Path) -> None:
    tree = advised(tmp_path)
    merging(tree).set(KsmSettings(run=1, advisor="[scan-time]", advisor_target_s=25, advisor_max_cpu=50))
    settings = read_ksm_settings(tree)
    assert (settings.advisor, settings.advisor_target_s, settings.advisor_max_cpu) == ("scan-time", 25, 50)


def test_unmerging_is_done_by_a_process_of_its_own(tree: Root) -> None:
    one = merging(tree)
    assert one.set(KsmSettings(run=2)) == (Result.DONE, "")
    unmerger = vars(one)["_writer"]
    assert unmerger.wait(10) == 0
    assert read_ksm_settings(tree).run == 2
    known = one.complete(ksm(tree))
    assert known is not None and known.put is not None
    assert known.put.run == 2
    assert vars(one)["_writer"] is None


def alive(one: Merging) -> bool:
    writer = vars(one)["_writer"]
    return writer is not None and writer.poll() is None


def test_a_write_that_waits_for_the_kernel_is_told_of_and_waited_for_no_longer_than_a_moment(
    tree: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge, "RUN", ("sleep", "60"))
    one = merging(tree)
    began_s = time.monotonic()
    result, detail = one.set(KsmSettings(run=1))
    assert (result, "is still waited for" in detail) == (Result.REFUSED, True)
    assert time.monotonic() - began_s < 2 * RUN_MOST_S
    assert alive(one)
    began_s = time.monotonic()
    assert one.set(KsmSettings(run=0))[0] is Result.REFUSED
    assert time.monotonic() - began_s < 3 * RUN_MOST_S
    one.abort()


def test_what_is_still_being_written_is_nobody_elses_doing(
    tree: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge, "RUN", ("sleep", "60"))
    one = merging(tree)
    one.set(KsmSettings(run=1))
    for run in ("0\n", "1\n"):  # the kernel has taken it, or not yet
        plant(tree.path, {f"{KSM}/run": run})
        known = one.complete(ksm(tree))
        assert known is not None
        assert strange(known.put, known.settings) == ()
    one.abort()


def test_unmerging_that_the_kernel_refuses_is_told_of_until_it_is_tried_again(tree: Root) -> None:
    refusing = os.open("/dev/full", os.O_WRONLY)
    one = merging(tree)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "open", lambda *_: os.dup(refusing))
            assert one.set(KsmSettings(run=2)) == (Result.DONE, "")
    finally:
        os.close(refusing)
    vars(one)["_writer"].wait(10)
    for _ in range(2):
        known = one.complete(ksm(tree))
        assert known is not None and known.put is not None
        assert (known.failed, known.put.run) == ("the kernel refused", 2)
    one.set(KsmSettings(run=0))
    known = one.complete(ksm(tree))
    assert known is not None and known.failed == ""


def test_unmerging_that_is_killed_from_outside_is_told_of(
    tree: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge, "UNMERGE", HANGS)
    one = merging(tree)
    one.set(KsmSettings(run=2))
    unmerger = vars(one)["_writer"]
    unmerger.kill()
    unmerger.wait(10)
    plant(tree.path, {f"{KSM}/run": "0\n"})  # opened to be written, a plain file is empty
    known = one.complete(ksm(tree))
    assert known is not None and "was killed" in known.failed


def test_nobody_goes_on_unmerging_when_the_daemon_is_killed(tree: Root) -> None:
    program = (
        "import sys; from pathlib import Path; from balloond.host import ksm\n"
        "from balloond.host.files import Root\n"
        "from balloond.model import KsmSettings\n"
        f"ksm.UNMERGE = {HANGS!r}\n"
        "merging = ksm.Merging(Root(Path(sys.argv[1])), Path(sys.argv[1]) / 'state')\n"
        "merging.set(KsmSettings(run=2))\n"
        "print(vars(merging)['_writer'].pid, flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tree.path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as daemon:  # fmt: skip
        assert daemon.stdout is not None
        unmerger = Path(f"/proc/{int(daemon.stdout.readline())}/cmdline")
        assert unmerger.read_text()
        daemon.kill()
        ends_s = time.monotonic() + 10
    while unmerger.exists() and unmerger.read_text():  # a dead one that nobody waits for has an empty one
        assert time.monotonic() < ends_s, "it outlives the daemon"
        time.sleep(0.02)


def test_where_no_process_can_be_had_that_ends_with_the_daemon_nothing_is_unmerged(
    tree: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere")
    one = merging(tree)
    result, detail = one.set(KsmSettings(run=2))
    assert (result, "its writer can't be run" in detail) == (Result.REFUSED, True)
    plant(tree.path, {f"{KSM}/run": "0\n"})  # opened to be written, a plain file is empty
    known = one.complete(ksm(tree))
    assert known is not None and "its writer can't be run" in known.failed


def test_unmerging_is_ended_before_anything_else_is_written_to_run(
    tree: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge, "UNMERGE", HANGS)
    one = merging(tree)
    assert one.set(KsmSettings(run=2)) == (Result.DONE, "")
    assert alive(one)
    unmerger = vars(one)["_writer"]
    monkeypatch.undo()
    assert one.set(KsmSettings(run=0)) == (Result.DONE, "")
    assert unmerger.poll() is not None
    assert read_ksm_settings(tree).run == 0


def test_a_kernel_that_refuses_what_is_written_to_run_is_told_of(
    tree: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge, "RUN", ("false",))
    result, detail = merging(tree).set(KsmSettings(run=1))
    assert (result, "the kernel refused, for 1" in detail) == (Result.REFUSED, True)


def test_what_was_set_is_put_back_though_how_it_was_left_could_not_be_noted(
    tree: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, keep, kept = read_ksm_settings(tree), notes.keep, []

    def full(path: Path, note: object) -> None:
        kept.append(note)
        if len(kept) == 2:
            raise OSError(28, "No space left on device", str(path))
        keep(path, note)

    monkeypatch.setattr(notes, "keep", full)
    one = merging(tree)
    assert one.set(TO)[0] is Result.REFUSED
    assert one.put_back(ksm(tree)) == (Result.DONE, "")
    assert read_ksm_settings(tree) == found


def test_ksmds_cpu_time_is_found_by_its_name(tree: Root) -> None:
    plant(tree.path, {"/proc/9/comm": "kswapd0\n", "/proc/9/stat": "9 (kswapd0) S 1\n"})
    known = merging(tree).complete(ksm(tree))
    assert known is not None
    assert known.cpu_s == 12.34


def test_ksmds_cpu_time_is_taken_to_the_nanosecond_where_the_kernel_counts_so(tree: Root) -> None:
    (ksmd,) = Path(tree.path).glob("proc/*/comm")
    assert ksmd.read_text() == "ksmd\n"
    (ksmd.parent / "schedstat").write_text("12345678901 98745679953 46464\n")
    known = merging(tree).complete(ksm(tree))
    assert known is not None
    assert known.cpu_s == 12.345678901


def test_where_ksmd_is_not_to_be_seen_its_cpu_time_is_unknown(tmp_path: Path) -> None:
    tree = Root(plant(tmp_path, old_ksm()))
    known = merging(tree).complete(ksm(tree))
    assert known is not None
    assert known.cpu_s is None
    assert merging(tree).complete(None) is None


def test_the_note_says_for_people_what_was_found(tree: Root) -> None:
    merging(tree).set(TO)
    noted = notes.kept(state(tree) / NAME)
    assert noted["found"]["pages_to_scan"] == 100
    assert noted["put"]["pages_to_scan"] == 2000
