"""name → model: loads that coalesce, leases, unloads that drain, and restarts after a death.

Runs on one event loop, so a check and the change that follows it need no lock as long as nothing awaits between.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from core.errors import (
    BerthError,
    InsufficientMemory,
    InternalError,
    LoadCancelled,
    ModelDraining,
    ModelNotFound,
    QueueFull,
    ShuttingDown,
    TaskNotSupported,
    WrongState,
)
from core.fleet.clock import Clock, LoopClock
from core.fleet.eviction import Cause
from core.fleet.expiry import Expiry
from core.fleet.job import LoadJob
from core.fleet.loading import Loader
from core.fleet.placement import placements
from core.fleet.record import Record
from core.fleet.release import DeviceProbe, Released
from core.fleet.room import Places, Room
from core.fleet.worker import Worker
from core.memory.calibration import Calibration
from core.settings import Settings
from core.types import ModelSpec, State, Task

log = logging.getLogger(__name__)


class Registry:
    """Owns the records. Everything that loads, uses or unloads a model comes through here."""

    def __init__(
        self,
        settings: Settings,
        loader: Loader,
        probe: DeviceProbe,
        clock: Clock | None = None,
        places: Places = placements,
        calibration: Calibration | None = None,
    ) -> None:
        self._settings = settings
        self._loader = loader
        self._clock = clock or LoopClock()
        self._records: dict[str, Record] = {}
        self.room = Room(settings, probe, self.records, self._clock, places, calibration)
        self._expiry = Expiry(self._clock, lambda each: self.room.evict(each, Cause.KEEP_ALIVE))
        self._background: set[asyncio.Task[object]] = set()
        self.is_stopping = False

    def records(self) -> list[Record]:
        return list(self._records.values())

    def find(self, name: str) -> Record | None:
        return self._records.get(name)

    def get(self, name: str) -> Record:
        """Raises ModelNotFound."""
        record = self._records.get(name)
        if record is None:
            raise ModelNotFound(f"There is no model `{name}` here. Load it with POST /models/load, or see GET /models.")
        return record

    async def load(self, spec: ModelSpec, *, admin: bool = False, force: bool = False) -> LoadJob:
        """Starts loading `spec`, or joins the load of it, and returns once it is known what the repository is.

        Raises what inspecting it raises; WrongState when the name is taken by something else; InsufficientMemory when
        it can never fit, unless by `force`.
        """
        job = self.order(spec, admin=admin, force=force)
        await asyncio.shield(job.inspected)
        return job

    def order(self, spec: ModelSpec, *, admin: bool = False, force: bool = False) -> LoadJob:
        """As `load`, without waiting for anything."""
        job = self.start_load(spec, admin=admin)
        job.is_explicit = True
        if force:
            job.is_forced = True
            self.room.changed()
        return job

    def start_load(self, spec: ModelSpec, *, admin: bool = False) -> LoadJob:
        """For the requests that wait for it: when nobody waits any more, nothing makes room for it."""
        self._refuse_when_stopping()
        record = self._records.get(spec.name)
        if record is None:
            return self._begin(Record(spec, default_keep_s=self._settings.keep_alive), spec, admin)
        _refuse_when_going(record)
        if record.state in (State.ABSENT, State.FAILED):
            return self._begin(record, spec, admin)
        if field := record.differs_from(spec):
            raise WrongState(
                f"{spec.name} is already {record.state.shown} with another `{field}`. "
                "Unload it first, or load this one under another name."
            )
        record.keep_as(spec)
        self._expiry.watch(record)
        self.room.changed()  # it may not be pinned any more
        assert record.job is not None
        return record.job

    def _begin(self, record: Record, spec: ModelSpec, admin: bool) -> LoadJob:
        if record.state is State.FAILED:
            record.deaths.clear()
        record.spec, record.admin = spec, admin
        record.move(State.QUEUED)
        record.job = job = LoadJob(spec.name)
        self._records[spec.name] = record
        job.task = asyncio.create_task(self._loader.load(record, job, self.room, admin=admin))
        # a callback, since a task that is cancelled before its first step never enters its own `try`
        job.task.add_done_callback(lambda task: self._settle(record, job, task))
        return job

    def _settle(self, record: Record, job: LoadJob, task: asyncio.Task[Worker]) -> None:
        """However a load ends: the record is in a state that says so, and everybody who waits is told."""
        if task.cancelled():
            error: BerthError = LoadCancelled(f"The load of {job.model} was cancelled. Load it again when you want it.")
        elif (raised := task.exception()) is None:
            worker = task.result()
            worker.died.add_done_callback(lambda died: self._on_death(record, worker, died.result()))
            self._expiry.watch(record)
            self.in_background(self.measure(record))
            return
        elif isinstance(raised, BerthError):
            error = raised
        else:
            log.error("the load of %s failed", job.model, exc_info=raised)
            error = InternalError(f"The load of {job.model} failed: {type(raised).__name__}: {raised}")
        is_cancelled = isinstance(error, LoadCancelled)
        if record.loaded_at is None and (is_cancelled or not job.inspected.done()):
            self._forget(record)  # nonsense leaves no trace
        else:  # what may pass by itself is tried again by the next request
            record.move(State.ABSENT if is_cancelled or error.retryable else State.FAILED)
            record.last_error = error
        job.fail(error)

    def _forget(self, record: Record) -> None:
        if record.state is not State.ABSENT:
            record.move(State.ABSENT)
        if self._records.get(record.name) is record:
            del self._records[record.name]

    def _refuse_when_stopping(self) -> None:
        if self.is_stopping:
            raise ShuttingDown("The server is stopping. Try again when it is back.", retry_after=10)

    def _on_death(self, record: Record, worker: Worker, reason: BerthError) -> None:
        if record.worker is not worker:
            return  # it was told to end
        log.error("%s", reason.message)
        record.died(reason)
        self.room.give_back(record.name)

    @contextlib.asynccontextmanager
    async def lease(self, name: str, task: Task | None = None, *, is_patient: bool = False) -> AsyncIterator[Record]:
        """The model in memory and ready, kept so for the length of the block.

        A model that is known but not in memory is started; one being loaded is waited for, up to a limit, or when
        `is_patient` for as long as the load goes on.
        Raises ModelNotFound, TaskNotSupported, QueueFull, ModelLoading, ModelDraining, ModelFailed, ShuttingDown,
        and the load's own error.
        """
        record = self._admitted(name)
        while not record.is_open.is_set():  # another model has waited long for this one to be idle
            await record.until_open()
            record = self._admitted(name)
        record.take()
        try:
            await self._until_ready(record, is_patient)
            assert record.info is not None
            if task is not None and task not in record.info.tasks:
                able = ", ".join(record.info.tasks)
                raise TaskNotSupported(f"{name} cannot do {task}; it can do: {able}. Choose another model or task.")
            yield record
            record.served += 1
        except InsufficientMemory:  # this request has failed; the next may have more room
            if record.state is State.READY:
                self.in_background(self.room.make_room(record))
            raise
        finally:
            if record.give_back(self._clock.time()):
                self.room.changed()
                if record.keep_alive_s == 0:
                    self._expiry.watch(record)

    def _admitted(self, name: str) -> Record:
        """The model that a request may wait for. Raises what `lease` does before that."""
        record = self.get(name)
        self._refuse_when_stopping()
        if record.waiting >= self._settings.max_queue:
            raise QueueFull(f"{name} has {record.waiting} requests waiting, as many as it takes. Try again shortly.")
        _refuse_when_going(record)
        return record

    async def _until_ready(self, record: Record, is_patient: bool) -> None:
        if record.state is State.FAILED:
            assert record.last_error is not None
            raise record.last_error.copy()
        if record.state is State.ABSENT:  # it died, or could not be loaded then; this request brings it back
            self._begin(record, record.spec_again, record.admin)
        if record.state is State.READY:
            return
        job = record.job
        assert job is not None
        job.was_awaited = True
        try:
            await job.wait(self._settings.load_wait_s, from_each_step=is_patient)
        except TimeoutError:
            raise job.still_loading() from None
        except BerthError as error:
            if not job.was_dropped:
                raise error.copy() from error
            await self._until_ready(record, is_patient)  # it came just after the last of those before had gone
        if record.worker is None:  # unloaded, or dead, in the moment between
            raise ModelDraining(f"{record.name} was unloaded while this request waited. Try again.")

    async def cancel(self, name: str) -> None:
        """Stops a load. Raises ModelNotFound, or WrongState when nothing is being loaded."""
        record = self.get(name)
        if not record.state.is_loading or record.job is None:
            raise WrongState(f"{name} is {record.state.shown}: there is no load to cancel.")
        await record.job.cancel()

    async def unload(self, name: str) -> dict[str, int]:
        """As `release`: bytes that came back, by device."""
        return (await self.release(name)).freed

    async def release(self, name: str) -> Released:
        """Waits for requests in flight, ends the process, and until the devices have its bytes back: those, by device.

        Two unloads at once get the same answer. Raises ModelNotFound.
        """
        record = self.get(name)
        if record.unloading is None:
            record.unloading = asyncio.create_task(self._unload(record))
        return await asyncio.shield(record.unloading)

    async def _unload(self, record: Record) -> Released:
        """`record.unloading` is set from before the first step to after the last: nothing begins meanwhile."""
        try:
            released = Released()
            if record.state.is_loading and record.job is not None:
                await record.job.cancel()
            if record.releasing is not None:  # it is being evicted
                released = await asyncio.shield(record.releasing)
            if record.worker is not None:
                released = await self._release(record, record.worker)
            self._forget(record)
            return released
        finally:
            record.unloading = None

    async def _release(self, record: Record, worker: Worker) -> Released:
        """Drains the model and ends its process."""
        record.move(State.DRAINING)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain_s):
                await record.idle.wait()
        if record.worker is not worker:  # it died while it was drained
            return Released()
        record.worker = None
        record.move(State.UNLOADING)
        if self.is_stopping:
            reason: BerthError = ShuttingDown("The server stopped before this request was done.", retry_after=10)
        else:
            reason = ModelDraining(f"{record.name} was unloaded before this request was done. Load it again to use it.")
        return await self.room.end(record, worker, reason)

    async def measure(self, record: Record) -> dict[str, int]:
        """Bytes that the model's process holds, by device, now."""
        return await self.room.measure(record)

    def in_background(self, work: Coroutine[Any, Any, object]) -> None:
        """Runs `work` beside the requests and keeps it from being collected."""
        task: asyncio.Task[object] = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def stop(self) -> None:
        """No new work; what is in flight may finish within the drain time; then every process ends."""
        self.is_stopping = True
        await asyncio.gather(*(self.unload(record.name) for record in self.records()), return_exceptions=True)


def _refuse_when_going(record: Record) -> None:
    if record.unloading is not None:
        raise ModelDraining(f"{record.name} is being unloaded. Load it again in a moment.")
