"""Did provisioning have Prometheus scrape the daemon, and does a second run of its scripts change nothing?"""

from __future__ import annotations

import http.client
import json
import time
import urllib.request
from pathlib import Path

from balloond.lab.patience import until
from tests.host import service

LOOKED_AT = ("/boot", "/etc", "/opt", "/root", "/srv", "/usr", "/var")
LIVES = ("/var/log", "/var/cache", "/var/tmp", "/var/lib/prometheus", "/var/lib/systemd")
"""What of these changes on any host by itself: logs, caches, what Prometheus scraped, timers."""
TARGETS = "http://127.0.0.1:9090/api/v1/targets"
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
    left_out = [word for path in LIVES for word in ("-path", path, "-prune", "-o")]
    changed = service.run("find", *LOOKED_AT, *left_out, "-cnewer", str(stamp), "-print")
    assert not changed, f"changed: {changed}"
    assert [service.show("ActiveEnterTimestampMonotonic", unit) for unit in units] == before


def test_prometheus_scrapes_the_daemon() -> None:
    until(lambda: health() == ["up"], "Prometheus to find the daemon up", limit_s=120, every_s=1)


def health() -> list[str]:
    """How Prometheus finds the targets of its job for the daemon; empty: it does not answer, or has none yet."""
    try:
        with urllib.request.urlopen(TARGETS, timeout=10) as answer:
            targets = json.load(answer)["data"]["activeTargets"]
    except (OSError, http.client.HTTPException):
        return []
    return [target["health"] for target in targets if target["labels"]["job"] == "balloond"]
