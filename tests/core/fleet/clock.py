"""A clock that a test moves."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from heapq import heappop, heappush


class Timer:
    def __init__(self) -> None:
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class FakeClock:
    def __init__(self) -> None:
        self.now = 1000.0
        self._order = itertools.count()
        self._due: list[tuple[float, int, Timer, Callable[[], object]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        timer = Timer()
        heappush(self._due, (self.now + delay, next(self._order), timer, callback))
        return timer

    def advance(self, seconds: float) -> None:
        """Moves on, ringing every timer on the way at its own time."""
        end = self.now + seconds
        while self._due and self._due[0][0] <= end:
            self.now, _, timer, callback = heappop(self._due)
            if not timer.is_cancelled:
                callback()
        self.now = end
