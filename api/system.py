"""The server itself: is it alive, is it ready, what does it hold."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Any, Literal

import psutil
from fastapi import APIRouter, Request, Response
from pydantic import Field
from starlette.routing import Match
from starlette.types import Scope

from api.auth import Admin
from api.models import Model, shown
from api.negotiation import prefers_html
from api.responses import JSON
from api.routing import Route
from api.wire import ERRORS, Wire
from core.core import VERSION, Core
from core.errors import NotReady, ShuttingDown
from core.fleet.eviction import Cause, Eviction
from core.memory.probe import DeviceMemory
from core.types import State
from core.views import ModelView


class Root(Wire):
    message: str
    version: str
    docs: str
    models_loaded: int


class Health(Wire):
    status: Literal["healthy"]
    timestamp: str
    models_loaded: int
    model_loaded: bool
    model_name: str | None
    device: Literal["cuda", "cpu"]
    unix: float


class Ready(Wire):
    status: Literal["ready"]


class SystemMemory(Wire):
    total: int
    available: int
    used: int
    percent: float


class GpuMemory(Wire):
    device: str
    name: str
    total: int
    allocated: int
    reserved: int


class LedgerEntry(Wire):
    promised: int
    measured: dict[str, int]


class Budget(Wire):
    limit: int = Field(description="Bytes that all models together may take.")
    held: int = Field(description="Bytes that they count for: of each, what it was promised or holds, if that is more.")


class Memory(Wire):
    system_memory: SystemMemory
    gpu_memory: list[GpuMemory]
    ledger: dict[str, LedgerEntry]
    budgets: dict[str, Budget] = Field(description="By device.")
    waiting: list[str] = Field(description="Models that wait for memory, in their order.")


class Evicted(Wire):
    model: str
    at: str
    cause: Cause
    wanted_by: str | None = Field(description="The model that needed the room.")
    freed_bytes: dict[str, int]
    left_bytes: dict[str, dict[str, int]]


class Cpu(Wire):
    count: int
    percent: float


class Status(Wire):
    version: str
    uptime: float
    cpu: Cpu
    memory: SystemMemory
    gpus: list[GpuMemory]
    models: list[Model]
    evictions: list[Evicted] = Field(description="The last models that left memory by themselves, newest first.")


class Cleanup(Wire):
    message: str
    timestamp: str
    freed_bytes: dict[str, int]


class RootRoute(Route):
    """`GET /` for programs. A browser's goes on to the page, which is mounted at the same path."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] == "http" and scope["method"] == "GET":
            accept = next((value for name, value in scope["headers"] if name == b"accept"), b"")
            if prefers_html(accept.decode("latin-1")):
                return Match.NONE, {}
        return super().matches(scope)


def root_route(core: Core) -> RootRoute:
    async def root() -> Response:
        """What this is. A browser gets the page instead."""
        loaded = len(_loaded(core))
        return JSON(
            {"message": "Berth: many models, one server", "version": VERSION, "docs": "/docs", "models_loaded": loaded}
        )

    return RootRoute("/", root, methods=["GET", "HEAD"], response_model=Root, responses=ERRORS, tags=["system"])


def router(core: Core) -> APIRouter:
    routes = APIRouter(route_class=Route, tags=["system"])
    device = "cuda" if core.probe.gpus() else "cpu"

    @routes.api_route("/health", methods=["GET", "HEAD"], response_model=Health)
    async def health() -> Response:
        """200 as long as the process lives. Waits for nothing."""
        loaded = _loaded(core)
        return JSON(
            {
                "status": "healthy",
                "timestamp": datetime.now(UTC).isoformat(),
                "models_loaded": len(loaded),
                "model_loaded": bool(loaded),
                "model_name": loaded[0].name if loaded else None,
                "device": device,
                "unix": time.time(),
            }
        )

    @routes.api_route("/ready", methods=["GET", "HEAD"], response_model=Ready)
    async def ready(request: Request) -> Response:
        """200 when requests should be sent here; 503 with the reason while they should not."""
        reason = await core.check_ready() or request.app.state.waiting_for
        if reason is not None:
            raise (ShuttingDown if core.registry.is_stopping else NotReady)(reason)
        return JSON({"status": "ready"})

    @routes.get("/system/status", response_model=Status)
    async def status() -> Response:
        """The server, the machine and every model on it."""
        await core.measure()
        host, gpus = await asyncio.to_thread(_measured, core)
        return JSON(
            {
                "version": VERSION,
                "uptime": round(core.uptime_s, 3),
                "cpu": {"count": psutil.cpu_count() or 1, "percent": psutil.cpu_percent()},
                "memory": _host_shown(host),
                "gpus": _gpus_shown(gpus, core.models()),
                "models": [shown(view) for view in core.models()],
                "evictions": [_evicted(each) for each in reversed(core.registry.room.evictions)],
            }
        )

    @routes.get("/system/memory", response_model=Memory)
    async def memory() -> Response:
        """Bytes of the machine's memory and of each GPU's, and what each model was promised and holds."""
        await core.measure()
        host, gpus = await asyncio.to_thread(_measured, core)
        views, room = core.models(), core.registry.room
        return JSON(
            {
                "system_memory": _host_shown(host),
                "gpu_memory": _gpus_shown(gpus, views),
                "ledger": {view.name: {"promised": view.promised, "measured": view.measured} for view in views},
                "budgets": await room.budgets(),
                "waiting": list(room.ledger.waiting),
            }
        )

    @routes.post("/system/cleanup", response_model=Cleanup)
    async def cleanup(_: Admin) -> Response:
        """Forgets failed models and gives back what idle ones hold for nothing."""
        freed = await core.cleanup()
        timestamp = datetime.now(UTC).isoformat()
        return JSON({"message": "System cleanup completed", "timestamp": timestamp, "freed_bytes": freed})

    return routes


def _evicted(eviction: Eviction) -> dict[str, Any]:
    return {
        "model": eviction.model,
        "at": eviction.at.isoformat(),
        "cause": eviction.cause,
        "wanted_by": eviction.wanted_by,
        "freed_bytes": eviction.released.freed,
        "left_bytes": eviction.released.left,
    }


def _loaded(core: Core) -> list[ModelView]:
    return [view for view in core.models() if view.state is State.READY]


def _measured(core: Core) -> tuple[DeviceMemory, list[DeviceMemory]]:
    return core.probe.host(), core.probe.gpus()


def _host_shown(host: DeviceMemory) -> dict[str, Any]:
    return {"total": host.total, "available": host.available, "used": host.used, "percent": host.percent}


def _gpus_shown(gpus: list[DeviceMemory], views: list[ModelView]) -> list[dict[str, Any]]:
    """`allocated`: what our models hold there; `reserved`: what is in use there at all."""
    return [
        {
            "device": gpu.device,
            "name": gpu.name,
            "total": gpu.total,
            "allocated": sum(view.measured.get(gpu.device, 0) for view in views),
            "reserved": gpu.used,
        }
        for gpu in gpus
    ]
