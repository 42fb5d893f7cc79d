"""What came of the probe's attempts in the service's sandbox, and outside of it?

In it: a unit of the service's very own text, drop-ins included, that runs the probe instead of the daemon.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.host import sandbox_probe, service

PYTHON: Final = "/opt/balloond/bin/python"
PROBE: Final = "balloond-probe.service"
UNITS: Final = Path("/run/systemd/system")
OUTPUT: Final = Path("/run/balloond-probe.json")
OTHERWISE: Final = """
[Service]
Type=oneshot
ExecStart=
ExecStart={command}
ExecReload=
Restart=no
WatchdogSec=0
RuntimeDirectory=
RuntimeDirectory=balloond-probe
RuntimeDirectoryPreserve=no
StandardOutput=truncate:{output}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What the probe printed."""

    refused: Mapping[str, str | None]  # by attempt; None: it worked
    writable: frozenset[str]  # mount points that are not read-only

    def may(self, what: str, opened_by: str) -> None:
        """Fails unless that worked, and says which directive of the unit would let it."""
        assert self.refused[what] is None, (
            f"the sandbox is too tight to {what}: {self.refused[what]}. "
            f"What opens it in {service.NAME}: {opened_by}"
        )


def within(scope: Path | None = None) -> Tried:
    """Tried in the sandbox; with what may be done to a guest, if its scope is given."""
    arguments = "" if scope is None else json.dumps(str(scope)).replace("%", "%%")
    drop_in = UNITS / f"{PROBE}.d/otherwise.conf"
    drop_in.parent.mkdir(parents=True, exist_ok=True)
    unit = service.systemctl("cat", service.NAME)
    (UNITS / PROBE).write_text(unit)
    command = f"{PYTHON} {sandbox_probe.__file__} {arguments}"
    drop_in.write_text(OTHERWISE.format(command=command, output=OUTPUT))
    try:
        service.systemctl("daemon-reload")
        service.systemctl("start", PROBE)
        return _read(OUTPUT.read_text())
    finally:
        for file in (drop_in, UNITS / PROBE, OUTPUT):
            file.unlink(missing_ok=True)
        drop_in.parent.rmdir()
        service.systemctl("daemon-reload")


def without() -> Tried:
    """Tried by root, free of any sandbox: what fails there as well, no sandbox has refused."""
    os.environ["RUNTIME_DIRECTORY"] = "/run"
    return _read(service.run(PYTHON, sandbox_probe.__file__))


def _read(output: str) -> Tried:
    printed = json.loads(output)
    return Tried(refused=printed["refused"], writable=frozenset(printed["writable"]))
