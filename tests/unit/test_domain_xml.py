"""Facts are read from a domain's XML, and nonsense is told from facts."""

from __future__ import annotations

import pytest

from balloond.host.domain_xml import LARGEST, BrokenXmlError, Facts, read_facts
from balloond.model import Obstacle
from balloond.units import GIB, MIB


def domain(inside: str = "", devices: str = "<memballoon model='virtio'/>") -> str:
    return (
        "<domain type='kvm' id='3'><name>web</name><memory unit='KiB'>4194304</memory>"
        f"<currentMemory unit='KiB'>2097152</currentMemory>{inside}<devices>{devices}</devices></domain>"
    )


def test_a_plain_guest_has_its_sizes_in_bytes_and_no_obstacle() -> None:
    assert read_facts(domain()) == Facts(maximum=4 * GIB, current=2 * GIB)


def test_everything_that_a_balloon_can_be_told_is_read() -> None:
    balloon = (
        "<memballoon model='virtio-transitional' autodeflate='on' freePageReporting='on'>"
        "<stats period='5'/></memballoon>"
    )
    facts = read_facts(domain("<title> shop front </title>", balloon))
    assert facts == Facts(
        title="shop front",
        maximum=4 * GIB,
        current=2 * GIB,
        statistics_period_s=5,
        deflates_on_oom=True,
        reports_free_pages=True,
    )


@pytest.mark.parametrize(
    ("inside", "devices", "obstacle"),
    [
        ("", "<memballoon model='none'/>", Obstacle.NO_BALLOON),
        ("", "<memballoon model='xen'/>", Obstacle.NO_BALLOON),
        ("", "", Obstacle.NO_BALLOON),
        ("<memoryBacking><locked/></memoryBacking>", "<memballoon model='virtio'/>", Obstacle.LOCKED),
        ("<memoryBacking><hugepages/></memoryBacking>", "<memballoon model='virtio'/>", Obstacle.HUGEPAGES),
        ("<launchSecurity type='sev'/>", "<memballoon model='virtio'/>", Obstacle.CONFIDENTIAL),
        ("", "<hostdev type='pci'/><memballoon model='virtio'/>", Obstacle.PASSTHROUGH),
        ("", "<hostdev type='mdev'/><memballoon model='virtio'/>", Obstacle.PASSTHROUGH),
        ("", "<interface type='hostdev'/><memballoon model='virtio'/>", Obstacle.PASSTHROUGH),
        ("", "<interface type='vdpa'/><memballoon model='virtio'/>", Obstacle.PASSTHROUGH),
        ("", "<disk type='nvme'/><memballoon model='virtio'/>", Obstacle.PASSTHROUGH),
        ("", "<hostdev type='usb'/><memballoon model='virtio'/>", None),
    ],
)
def test_what_keeps_a_balloon_from_helping_the_host_is_an_obstacle(
    inside: str, devices: str, obstacle: Obstacle | None
) -> None:
    assert read_facts(domain(inside, devices)).obstacle is obstacle


def test_pinned_memory_is_told_before_a_missing_balloon() -> None:
    assert read_facts(domain("<memoryBacking><locked/></memoryBacking>", "")).obstacle is Obstacle.LOCKED


@pytest.mark.parametrize("backing", ["<nosharepages/>", "<source type='memfd'/>"])
def test_memory_that_is_never_merged_is_known(backing: str) -> None:
    assert not read_facts(domain(f"<memoryBacking>{backing}</memoryBacking>")).mergeable
    assert read_facts(domain()).mergeable


def test_virtio_mem_is_summed_and_other_memory_devices_are_not() -> None:
    device = (
        "<memory model='virtio-mem'><target><size unit='KiB'>1048576</size>"
        "<current unit='KiB'>524288</current></target></memory>"
    )
    dimm = "<memory model='dimm'><target><size unit='KiB'>524288</size></target></memory>"
    facts = read_facts(domain(devices=device + device + dimm))
    assert (facts.virtio_mem_size, facts.virtio_mem_current) == (2 * GIB, 1 * GIB)


def test_without_a_current_size_the_guest_has_its_maximum() -> None:
    facts = read_facts("<domain><memory unit='MiB'>512</memory></domain>")
    assert facts.current == facts.maximum == 512 * MIB


@pytest.mark.parametrize(
    ("xml", "why"),
    [
        ("", "can't be parsed"),
        ("<domain>", "can't be parsed"),
        ("<network/>", "not of a domain"),
        ("<domain/>", "no memory"),
        ("<domain><memory>lots</memory></domain>", "no number"),
        ("<domain><memory>-5</memory></domain>", "no number"),
        ("<domain><memory>٣</memory></domain>", "no number"),
        ("<domain><memory unit='parsec'>5</memory></domain>", "unknown unit"),
        ("<domain><memory>99999999999999999999</memory></domain>", "beyond belief"),
        (domain(devices="<memballoon model='virtio'><stats period='often'/></memballoon>"), "no number"),
        ("<!DOCTYPE d [<!ENTITY a 'b'>]><domain><memory>1</memory></domain>", "declares entities"),
        ("<domain>\ud800</domain>", "can't be parsed"),
        ("x" * (LARGEST + 1), "characters long"),
    ],
)
def test_nonsense_is_named_and_nothing_else_is_raised(xml: str, why: str) -> None:
    with pytest.raises(BrokenXmlError, match=why):
        read_facts(xml)


@pytest.mark.parametrize(
    ("kind", "features", "translations"),
    [
        ("kvm", "", 0),
        ("qemu", "", 1 * GIB),
        ("qemu", "<features><tcg><tb-cache unit='MiB'>32</tb-cache></tcg></features>", 32 * MIB),
    ],
)
def test_translated_code_takes_memory_where_the_processor_is_emulated(
    kind: str, features: str, translations: int
) -> None:
    xml = domain(features).replace("type='kvm'", f"type='{kind}'")
    assert read_facts(xml).translations == translations
