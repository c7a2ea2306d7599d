"""One load from a spec to a ready worker. Whatever it took, a failure or a cancel on the way gives back."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from core.errors import BerthError, DeadlineExceeded, HubBusy, InsufficientMemory, LoadFailed, WorkerCrashed
from core.fleet.job import LoadJob
from core.fleet.launcher import Launcher, Process
from core.fleet.placement import Placement
from core.fleet.record import Record
from core.fleet.refusal import overrun
from core.fleet.room import Room
from core.fleet.worker import Worker
from core.settings import Settings
from core.types import FileProgress, Inspection, ModelInfo, ModelSpec, Runtime, State, Task

_INSPECT_S = 120  # seconds that telling what a repository is may take, waits that the Hub asks for included


class _Killed(Exception):
    """SIGKILL ended the process, as the system does where memory runs out."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Source(Protocol):
    """Where models come from; `core.hub.Hub` is one."""

    async def inspect(self, spec: ModelSpec, *, admin: bool = False) -> Inspection: ...

    async def fetch(self, inspection: Inspection, on_progress: Callable[[FileProgress], None]) -> Path: ...

    def disk_free(self) -> int: ...


class Loader:
    def __init__(self, settings: Settings, source: Source, launcher: Launcher) -> None:
        self._settings = settings
        self._source = source
        self._launcher = launcher
        self._closing: dict[str, asyncio.Task[None]] = {}

    async def load(self, record: Record, job: LoadJob, room: Room, *, admin: bool) -> Worker:
        """Takes `record` from queued to ready. Raises typed errors; the registry settles the rest.

        What can never fit is refused before anything is fetched; memory is taken when everything is.
        """
        record.inspection = inspection = await self._inspect(record, admin=admin)
        try:
            place = await room.choose(record, job, inspection)
            job.inspected.set_result(inspection)
            path = await self._fetch(record, job, inspection)
            place = await room.admit(record, job, inspection, place)
        except InsufficientMemory as error:
            error.plan = room.plan(inspection, await asyncio.to_thread(self._source.disk_free))
            raise
        try:
            record.move(State.LOADING)
            worker, info = await self._bring_up(record, job, room, place, path)
        except BaseException:
            self._when_closed(record.name, room)
            raise
        record.move(State.READY)
        record.info, record.worker = info, worker
        record.loaded_at, record.last_error = datetime.now(UTC), None
        room.settle(record, info)
        job.succeed(info, tasks=list(info.tasks), device=info.device)
        return worker

    async def _bring_up(
        self, record: Record, job: LoadJob, room: Room, place: Placement, path: Path
    ) -> tuple[Worker, ModelInfo]:
        """A worker that has loaded the model. Out of memory, it is tried once more without the idle models."""
        try:
            return await self._try(record, job, room, place, path)
        except (InsufficientMemory, _Killed) as error:
            if not await room.make_room(record):
                raise _told(error, record, room) from error
        try:
            return await self._try(record, job, room, place, path)
        except (InsufficientMemory, _Killed) as error:
            raise _told(error, record, room) from error

    async def _try(
        self, record: Record, job: LoadJob, room: Room, place: Placement, path: Path
    ) -> tuple[Worker, ModelInfo]:
        job.say("loading")
        assert record.inspection is not None
        worker: Worker | None = None
        try:
            async with asyncio.timeout(self._settings.load_timeout_s):
                worker = Worker(record.name, await self._launch(record.inspection))
                room.began(record.name, worker.pid)
                await worker.open()
                return worker, await self._start(worker, job, record.inspection, place, path)
        except BaseException as error:
            if worker is not None:
                await self._close(worker)
            if isinstance(error, TimeoutError | DeadlineExceeded):
                raise LoadFailed(
                    f"{record.name} was not ready within {self._settings.load_timeout_s:g} s. Raise BERTH_LOAD_TIMEOUT."
                ) from error
            raise

    async def _launch(self, inspection: Inspection) -> Process:
        """A process; a load that is cancelled meanwhile ends it, and is over when it is gone."""
        quantizes = inspection.spec.quantization is not None
        launching = asyncio.create_task(self._launcher.launch(inspection.runtime, quantizes=quantizes))
        try:
            return await asyncio.shield(launching)
        except asyncio.CancelledError:
            with contextlib.suppress(WorkerCrashed):
                process = await launching
                process.sock.close()
                process.kill()
                await process.exited
            raise

    async def _inspect(self, record: Record, *, admin: bool) -> Inspection:
        try:
            async with asyncio.timeout(_INSPECT_S):
                return await self._source.inspect(record.spec, admin=admin)
        except TimeoutError:
            raise HubBusy(f"The Hub did not say within {_INSPECT_S} s what {record.name} is. Try again.") from None

    async def _close(self, worker: Worker) -> None:
        """Ends `worker`, also when this load is cancelled a second time meanwhile."""
        self._closing[worker.name] = closing = asyncio.create_task(worker.close())
        closing.add_done_callback(lambda _: self._closing.pop(worker.name))
        await asyncio.shield(closing)

    def _when_closed(self, name: str, room: Room) -> None:
        """What a load was promised goes back once its process is gone."""
        if closing := self._closing.get(name):
            closing.add_done_callback(lambda _: room.give_back(name))
        else:
            room.give_back(name)

    async def _fetch(self, record: Record, job: LoadJob, inspection: Inspection) -> Path:
        if inspection.local is None:
            record.move(State.DOWNLOADING)
            job.say("downloading", file="", done=0, total=inspection.download_bytes, eta_s=None)
        path = await self._source.fetch(inspection, lambda progress: job.say("downloading", **asdict(progress)))
        job.say("verifying")
        return path

    async def _start(
        self, worker: Worker, job: LoadJob, inspection: Inspection, place: Placement, path: Path
    ) -> ModelInfo:
        def on_event(event: dict[str, Any]) -> None:
            job.say(event.pop("stage"), **event)

        spec = inspection.spec
        request = {
            "name": spec.name,
            "path": str(path),
            "runtime": inspection.runtime,
            "tasks": list(inspection.tasks),
            "file": spec.file,
            "projector": inspection.projector,
            "device": place.device,
            "layers": dict(place.layers) if place.layers else None,
            "dtype": spec.dtype,
            "quantization": spec.quantization,
            "context_length": spec.context_length,
            "max_batch_tokens": spec.max_batch_tokens,
            "allow_pickle": self._settings.allow_pickle_weights,
            "gpu_layers": _gpu_layers(spec, self._settings),
            "max_sequences": self._settings.max_sequences,
            "max_cached_tokens": place.cached_tokens or self._settings.max_cached_tokens,
            "threads": self._settings.threads,
            "passes": self._settings.passes,
        }
        try:
            raw = await worker.call(
                "load", deadline_s=self._settings.load_timeout_s, on_event=on_event, request=request
            )
        except WorkerCrashed as error:
            message = error.message.removesuffix(" Send the request again.")
            exited = worker.process.exited
            killed = exited.done() and exited.result() == -signal.SIGKILL
            raise (_Killed if killed else LoadFailed)(
                f"{message} It died while loading; look at its files, and at this machine's memory."
            ) from error
        return _model_info(raw)


def _told(error: InsufficientMemory | _Killed, record: Record, room: Room) -> BerthError:
    """What the caller is told, with the numbers."""
    if isinstance(error, _Killed):
        return LoadFailed(error.message)
    return overrun(room.ledger, record.name, error.message)


def _gpu_layers(spec: ModelSpec, settings: Settings) -> int | None:
    said = spec.gpu_layers if spec.gpu_layers is not None else settings.gpu_layers
    return None if said == -1 else said


def _model_info(raw: dict[str, Any]) -> ModelInfo:
    """ModelInfo as it crossed the wire, with its enumerations and tuples back in place."""
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in raw.items()}
    values["tasks"] = tuple(Task(name) for name in values["tasks"])
    values["runtime"] = Runtime(values["runtime"])
    return ModelInfo(**values)
