"""How long does the lab wait, at most?"""

from __future__ import annotations

import pytest

from balloond.lab.faults import LabError
from balloond.lab.patience import FACTOR, until


def test_what_never_happens_is_named_after_the_limit() -> None:
    with pytest.raises(LabError, match="waited 0 s in vain for the end of days"):
        until(lambda: False, "the end of days", limit_s=0)


@pytest.mark.parametrize(("factor", "waited"), [(None, 1), ("", 1), ("10", 10)])
def test_a_slow_machine_is_given_its_multiple_of_the_limit(
    factor: str | None, waited: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [0.0]
    monkeypatch.setattr("balloond.lab.patience.time.monotonic", lambda: now_s[0])
    monkeypatch.setattr("balloond.lab.patience.time.sleep", lambda _: now_s.__setitem__(0, now_s[0] + 0.5))
    monkeypatch.delenv(FACTOR, raising=False)
    if factor is not None:
        monkeypatch.setenv(FACTOR, factor)
    with pytest.raises(LabError, match=f"waited {waited} s in vain"):
        until(lambda: False, "it", limit_s=1)
    assert waited <= now_s[0] <= waited + 1
