"""Streams for the page: the newest of what comes, at most ten times a second."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Any

Look = Callable[[], dict[str, Any]]  # what there is to see, told as it stands when it is called

INTERVAL_S = 0.1  # between two looks
_PULSE_S = 1.0  # a look without news, so that a reader who has left is noticed while a model is silent


class Paced:
    """Reads a stream of looks as fast as it comes, and hands on the newest.

    The stream is closed by `stop`, and with whoever follows.
    """

    def __init__(self, looks: AsyncGenerator[Look]) -> None:
        self._looks = looks
        self._newest: Look | None = None
        self._news = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None
        self.is_stopped = False

    def stop(self) -> None:
        self.is_stopped = True
        if self._reading is not None:
            self._reading.cancel()

    @property
    def newest(self) -> dict[str, Any]:
        return self._newest() if self._newest else {}

    async def follow(self) -> AsyncGenerator[dict[str, Any]]:
        """What there is to see, until the stream ends; the last look always. Raises what the stream raises."""
        if self.is_stopped:
            return
        reading = self._reading = asyncio.create_task(self._read())
        try:
            while not reading.done():
                await _either(reading, self._news, _PULSE_S)
                self._news.clear()
                if self._newest is not None:
                    yield self._newest()
                await asyncio.wait([reading], timeout=INTERVAL_S)
            if self._news.is_set() and self._newest is not None:
                yield self._newest()
            if not reading.cancelled():
                reading.result()
        finally:
            reading.cancel()
            await asyncio.wait([reading])

    async def _read(self) -> None:
        async with contextlib.aclosing(self._looks) as looks:
            async for look in looks:
                self._newest = look
                self._news.set()


async def _either(reading: asyncio.Task[None], news: asyncio.Event, patience_s: float) -> None:
    """Waits for news, or for the end."""
    waiting = asyncio.create_task(news.wait())
    try:
        await asyncio.wait([reading, waiting], timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()


class Stops:
    """The streams that readers may stop: one a session, since a new one stops the one before."""

    def __init__(self) -> None:
        self._running: dict[str, Paced] = {}

    @contextlib.contextmanager
    def running(self, session: str, paced: Paced) -> Any:
        self.stop(session)
        self._running[session] = paced
        try:
            yield
        finally:
            if self._running.get(session) is paced:
                del self._running[session]

    def stop(self, session: str) -> None:
        if paced := self._running.get(session):
            paced.stop()
