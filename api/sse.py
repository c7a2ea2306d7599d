"""Server-sent events: an optional name and one line of JSON each."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Any

import orjson
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from api.planned import planned
from core.errors import BerthError, InternalError
from core.types import LoadEvent, Plan

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
        self._lines, self._first, self._say_error = lines, first or _next(lines), say_error
        self._sent_at = 0.0  # of the event loop's clock
        super().__init__(lines, media_type=EVENT_STREAM, headers=_HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        tasks = [asyncio.create_task(work) for work in (self._write(send), _until_left(receive), self._beat(send))]
        writing, leaving, _ = tasks
        try:
            await asyncio.wait({writing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # left to the garbage collector, a generation would go on for seconds
            await _end([*tasks, self._first], self._lines)
        if not writing.cancelled():
            writing.result()

    async def _write(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if self._say_error is not None and not self._first.done():  # it has been waited for already
            await self._send(send, _KEEPALIVE)
        try:
            line = await self._first
            while line is not None:
                await self._send(send, line)
                line = await anext(self._lines, None)
        except Exception as error:
            if self._say_error is None:
                raise
            await self._send(send, self._say_error(_typed(error)))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send, line: bytes) -> None:
        self._sent_at = asyncio.get_running_loop().time()
        await send({"type": "http.response.body", "body": line, "more_body": True})

    async def _beat(self, send: Send) -> None:
        """A comment whenever nothing has been sent for a while."""
        clock = asyncio.get_running_loop().time
        self._sent_at = clock()
        while True:
            await asyncio.sleep(self._sent_at + KEEPALIVE_S - clock())
            if clock() >= self._sent_at + KEEPALIVE_S:
                await self._send(send, _KEEPALIVE)


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
        await _end([first], lines)
        raise
    return EventStream(lines, first, say_error)


def load_lines(events: AsyncIterator[LoadEvent]) -> AsyncGenerator[bytes, None]:
    """The steps of a load."""

    async def lines() -> AsyncGenerator[bytes, None]:
        async with contextlib.AsyncExitStack() as stack:
            if isinstance(events, AsyncGenerator):
                await stack.enter_async_context(contextlib.aclosing(events))
            async for each in events:
                data = {name: planned(value) if isinstance(value, Plan) else value for name, value in each.data.items()}
                yield event({"stage": each.stage, "model": each.model, **data}, each.stage)

    return lines()


def _next(lines: AsyncGenerator[bytes, None]) -> _Line:
    async def line() -> bytes | None:
        return await anext(lines, None)

    return asyncio.create_task(line())


async def _until_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _typed(error: Exception) -> BerthError:
    if isinstance(error, BerthError):
        return error
    log.error("a stream broke off", exc_info=error)
    return InternalError(f"{type(error).__name__}: {error}")


async def _end(tasks: Sequence[asyncio.Task[Any]], lines: AsyncGenerator[bytes, None]) -> None:
    """Ends them all, even when the caller is cancelled again meanwhile, as happens when a client leaves."""
    ending = asyncio.create_task(_ended(tasks, lines))
    _ending.add(ending)
    ending.add_done_callback(_ending.discard)
    await asyncio.shield(ending)


async def _ended(tasks: Sequence[asyncio.Task[Any]], lines: AsyncGenerator[bytes, None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # said already, or nobody is left to hear it
    await lines.aclose()
