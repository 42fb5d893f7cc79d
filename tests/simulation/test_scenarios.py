"""Do the scenarios that come with balloond end well, and are broken ones told apart with clear words?"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from balloond.config.settings import Config
from balloond.model import Reason, Tick
from balloond.sim import scenario
from balloond.sim.play import Story, play
from balloond.sim.scenario import ConfigError, load, named, names, read
from balloond.sim.staged import stage
from balloond.sim.world import SimWorld
from balloond.units import GIB, MIB

SMALL = """\
duration: 4min
host: {memory: 8GiB}
guests:
  - {name: web, count: 2, memory: 4GiB, demand: 1GiB}
"""


def told(name: str) -> tuple[Story, list[Tick], SimWorld]:
    """The story of one of the scenarios, and its ticks."""
    ticks: list[Tick] = []
    made = named(name)
    story = play(made, watcher=lambda _, tick: ticks.append(tick))
    return story, ticks, made.world


@pytest.mark.parametrize("name", names())
def test_no_scenario_breaks_a_promise(name: str) -> None:
    story = play(named(name))
    assert [str(breach) for breach in story.breaches] == []
    assert story.oom_kills == 0
    assert story.still


def test_there_are_scenarios_to_learn_from() -> None:
    assert {"boot-storm", "herd", "leak", "liar", "stuck-balloon", "libvirt-gone"} <= set(names())


def test_nobody_is_shrunk_while_it_boots_and_all_are_served() -> None:
    story, ticks, _ = told("boot-storm")
    shrunk = [
        tick.snapshot.monotonic_s
        for tick in ticks
        for action in tick.decision.actions
        if action.target < action.actual
    ]
    assert min(shrunk) >= 60 + 30
    assert sum(story.short_gib_s.values()) < 1


def test_a_herd_is_served_within_seconds() -> None:
    story, _, _ = told("herd")
    assert sum(story.short_gib_s.values()) < 10  # 8 guests that lack 1.7 GiB each: 1.4 s without half of it


def test_a_leak_harms_no_neighbour() -> None:
    story, _, world = told("leak")
    assert all(lacked < 1 for name, lacked in story.short_gib_s.items() if name != "leaky")
    assert world.named("leaky").actual <= world.named("leaky").maximum


def test_a_liar_gains_little_and_honest_guests_are_served() -> None:
    story, ticks, world = told("liar")
    assert all(lacked < 1 for name, lacked in story.short_gib_s.items() if name.startswith("honest"))
    greedy = next(v for v in ticks[-1].decision.verdicts if v.name == "greedy")
    assert greedy.demand is not None
    assert greedy.demand.working_set <= world.named("greedy").rss + 64 * MIB


def test_stuck_balloons_are_tried_ever_more_seldom_while_the_good_are_served() -> None:
    story, ticks, _ = told("stuck-balloon")
    assert all(story.short_gib_s[name] < 1 for name in ("good-1", "good-2"))
    tried = [
        tick.snapshot.monotonic_s
        for tick in ticks
        for action in tick.decision.actions
        if action.name == "stuck" and action.reason is not Reason.STUCK
    ]
    assert 2 <= len(tried) <= 12
    gaps = [later - earlier for earlier, later in pairwise(tried)]
    assert gaps[-1] >= gaps[0]
    assert all(action.name != "driverless" for tick in ticks for action in tick.decision.actions)


def test_nothing_moves_in_the_dark_and_the_daemon_comes_back() -> None:
    story, ticks, _ = told("libvirt-gone")
    dark = [t for t in ticks if t.snapshot.host is None or t.snapshot.guests is None]
    assert len(dark) > 200
    assert all(tick.decision.actions == () for tick in dark)
    assert story.restarts == 1


CROWDED = SMALL.replace("8GiB", "6GiB")


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        ("balloond", "config: {mode: observe}"),
        ("balloond", 'faults: [{fault: deaf, guest: "web-*"}]'),
        ("qmemman", 'faults: [{fault: deaf, guest: "web-*"}]'),
    ],
)
def test_only_what_was_done_counts_as_a_target_set(policy: str, why: str) -> None:
    assert stage(lambda: read(CROWDED, "x.yaml"), policy).targets_set > 0
    assert stage(lambda: read(f"{CROWDED}{why}\n", "x.yaml"), policy).targets_set == 0


def test_what_was_done_before_the_daemon_was_killed_counts() -> None:
    """qmemman asks both guests in its first turn, and is killed after one."""
    first = CROWDED.replace("4min", "2s")
    killed = f"{first}faults: [{{fault: daemon-killed, after: 1}}]\n"
    assert stage(lambda: read(first, "x.yaml"), "qmemman").targets_set == 2
    assert stage(lambda: read(killed, "x.yaml"), "qmemman").targets_set == 1


# --- reading ---------------------------------------------------------------------------------------------


def test_a_scenario_is_read_into_a_world() -> None:
    made = read(SMALL, "small.yaml")
    assert made.name == "small"
    assert made.duration_s == 240
    assert made.step_s == made.config.interval_s
    assert [guest.name for guest in made.world.guests] == ["web-1", "web-2"]
    assert made.world.guests[1].workload(0.0).memory == GIB
    assert made.world.host.total == 8 * GIB


def test_a_scenario_is_loaded_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(SMALL, encoding="utf-8")
    assert play(load(file)).breaches == ()


def test_demand_goes_along_lines_or_in_steps() -> None:
    lines = read(SMALL.replace("demand: 1GiB", "demand: [[0s, 1GiB], [10s, 3GiB]]"), "x.yaml")
    steps = read(SMALL.replace("demand: 1GiB", "shape: steps, demand: [[0s, 1GiB], [10s, 3GiB]]"), "x.yaml")
    assert lines.world.guests[0].workload(5.0).memory == 2 * GIB
    assert steps.world.guests[0].workload(5.0).memory == GIB
    assert steps.world.guests[0].workload(10.0).memory == 3 * GIB


def test_its_config_is_read_by_the_daemons_own_reader() -> None:
    made = read(SMALL + "config:\n  interval: 5s\n  host: {pool: 10%}\n", "x.yaml")
    assert made.config.interval_s == made.step_s == 5
    assert made.config.host.pool.share == 0.1


def test_a_fault_is_dealt_out_to_every_guest_that_its_pattern_fits() -> None:
    made = read(SMALL + 'faults:\n  - {fault: silence, guest: "web-*", from: 1min, until: 2min}\n', "x.yaml")
    assert [trouble.from_s for trouble in made.world.troubles] == [60, 60]


@pytest.mark.parametrize(
    ("line", "text", "words"),
    [
        (1, "duration: 4", "duration: '4' has no unit; write 4s"),
        (1, "durations: 4min", "has no key 'durations'"),
        (1, "duration: 9999999h", "'9999999h' is not between 0.1s and 8784h"),
        (1, "duration: 1s", "duration: is less than one step of 2 s"),
        (1, "step: 1ms", "'1ms' is not between 0.1s and 8784h"),
        (2, "host: {memory: 8000TiB}", "'8000TiB' is more than any machine has; 4096TiB are the most"),
        (2, "host: {memory: 8}", "host.memory: '8' has no unit"),
        (2, "host: {memory: 8GiB, swaps: 1GiB}", "host: has no key 'swaps'"),
        (2, "host: 8GiB", "host: must be a mapping"),
        (4, "  - {name: web, memory: 4GiB, demand: [[0s, 1GiB], [5min]]}", "demand[1]: must be a pair"),
        (4, "  - {name: web, memory: 4GiB, demand: [[9s, 1GiB], [5s, 0B]]}", "is earlier than the point"),
        (4, "  - {name: web, demand: 1GiB}", "guests[0].memory: is missing"),
        (4, "  - {name: web, memory: 4GiB, has: 5GiB}", "is more than the guest's memory"),
        (4, "  - {name: web, memory: 4GiB, count: many}", "'many' is no whole number"),
        (4, f"  - {{name: web, memory: 4GiB, count: {'9' * 5000}}}", "is no whole number from 1 to 1000"),
        (4, "  - {name: web, memory: 4GiB, autodeflate: maybe}", "'maybe' is neither true nor false"),
        (4, "  - {name: web, memory: 4GiB, shape: curved}", "'curved' is no shape"),
    ],
)
def test_a_mistake_is_told_with_its_line(line: int, text: str, words: str) -> None:
    lines = SMALL.splitlines()
    lines[line - 1] = text
    with pytest.raises(ConfigError) as caught:
        read("\n".join(lines), "bad.yaml")
    told_ = [str(problem) for problem in caught.value.problems]
    assert any(problem.startswith(f"bad.yaml:{line}: ") and words in problem for problem in told_), told_


def test_a_thousand_guests_are_the_most_in_all() -> None:
    many = "  - {name: n, memory: 1GiB, count: 600}\n  - {name: m, memory: 1GiB, count: 401}\n"
    with pytest.raises(ConfigError, match="guests: are more than 1000, which are the most"):
        read(f"duration: 4min\nhost: {{memory: 8GiB}}\nguests:\n{many}", "bad.yaml")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("{fault: silent, guest: web-1}", "there is no fault 'silent'"),
        ("{fault: silence}", "faults[0].guest: is missing"),
        ("{fault: silence, guest: db}", "'db' fits no guest"),
        ("{fault: lie, guest: web-1}", "faults[0].story: is missing; write story: hungry"),
        ("{fault: lie, guest: web-1, story: tall}", "there is no lie 'tall'"),
        ("{fault: silence, guest: web-1, by: 3s}", "by: means nothing to 'silence'"),
        ("{fault: libvirt-gone, guest: web-1}", "concerns the host, no guest"),
        ("{fault: clock-jump, by: tomorrow}", "'tomorrow' is not a duration"),
        ("{fault: clock-jump, by: -999999999h}", "'999999999h' is not between 0s and 8784h"),
        ("{fault: libvirt-gone, from: 999999999h}", "'999999999h' is not between 0s and 8784h"),
        ("{fault: late, guest: web-1, delay: 999999999h}", "'999999999h' is not between 0s and 8784h"),
        ("{guest: web-1}", "faults[0].fault: is missing"),
        ("{fault: libvirt-gone, from: 2min, until: 1min}", "faults[0].until: must be later than from"),
        ("{fault: libvirt-gone, from: 2min, until: 2min}", "faults[0].until: must be later than from"),
        ("{fault: libvirt-gone, until: 0s}", "faults[0].until: must be later than from"),
    ],
)
def test_a_mistake_in_a_fault_is_told_with_its_line(fault: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(f"{SMALL}faults:\n  - {fault}\n", "bad.yaml")
    told_ = [str(problem) for problem in caught.value.problems]
    assert any(problem.startswith("bad.yaml:6: ") and words in problem for problem in told_), told_


def test_ten_thousand_faults_are_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenario, "MOST_FAULTS", 3)
    text = SMALL + 'faults:\n  - {fault: silence, guest: "web-*"}\n  - {fault: freeze, guest: "web-*"}\n'
    with pytest.raises(ConfigError, match="faults: are more than 3, which are the most"):
        read(text, "bad.yaml")


def test_ones_own_interval_may_not_be_longer_than_the_scenario() -> None:
    with pytest.raises(ConfigError, match="duration: is less than one step of 300 s"):
        read(SMALL, "x.yaml", config=replace(Config(), interval_s=300.0))


def test_mistakes_in_config_are_told_with_the_scenarios_own_lines() -> None:
    with pytest.raises(ConfigError) as caught:
        read(SMALL + "config:\n  interval: 5s\n  host:\n    pool: many\n", "bad.yaml")
    assert str(caught.value.problems[0]).startswith("bad.yaml:8: config.host.pool: ")


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        read("duration: x\nhost: {memory: y}\nguests:\n  - {name: z}\nfaults: all\n", "bad.yaml")
    assert len(caught.value.problems) == 4


@pytest.mark.parametrize("text", ["", "[]", "just words", "duration: 1min", "guests: {}"])
def test_what_is_no_scenario_is_refused_and_nothing_else_happens(text: str) -> None:
    with pytest.raises(ConfigError):
        read(text, "bad.yaml")


def test_two_guests_of_one_name_are_refused() -> None:
    twice = SMALL.replace("name: web, count: 2", "name: web") + "  - {name: web, memory: 1GiB}\n"
    with pytest.raises(ConfigError, match="two guests are named 'web'"):
        read(twice, "bad.yaml")


def test_a_name_that_is_none_of_them_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        scenario.named("no-such-thing")
