"""Server-sent events: a name and one line of JSON each."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import orjson
from starlette.responses import StreamingResponse

from core.types import LoadEvent

EVENT_STREAM = "text/event-stream"
KEEPALIVE_S = 15.0  # a proxy closes a connection that says nothing for long
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def event_stream(events: AsyncIterator[LoadEvent]) -> StreamingResponse:
    """`events` as they come; a client that leaves ends the iterator."""
    return StreamingResponse(_lines(events), media_type=EVENT_STREAM, headers=_HEADERS)


async def _lines(events: AsyncIterator[LoadEvent]) -> AsyncIterator[bytes]:
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


async def _next(events: AsyncIterator[LoadEvent]) -> LoadEvent | None:
    return await anext(events, None)


def _line(event: LoadEvent) -> bytes:
    data = orjson.dumps({"stage": event.stage, "model": event.model, **event.data})
    return b"event: %s\ndata: %s\n\n" % (event.stage.encode(), data)
