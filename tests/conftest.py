"""What holds for all tests: how long a thing takes is not judged by chance of the machine's load."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("balloond", deadline=None)  # two busy cores took three times Hypothesis's 200 ms
settings.load_profile("balloond")
