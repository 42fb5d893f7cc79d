"""Is it said of each bar whether it is met, with the figure?"""

from __future__ import annotations

import pytest

from balloond.sim.compare import Row
from balloond.sim.verdict import Answer, Verdict, lines, verdicts


def row(policy: str = "balloond", **more: object) -> Row:
    values: dict[str, object] = {
        "policy": policy, "overcommit": 2.0, "ramp": "step", "shortage": 1.0, "infeasible": 0.0, "excess": 1.0,
        "late_excess": 1.0, "multiple": None, "flips": 0.5, "moves": 9.0, "moved_gib": 1.0, "wait_p99_s": None,
        "most_given": 0.9, "valid": True, **more,
    }  # fmt: skip
    return Row(**values)  # type: ignore[arg-type]  # the test names its fields


def only(told: list[Row], about: str) -> Verdict:
    found = [verdict for verdict in verdicts(told) if about in verdict.bar]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(
    ("overcommit", "excess", "late", "answer"),
    [
        (2.0, 3.0, 1.0, Answer.MET),
        (2.0, 3.1, 1.0, Answer.MISSED),
        (2.5, 5.0, 1.0, Answer.MET),
        (2.5, 5.1, 1.0, Answer.MISSED),
        (3.0, 5.0, 1.0, Answer.MET),
        (3.0, 5.1, 1.0, Answer.MISSED),
        (2.0, 0.0, 0.0, Answer.MET),
        (2.0, 0.002, 0.0, Answer.MISSED),
    ],
)
def test_the_excess_is_held_against_the_late_oracles(
    overcommit: float, excess: float, late: float, answer: Answer
) -> None:
    verdict = only([row(overcommit=overcommit, excess=excess, late_excess=late)], "excess")
    assert verdict.answer is answer
    assert verdict.bar.startswith(f"step {overcommit:g}x: excess at most {3 if overcommit == 2 else 5} times")


def test_flips_may_be_two_a_machine_day() -> None:
    assert only([row(flips=2.0)], "flips") == Verdict(
        bar="step 2x: flips at most 2 a machine-day", figure="2.00", answer=Answer.MET
    )
    assert only([row(flips=2.01)], "flips").answer is Answer.MISSED


@pytest.mark.parametrize(
    ("ours", "infeasible", "peers", "answer", "figure"),
    [
        (1.0, 0.0, 100.0, Answer.MET, "1.00; qmemman's 100"),
        (1.0, 0.0, 99.0, Answer.MISSED, "1.00; qmemman's 99.0"),
        (0.0, 0.0, 0.0, Answer.MET, "nothing lacks"),
        (0.1, 0.0, 0.0, Answer.MISSED, "0.100; qmemman's 0"),
        (1.0, 0.5, 40.0, Answer.OUT_OF_REACH, "1.00; qmemman's 40.0; the clairvoyant itself has 0.500"),
        (1.0, 0.5, 60.0, Answer.MISSED, "1.00; qmemman's 60.0"),
    ],
)
def test_u_is_held_against_the_best_valid_peers(
    ours: float, infeasible: float, peers: float, answer: Answer, figure: str
) -> None:
    told = [
        row(shortage=ours, infeasible=infeasible),
        row("mom", shortage=peers + 1),
        row("qmemman", shortage=peers),
        row("script", shortage=peers / 9, valid=False),
        row("late-oracle", shortage=peers / 9),
        row("esx", shortage=peers / 9, ramp="linear"),
    ]
    verdict = only(told, "U at least")
    assert (verdict.answer, verdict.figure) == (answer, figure)


def test_u_has_no_bar_at_three_times_the_memory_nor_without_a_valid_peer() -> None:
    told = [row(overcommit=3.0), row("mom", overcommit=3.0), row(), row("mom", valid=False)]
    assert [verdict.bar for verdict in verdicts(told) if "U at least" in verdict.bar] == []


def test_verdicts_are_summed_up() -> None:
    told = lines(verdicts([row(flips=3.0), row("mom", shortage=200.0)]))
    assert told[-1] == "Of 3 bars: 2 met, 1 missed, 0 out of reach."
    assert any(line.endswith("3.00   missed") for line in told)
