"""Which policies can be run against each other? Their names, in the order in which they are told, and a line each.

This module needs no numpy, so that a command line can be checked without it.
"""

from __future__ import annotations

from typing import Final

BALLOOND: Final = "balloond"
LATE: Final = "late-oracle"
CLAIRVOYANT: Final = "clairvoyant"

PEERS: Final = ("static", "mom", "proxmox", "script", "squeezed", "qmemman", "esx")

BOUNDS: Final = (LATE, CLAIRVOYANT)
"""Run in every comparison over traces: the excess of all others is told in multiples of theirs."""

POLICIES: Final = (BALLOOND, *PEERS, *BOUNDS)

WORDS: Final = {
    BALLOOND: "balloond's own loop and decide",
    "static": "equal parts for ever",
    "mom": "oVirt's MOM, default rules",
    "proxmox": "Proxmox VE's auto-ballooning",
    "script": "the common script: usable memory between 25 and 35 %",
    "squeezed": "XAPI's squeezed",
    "qmemman": "Qubes' qmemman",
    "esx": "VMware ESX, shares with an idle tax of 75 %",
    LATE: "knows everything exactly, one step late",
    CLAIRVOYANT: "knows everything: what is missing then, nobody could have given",
}
