"""What was in use on each device over the last hour."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass

from core.memory.probe import Probe

INTERVAL_S = 20.0
KEPT_S = 3600.0


@dataclass(frozen=True, slots=True)
class Moment:
    at: float  # seconds of the Unix epoch
    used: dict[str, int]  # bytes by device


class History:
    """Looks at the devices every `interval_s` seconds, from `start` to `stop`."""

    def __init__(self, probe: Probe, interval_s: float = INTERVAL_S) -> None:
        self.moments: deque[Moment] = deque(maxlen=int(KEPT_S / interval_s))
        self._probe = probe
        self._interval_s = interval_s
        self._looking: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._looking = asyncio.create_task(self._look_on())

    def stop(self) -> None:
        if self._looking is not None:
            self._looking.cancel()

    def look(self) -> Moment:
        devices = (self._probe.host(), *self._probe.gpus())
        return Moment(time.time(), {each.device: each.used for each in devices})

    async def _look_on(self) -> None:
        while True:
            self.moments.append(await asyncio.to_thread(self.look))
            await asyncio.sleep(self._interval_s)
