"""Server-sent events: an optional name and one line of JSON each."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import orjson
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from core.errors import BerthError, InternalError
from core.types import LoadEvent

log = logging.getLogger(__name__)

EVENT_STREAM = "text/event-stream"
KEEPALIVE_S = 15.0  # a proxy closes a connection that says nothing for long
OPEN_S = 5.0  # how long an error may still come as an answer of its own, before the stream is opened
_KEEPALIVE = b": keepalive\n\n"
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}

SayError = Callable[[BerthError], bytes]
_Line = asyncio.Task[bytes | None]
_ending: set[asyncio.Task[None]] = set()  # the event loop alone would not keep them


def event(data: Any, name: str | None = None) -> bytes:
    """One event."""
    head = b"event: %s\n" % name.encode() if name else b""
    return head + b"data: %s\n\n" % orjson.dumps(data)


class EventStream(StreamingResponse):
    """`lines` as they come. A client that leaves, at whatever moment, ends the generator at once.

    `first` is the line that is being waited for already; `say_error` writes an error as the last line.
    """

    def __init__(
        self, lines: AsyncGenerator[bytes, None], first: _Line | None = None, say_error: SayError | None = None
    ) -> None:
        self._lines, self._first = lines, first or _next(lines)
        self._kept_alive = _kept_alive(lines, self._first, say_error)
        super().__init__(self._kept_alive, media_type=EVENT_STREAM, headers=_HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            # left to the garbage collector, a generation would go on for seconds
            await self._kept_alive.aclose()
            await _end(self._first, self._lines)  # for a client that left before the first line


async def open_stream(lines: AsyncGenerator[bytes, None], say_error: SayError) -> EventStream:
    """An answer that streams `lines`, once the first is there.

    An error before the first line is raised here, so that it becomes an answer with a status of its own; unless
    that takes long: then the stream opens with a comment, and an error is its last line.
    """
    first = _next(lines)
    try:
        await asyncio.wait({first}, timeout=OPEN_S)
        if first.done():
            first.result()
    except BaseException:
        await _end(first, lines)
        raise
    return EventStream(lines, first, say_error)


def load_lines(events: AsyncIterator[LoadEvent]) -> AsyncGenerator[bytes, None]:
    """The steps of a load."""

    async def lines() -> AsyncGenerator[bytes, None]:
        async with contextlib.AsyncExitStack() as stack:
            if isinstance(events, AsyncGenerator):
                await stack.enter_async_context(contextlib.aclosing(events))
            async for each in events:
                yield event({"stage": each.stage, "model": each.model, **each.data}, each.stage)

    return lines()


async def _kept_alive(
    lines: AsyncGenerator[bytes, None], following: _Line, say_error: SayError | None
) -> AsyncGenerator[bytes, None]:
    is_late = say_error is not None and not following.done()  # it has been waited for already
    try:
        if is_late:
            yield _KEEPALIVE
        while True:
            await asyncio.wait({following}, timeout=KEEPALIVE_S)
            if not following.done():
                yield _KEEPALIVE
                continue
            line = _line_of(following, say_error)
            if line is None:
                return
            yield line
            following = _next(lines)
    finally:
        await _end(following, lines)


def _next(lines: AsyncGenerator[bytes, None]) -> _Line:
    async def line() -> bytes | None:
        return await anext(lines, None)

    return asyncio.create_task(line())


def _line_of(done: _Line, say_error: SayError | None) -> bytes | None:
    """The line, or the one that says why there is none; a generator that has raised ends by itself."""
    error = done.exception()
    if error is None:
        return done.result()
    if say_error is None:
        raise error
    if not isinstance(error, BerthError):
        log.error("a stream broke off", exc_info=error)
        error = InternalError(f"{type(error).__name__}: {error}")
    return say_error(error)


async def _end(following: _Line, lines: AsyncGenerator[bytes, None]) -> None:
    """Ends both, even when the caller is cancelled again meanwhile, as it is while a client's leaving is handled."""
    ending = asyncio.create_task(_ended(following, lines))
    _ending.add(ending)
    ending.add_done_callback(_ending.discard)
    await asyncio.shield(ending)


async def _ended(following: _Line, lines: AsyncGenerator[bytes, None]) -> None:
    following.cancel()
    await asyncio.wait({following})
    if not following.cancelled():
        following.exception()  # said already, or nobody is left to hear it
    if not getattr(lines, "ag_running", False):  # else it is being ended already
        await lines.aclose()
