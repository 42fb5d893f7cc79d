"""What is played in the lab, and how it is told."""

from __future__ import annotations

import io
from dataclasses import replace
from importlib import resources
from pathlib import Path
from xml.etree import ElementTree

import pytest

from balloond.lab.channel import Report
from balloond.lab.domain import Machine, describe
from balloond.lab.faults import LabError
from balloond.lab.image import Image
from balloond.lab.play import GuestView, Picture
from balloond.lab.scenario import named, parse
from balloond.lab.show import Screen
from balloond.units import GIB, MIB

SMALL = """
title: two guests
length: 20s
pool: 1GiB
guests:
  - {count: 2, memory: 1GiB, autodeflate: true}
phases:
  - {at: 0%, guests: all, do: anon 100}
  - {at: 50%, guests: [2], do: [free, drop]}
"""
IMAGE = Image(kernel=Path("/k"), initramfs=Path("/i"), disk=Path("/d"), version="6.1")
REPORT = Report(
    uptime_s=10,
    wanted=200 * MIB,
    held=100 * MIB,
    growth_took_s=None,
    asked=10,
    served=9,
    reads_asked=0,
    reads_served=0,
    restarts=0,
    total=900 * MIB,
    free=1,
    available=256 * MIB,
    cached=1,
    swap_total=0,
    swap_free=0,
    swap_in=0,
    swap_out=0,
    major_faults=0,
    oom_kills=0,
    inflated=512 * MIB,
    deflated=0,
)


def test_a_scenario_is_read_with_its_units() -> None:
    scenario = parse(SMALL, "small")
    assert scenario.pool == 1 * GIB
    assert scenario.machines == (Machine(memory=1 * GIB, autodeflate=True),) * 2
    assert scenario.overcommit == 2.0
    assert scenario.phases[0].guests == (1, 2)
    assert scenario.phases[1].orders == ("free", "drop")
    assert scenario.daemon == {}


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("pool: 1GiB", "pool: 1024", "no unit"),
        ("guests: [2]", "guests: [3]", "names guest 3 of 2"),
        ("title: two guests", "name: two guests", "title"),
        ("autodeflate: true", "autodeflat: true", "autodeflat"),
        ("length: 20s", "length: [", "YAML|Error"),
    ],
)
def test_a_scenario_that_makes_no_sense_is_named(right: str, wrong: str, said: str) -> None:
    with pytest.raises(LabError, match=f"scenario small: .*({said})"):
        parse(SMALL.replace(right, wrong), "small")


def test_the_labs_own_scenarios_can_be_read() -> None:
    folder = resources.files("balloond.lab") / "scenarios"
    for file in folder.iterdir():
        scenario = named(file.name.removesuffix(".yaml"))
        assert scenario.phases


def test_the_demonstration_promises_at_least_twice_the_pool_to_six_guests() -> None:
    demo = named("demo")
    assert len(demo.machines) == 6
    assert demo.overcommit >= 2
    assert named("demo", without_daemon=True).daemon is None


def test_an_unknown_scenario_is_answered_with_those_there_are() -> None:
    with pytest.raises(LabError, match="demo"):
        named("no-such")


@pytest.mark.parametrize(
    "machine",
    [
        Machine(memory=512 * MIB),
        Machine(memory=512 * MIB, balloon=False),
        Machine(memory=512 * MIB, locked=True, hugepages=True, mergeable=False, title="a & <b>"),
        Machine(memory=512 * MIB, autodeflate=True, free_page_reporting=True, period_s=1, driver=False),
    ],
)
@pytest.mark.parametrize("kvm", [True, False])
def test_every_machine_is_one_well_formed_domain(machine: Machine, kvm: bool) -> None:
    xml = describe(
        machine, name="n", partition="/p", image=IMAGE, kvm=kvm, serial=Path("/s"), swap=Path("/w")
    )
    domain = ElementTree.fromstring(xml)  # noqa: S314  (our own words)
    assert domain.get("type") == ("kvm" if kvm else "qemu")
    assert domain.findtext("memory") == str(512 * 1024)
    assert domain.findtext("title", "") == machine.title
    assert domain.findtext("./resource/partition") == "/p"
    balloon = domain.find("./devices/memballoon")
    assert balloon is not None
    assert (balloon.get("model") == "virtio") == machine.balloon
    assert ("lab.noballoon" in domain.findtext("./os/cmdline", "")) == (not machine.driver)
    assert (domain.find("./features/tcg") is None) == kvm


def test_without_a_terminal_a_picture_is_one_plain_line() -> None:
    out = io.StringIO()
    view = GuestView(name="balloond-lab-x-1", maximum=1 * GIB, report=REPORT, served_share=0.9)
    silent = replace(view, name="balloond-lab-x-2", report=None)
    picture = Picture(
        elapsed_s=3, guests=(view, silent), pool=1 * GIB, used=700 * MIB, swapped=0, targets_set=4
    )
    Screen(out, 2.0).show(picture)
    assert out.getvalue().count("\n") == 1
    assert "\x1b" not in out.getvalue()
    assert "512/100 ?/?" in out.getvalue()


def test_on_a_terminal_the_bars_are_drawn_over_and_never_wrap(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "70")
    out = Terminal()
    view = GuestView(name="balloond-lab-x-1", maximum=1 * GIB, report=REPORT, served_share=0.9)
    screen = Screen(out, 2.0)
    for _ in range(2):
        screen.show(
            Picture(elapsed_s=3, guests=(view,), pool=1 * GIB, used=512 * MIB, swapped=0, targets_set=4)
        )
    assert "\x1b[4F" in out.getvalue()
    lines = out.getvalue().replace("\x1b[4F", "").replace("\x1b[K", "").splitlines()
    assert max(map(len, lines)) < 70
    assert "█" * 24 in lines[2]
    assert "█" * 12 + "▒" * 12 + "·" * 24 in lines[3]
