"""What a person is told of a guest: a sentence for each reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from balloond.model import Demand, Obstacle, Reason, Trust, Verdict
from balloond.units import GIB, MIB

DEMAND = Demand(
    trust=Trust.AGING,
    working_set=GIB,
    want=1280 * MIB,
    need=GIB,
    enough=GIB,
    floor=GIB,
    guarantee=512 * MIB,
    ceiling=4 * GIB,
    margin=256 * MIB,
    in_distress=False,
    suffers=False,
    squeezed=False,
    overhead=0,
    memory=None,
)
VERDICT = Verdict(
    uuid="u",
    name="web",
    actual=2 * GIB,
    demand=DEMAND,
    entitlement=2500 * MIB,
    target=3 * GIB,
    reason=Reason.STEADY,
    obstacle=None,
    memory=None,
)

SENTENCES = {
    Reason.FITS: "all guests fit at their maximum, so it gets 3 GiB",
    Reason.NEED: "works with 1 GiB and wants 1.25 GiB, has 2 GiB: grown to 3 GiB",
    Reason.DISTRESS: "suffers for memory with 2 GiB: grown to 3 GiB at once",
    Reason.SURPLUS: "memory is free and its share of it is 2.44 GiB: grown to 3 GiB",
    Reason.DONATE: "works with 1 GiB of 2 GiB; others need memory now: shrunk to 3 GiB",
    Reason.REFILL: "works with 1 GiB of 2 GiB; the pool for growth is low: shrunk to 3 GiB",
    Reason.SHORTAGE: "works with 1 GiB of 2 GiB; the host is short of memory: shrunk to 3 GiB",
    Reason.GUARANTEE: "has 2 GiB, less than it is guaranteed: grown to 3 GiB",
    Reason.CEILING: "has 2 GiB, more than the operator allows it: shrunk to 3 GiB",
    Reason.STEADY: "works with 1 GiB, wants 1.25 GiB, has 2 GiB: nothing to do",
    Reason.NO_ROOM: "wants 1.25 GiB, has 2 GiB: waits until memory is free",
    Reason.UNTRUSTED: "its statistics are aging: held at 2 GiB",
    Reason.OBSTACLE: "left alone: in-job",
    Reason.STUCK: "its balloon did not follow: left alone at 2 GiB for a while",
    Reason.FROZEN: "the host or libvirt cannot be read: frozen at 3 GiB",
    Reason.SETTLING: "watched since a moment ago: held at 2 GiB until its numbers settle",
    Reason.FAREWELL: "the daemon stops: left with 3 GiB",
}


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_its_sentence(reason: Reason) -> None:
    obstacle = Obstacle.IN_JOB if reason is Reason.OBSTACLE else None
    assert replace(VERDICT, reason=reason, obstacle=obstacle).words == SENTENCES[reason]


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        (Reason.STEADY, "nothing known of its work, wants unknown, has 2 GiB: nothing to do"),
        (Reason.UNTRUSTED, "its statistics are absent: held at 2 GiB"),
        (Reason.OBSTACLE, "left alone: no statistics"),
    ],
)
def test_where_nothing_is_known_the_sentence_says_so(reason: Reason, sentence: str) -> None:
    assert replace(VERDICT, reason=reason, demand=None).words == sentence
