"""Models that nobody uses go after their keep_alive."""

from __future__ import annotations

from collections.abc import Callable

from core.fleet.clock import Clock
from core.fleet.record import Record


class Expiry:
    """One timer for each model in memory. A request does not touch it: the timer looks when the last one ended."""

    def __init__(self, clock: Clock, evict: Callable[[Record], object]) -> None:
        self._clock = clock
        self._evict = evict

    def watch(self, record: Record) -> None:
        """Evicts `record` when its time has come, else looks again then. To be called when it is ready, when its
        keep_alive has changed, and, where that is 0, when it is idle."""
        if record.timer is not None:
            record.timer.cancel()
            record.timer = None
        expires = record.expires_s
        if expires is None or record.unloading is not None:
            return
        left = expires - self._clock.time()
        if record.leases:
            left = expires - record.used_at  # at the earliest
            if left == 0:
                return
        elif left <= 0:
            self._evict(record)
            return
        record.timer = self._clock.call_later(left, lambda: self.watch(record))
