"""Server-sent events: a name and one line of JSON each."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

import orjson
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from core.types import LoadEvent

EVENT_STREAM = "text/event-stream"
KEEPALIVE_S = 15.0  # a proxy closes a connection that says nothing for long
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class EventStream(StreamingResponse):
    """`events` as they come. A client that leaves, at whatever moment, ends the iterator at once."""

    def __init__(self, events: AsyncIterator[LoadEvent]) -> None:
        self._lines = _lines(events)
        super().__init__(self._lines, media_type=EVENT_STREAM, headers=_HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._lines.aclose()  # left to the garbage collector, a listener would live on for seconds


async def _lines(events: AsyncIterator[LoadEvent]) -> AsyncGenerator[bytes, None]:
    following = asyncio.ensure_future(_next(events))
    try:
        while True:
            await asyncio.wait({following}, timeout=KEEPALIVE_S)
            if not following.done():
                yield b": keepalive\n\n"
                continue
            event = following.result()
            if event is None:
                return
            yield _line(event)
            following = asyncio.ensure_future(_next(events))
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
        if isinstance(events, AsyncGenerator):
            await events.aclose()


async def _next(events: AsyncIterator[LoadEvent]) -> LoadEvent | None:
    return await anext(events, None)


def _line(event: LoadEvent) -> bytes:
    data = orjson.dumps({"stage": event.stage, "model": event.model, **event.data})
    return b"event: %s\ndata: %s\n\n" % (event.stage.encode(), data)
