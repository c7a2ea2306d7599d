"""Time as the fleet sees it; tests bring a clock of their own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Handle(Protocol):
    def cancel(self) -> None: ...


class Clock(Protocol):
    def time(self) -> float:
        """Seconds that only ever grow."""
        ...

    def call_later(self, delay: float, callback: Callable[[], object]) -> Handle: ...


class LoopClock:
    """The machine's monotonic clock, and the running event loop's timers."""

    def time(self) -> float:
        return time.monotonic()

    def call_later(self, delay: float, callback: Callable[[], object]) -> Handle:
        return asyncio.get_running_loop().call_later(delay, callback)
