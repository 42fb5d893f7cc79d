"""What does a guest's definition say about its memory?

The facts in libvirt's XML of a running domain that statistics don't tell: is there a balloon, may it be moved,
how much of the memory is not the balloon's. The text is in part the guest owner's (title, metadata), so
whatever it holds, the answer is facts or a BrokenXmlError, and never a guess.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from xml.etree import ElementTree

from balloond.model import Obstacle
from balloond.units import GIB, KIB, MIB, TIB

LARGEST: Final = 4 * MIB
"""Characters; a guest with a thousand disks has less than 1 MiB. What is longer isn't worth the time to parse."""

_UNITS: Final = {"b": 1, "bytes": 1, "KiB": KIB, "k": KIB, "MiB": MIB, "M": MIB, "GiB": GIB, "TiB": TIB}
"""libvirt always writes KiB; the others are what its schema also allows and anybody is likely to see."""

_LARGEST_MEMORY: Final = 2**60  # no guest has an exbibyte: such a number is nonsense

TRANSLATIONS: Final = 1 * GIB
"""QEMU's own limit on translated code, where the definition sets none (accel/tcg: 1 GiB on 64-bit hosts)."""

_PINNING_HOST_DEVICES: Final = ("pci", "mdev")
"""Both go through VFIO, which pins all the guest's memory; USB and SCSI host devices do not."""


class BrokenXmlError(Exception):
    """The definition can't be understood; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What one guest's definition says; memory in bytes."""

    title: str = ""
    maximum: int  # all of it, virtio-mem devices at their full size included
    current: int
    obstacle: Obstacle | None = None  # one that lasts as long as this definition
    statistics_period_s: int = 0
    deflates_on_oom: bool = False
    reports_free_pages: bool = False
    mergeable: bool = True  # False: <nosharepages/>, or memfd behind it, which KSM never merges
    virtio_mem_size: int = 0  # what the guest's virtio-mem devices may have: out of the balloon's reach
    virtio_mem_current: int = 0
    architecture: str = ""  # of its processor: `x86_64`
    translations: int = 0  # for translated code, at most; 0: KVM runs the guest


def read_facts(xml: str) -> Facts:
    """The facts in a domain's XML; raises BrokenXmlError, and nothing else, on whatever else it is given."""
    if len(xml) > LARGEST:
        raise BrokenXmlError(f"its XML is {len(xml)} characters long")
    if "<!DOCTYPE" in xml or "<!ENTITY" in xml:
        raise BrokenXmlError("its XML declares entities, which libvirt never writes")
    try:
        domain = ElementTree.fromstring(xml)  # noqa: S314  (no entities, as was just seen, and a bounded size)
    except (ElementTree.ParseError, ValueError) as broken:  # ValueError: lone surrogates
        raise BrokenXmlError(f"its XML can't be parsed: {broken}") from None
    if domain.tag != "domain":
        raise BrokenXmlError(f"its XML is of a {domain.tag!r:.40}, not of a domain")
    maximum = _size(domain.find("memory"), "memory")
    current = domain.find("currentMemory")
    balloon = _balloon(domain)
    return Facts(
        title=(domain.findtext("title") or "").strip(),
        maximum=maximum,
        current=maximum if current is None else _size(current, "currentMemory"),
        obstacle=_obstacle(domain, balloon),
        statistics_period_s=_period(balloon),
        deflates_on_oom=balloon is not None and balloon.get("autodeflate") == "on",
        reports_free_pages=balloon is not None and balloon.get("freePageReporting") == "on",
        mergeable=_is_mergeable(domain),
        virtio_mem_size=_virtio_mem(domain, "size"),
        virtio_mem_current=_virtio_mem(domain, "current"),
        architecture=_architecture(domain),
        translations=_translations(domain),
    )


def _balloon(domain: ElementTree.Element) -> ElementTree.Element | None:
    """The virtio balloon (also -transitional and -non-transitional); model `none`, or Xen's, is none."""
    balloon = domain.find("devices/memballoon")
    return balloon if balloon is not None and balloon.get("model", "").startswith("virtio") else None


def _obstacle(domain: ElementTree.Element, balloon: ElementTree.Element | None) -> Obstacle | None:
    """Those that pin memory first: they also say that the host can't swap it."""
    if domain.find("launchSecurity") is not None:
        return Obstacle.CONFIDENTIAL
    if _passes_through(domain):
        return Obstacle.PASSTHROUGH
    if domain.find("memoryBacking/hugepages") is not None:
        return Obstacle.HUGEPAGES
    if domain.find("memoryBacking/locked") is not None:
        return Obstacle.LOCKED
    return Obstacle.NO_BALLOON if balloon is None else None


def _passes_through(domain: ElementTree.Element) -> bool:
    """Whether a device reads and writes guest memory by itself: QEMU then pins all of it and never lets go."""
    return (
        any(device.get("type") in _PINNING_HOST_DEVICES for device in domain.iterfind("devices/hostdev"))
        or any(nic.get("type") in ("hostdev", "vdpa") for nic in domain.iterfind("devices/interface"))
        or any(disk.get("type") in ("nvme", "vhostvdpa") for disk in domain.iterfind("devices/disk"))
    )


def _is_mergeable(domain: ElementTree.Element) -> bool:
    source = domain.find("memoryBacking/source")
    return domain.find("memoryBacking/nosharepages") is None and (
        source is None or source.get("type") not in ("memfd", "file")
    )


def _period(balloon: ElementTree.Element | None) -> int:
    stats = balloon.find("stats") if balloon is not None else None
    return 0 if stats is None else _count(stats.get("period", "0"), "the statistics period")


def _virtio_mem(domain: ElementTree.Element, figure: str) -> int:
    devices = domain.iterfind("devices/memory[@model='virtio-mem']")
    sizes = (device.find(f"target/{figure}") for device in devices)
    return sum(_size(size, f"virtio-mem's {figure}") for size in sizes if size is not None)


def _architecture(domain: ElementTree.Element) -> str:
    kind = domain.find("os/type")
    return "" if kind is None else kind.get("arch", "")


def _translations(domain: ElementTree.Element) -> int:
    if domain.get("type") != "qemu":
        return 0
    cache = domain.find("features/tcg/tb-cache")
    return TRANSLATIONS if cache is None else _size(cache, "the cache of translated code")


def _size(element: ElementTree.Element | None, what: str) -> int:
    if element is None:
        raise BrokenXmlError(f"its XML has no {what}")
    unit = element.get("unit", "KiB")
    if unit not in _UNITS:
        raise BrokenXmlError(f"{what} is in an unknown unit {unit!r:.40}")
    size = _count(element.text or "", what) * _UNITS[unit]
    if size > _LARGEST_MEMORY:
        raise BrokenXmlError(f"{what} is beyond belief: {size} bytes")
    return size


def _count(text: str, what: str) -> int:
    digits = text.strip()
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 20):  # 20: no longer than 2^64
        raise BrokenXmlError(f"{what} is no number: {text!r:.40}")
    return int(digits)
