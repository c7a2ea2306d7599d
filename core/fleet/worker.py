"""A model's process as the front process sees it: calls in flight, and one typed error for all when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import signal
from collections.abc import Callable
from typing import Any

from core import wire
from core.errors import BerthError, BusyError, DeadlineExceeded, WorkerCrashed, revive
from core.fleet.launcher import Process

log = logging.getLogger(__name__)

_PING_S = 2.0  # a worker that does not answer a ping for this long is hung
_EXIT_S = 5.0  # a worker that was told to end has this long

Event = Callable[[dict[str, Any]], None]


class Worker:
    """Owns the process and its socket. `died` ends with the reason once the process is gone."""

    def __init__(self, name: str, process: Process) -> None:
        self.name = name
        self.process = process
        self.died: asyncio.Future[BerthError] = asyncio.get_running_loop().create_future()
        self._numbers = itertools.count(1)
        self._calls: dict[int, tuple[asyncio.Future[Any], Event | None]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._reason: BerthError | None = None  # why it was told to end

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def in_flight(self) -> int:
        return len(self._calls)

    async def open(self) -> None:
        """Starts listening. Called once, before any call."""
        reader, self._writer = await asyncio.open_connection(sock=self.process.sock)
        self._reading = asyncio.create_task(self._read(reader))

    async def call(self, op: str, *, deadline_s: float | None, on_event: Event | None = None, **fields: Any) -> Any:
        """One request and its result.

        Raises what the worker raised, WorkerCrashed when it dies meanwhile, DeadlineExceeded when it takes too
        long; cancelling this coroutine or running out of time withdraws the request from the worker.
        """
        if self.died.done():
            raise self.died.result().copy()
        number = next(self._numbers)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._calls[number] = (answer, on_event)
        try:
            async with asyncio.timeout(deadline_s):
                await self._send({"id": number, "op": op, **fields})
                return await answer
        except TimeoutError:
            self._withdraw(number)
            raise DeadlineExceeded(
                f"{self.name} did not answer within {deadline_s:g} s. Send less text, or raise BERTH_REQUEST_TIMEOUT."
            ) from None
        except asyncio.CancelledError:
            self._withdraw(number)
            raise
        finally:
            self._calls.pop(number, None)

    async def is_alive(self, busy_limit_s: float = float("inf")) -> bool:
        """Whether the process reads its socket, and no thread of it has been at one piece of work for longer than
        `busy_limit_s`; a process that is not alive is killed."""
        try:
            pong = await self.call("ping", deadline_s=_PING_S)
        except DeadlineExceeded:
            self.process.kill()
            return False
        except BusyError:
            return False
        if pong["busy_s"] > busy_limit_s:
            self.process.kill()
            return False
        return True

    async def close(self, reason: BerthError | None = None) -> None:
        """Ends the process and waits until it is gone; calls still in flight get `reason`."""
        self._reason = reason
        if self._writer is not None:
            self._writer.close()
        await self._wait_for_exit()
        self.process.kill()
        if not await self._wait_for_exit():  # not even SIGKILL ends a process that the kernel holds
            log.error("process %d of %s does not end", self.pid, self.name)
        elif self._reading is not None:
            await self._reading

    async def _wait_for_exit(self) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_EXIT_S):
                await asyncio.shield(self.process.exited)
        return self.process.exited.done()

    async def _send(self, message: dict[str, Any]) -> None:
        assert self._writer is not None
        with contextlib.suppress(ConnectionError):  # the reader sees the end and fails the call
            self._writer.write(wire.pack(message))
            await self._writer.drain()

    def _withdraw(self, number: int) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(wire.pack({"id": 0, "op": "cancel", "target": number}))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while (message := await wire.read_frame(reader)) is not None:
                self._deliver(message)
        except (wire.WireError, ConnectionError):  # nonsense; or it ended with requests unread, which is no end of file
            self.process.kill()
        finally:
            await self._bury()

    def _deliver(self, message: dict[str, Any]) -> None:
        answer, on_event = self._calls.get(message["id"], (None, None))
        if answer is None or answer.done():
            return
        if "event" in message:
            if on_event is not None:
                on_event(message["event"])
        elif "error" in message:
            answer.set_exception(revive(message["error"]["type"], message["error"]["message"]))
        else:
            answer.set_result(message["result"])

    async def _bury(self) -> None:
        """The socket has ended: so does the process, and every call."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):  # its exit status, if it is about to come
                await asyncio.shield(self.process.exited)
        self.process.kill()
        reason = self._reason or WorkerCrashed(
            f"The process of {self.name} has ended{_how(self.process)}. Send the request again."
        )
        self.died.set_result(reason)
        for answer, _ in self._calls.values():
            if not answer.done():
                answer.set_exception(reason.copy())
        if self._writer is not None:
            self._writer.close()


def _how(process: Process) -> str:
    if not process.exited.done():
        return ""
    status = process.exited.result()
    if status < 0:
        known = [number.name for number in signal.Signals if number == -status]
        how = f" by {known[0] if known else f'signal {-status}'}"
        if status == -signal.SIGKILL:
            how += " (the system kills so when memory runs out)"
    else:
        how = f" with status {status}"
    words = process.last_words
    return f"{how}; its last line was: {words}" if words and status != 0 else how
