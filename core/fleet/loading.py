"""One load from a spec to a ready worker. Whatever it took, a failure or a cancel on the way gives back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from core.errors import DeadlineExceeded, LoadCancelled, LoadFailed, WorkerCrashed
from core.fleet.job import LoadJob
from core.fleet.launcher import Launcher
from core.fleet.record import Record
from core.fleet.worker import Worker
from core.settings import Settings
from core.types import FileProgress, Inspection, ModelInfo, ModelSpec, Runtime, State, Task


class Source(Protocol):
    """Where models come from; `core.hub.Hub` is one."""

    async def inspect(self, spec: ModelSpec, *, admin: bool = False) -> Inspection: ...

    async def fetch(self, inspection: Inspection, on_progress: Callable[[FileProgress], None]) -> Path: ...


class Loader:
    def __init__(self, settings: Settings, source: Source, launcher: Launcher) -> None:
        self._settings = settings
        self._source = source
        self._launcher = launcher

    async def load(self, record: Record, job: LoadJob, *, admin: bool) -> Worker:
        """Takes `record` from queued to ready. Raises typed errors; when cancelled, tells the job so."""
        worker: Worker | None = None
        try:
            record.inspection = inspection = await self._source.inspect(record.spec, admin=admin)
            job.inspected.set_result(inspection)
            path = await self._fetch(record, job, inspection)
            record.move(State.LOADING)
            job.say("loading")
            worker = Worker(record.name, await self._launcher.launch(inspection.runtime))
            await worker.open()
            record.info = await self._start(worker, job, inspection, path)
        except BaseException as error:
            if worker is not None:
                await asyncio.shield(worker.close())
            if isinstance(error, asyncio.CancelledError):
                job.fail(LoadCancelled(f"The load of {record.name} was cancelled. Load it again when you want it."))
            raise
        record.move(State.READY)
        record.loaded_at, record.last_error = datetime.now(UTC), None
        record.worker = worker
        job.succeed(record.info, tasks=list(record.info.tasks), device=record.info.device)
        return worker

    async def _fetch(self, record: Record, job: LoadJob, inspection: Inspection) -> Path:
        if inspection.local is None:
            record.move(State.DOWNLOADING)
            job.say("downloading", file="", done=0, total=inspection.download_bytes, eta_s=None)
        path = await self._source.fetch(inspection, lambda progress: job.say("downloading", **asdict(progress)))
        job.say("verifying")
        return path

    async def _start(self, worker: Worker, job: LoadJob, inspection: Inspection, path: Path) -> ModelInfo:
        def on_event(event: dict[str, Any]) -> None:
            job.say(event.pop("stage"), **event)

        spec = inspection.spec
        request = {
            "name": spec.name,
            "path": str(path),
            "runtime": inspection.runtime,
            "tasks": list(inspection.tasks),
            "file": spec.file,
            "device": self._settings.device if spec.device == "auto" else spec.device,
            "dtype": spec.dtype,
            "quantization": spec.quantization,
            "context_length": spec.context_length,
            "max_batch_tokens": spec.max_batch_tokens,
            "allow_pickle": self._settings.allow_pickle_weights,
            "threads": self._settings.threads,
        }
        try:
            raw = await worker.call(
                "load", deadline_s=self._settings.load_timeout_s, on_event=on_event, request=request
            )
        except WorkerCrashed as error:
            message = error.message.removesuffix(" Send the request again.")
            raise LoadFailed(
                f"{message} It died while loading; look at its files, and at this machine's memory."
            ) from error
        except DeadlineExceeded as error:
            raise LoadFailed(
                f"{worker.name} was not ready within {self._settings.load_timeout_s:g} s. Raise BERTH_LOAD_TIMEOUT."
            ) from error
        return _model_info(raw)


def _model_info(raw: dict[str, Any]) -> ModelInfo:
    """ModelInfo as it crossed the wire, with its enumerations and tuples back in place."""
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in raw.items()}
    values["tasks"] = tuple(Task(name) for name in values["tasks"])
    values["runtime"] = Runtime(values["runtime"])
    return ModelInfo(**values)
