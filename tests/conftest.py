"""What holds for all tests: how long a thing takes is not judged by chance of the machine's load."""

from __future__ import annotations

from hypothesis import Phase, settings

settings.register_profile("balloond", deadline=None)  # two busy cores took three times Hypothesis's 200 ms
settings.register_profile(  # for thousands of runs: a mutant need not be explained, only noticed
    "few",
    deadline=None,
    max_examples=10,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
)
settings.load_profile("balloond")
