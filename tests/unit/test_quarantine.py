"""Guests that hang time and again are left out, for longer each time; slow ones are not."""

from __future__ import annotations

from balloond.host.quarantine import Quarantine


def test_two_hangs_are_forgiven() -> None:
    quarantine = Quarantine()
    assert [quarantine.strike("a", now) for now in (0.0, 5.0)] == [0.0, 0.0]
    assert quarantine.inside(5.0) == frozenset()
    assert quarantine.suspects(5.0) == {"a"}


def test_each_further_hang_doubles_the_pause_up_to_ten_minutes() -> None:
    quarantine = Quarantine()
    pauses = [quarantine.strike("a", 0.0)]
    now = 0.0
    for _hang in range(10):
        now += pauses[-1] + 1.0
        pauses.append(quarantine.strike("a", now))
    assert pauses == [0, 0, 10, 20, 40, 80, 160, 320, 600, 600, 600]


def test_a_guest_is_outside_again_when_its_pause_is_over() -> None:
    quarantine = Quarantine()
    for now in (0.0, 1.0, 2.0):
        quarantine.strike("a", now)
    assert quarantine.inside(11.9) == {"a"}
    assert quarantine.inside(12.0) == frozenset()


def test_hangs_are_forgotten_ten_minutes_after_the_last_pause() -> None:
    quarantine = Quarantine()
    for now in (0.0, 1.0, 2.0):
        quarantine.strike("a", now)
    assert quarantine.suspects(612.0) == {"a"}
    assert quarantine.suspects(612.1) == frozenset()
    assert quarantine.strike("a", 613.0) == 0.0


def test_one_guest_s_hangs_are_not_another_s() -> None:
    quarantine = Quarantine()
    for now in (0.0, 1.0, 2.0):
        quarantine.strike("a", now)
    assert quarantine.strike("b", 3.0) == 0.0
    assert quarantine.inside(3.0) == {"a"}
