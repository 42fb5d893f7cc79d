"""May a guest start, is the answer what follows from solvency, and can no question do harm?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from balloond.config.settings import Amount, Config, GuestPolicy, GuestRule
from balloond.model import Fault, FaultKind, Guest, Held, Host, Obstacle, Rung, Tick
from balloond.policy.admission import Admission, Asked, Objection, admit
from balloond.policy.solvency import QEMU_OVERHEAD, most
from balloond.publish.admission import admission, asked_of
from balloond.publish.words import describe_admission
from balloond.units import GIB, MIB, format_size
from tests.unit import sealed

FREE = 6 * GIB  # of a sealed host: 8 GiB, less 1 of its own and 1 of reserve
ROOMY = replace(sealed.HOST, swap_total=64 * GIB, swap_free=64 * GIB)


def asked(size: int, held: Held = Held.ORDINARY, guarantee: int = 0) -> Asked:
    return Asked(size=size, held=held, guarantee=guarantee, overhead=QEMU_OVERHEAD)


def answer(question: Asked, *guests: Guest, host: Host = sealed.HOST, rung: Rung = Rung.GREEN) -> Admission:
    verdicts = tuple(sealed.verdict(each.uuid, each.name) for each in guests)
    tick = sealed.tick(*guests, host=host, rung=rung, verdicts=verdicts)
    return admit(tick.decision, tick.snapshot, question)


def why(given: Admission) -> list[tuple[Objection, int | None]]:
    return [(each.objection, each.missing) for each in given.refusals]


def test_a_guest_that_fits_beside_all_others_at_their_most_may_start() -> None:
    given = answer(asked(GIB), sealed.guest())
    assert given.admitted
    assert given.spare == FREE - most(4 * GIB, 0) - most(GIB, QEMU_OVERHEAD)


def test_one_that_would_make_the_host_insolvent_may_not_and_the_swap_is_named() -> None:
    missing = most(4 * GIB, 0) + most(3 * GIB, QEMU_OVERHEAD) - FREE
    assert why(answer(asked(3 * GIB), sealed.guest())) == [(Objection.SWAP, missing)]
    swap = replace(sealed.HOST, swap_total=missing, swap_free=missing)
    assert answer(asked(3 * GIB), sealed.guest(), host=swap).admitted
    less = replace(swap, swap_free=missing - 1)
    assert why(answer(asked(3 * GIB), sealed.guest(), host=less)) == [(Objection.SWAP, 1)]


@pytest.mark.parametrize(("rung", "admitted"), [(Rung.YELLOW, True), (Rung.ORANGE, False), (Rung.RED, False)])
def test_nobody_starts_while_the_host_is_orange_or_worse(rung: Rung, admitted: bool) -> None:
    given = answer(asked(GIB), rung=rung)
    assert given.admitted is admitted
    assert why(given) == ([] if admitted else [(Objection.SHORT, None)])


@pytest.mark.parametrize("held", [Held.LOCKED, Held.PASSTHROUGH, Held.CONFIDENTIAL])
def test_one_that_cannot_be_swapped_has_to_fit_into_memory(held: Held) -> None:
    assert why(answer(asked(7 * GIB, held), host=ROOMY)) == [
        (Objection.MEMORY, most(7 * GIB, QEMU_OVERHEAD) - FREE)
    ]
    assert answer(asked(7 * GIB), host=ROOMY).admitted


def test_one_that_may_go_to_zram_has_to_fit_into_memory_as_far_as_that() -> None:
    zram = replace(ROOMY, swap_total=72 * GIB, swap_free=72 * GIB, zram_total=8 * GIB, zram_free=8 * GIB)
    assert answer(asked(5 * GIB), host=zram).admitted
    assert why(answer(asked(9 * GIB), host=zram)) == [(Objection.MEMORY, 8 * GIB - FREE)]


def test_one_in_huge_pages_needs_as_many_set_aside_and_free() -> None:
    assert why(answer(asked(2 * GIB, Held.HUGEPAGES))) == [(Objection.HUGE_PAGES, 2 * GIB)]
    given = answer(asked(7 * GIB, Held.HUGEPAGES), host=replace(sealed.HOST, huge_free=7 * GIB))
    assert given.admitted
    assert given.spare == FREE - QEMU_OVERHEAD  # its memory was the host's own use before


def test_its_guarantee_has_to_fit_beside_the_others() -> None:
    question = asked(7 * GIB, guarantee=5 * GIB)  # the sealed guest is guaranteed 1 GiB
    missing = 5 * GIB + QEMU_OVERHEAD + GIB - FREE
    assert why(answer(question, sealed.guest(), host=ROOMY)) == [(Objection.GUARANTEE, missing)]
    exact = asked(7 * GIB, guarantee=FREE - GIB - QEMU_OVERHEAD)
    assert answer(exact, sealed.guest(), host=ROOMY).admitted


def test_guests_that_cannot_be_swapped_count_whole_among_the_guarantees() -> None:
    pinned = replace(sealed.guest(), obstacle=Obstacle.LOCKED)
    question = asked(2 * GIB, guarantee=2 * GIB)
    missing = most(4 * GIB, 0) + 2 * GIB + QEMU_OVERHEAD - FREE
    assert why(answer(question, pinned, host=ROOMY)) == [(Objection.GUARANTEE, missing)]


def fault(kind: FaultKind) -> Fault:
    return Fault(kind=kind, subject="/gold.slice", detail="")


@pytest.mark.parametrize(
    "tick",
    [
        sealed.tick(listed=False),
        sealed.tick(accounts=None),
        sealed.tick(host=None),
        sealed.tick(faults=(fault(FaultKind.POOL_DIVIDED),)),  # a limit on some of the guests is in no sum
        sealed.tick(faults=(fault(FaultKind.KERNEL_UNREADABLE),)),
    ],
)
def test_it_never_says_yes_for_want_of_knowledge(tick: Tick) -> None:
    given = admit(tick.decision, tick.snapshot, asked(GIB))
    assert why(given) == [(Objection.UNKNOWN, None)]
    assert given.spare is None


def test_a_guest_that_can_not_be_read_is_no_want_of_knowledge_since_it_counts_for_its_most() -> None:
    tick = sealed.tick(faults=(fault(FaultKind.GUEST_UNREADABLE),))
    assert admit(tick.decision, tick.snapshot, asked(GIB)).admitted


# --- the question, as it comes over the socket -----------------------------------------------------------


def test_a_question_is_read_with_the_guarantee_that_the_configuration_gives() -> None:
    rule = GuestRule(name="db-*", policy=GuestPolicy(minimum=Amount(share=1.0)))
    excluded = GuestRule(name="router", policy=GuestPolicy(manage=False))
    config = Config(guests=(rule, excluded))
    question = {"ask": "admit", "size": 4 * GIB}
    assert asked_of(question, config) == asked(4 * GIB, guarantee=GIB)
    assert asked_of(question | {"name": "db-1"}, config) == asked(4 * GIB, guarantee=4 * GIB)
    assert asked_of(question | {"name": "router"}, config) == asked(4 * GIB)
    assert asked_of(question | {"held": "locked"}, config) == asked(4 * GIB, Held.LOCKED, GIB)


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"size": None},
        {"size": "4GiB"},
        {"size": 4.0 * GIB},
        {"size": True},
        {"size": -GIB},
        {"size": 0},
        {"size": 10**30},
        {"size": GIB, "held": "loosely"},
        {"size": GIB, "held": ["locked"]},
        {"size": GIB, "held": None},
        {"size": GIB, "name": 7},
        {"size": GIB, "name": "x" * 257},
        {"size": GIB, "force": True},
        {"size": GIB, "\x1b[2J" * 50: 1},
    ],
)
def test_a_question_without_sense_is_complained_of(request_: dict[str, Any]) -> None:
    complaint = asked_of({"ask": "admit"} | request_, Config())
    assert isinstance(complaint, str)
    assert complaint.isprintable() and len(complaint) < 200


# --- the answer ------------------------------------------------------------------------------------------


def told(tick: Tick, question: Asked) -> str:
    return describe_admission(admission(tick, question))


def test_a_yes_says_what_would_be_left() -> None:
    assert told(sealed.tick(sealed.guest()), asked(GIB)).startswith("yes: a guest of 1 GiB may start: 9")


def test_a_no_says_why_and_how_to_mend_it() -> None:
    text = told(sealed.tick(sealed.guest(), rung=Rung.ORANGE), asked(3 * GIB, Held.LOCKED))
    assert text.startswith("no: a guest of 3 GiB (locked) may not start now\n")
    assert "the host is orange" in text
    assert "of swap on disk would be missing" in text
    missing = (most(4 * GIB, 0) + most(3 * GIB, QEMU_OVERHEAD) - FREE) // MIB
    assert f"fallocate -l {missing + 1}MiB" in text


def test_a_no_for_a_bound_on_swap_names_the_bound() -> None:
    bounded = replace(sealed.HOST, swap_withheld=64 * GIB)
    text = told(sealed.tick(sealed.guest(), host=bounded), asked(3 * GIB))
    assert "memory.swap.max" in text
    assert "fallocate" not in text
    beyond = told(sealed.tick(sealed.guest(), host=replace(bounded, zram_beyond=GIB)), asked(3 * GIB))
    missing = most(4 * GIB, 0) + most(3 * GIB, QEMU_OVERHEAD) - FREE
    assert f") by {format_size(missing)}" in text and f") by {format_size(missing + GIB)}" in beyond


@pytest.mark.parametrize(
    ("question", "tick", "words"),
    [
        (asked(7 * GIB, Held.LOCKED), sealed.tick(host=ROOMY), "no swap helps"),
        (asked(GIB, Held.HUGEPAGES), sealed.tick(), "1 GiB of huge pages are missing"),
        (asked(7 * GIB, guarantee=7 * GIB), sealed.tick(host=ROOMY), "guarantees would not fit"),
        (asked(GIB), sealed.tick(listed=False), "can't be read"),
    ],
)
def test_each_objection_has_its_words(question: Asked, tick: Tick, words: str) -> None:
    assert words in told(tick, question)


def test_an_objection_of_a_newer_daemon_is_shown_as_it_is() -> None:
    reply = admission(sealed.tick(rung=Rung.RED), asked(GIB))
    reply["refusals"][0]["objection"] = "moon\x1b"
    assert "moon\\x1b" in describe_admission(reply)
