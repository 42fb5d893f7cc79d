"""A kernel's same-page merging for tests of who steers it: pages cost time, and the second visit merges."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace

from balloond.config.settings import KsmPolicy
from balloond.model import Host, Ksm, KsmSettings, MergingVerdict, Rung, SetMerging
from balloond.policy.merging import ADVISOR, steer
from balloond.units import GIB, MIB, PAGE
from tests.made import Machine

FOUND = KsmSettings(run=0, pages_to_scan=100, sleep_ms=20)
ADVISED = replace(FOUND, advisor="none", advisor_target_s=200, advisor_max_cpu=70, advisor_min_pages=500)


@dataclass
class Ksmd:
    """ksmd on a host of `total` bytes whose guests have `candidates` bytes that may be merged, a share of them
    `equal`. `starved`: of the time that it wants to run, the share that it must wait for others."""

    total: int = 64 * GIB
    candidates: int = 4 * GIB
    equal: float = 0.5
    settings: KsmSettings = FOUND
    counts: bool = True  # whether the kernel tells how many pages it looked at
    costs_s: tuple[float, float] = (1e-6, 14e-6)  # a page that stays as it is, one that is merged
    starved: float = 0.0
    obeys: bool = True
    now_s: float = 1000.0
    cpu_s: float = 0.0
    scanned_pages: float = 0.0
    position: float = 0.0  # of the scan, in pages
    scans: int = 0
    saved: float = 0.0
    found: KsmSettings | None = None
    put: KsmSettings | None = None
    failed: str = ""
    course: object = None
    used: list[tuple[float, float]] = field(default_factory=list)  # the end of a step, its CPU time
    told: list[MergingVerdict] = field(default_factory=list)

    @property
    def ksm(self) -> Ksm:
        return Ksm(
            run=self.settings.run or 0,
            saved=int(self.saved) // PAGE * PAGE,
            profit=int(self.saved) - 64 * self.candidates // PAGE,
            full_scans=self.scans,
            pages_to_scan=self.settings.pages_to_scan or 0,
            advisor=self.settings.advisor,
            candidates=self.candidates if self.scans else 0,
            scanned=int(self.scanned_pages) * PAGE if self.counts else None,
            cpu_s=int(100 * self.cpu_s) / 100,  # as the kernel tells it
            settings=self.settings,
            found=self.found,
            put=self.put,
            failed=self.failed,
        )

    def live(self, elapsed_s: float, step_s: float = 0.25) -> None:
        """ksmd runs for so long, if it is to."""
        for _ in range(round(elapsed_s / step_s)):
            self.now_s += step_s
            before_s = self.cpu_s
            if self.settings.run == 1:
                self._scan(step_s)
            self.used.append((self.now_s, self.cpu_s - before_s))

    def _scan(self, step_s: float) -> None:
        pages = max(1, self.settings.pages_to_scan or 0)
        whole = max(1.0, self.candidates / PAGE)
        mergeable = self.equal * self.candidates
        merges = self.scans >= 1 and self.saved < mergeable
        cost_s = (
            self.costs_s[1] * self.equal + self.costs_s[0] * (1 - self.equal) if merges else self.costs_s[0]
        )
        cycle_s = (self.settings.sleep_ms or 1) / 1000 + pages * cost_s / (1 - self.starved)
        looked = pages * step_s / cycle_s
        self.cpu_s += looked * cost_s
        self.scanned_pages += looked
        self.position += looked
        self.saved = min(mergeable, self.saved + (looked * PAGE * self.equal if merges else 0))
        while self.position >= whole:
            self.position -= whole
            self.scans += 1

    def tick(
        self, policy: KsmPolicy, rung: Rung, *, spare: int = 8 * GIB, every_s: float = 2.0
    ) -> SetMerging | None:
        """One turn: what was decided is told, and done."""
        self.live(every_s)
        host = Host(total=self.total, available=self.total // 2, ksm=self.ksm)
        guest = Machine("g", maximum=self.candidates, actual=self.candidates, uses=self.candidates).guest(0.0)
        guests = (guest,) if self.candidates else ()
        verdict, measure = steer(policy, host, guests, self.course, rung=rung, spare=spare, now_s=self.now_s)  # type: ignore[arg-type]  # its own memory, whatever that is
        assert verdict is not None
        self.course = verdict.memory
        self.told.append(verdict)
        if measure is not None and self.obeys:
            self.set(measure.to)
        return measure

    def set(self, to: KsmSettings) -> None:
        """As the edge would."""
        self.found = self.found or self.settings
        given = {name: value for name, value in asdict(to).items() if value is not None}
        self.settings = replace(self.settings, **given)
        self.put = self.settings
        if to.run == 2:
            self.saved, self.failed = 0.0, ""

    def meddle(self, **settings: int | str) -> None:
        """Somebody else sets something."""
        self.settings = replace(self.settings, **settings)  # type: ignore[arg-type]  # the test names its fields

    def share(self, window_s: float = 30.0) -> float:
        """The most of a processor that it took in any span of that length."""
        steps = round(window_s / 0.25)
        took = [cpu_s for _, cpu_s in self.used]
        return max(sum(took[i : i + steps]) for i in range(max(1, len(took) - steps + 1))) / window_s

    @property
    def advised(self) -> bool:
        return self.settings.advisor == ADVISOR


SMALL = 400 * MIB
