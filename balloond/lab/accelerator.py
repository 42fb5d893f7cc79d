"""Does KVM really run a guest here, or must QEMU emulate?

An openable /dev/kvm is no proof: on some nested hosts it opens, even creates a machine, and a stock kernel
never gets past its first instructions. So a guest is booted under it once for each boot of the host, in bounded
time, and the answer kept.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

from balloond.lab.image import Image
from balloond.lab.leavings import ROOT
from balloond.lab.patience import patiently

KVM: Final = "kvm"
TCG: Final = "tcg"
PROBE_S: Final = 10.0  # under a working KVM the lab's guest says its first word in about one
FIRST_WORD: Final = "lab: init reached"  # printed by the guest's init


def choose(image: Image) -> str:
    """KVM or TCG; probed once for each boot of the host and each image."""
    answer = ROOT / "accelerator"
    key = f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {image.kernel.parent.name}"
    try:
        noted, _, accelerator = answer.read_text().rpartition(" ")
    except FileNotFoundError:
        noted = accelerator = ""
    if noted != key:
        accelerator = KVM if os.access("/dev/kvm", os.R_OK | os.W_OK) and boots(image, KVM) else TCG
        answer.write_text(f"{key} {accelerator}")
    return accelerator


def boots(image: Image, accelerator: str, limit_s: float = PROBE_S) -> bool:
    """Whether a guest gets as far as its own init within the limit; it is ended in any case."""
    command = [
        *("qemu-system-x86_64", "-accel", accelerator, "-m", "256", "-nodefaults", "-nographic"),
        *("-no-reboot", "-serial", "stdio", "-kernel", str(image.kernel), "-initrd", str(image.initramfs)),
        *("-append", "console=ttyS0 quiet panic=-1 no_timer_check"),
    ]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=patiently(limit_s), check=False
        )
        output = done.stdout
    except subprocess.TimeoutExpired as expired:
        output = expired.stdout or b""
    except FileNotFoundError:
        return False
    return FIRST_WORD.encode() in output
