"""What if nobody does anything? Each guest keeps its part of the host, as its administrator set it."""

from __future__ import annotations

from balloond.sim.peers.sight import Array, Sight


class Static:
    """Leaves every guest as it is."""

    def targets(self, sight: Sight) -> Array:
        return sight.actual
