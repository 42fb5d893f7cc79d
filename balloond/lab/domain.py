"""What does libvirt need to be told to run a lab guest? One transient domain, as XML.

Only text is made here; nothing is started. The devices are the fewest that a guest needs, because QEMU's own
memory counts in the guests' cgroup.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from balloond.lab.image import Image

CHANNEL = "org.balloond.lab"  # the port's name; workload.c looks for it
TRANSLATIONS_MIB = 32
"""TCG's cache of translated code. QEMU's default, 1 GiB at most, would be charged to the guests' cgroup; the lab
guests' code fits here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """How a lab guest is built."""

    memory: int
    driver: bool = True  # whether the guest loads the balloon driver
    balloon: bool = True  # whether the guest has a balloon device
    autodeflate: bool = False
    free_page_reporting: bool = False
    period_s: int | None = None  # statistics period; None: libvirt's default, no statistics
    swap: int = 0  # size of the guest's own swap disk
    locked: bool = False
    hugepages: bool = False
    mergeable: bool = True  # False: <nosharepages/>
    title: str = ""


def describe(
    machine: Machine, *, name: str, partition: str, image: Image, kvm: bool, serial: Path, swap: Path | None
) -> str:
    """The domain's XML."""
    memory = machine.memory // 1024
    options = "console=ttyS0 quiet loglevel=4 nokaslr mitigations=off random.trust_cpu=on"
    options += " no_timer_check"  # on busy emulated processors the check fails, and the kernel panics
    flags = "" if machine.driver else " lab.noballoon"
    flags += " lab.swap" if swap else ""
    return f"""
<domain type='{"kvm" if kvm else "qemu"}'>
  <name>{name}</name>
  {f"<title>{escape(machine.title)}</title>" if machine.title else ""}
  <memory unit='KiB'>{memory}</memory>
  {_memory_tuning(machine)}
  <vcpu>1</vcpu>
  <resource><partition>{partition}</partition></resource>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{image.kernel}</kernel>
    <initrd>{image.initramfs}</initrd>
    <cmdline>{options}{flags}</cmdline>
  </os>
  <features><acpi/>{"" if kvm else f"<tcg><tb-cache unit='MiB'>{TRANSLATIONS_MIB}</tb-cache></tcg>"}</features>
  {"<cpu mode='host-passthrough'/>" if kvm else ""}
  <on_crash>destroy</on_crash>
  <devices>
    <controller type='usb' model='none'/>
    <controller type='virtio-serial'/>
    <video><model type='none'/></video>
    {_balloon(machine)}
    {_disk(image.disk, "vda", read_only=True)}
    {_disk(swap, "vdb", read_only=False) if swap else ""}
    <serial type='file'><source path={quoteattr(str(serial))}/></serial>
    <channel type='unix'><target type='virtio' name='{CHANNEL}'/></channel>
  </devices>
</domain>"""


def _balloon(machine: Machine) -> str:
    if not machine.balloon:
        return "<memballoon model='none'/>"
    options = " autodeflate='on'" if machine.autodeflate else ""
    options += " freePageReporting='on'" if machine.free_page_reporting else ""
    period = f"<stats period='{machine.period_s}'/>" if machine.period_s is not None else ""
    return f"<memballoon model='virtio'{options}>{period}</memballoon>"


def _memory_tuning(machine: Machine) -> str:
    elements = [
        "<locked/>" if machine.locked else "",
        "<hugepages/>" if machine.hugepages else "",
        "" if machine.mergeable else "<nosharepages/>",
    ]
    tuning = "<memtune><hard_limit unit='GiB'>64</hard_limit></memtune>" if machine.locked else ""
    return f"{tuning}<memoryBacking>{''.join(elements)}</memoryBacking>" if any(elements) else ""


def _disk(path: Path, name: str, *, read_only: bool) -> str:
    """Past the host's page cache: that would be charged to the guests' cgroup and is not what is studied."""
    return (
        f"<disk type='file' device='disk'><driver name='qemu' type='raw' cache='none'/>"
        f"<source file={quoteattr(str(path))}/><target dev='{name}' bus='virtio'/>"
        f"{'<readonly/>' if read_only else ''}</disk>"
    )
