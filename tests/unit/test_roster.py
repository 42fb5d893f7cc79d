"""What is remembered of guests fits the lives that they lead."""

from __future__ import annotations

from balloond.host.link import Event
from balloond.host.readings import Row
from balloond.host.roster import Known, Roster
from balloond.model import Guest, Obstacle
from balloond.units import GIB

XML = "<domain><memory unit='GiB'>4</memory><devices><memballoon model='virtio'/></devices></domain>"
FULL = {"state.state": 1, "balloon.current": 4 * 1024**2, "balloon.maximum": 4 * 1024**2, "balloon.rss": 1000}
NOBODY: frozenset[str] = frozenset()


def row(uuid: str = "a", domain_id: int = 1, **more: int) -> Row:
    fields = FULL | {key.replace("_", ".", 1): value for key, value in more.items()}
    return Row(uuid=uuid, name=f"guest {uuid}", domain_id=domain_id, fields=fields)


def known(roster: Roster, uuid: str = "a") -> Known:
    found = roster.get(uuid)
    assert found is not None
    return found


def only_guest(roster: Roster) -> Guest:
    (guest,), _faults = roster.guests()
    return guest


def roster_of(*rows: Row) -> Roster:
    roster = Roster()
    roster.update(rows, NOBODY, 0.0)
    for each in rows:
        roster.learn(each.uuid, XML, 0.0)
    return roster


def test_guests_come_in_uuid_order_whatever_libvirt_s() -> None:
    roster = roster_of(row("c"), row("a"), row("b"))
    assert [guest.uuid for guest in roster.guests()[0]] == ["a", "b", "c"]


def test_steady_guests_keep_their_lives() -> None:
    roster = roster_of(row())
    before = known(roster).incarnation
    roster.update([row()], NOBODY, 100.0)
    assert known(roster).incarnation == before


def test_no_two_lives_share_a_number() -> None:
    roster = roster_of(row("a"), row("b"))
    first = known(roster, "a").incarnation
    assert first != known(roster, "b").incarnation
    roster.update([row("b")], NOBODY, 10.0)
    roster.update([row("a"), row("b")], NOBODY, 20.0)
    assert known(roster, "a").incarnation != first, "it came back as another"


def test_another_id_is_another_guest_of_which_nothing_is_known() -> None:
    roster = roster_of(row(domain_id=1))
    before = known(roster).incarnation
    roster.update([row(domain_id=2)], NOBODY, 10.0)
    assert known(roster).incarnation != before
    assert known(roster).facts is None


def test_three_announcements_of_a_reset_are_one() -> None:
    roster = roster_of(row())
    before = known(roster).incarnation
    for at in (10.0, 10.4, 11.9):
        roster.heed(Event(kind="reboot", uuid="a"), at)
    assert known(roster).incarnation == before + 1
    roster.heed(Event(kind="reboot", uuid="a"), 20.0)
    assert known(roster).incarnation == before + 2


def test_a_resume_that_no_event_told_of_is_seen() -> None:
    roster = roster_of(row())
    before = known(roster).incarnation
    roster.update([row(state_state=3)], NOBODY, 10.0)
    assert known(roster).incarnation == before
    roster.update([row()], NOBODY, 20.0)
    assert known(roster).incarnation == before + 1


def test_a_resume_that_an_event_told_of_counts_once() -> None:
    roster = roster_of(row())
    before = known(roster).incarnation
    roster.update([row(state_state=3)], NOBODY, 10.0)
    roster.heed(Event(kind="resumed", uuid="a"), 15.0)
    roster.update([row()], NOBODY, 30.0)
    assert known(roster).incarnation == before + 1


def test_a_reset_that_no_event_told_of_shows_in_forgotten_statistics() -> None:
    fresh = Row(uuid="a", name="a", domain_id=1, fields=FULL | {"balloon.last-update": 1_700_000_000})
    reset = Row(uuid="a", name="a", domain_id=1, fields=FULL | {"balloon.last-update": 0})
    roster = roster_of(fresh)
    before = known(roster).incarnation
    roster.update([reset], NOBODY, 10.0)
    assert known(roster).incarnation == before + 1
    roster.update([reset], NOBODY, 20.0)
    assert known(roster).incarnation == before + 1


def test_events_of_strangers_are_nothing() -> None:
    roster = roster_of(row())
    roster.heed(Event(kind="reboot", uuid="z"), 1.0)
    assert len(roster) == 1


def test_any_event_makes_the_definition_due() -> None:
    roster = roster_of(row())
    roster.heed(Event(kind="changed", uuid="a"), 1.0)
    assert known(roster).read_s < 0


def test_a_guest_that_does_not_answer_keeps_its_last_figures_and_is_a_fault() -> None:
    roster = roster_of(row())
    roster.update([Row(uuid="a", name="a", domain_id=1, fields=None)], frozenset({"a"}), 10.0)
    (guest,), (fault,) = roster.guests()
    assert (guest.obstacle, guest.maximum, guest.rss) == (Obstacle.UNREADABLE, 4 * GIB, 1000 * 1024)
    assert fault.subject == "a"
    assert "left out" in fault.detail


def test_a_broken_definition_makes_only_that_guest_unreadable() -> None:
    roster = roster_of(row("a"), row("b"))
    roster.learn("a", "<domain><memory>lots</memory></domain>", 1.0)
    (broken, well), (fault,) = roster.guests()
    assert (broken.obstacle, well.obstacle) == (Obstacle.UNREADABLE, None)
    assert (broken.defined, well.defined) == (False, True)
    assert fault.subject == "a" and "no number" in fault.detail


def test_disk_reads_are_carried_through_ticks_that_do_not_ask_for_them() -> None:
    roster = roster_of(Row(uuid="a", name="a", domain_id=1, fields=FULL | {"block.count": 0}))
    roster.update([row()], NOBODY, 2.0)
    assert only_guest(roster).block_read == 0
