"""Does a second run of the provisioning scripts change nothing?"""

from __future__ import annotations

import time
from pathlib import Path

from tests.host import service

SCRIPTS = sorted((Path(__file__).parents[2] / "vagrant/provision").glob("*.sh"))


def test_a_second_provisioning_changes_no_file_and_restarts_nothing(tmp_path: Path) -> None:
    assert len(SCRIPTS) == 4
    units = ("balloond.service", "prometheus.service", "libvirtd.socket")
    before = [service.show("ActiveEnterTimestampMonotonic", unit) for unit in units]
    stamp = tmp_path / "stamp"
    stamp.touch()
    time.sleep(0.1)
    for script in SCRIPTS:
        print(service.run(str(script)), end="")
    changed = service.run(
        "find", "/etc", "/opt", "/usr", "/boot", "/var/lib/balloond-lab", "-cnewer", str(stamp)
    )
    assert not changed, f"changed: {changed}"
    assert [service.show("ActiveEnterTimestampMonotonic", unit) for unit in units] == before
