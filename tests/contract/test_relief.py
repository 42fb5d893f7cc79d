"""What is written into a guest's cgroup, that it ends, and that it is put back: fixture trees and this kernel."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from balloond.host import notes
from balloond.host import relief as edge
from balloond.host.cgroup import Place, place_in
from balloond.host.files import Root
from balloond.host.relief import NAME, RECLAIM_MOST_S, Relief
from balloond.model import LimitSoftly, Reclaim, Result
from balloond.units import GIB, KIB, MIB, PAGE
from tests.contract.real_cgroup import real_cgroup
from tests.fixtures.hosts import V1, V2, WEB, cgroup_v1, cgroup_v2, on_v1, on_v2, plant, scope

pytestmark = pytest.mark.contract

OWN_V1 = "/machine/qemu-1-web.libvirt-qemu"
OWN_V2 = scope(1, "web")
HIGH = f"{V2}{OWN_V2}/memory.high"
SOFT = f"{V1}{OWN_V1}/memory.soft_limit_in_bytes"
UNLIMITED = "9223372036854771712"


def place(membership: str) -> Place:
    found = place_in(membership)
    assert found is not None
    return found


ON_V1, ON_V2 = place(on_v1(OWN_V1)), place(on_v2(OWN_V2))


def limit(size: int | None) -> LimitSoftly:
    return LimitSoftly(uuid=WEB, name="web", limit=size, words="")


def reclaim(size: int) -> Reclaim:
    return Reclaim(uuid=WEB, name="web", size=size, words="")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    files = cgroup_v2(OWN_V2, usage=GIB) | cgroup_v1(OWN_V1, usage=GIB)
    files |= {f"{V2}{OWN_V2}/memory.reclaim": "", f"{V1}{OWN_V1}/memory.force_empty": "", SOFT: UNLIMITED}
    return plant(tmp_path / "host", files)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def text(tree: Path, path: str) -> str:
    return (tree / path.lstrip("/")).read_text()


def until(done: Callable[[], object], what: str) -> None:
    ends_s = time.monotonic() + 10
    while not done():
        assert time.monotonic() < ends_s, what
        time.sleep(0.02)


# --- reclaim ---------------------------------------------------------------------------------------------


def test_on_v2_the_kernel_is_asked_for_so_many_bytes(tree: Path, state: Path) -> None:
    relief = Relief(Root(tree), state)
    assert relief.reclaim(reclaim(32 * MIB), ON_V2) == (Result.DONE, "")
    until(lambda: text(tree, f"{V2}{OWN_V2}/memory.reclaim") == str(32 * MIB), "the request")
    relief.put_back()


def test_on_v1_the_guests_cgroup_is_emptied_until_it_is_enough(tree: Path, state: Path) -> None:
    relief = Relief(Root(tree), state)
    assert relief.reclaim(reclaim(32 * MIB), ON_V1) == (Result.DONE, "")
    until(lambda: text(tree, f"{V1}{OWN_V1}/memory.force_empty") == "0", "the request")
    relief.put_back()


def test_a_reclaim_tells_what_the_one_before_it_brought(tree: Path, state: Path) -> None:
    relief = Relief(Root(tree), state)
    relief.reclaim(reclaim(32 * MIB), ON_V2)
    until(
        lambda: relief.reclaim(reclaim(32 * MIB), ON_V2) == (Result.DONE, "the one before brought 0 B"), "it"
    )
    relief.put_back()


def test_a_guest_is_not_reclaimed_from_twice_at_once(
    tree: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge, "_write", lambda *_: subprocess.Popen(["sleep", "60"]))
    relief = Relief(Root(tree), state)
    assert relief.reclaim(reclaim(32 * MIB), ON_V2)[0] is Result.DONE
    assert relief.reclaim(reclaim(32 * MIB), ON_V2) == (Result.BUSY, "the last reclaim is still under way")
    began_s = time.monotonic()
    relief.put_back()
    assert time.monotonic() - began_s < 1


def test_on_v1_what_went_counts_though_the_guest_takes_as_much_again(
    tree: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stat(pages: int) -> None:
        plant(tree, {f"{V1}{OWN_V1}/memory.stat": f"cache 0\npgpgout 1\ntotal_pgpgout {7 + pages}\n"})

    stat(0)
    monkeypatch.setattr(edge, "_write", slowly)
    relief = Relief(Root(tree), state)
    assert relief.reclaim(reclaim(32 * MIB), ON_V1)[0] is Result.DONE
    stat(32 * MIB // PAGE - 1)
    time.sleep(0.2)
    assert relief.reclaim(reclaim(32 * MIB), ON_V1)[0] is Result.BUSY
    stat(32 * MIB // PAGE)
    again = (Result.DONE, "the one before brought 32 MiB")
    until(lambda: relief.reclaim(reclaim(32 * MIB), ON_V1) == again, "the end of it")
    relief.put_back()


def test_without_a_thread_to_watch_it_a_reclaim_is_ended_and_told_of(
    tree: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []

    def begin(*_: object) -> subprocess.Popen[bytes]:
        begun.append(slowly())
        return begun[-1]

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(edge, "_write", begin)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    result, detail = Relief(Root(tree), state).reclaim(reclaim(32 * MIB), ON_V2)
    assert (result, detail) == (Result.REFUSED, "it can't be watched: can't start new thread")
    assert begun[0].wait(5) is not None


def test_what_was_reclaimed_from_a_guest_that_is_gone_is_forgotten(tree: Path, state: Path) -> None:
    relief = Relief(Root(tree), state)
    relief.reclaim(replace(reclaim(PAGE), uuid="gone"), ON_V1)
    running = vars(relief)["_running"]
    until(lambda: not running["gone"].is_alive(), "its end")
    relief.reclaim(reclaim(PAGE), ON_V2)
    assert vars(relief)["_running"].keys() == {"gone", WEB}
    until(lambda: not vars(relief)["_running"][WEB].is_alive(), "its end")
    (tree / f"{V1}{OWN_V1}".lstrip("/")).rename(tree / "elsewhere")
    relief.reclaim(reclaim(PAGE), ON_V2)
    assert vars(relief)["_running"].keys() == {WEB}
    relief.put_back()


def test_a_kernel_that_cannot_reclaim_is_told_of(tree: Path, state: Path) -> None:
    (tree / f"{V2}{OWN_V2}/memory.reclaim".lstrip("/")).unlink()
    result, detail = Relief(Root(tree), state).reclaim(reclaim(32 * MIB), ON_V2)
    assert (result, detail) == (Result.REFUSED, "this kernel has no memory.reclaim")


@pytest.mark.parametrize(
    ("where", "result"),
    [
        (None, Result.REFUSED),
        (place(on_v2("/user.slice")), Result.REFUSED),
        (place(on_v2(scope(2, "db"))), Result.GONE),
    ],
)
def test_a_guest_without_a_cgroup_of_its_own_is_not_touched(
    tree: Path, state: Path, where: Place | None, result: Result
) -> None:
    relief = Relief(Root(tree), state)
    assert relief.reclaim(reclaim(32 * MIB), where)[0] is result
    assert relief.limit(limit(GIB), where)[0] is result


def test_without_a_program_to_bound_it_nothing_is_written(
    tree: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    relief = Relief(Root(tree), state)
    assert relief.reclaim(reclaim(32 * MIB), ON_V2)[0] is Result.REFUSED
    assert relief.limit(limit(GIB), ON_V2)[0] is Result.REFUSED
    assert text(tree, HIGH) == "max\n"


# --- soft limits -----------------------------------------------------------------------------------------


def test_a_soft_limit_is_set_and_put_back_on_v2(tree: Path, state: Path) -> None:
    relief = Relief(Root(tree), state)
    assert relief.limit(limit(GIB + 1), ON_V2) == (Result.DONE, "")
    assert text(tree, HIGH) == str(GIB)  # whole pages, as the kernel has them
    assert relief.limit(limit(None), ON_V2) == (Result.DONE, "")
    assert text(tree, HIGH).strip() == "max"
    assert not (state / NAME).exists()
    assert relief.limit(limit(None), ON_V2) == (Result.DONE, "")  # nothing is left to be done


def test_a_soft_limit_is_set_and_put_back_on_v1(tree: Path, state: Path) -> None:
    relief = Relief(Root(tree), state)
    assert relief.limit(limit(GIB), ON_V1) == (Result.DONE, "")
    assert text(tree, SOFT) == str(GIB)
    relief.put_back()
    assert text(tree, SOFT) == UNLIMITED


def test_the_limit_that_was_there_is_on_disk_before_another_is_set(
    tree: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(edge, "_write", killed)
    with pytest.raises(KeyboardInterrupt):
        Relief(Root(tree), state).limit(limit(GIB), ON_V2)
    assert notes.kept(state / NAME) == {WEB: {"file": HIGH, "was": "max", "puts": [str(GIB)]}}


def test_a_limit_that_cannot_be_noted_is_not_set(tree: Path, state: Path) -> None:
    (state / f".{NAME}.new").mkdir(parents=True)  # nobody, root neither, can write a file there
    result, _ = Relief(Root(tree), state).limit(limit(GIB), ON_V2)
    assert result is Result.REFUSED
    assert text(tree, HIGH) == "max\n"


def test_what_a_killed_daemon_set_is_put_back_by_the_next(tree: Path, state: Path) -> None:
    Relief(Root(tree), state).limit(limit(GIB), ON_V2)
    Relief(Root(tree), state).put_back()
    assert text(tree, HIGH).strip() == "max"
    assert not (state / NAME).exists()


def test_a_limit_set_twice_is_put_back_to_what_was_there_at_first(tree: Path, state: Path) -> None:
    plant(tree, {HIGH: f"{3 * GIB}\n"})
    relief = Relief(Root(tree), state)
    relief.limit(limit(GIB), ON_V2)
    relief.limit(limit(2 * GIB), ON_V2)
    relief.put_back()
    assert text(tree, HIGH).strip() == str(3 * GIB)


def test_killed_while_a_limit_of_ours_is_replaced_the_next_daemon_lifts_the_former_too(
    tree: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Relief(Root(tree), state).limit(limit(2 * GIB), ON_V2)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(edge, "_write", killed)
    with pytest.raises(KeyboardInterrupt):
        Relief(Root(tree), state).limit(limit(GIB), ON_V2)
    assert text(tree, HIGH) == str(2 * GIB)
    monkeypatch.undo()
    assert Relief(Root(tree), state).put_back() == ()
    assert text(tree, HIGH) == "max"
    assert list(state.iterdir()) == []


def test_a_limit_that_ours_was_seen_to_replace_is_ours_no_more(tree: Path, state: Path) -> None:
    relief = Relief(Root(tree), state)
    relief.limit(limit(2 * GIB), ON_V2)
    relief.limit(limit(GIB), ON_V2)
    plant(tree, {HIGH: f"{2 * GIB}\n"})
    relief.put_back()
    assert text(tree, HIGH) == f"{2 * GIB}\n"


def test_a_limit_is_whole_pages_of_the_kernels_own_size(
    tree: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge, "KERNEL_PAGE", 64 * KIB)
    assert Relief(Root(tree), state).limit(limit(GIB + 60 * KIB), ON_V2) == (Result.DONE, "")
    assert text(tree, HIGH) == str(GIB)


def test_a_limit_that_somebody_else_has_since_set_is_theirs(tree: Path, state: Path) -> None:
    relief = Relief(Root(tree), state)
    relief.limit(limit(GIB), ON_V2)
    plant(tree, {HIGH: f"{2 * GIB}\n"})
    relief.put_back()
    assert text(tree, HIGH) == f"{2 * GIB}\n"
    assert relief.notes == {}


@pytest.mark.parametrize(("file", "where"), [(HIGH, ON_V2), (SOFT, ON_V1)])
def test_a_tighter_limit_of_the_operators_is_never_raised(
    tree: Path, state: Path, file: str, where: Place
) -> None:
    plant(tree, {file: f"{GIB}\n"})
    relief = Relief(Root(tree), state)
    assert relief.limit(limit(2 * GIB), where) == (Result.DONE, "a tighter one stands: 1 GiB")
    assert text(tree, file) == f"{GIB}\n"
    assert relief.notes == {}
    assert relief.limit(limit(None), where) == (Result.DONE, "")
    assert text(tree, file) == f"{GIB}\n"


def test_a_limit_that_was_tightened_since_it_was_set_is_not_raised_either(tree: Path, state: Path) -> None:
    relief = Relief(Root(tree), state)
    relief.limit(limit(2 * GIB), ON_V2)
    plant(tree, {HIGH: f"{GIB}\n"})
    assert relief.limit(limit(2 * GIB), ON_V2)[0] is Result.DONE
    relief.put_back()
    assert text(tree, HIGH) == f"{GIB}\n"


def slowly(*_: object) -> subprocess.Popen[bytes]:
    """A write that the kernel does not come back from."""
    return subprocess.Popen(["sleep", "60"])


def test_setting_a_limit_takes_bounded_time_and_what_may_yet_be_set_is_taken_back(
    tree: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    relief = Relief(Root(tree), state)
    monkeypatch.setattr(edge, "_write", slowly)
    began_s = time.monotonic()
    assert relief.limit(limit(GIB), ON_V2)[0] is Result.TIMED_OUT
    assert time.monotonic() - began_s < 2 * edge.WRITE_MOST_S
    assert relief.notes.keys() == {WEB}
    (writing,) = vars(relief)["_writing"].values()
    assert relief.limit(limit(None), ON_V2) == (Result.DONE, "")
    assert writing.poll() is not None
    assert relief.notes == {}


def test_putting_back_a_limit_that_the_kernel_has_to_reclaim_for_takes_bounded_time(
    tree: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(tree, {HIGH: f"{3 * GIB}\n"})
    relief = Relief(Root(tree), state)
    relief.limit(limit(GIB), ON_V2)
    monkeypatch.setattr(edge, "_write", slowly)
    began_s = time.monotonic()
    assert len(relief.put_back()) == 1
    assert time.monotonic() - began_s < 2 * edge.WRITE_MOST_S
    assert relief.notes.keys() == {WEB}
    monkeypatch.undo()
    assert relief.put_back() == ()
    assert text(tree, HIGH) == str(3 * GIB)


def test_what_could_not_be_put_back_is_tried_again_but_for_what_was_limited_anew(
    tree: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(tree, {HIGH: f"{3 * GIB}\n"})
    Relief(Root(tree), state).limit(limit(GIB), ON_V2)
    relief = Relief(Root(tree), state)
    monkeypatch.setattr(edge, "PUT_BACK_MOST_S", 0.0)
    assert len(relief.put_back()) == 1
    assert relief.limit(limit(2 * GIB), ON_V2) == (Result.DONE, "")
    relief.put_back_owed()  # that limit is the policy's
    assert text(tree, HIGH) == str(2 * GIB)
    assert len(relief.put_back()) == 1
    relief.put_back_owed()
    assert text(tree, HIGH) == str(3 * GIB)
    assert relief.notes == {}


def test_of_what_could_not_be_put_back_a_guest_that_hangs_again_holds_up_no_other(
    tree: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = scope(2, "db")
    high = f"{V2}{other}/memory.high"
    plant(tree, cgroup_v2(other, usage=GIB) | {HIGH: f"{3 * GIB}\n"})
    relief = Relief(Root(tree), state)
    relief.limit(limit(GIB), ON_V2)
    relief.limit(replace(limit(GIB), uuid="other"), place(on_v2(other)))
    monkeypatch.setattr(edge, "_write", slowly)
    monkeypatch.setattr(edge, "PUT_BACK_MOST_S", 0.0)
    assert len(relief.put_back()) == 2
    relief.put_back_owed()
    relief.put_back_owed()
    assert (text(tree, HIGH), text(tree, high)) == (str(GIB), "max")
    monkeypatch.undo()
    relief.put_back()


def test_many_limits_that_hang_are_left_to_the_next_daemon_after_a_while(
    tree: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    relief = Relief(Root(tree), state)
    relief.limit(limit(GIB), ON_V2)
    monkeypatch.setattr(edge, "PUT_BACK_MOST_S", 0.0)
    assert relief.put_back() == (f"{HIGH}: no time was left",)
    assert relief.notes.keys() == {WEB}


def test_the_note_of_a_guest_that_is_gone_goes(tree: Path, state: Path) -> None:
    relief = Relief(Root(tree), state)
    relief.limit(limit(GIB), ON_V2)
    (tree / HIGH.lstrip("/")).unlink()
    assert relief.limit(limit(None), None) == (Result.DONE, "")
    assert relief.notes == {}


def test_a_limit_that_cannot_be_put_back_stays_noted(tree: Path, state: Path) -> None:
    relief = Relief(Root(tree), state)
    relief.limit(limit(GIB), ON_V2)
    (state / f".{NAME}.new").mkdir()
    relief.limit(replace(limit(2 * GIB), uuid="other"), ON_V2)  # refused
    (state / NAME).unlink()
    (state / NAME).mkdir()
    assert relief.limit(limit(None), ON_V2)[0] is Result.REFUSED
    assert len(relief.put_back()) == 1
    assert relief.notes.keys() == {WEB}


def test_a_limit_that_does_not_take_is_told(tree: Path, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "_write", lambda *_: subprocess.Popen(["true"]))
    result, detail = Relief(Root(tree), state).limit(limit(GIB), ON_V2)
    assert (result, detail) == (Result.REFUSED, f"{HIGH} stays at max")
    (tree / HIGH.lstrip("/")).unlink()
    assert Relief(Root(tree), state).limit(limit(GIB), ON_V2)[0] is Result.REFUSED


@pytest.mark.parametrize(
    "noted",
    [
        "nonsense",
        "[]",
        '{"a": 1}',
        '{"a": {"file": "/etc/passwd", "was": "x", "puts": ["y"]}}',
        '{"a": {"file": "/sys/fs/cgroup/a/memory.max", "was": "x", "puts": ["y"]}}',
        '{"a": {"file": "/sys/fs/cgroup/a/memory.high"}}',
        '{"a": {"file": "/sys/fs/cgroup/a/memory.high", "was": "x", "puts": 7}}',
    ],
)
def test_notes_that_are_not_ours_are_not_followed(tree: Path, state: Path, noted: str) -> None:
    state.mkdir()
    (state / NAME).write_text(f'{{"boot": "{notes.BOOT_ID.read_text().strip()}", "note": {noted}}}')
    assert Relief(Root(tree), state).notes == {}


# --- this very host --------------------------------------------------------------------------------------

CACHE = 512 * MIB


def filled(path: str, pid: int, file: Path) -> Place:
    """The place of a real process whose cgroup was filled with page cache, which can go without swap."""
    found = place(Path(f"/proc/{pid}/cgroup").read_text())
    directory = f"/sys/fs/cgroup{'/memory' if found.v1 else ''}{found.own}"
    script = f"echo $$ >{directory}/cgroup.procs; exec dd if=/dev/zero of={file} bs=1M count=512 conv=fsync"
    subprocess.run(["sh", "-c", script], check=True, capture_output=True)
    assert found.own is not None and found.own.startswith(path)
    return found


def used(where: Place) -> int:
    directory, name = (f"{V1}{where.own}", "usage_in_bytes") if where.v1 else (f"{V2}{where.own}", "current")
    return int(Path(f"{directory}/memory.{name}").read_text())


def limits(where: Place) -> list[str]:
    directory = Path(f"{V1 if where.v1 else V2}{where.own}")
    names = ("memory.limit_in_bytes", "memory.soft_limit_in_bytes", "memory.max", "memory.high")
    return [(directory / name).read_text() for name in names if (directory / name).exists()]


def test_the_real_kernel_gives_up_about_what_it_is_asked_for(tmp_path: Path) -> None:
    with real_cgroup(2 * GIB) as (path, pid):
        where = filled(path, pid, tmp_path / "cache")
        before, found = used(where), limits(where)
        assert before > CACHE // 2
        relief = Relief(Root(), tmp_path / "state")
        assert relief.reclaim(reclaim(64 * MIB), where)[0] is Result.DONE
        until(lambda: before - used(where) >= 60 * MIB, "the reclaim")
        until(lambda: relief.reclaim(reclaim(PAGE), where)[0] is Result.DONE, "its end")
        relief.put_back()
        assert before - used(where) < CACHE * 3 // 4, "far more went than was asked for"
        assert limits(where) == found


def test_a_reclaim_ends_by_itself_when_the_daemon_is_killed(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from balloond.host.relief import _write\n"
        "_write(sys.argv[1], 'x', 1.0); os.kill(os.getpid(), 9)"
    )
    pipe = tmp_path / "never-read"  # a write that blocks for ever, as a reclaim from a huge guest does
    subprocess.run(["mkfifo", str(pipe)], check=True)
    subprocess.run([sys.executable, "-c", program, str(pipe)], check=False)

    def writers() -> str:
        return subprocess.run(["pgrep", "-f", str(pipe)], capture_output=True, text=True, check=False).stdout

    assert writers()
    time.sleep(RECLAIM_MOST_S + 1)
    assert not writers()


def test_the_real_kernel_takes_a_soft_limit_and_takes_it_back(tmp_path: Path) -> None:
    with real_cgroup(2 * GIB) as (path, pid):
        where = place(Path(f"/proc/{pid}/cgroup").read_text())
        assert where.own is not None and where.own.startswith(path)
        found = limits(where)
        relief = Relief(Root(), tmp_path)
        assert relief.limit(limit(GIB), where) == (Result.DONE, "")
        assert str(GIB) in [each.strip() for each in limits(where)]
        assert limits(where)[0] == found[0], "the limit at which the kernel kills is never touched"
        relief.put_back()
        assert limits(where) == found
