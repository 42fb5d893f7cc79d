"""What would others do in balloond's place?

The rules of other memory managers, from their sources and documents, on the same worlds and the same sight. They
are baselines: each is as exact as its source, and none is made worse than it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from balloond.sim.peers.esx import Esx
from balloond.sim.peers.mom import Mom
from balloond.sim.peers.proxmox import Proxmox
from balloond.sim.peers.qmemman import Qmemman
from balloond.sim.peers.script import Script
from balloond.sim.peers.sight import Peer, Sight, see
from balloond.sim.peers.squeezed import Squeezed
from balloond.sim.peers.static import Static

__all__ = ["MAKERS", "MINIMUM", "Peer", "Sight", "see"]

MINIMUM: Final = 0.10
"""The share of its maximum that each guest is promised, by every policy that knows of a promise."""

MAKERS: Final[dict[str, Callable[[], Peer]]] = {
    "static": Static,
    "mom": Mom,
    "proxmox": lambda: Proxmox(MINIMUM),
    "script": Script,
    "squeezed": lambda: Squeezed(MINIMUM),
    "qmemman": Qmemman,
    "esx": lambda: Esx(MINIMUM),
}
"""A new one of each; `sim.policies.PEERS` are their names."""
