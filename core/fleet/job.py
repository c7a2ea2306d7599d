"""A load as a job: one for all who want the same model, with events that any number may follow, and a cancel."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

from core.errors import BerthError, InsufficientMemory, LoadCancelled, ModelLoading
from core.types import Inspection, LoadEvent, ModelInfo

_STARTING = ("loading", "warming")  # stages in the model's process


class LoadJob:
    """`inspected` ends when it is known what the repository is, `done` when the model is ready; both with the
    load's typed error otherwise."""

    def __init__(self, model: str) -> None:
        loop = asyncio.get_running_loop()
        self.model = model
        self.inspected: asyncio.Future[Inspection] = loop.create_future()
        self.done: asyncio.Future[ModelInfo] = loop.create_future()
        self.current = LoadEvent("queued", model)
        self.task: asyncio.Task[Any] | None = None
        self.is_explicit = False  # somebody asked for the load itself
        self.is_forced = False  # whatever the ledger says
        self.was_awaited = False  # a request has waited for it
        self.was_dropped = False  # every such request has gone
        self._listeners: set[asyncio.Queue[LoadEvent]] = set()
        for future in (self.inspected, self.done):  # a failure nobody waits for is not an unhandled one
            future.add_done_callback(lambda ended: ended.cancelled() or ended.exception())

    def say(self, stage: str, **data: Any) -> None:
        """Moves the job to `stage` and tells every listener."""
        self.current = LoadEvent(stage, self.model, data)
        for queue in self._listeners:
            if queue.full():  # a slow listener misses steps in between, never the newest
                queue.get_nowait()
            queue.put_nowait(self.current)

    def succeed(self, info: ModelInfo, **data: Any) -> None:
        self.done.set_result(info)
        self.say("ready", **data)

    def fail(self, error: BerthError) -> None:
        """Ends the job; everybody who waits for it gets `error`."""
        for future in (self.inspected, self.done):
            if not future.done():
                future.set_exception(error.copy())
        stage = "cancelled" if isinstance(error, LoadCancelled) else "failed"
        data: dict[str, Any] = {"error": {"type": error.type, "message": error.shown}}
        if isinstance(error, InsufficientMemory) and error.plan is not None:
            data["plan"] = error.plan
        self.say(stage, **data)

    def is_wanted(self, leases: int) -> bool:
        """Whether anybody is left who gains by it. `leases`: requests that wait for the model now."""
        return self.is_explicit or not self.was_awaited or leases > 0

    async def wait(self, limit_s: float, *, from_each_step: bool = False) -> None:
        """Until the model is ready. Raises the load's error, and TimeoutError after `limit_s` seconds.

        With `from_each_step` they begin anew with each step of the load, and do not run while the model's process
        starts, which has a limit of its own and may long say nothing.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(limit_s) as limit:
            if from_each_step:
                async with contextlib.aclosing(self.events()) as steps:
                    async for step in steps:
                        limit.reschedule(None if step.stage in _STARTING else loop.time() + limit_s)
            await asyncio.shield(self.done)

    def still_loading(self) -> ModelLoading:
        """What a request is told that has waited long enough."""
        stage, data = self.current.stage, self.current.data
        done, total = data.get("done"), data.get("total")
        share = f" ({done * 100 // total} %)" if done and total else ""
        line = f" for memory that {', '.join(names)} holds" if (names := data.get("waiting_for")) else ""
        return ModelLoading(
            f"{self.model} is still {stage}{share}{line}. Follow GET /models/{self.model}/events and try again.",
            retry_after=5,
        )

    async def events(self) -> AsyncGenerator[LoadEvent]:
        """The current event, then each that follows, up to the last."""
        queue: asyncio.Queue[LoadEvent] = asyncio.Queue(maxsize=64)
        queue.put_nowait(self.current)
        self._listeners.add(queue)
        try:
            while True:
                event = await queue.get()
                yield event
                if event.is_last:
                    return
        finally:
            self._listeners.discard(queue)

    async def cancel(self) -> None:
        """Stops the load at whatever it is doing and waits until all it took is given back."""
        if self.task is not None and not self.task.done():
            self.task.cancel()
            await asyncio.wait([self.task])
