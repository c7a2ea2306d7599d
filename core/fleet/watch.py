"""What the devices have and what the models' processes take, looked at when somebody needs to know."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

from core.fleet.clock import Clock
from core.fleet.limits import limits_of
from core.fleet.record import Record
from core.fleet.release import DeviceProbe
from core.memory.calibration import Calibration
from core.memory.ledger import Ledger
from core.memory.probe import DeviceMemory
from core.settings import Settings

_LOOK_S = 0.5  # seconds for which a look at the devices holds

_Seen = tuple[dict[str, int], dict[str, int]]  # bytes by device: what is held now, and the most since it was ready


class Watch:
    """Tells the ledger what it sees, and the calibration the most that a ready model was seen to take."""

    def __init__(
        self,
        settings: Settings,
        probe: DeviceProbe,
        records: Callable[[], Iterable[Record]],
        clock: Clock,
        ledger: Ledger,
        calibration: Calibration,
    ) -> None:
        self.gpus: tuple[str, ...] = ()
        self.pids: dict[str, int] = {}  # of everybody with an account and a process
        self._settings, self._probe, self._records, self._clock = settings, probe, records, clock
        self._ledger, self._calibration = ledger, calibration
        self._looked_at = float("-inf")

    async def look(self) -> None:
        """Looks at the devices and at what everybody holds, unless that was done a moment ago."""
        if self._clock.time() - self._looked_at < _LOOK_S:
            return
        pids = dict(self.pids)
        seen, host, gpus = await asyncio.to_thread(self._read, pids)
        self._looked_at = self._clock.time() if self.pids == pids else float("-inf")  # somebody came or went meanwhile
        for name, (held, _) in seen.items():
            if self.pids.get(name) == pids[name]:
                self._ledger.measure(name, held)
        for record in self._records():
            if record.worker and pids.get(record.name) == record.worker.pid:
                self._keeper(record)(seen[record.name][1])
        self.gpus = tuple(gpu.device for gpu in gpus)
        self._ledger.limits = limits_of(self._settings, host, gpus, [held for held, _ in seen.values()])

    async def measure(self, record: Record, pid: int) -> dict[str, int]:
        """What the process of a model that is, or was, ready holds, by device; nothing when it is gone."""
        keep = self._keeper(record)  # what it is now: while we look, another load of it may begin
        held, most = await asyncio.to_thread(self._seen, pid)
        keep(most)
        return held

    def was_ready(self, pid: int) -> None:
        """Whatever the load itself took for a moment, what counts begins now."""
        self._probe.forget_peak(pid)

    def forget(self, name: str) -> None:
        """The process of `name` is gone: what was seen a moment ago does not hold any more."""
        self.pids.pop(name, None)
        self._looked_at = float("-inf")

    def _keeper(self, record: Record) -> Callable[[Mapping[str, int]], None]:
        inspection, info, was_used = record.inspection, record.info, record.was_used

        def keep(most: Mapping[str, int]) -> None:
            if most and inspection and info:
                self._calibration.note(inspection, self._settings, info.device, most, was_used=was_used)

        return keep

    def _read(self, pids: Mapping[str, int]) -> tuple[dict[str, _Seen], DeviceMemory, list[DeviceMemory]]:
        return {name: self._seen(pid) for name, pid in pids.items()}, self._probe.host(), self._probe.gpus()

    def _seen(self, pid: int) -> _Seen:
        held = self._probe.process(pid)
        return held, self._probe.peak(pid, held)
