"""What the REST API and the page show of a model and of the machine: plain values, taken at one moment."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from core.fleet.record import Record
from core.memory.need import promised_bytes
from core.settings import Settings
from core.types import LoadEvent, Quantization, Runtime, State, Task


@dataclass(frozen=True, slots=True)
class ModelView:
    """One model. Memory is in bytes by device; what is not known yet is None or empty."""

    name: str
    source: str
    revision: str | None
    state: State
    task: Task | None
    tasks: tuple[Task, ...]
    runtime: Runtime | None
    quantization: Quantization | None
    device: str | None
    dtype: str | None
    model_type: str | None
    architecture: str | None
    labels: tuple[str, ...]
    context_length: int | None  # tokens
    dimension: int | None
    pooling: str | None
    parameters: int | None
    license: str | None
    warnings: tuple[str, ...]
    pid: int | None
    promised: int  # bytes on all devices: when it was last admitted, before that as reckoned for the host
    measured: dict[str, int]
    loaded_at: datetime | None
    waiting: int  # requests waiting or running
    served: int
    last_error: dict[str, str] | None
    progress: LoadEvent | None  # while loading
    pinned: bool
    keep_alive: float  # seconds that it stays after its last request; -1: until room is needed
    expires_at: datetime | None  # when it goes if nobody uses it again

    @property
    def measured_bytes(self) -> int:
        return sum(self.measured.values())


def view(record: Record, settings: Settings) -> ModelView:
    inspection, info = record.inspection, record.info if record.state is State.READY else None
    told: Any = info or inspection
    tasks = told.tasks if told else ()
    error = record.last_error
    return ModelView(
        name=record.name,
        source=record.spec.source,
        revision=inspection.revision if inspection else record.spec.revision,
        state=record.state,
        task=tasks[0] if tasks else None,
        tasks=tasks,
        runtime=inspection.runtime if inspection else record.spec.runtime,
        quantization=record.spec.quantization,
        device=info.device if info else None,
        dtype=info.dtype if info else None,
        model_type=told.model_type if told else None,
        architecture=inspection.architecture if inspection else None,
        labels=told.labels if told else (),
        context_length=told.context_length if told else None,
        dimension=info.dimension if info else None,
        pooling=info.pooling if info else None,
        parameters=told.parameters if told else None,
        license=inspection.license if inspection else None,
        warnings=inspection.warnings if inspection else (),
        pid=record.worker.pid if record.worker else None,
        promised=sum(record.promised.values()) or (promised_bytes(inspection, settings) if inspection else 0),
        measured=dict(record.measured),
        loaded_at=record.loaded_at if info else None,
        waiting=record.waiting,
        served=record.served,
        last_error={"type": error.type, "message": error.shown} if error else None,
        progress=record.job.current if record.job and record.state.is_loading else None,
        pinned=bool(record.spec.pinned),
        keep_alive=record.keep_alive_s,
        expires_at=_expires_at(record),
    )


def _expires_at(record: Record) -> datetime | None:
    expires_s = record.expires_s
    if expires_s is None or record.leases:
        return None
    return datetime.now(UTC) + timedelta(seconds=expires_s - time.monotonic())
