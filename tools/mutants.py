#!/usr/bin/env python3
"""How many of the mutants that mutmut made do the tests kill?

Reads what `mutmut run` left in mutants/, prints the share killed of each module and in total, and fails below
FLOOR. Every mutant counts: one that no test gets to lives, and so does one that is as good as the original.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from mutmut.mutation.data import SourceFileMutationData
from mutmut.stats import status_by_exit_code

FLOOR: Final = 0.85
DEAD: Final = ("killed", "timeout")  # one that never ends is noticed by whoever waits for the tests


def main() -> int:
    made = dead = 0
    for meta in sorted(Path("mutants").rglob("*.py.meta")):
        module = SourceFileMutationData(path=meta.relative_to("mutants").with_suffix(""))
        module.load()
        ends = [status_by_exit_code[code] for code in module.exit_code_by_key.values()]
        if "not checked" in ends:
            sys.exit(f"{module.path}: not all of its mutants were tried; run mutmut to its end")
        if ends:
            killed = sum(end in DEAD for end in ends)
            print(f"{killed:5} of {len(ends):5}  {killed / len(ends):4.0%}  {module.path}")
            made, dead = made + len(ends), dead + killed
    share = dead / made if made else 0.0
    print(f"{dead:5} of {made:5}  {share:.1%}  killed; at least {FLOOR:.0%} are asked for")
    return 0 if share >= FLOOR else 1


if __name__ == "__main__":
    sys.exit(main())
