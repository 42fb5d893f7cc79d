"""Memory that is taken from one guest must never show in another: looked for from the host, page by page."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from balloond.lab.arena import Arena, Lab
from balloond.lab.domain import Machine
from balloond.lab.guest import Guest
from balloond.lab.memory import Holding, holding
from balloond.lab.patience import until
from balloond.units import MIB, PAGE

pytestmark = pytest.mark.end_to_end

KSM = Path("/sys/kernel/mm/ksm")
GUEST = 512 * MIB
SECRET = 256 * MIB
SMALL = 128 * MIB
"""A lab guest lives in this; nearly all that it held before was taken from it then."""

BEGUN = 192 * MIB  # what the other guest has before it grows
TRIES = 3
"""A frame that was freed may go to anybody on the machine; some of so many come to the other guest."""


@pytest.fixture(params=[False, True], ids=["without-merging", "with-merging"])
def merging(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Same-page merging off, or on and fast; what was found is put back, come what may."""
    names = ("run", "pages_to_scan", "sleep_millisecs")
    if not (KSM / "run").exists():
        pytest.skip("this kernel has no KSM")
    found = {name: (KSM / name).read_text() for name in names}
    try:
        if request.param:
            (KSM / "pages_to_scan").write_text("20000")
            (KSM / "sleep_millisecs").write_text("20")
        (KSM / "run").write_text("1" if request.param else "0")
        yield bool(request.param)
    finally:
        for name in reversed(names):
            (KSM / name).write_text(found[name])


@pytest.fixture
def arena(lab: Lab) -> Iterator[Arena]:
    with lab.arena(pool=1500 * MIB) as arena:
        yield arena


def look(guest: Guest, marker: bytes) -> Holding:
    """Where it holds the marker, read from the host."""
    return holding(guest.pid, guest.machine.memory, marker)


def merged() -> int:
    return int((KSM / "pages_sharing").read_text()) * PAGE


def shrink(guest: Guest, target: int) -> None:
    guest.set_target(target)
    until(lambda: guest.actual == target, "the balloon to arrive", limit_s=60)


def grow(guest: Guest) -> None:
    """To all its memory, which it touches: one cache line a page, so that the rest shows what the host gave."""
    guest.set_target(GUEST)
    until(lambda: guest.actual == GUEST, "the balloon to arrive", limit_s=60)
    guest.hold(guest.report().free - 24 * MIB)
    until(lambda: guest.report().held == guest.report().wanted, "the guest to have new memory", limit_s=60)


def test_what_was_taken_from_one_guest_is_gone_from_its_process_and_never_shows_in_another(
    arena: Arena, merging: bool
) -> None:
    secret = secrets.token_bytes(16)
    owner, other = arena.boot_all([Machine(memory=GUEST, period_s=1) for _ in range(2)])
    shrink(other, BEGUN)  # so that it has room for new memory later

    owner.command(f"pattern {SECRET // MIB} {secret.hex()}")
    until(lambda: owner.report().held == SECRET, "the pattern to be written", limit_s=60)
    if merging:
        until(lambda: merged() > SECRET / 2, "the pattern's pages to be merged", limit_s=60)
    before = look(owner, secret)
    assert before.pages >= SECRET // PAGE
    assert look(other, secret).pages == 0

    owner.release()  # the guest's kernel frees the pages, and does not clear them
    until(lambda: owner.report().available > SECRET, "the guest to have freed them")
    assert look(owner, secret).pages > 0.9 * before.pages

    shrink(owner, SMALL)
    until(lambda: owner.rss < before.pages * PAGE, "QEMU to have let go")
    after = look(owner, secret)
    print(f"pages with the pattern: {before.pages} before, {after.pages} after, merging {merging}")
    assert after.pages * PAGE <= owner.report().free + 4 * MIB  # what is left is still the owner's own
    assert before.pages - after.pages > 0.75 * before.pages

    reused: set[int] = set()
    for _ in range(TRIES):
        grow(other)
        assert look(other, secret).pages == 0
        reused |= look(other, b"").frames & before.frames
        if reused:
            break
        other.release()
        shrink(other, BEGUN)
    print(f"frames that went from one guest to the other: {len(reused)} of {len(before.frames)}")
    if not merging:  # merged, the pattern lay in a few frames
        assert reused, "no frame changed hands, so that nothing was shown"
