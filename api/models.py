"""What models there are, and all that is known of one."""

from typing import Any

from fastapi import APIRouter, Response
from pydantic import Field

from api.names import Name
from api.responses import JSON
from api.routing import Route
from api.wire import Wire
from core.core import Core
from core.limits import BATCH_ROWS
from core.types import State, Task
from core.views import ModelView

MIB = 1024 * 1024
# what infinity's clients call the tasks that infinity has
_CAPABILITIES = {Task.FEATURE_EXTRACTION: "embed", Task.TEXT_CLASSIFICATION: "classify"}


class Stats(Wire):
    queue_fraction: float
    queue_absolute: int
    results_pending: int
    batch_size: int


class Listed(Wire):
    id: str
    object: str = "model"
    created: int
    owned_by: str
    stats: Stats
    backend: str
    capabilities: list[str]
    pinned: bool
    keep_alive: float = Field(description="Seconds that it stays after its last request; -1: until room is needed.")
    expires_at: str | None = Field(description="When it leaves memory if nobody uses it again.")


class Models(Wire):
    loaded_models: list[str]
    all_models: list[str]
    models_status: dict[str, str]
    target_models: list[str] | None
    object: str = "list"
    data: list[Listed]


class Memory(Wire):
    estimated: int = Field(description="Bytes promised to it before it loaded.")
    measured: dict[str, int] = Field(description="Bytes that its process holds, by device.")


class Model(Wire):
    name: str
    path: str
    status: str
    memory_usage: float = Field(description="MiB that its process holds.")
    load_time: str | None
    config_analysis: dict[str, Any]
    available_tasks: list[str]
    runtime: str | None
    quantization: str | None
    device: str | None
    dtype: str | None
    revision: str | None
    pid: int | None
    memory: Memory
    labels: list[str]
    context_length: int | None
    dimension: int | None
    pooling: str | None
    license: str | None
    warnings: list[str]
    waiting: int
    served: int
    last_error: dict[str, str] | None
    progress: dict[str, Any] | None
    pinned: bool
    keep_alive: float = Field(description="Seconds that it stays after its last request; -1: until room is needed.")
    expires_at: str | None = Field(description="When it leaves memory if nobody uses it again.")


class Tasks(Wire):
    model_name: str
    supported_tasks: list[str]


def router(core: Core) -> APIRouter:
    routes = APIRouter(route_class=Route, tags=["models"])

    @routes.get("/models", response_model=Models)
    async def models() -> Response:
        """Every model that is loaded, loading or has failed; also in the form that OpenAI's clients read."""
        views = core.models()
        return JSON(
            {
                "loaded_models": [view.name for view in views if view.state is State.READY],
                "all_models": [view.name for view in views],
                "models_status": {view.name: view.state.shown for view in views},
                "target_models": None,
                "object": "list",
                "data": [listed(view, core.settings.max_queue) for view in views],
            }
        )

    @routes.get("/models/{name:path}/tasks", response_model=Tasks)
    async def tasks(name: Name) -> Response:
        """What a model can be asked to do; first: what it was made for."""
        return JSON({"model_name": name, "supported_tasks": list(core.model(name).tasks)})

    @routes.get("/models/{name:path}", response_model=Model)
    async def model(name: Name) -> Response:
        """All that is known of one model."""
        await core.registry.measure(core.registry.get(name))
        return JSON(shown(core.model(name)))

    return routes


def listed(view: ModelView, max_queue: int) -> dict[str, Any]:
    """A model as OpenAI's and infinity's clients list it."""
    return {
        "id": view.name,
        "object": "model",
        "created": int(view.loaded_at.timestamp()) if view.loaded_at else 0,
        "owned_by": "infinity",  # infinity's own client raises on anything else
        "stats": {
            "queue_fraction": view.waiting / max_queue,
            "queue_absolute": view.waiting,
            "results_pending": view.waiting,
            "batch_size": BATCH_ROWS,
        },
        "backend": view.runtime or "unknown",
        "capabilities": [_CAPABILITIES.get(task, task.value) for task in view.tasks],
        **_stay(view),
    }


def shown(view: ModelView) -> dict[str, Any]:
    """A model as `GET /models/{name}` and `GET /system/status` show it."""
    return {
        "name": view.name,
        "path": view.source,
        "status": view.state.shown,
        "memory_usage": round(view.measured_bytes / MIB, 1),
        "load_time": view.loaded_at.isoformat() if view.loaded_at else None,
        "config_analysis": {
            "model_type": view.model_type,
            "task_type": view.task,
            "num_labels": len(view.labels) or None,
            "architecture": view.architecture,
            "parameters": view.parameters,
        },
        "available_tasks": list(view.tasks),
        "runtime": view.runtime,
        "quantization": view.quantization,
        "device": view.device,
        "dtype": view.dtype,
        "revision": view.revision,
        "pid": view.pid,
        "memory": {"estimated": view.promised, "measured": view.measured},
        "labels": list(view.labels),
        "context_length": view.context_length,
        "dimension": view.dimension,
        "pooling": view.pooling,
        "license": view.license,
        "warnings": list(view.warnings),
        "waiting": view.waiting,
        "served": view.served,
        "last_error": view.last_error,
        "progress": {"stage": view.progress.stage, **view.progress.data} if view.progress else None,
        **_stay(view),
    }


def _stay(view: ModelView) -> dict[str, Any]:
    return {
        "pinned": view.pinned,
        "keep_alive": view.keep_alive,
        "expires_at": view.expires_at.isoformat() if view.expires_at else None,
    }
