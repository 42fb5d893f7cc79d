"""What can go wrong in the lab, in one sentence for a person."""

from __future__ import annotations


class LabError(Exception):
    """The lab cannot do what was asked; the text says why and, where known, what to do."""
