"""Loading a model over HTTP: start or join it, follow it, stop it, unload it."""

import asyncio
import re
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import Field, field_validator, model_validator

from api.auth import Admin
from api.names import Name
from api.responses import JSON
from api.routing import Route
from api.sse import EVENT_STREAM, EventStream, load_lines
from api.wire import Body, Wire
from core.core import Core
from core.fleet.job import LoadJob
from core.keep_alive import parse_keep_alive
from core.names import check_new_name
from core.types import ModelSpec, Quantization, Runtime, Task

_DEVICE = re.compile(r"auto|cpu|cuda(:\d{1,2})?")


class LoadRequest(Body):
    """What to load, and how; what is left out is as the model's own files say."""

    model_config = {
        "json_schema_extra": {"examples": [{"model_name": "my-sentiment", "model_path": "org/name@main"}]},
    }

    model_name: str = Field(description="The name it is used by here.")
    model_path: str = Field(
        min_length=1,
        max_length=1024,
        description="A Hub id `org/name[@revision]`, a name under the models directory, or an absolute path.",
    )
    revision: str | None = Field(None, min_length=1, max_length=200, description="Branch, tag or commit on the Hub.")
    file: str | None = Field(None, min_length=1, max_length=500, description="One weight file in the repository.")
    runtime: Annotated[Runtime | None, Field(strict=False)] = None
    task: Annotated[Task | None, Field(strict=False)] = None
    quantization: Literal["8bit", "4bit"] | None = None
    load_in_8bit: bool | None = Field(None, description='The same as `"quantization": "8bit"`.')
    load_in_4bit: bool | None = Field(None, description='The same as `"quantization": "4bit"`.')
    device: str | None = Field(None, description="auto, cpu, cuda or cuda:N.")
    dtype: Literal["float32", "float16", "bfloat16"] | None = None
    context_length: int | None = Field(None, ge=1, le=10_000_000, description="Tokens; below the model's own limit.")
    max_batch_tokens: int | None = Field(None, ge=1, le=100_000_000, description="Tokens of one forward pass.")
    gpu_layers: int | None = Field(None, ge=-1, le=10_000, description="Layers of a GGUF model on the GPU; -1: all.")
    pinned: bool | None = Field(None, description="Whether it is kept in memory whatever else needs the room.")
    keep_alive: str | float | None = Field(
        None,
        union_mode="left_to_right",
        description='How long it stays after its last request: seconds, "5m", 0: not at all, -1: until room is needed.',
    )

    force: bool | None = Field(None, description="Load it though there may be no room for it.")

    @field_validator("model_name")
    @classmethod
    def _is_a_name(cls, value: str) -> str:
        return check_new_name(value)

    @field_validator("keep_alive")
    @classmethod
    def _is_a_duration(cls, value: str | float | None) -> float | None:
        return None if value is None else parse_keep_alive(value)

    @field_validator("device")
    @classmethod
    def _is_a_device(cls, value: str | None) -> str | None:
        if value is not None and not _DEVICE.fullmatch(value):
            raise ValueError("must be auto, cpu, cuda or cuda:N")
        return value

    @model_validator(mode="after")
    def _has_one_quantization(self) -> "LoadRequest":
        if len(self._quantizations()) > 1:
            raise ValueError("quantization, load_in_8bit and load_in_4bit ask for different things")
        return self

    def _quantizations(self) -> set[str]:
        asked = {self.quantization, "8bit" if self.load_in_8bit else None, "4bit" if self.load_in_4bit else None}
        return {name for name in asked if name is not None}

    def spec(self) -> ModelSpec:
        quantization = next((Quantization(name) for name in self._quantizations()), None)
        return ModelSpec(
            name=self.model_name,
            source=self.model_path,
            revision=self.revision,
            file=self.file,
            runtime=self.runtime,
            task=self.task,
            quantization=quantization,
            device=self.device or "auto",
            dtype=self.dtype,
            context_length=self.context_length,
            max_batch_tokens=self.max_batch_tokens,
            gpu_layers=self.gpu_layers,
            pinned=self.pinned,
            keep_alive=None if self.keep_alive is None else float(self.keep_alive),
        )


class LoadStarted(Wire):
    message: str
    model_name: str
    model_path: str
    events: str = Field(description="Path that tells, as server-sent events, how far the load is.")


class Cancelled(Wire):
    message: str
    model_name: str


class Unloaded(Wire):
    message: str
    freed_bytes: dict[str, int] | None = Field(description="Bytes by device; absent while it is still unloading.")
    left_bytes: dict[str, dict[str, int]] | None = Field(
        description="Bytes that had not come back after five seconds, by device and owner; absent while unloading."
    )


Wait = Annotated[bool, Query(description="Answer when it is done, rather than when it has begun.")]


def router(core: Core) -> APIRouter:
    routes = APIRouter(route_class=Route, tags=["models"])

    @routes.post("/models/load", status_code=202, response_model=LoadStarted, responses={200: {"model": LoadStarted}})
    async def load(_: Admin, body: LoadRequest, wait: Wait = False) -> Response:
        """Starts loading a model, or joins a load of the same. 200 when it is ready, 202 while it loads."""
        job = await core.load(body.spec(), admin=True, force=bool(body.force))
        was_ready = job.done.done()
        if wait:
            await asyncio.shield(job.done)
        return _load_answer(job, body, was_ready)

    @routes.get(
        "/models/{name:path}/events",
        response_class=StreamingResponse,
        responses={200: {"content": {EVENT_STREAM: {}}, "description": "Events named by stage, `data` is JSON."}},
    )
    async def events(name: Name) -> Response:
        """How far a load is: the current step at once, then each that follows, up to ready, failed or cancelled."""
        return EventStream(load_lines(core.events(name)))

    @routes.post("/models/{name:path}/cancel", response_model=Cancelled)
    async def cancel(_: Admin, name: Name) -> Response:
        """Stops a load, wherever it is; nothing half-loaded stays."""
        await core.cancel(name)
        return JSON({"message": f"Loading of model {name} cancelled", "model_name": name})

    @routes.post("/models/{name:path}/unload", response_model=Unloaded, responses={202: {"model": Unloaded}})
    async def unload(_: Admin, name: Name, wait: Wait = True) -> Response:
        """Waits for the requests in flight, ends the model's process, and waits until its memory is back."""
        if not wait:
            core.model(name)  # raises when there is none
            core.registry.in_background(core.unload(name))
            return JSON({"message": f"Model {name} is being unloaded"}, 202)
        released = await core.registry.release(name)
        message = f"Model {name} unloaded successfully"
        return JSON({"message": message, "freed_bytes": released.freed, "left_bytes": released.left})

    return routes


def _load_answer(job: LoadJob, body: LoadRequest, was_ready: bool) -> JSON:
    name = body.model_name
    if was_ready:
        job.done.result()  # raises where the load has failed meanwhile
        message = f"Model {name} is already loaded"
    elif job.done.done():
        message = f"Model {name} loaded successfully"
    else:
        message = f"Model {name} loading started"
    answer: dict[str, Any] = {
        "message": message,
        "model_name": name,
        "model_path": body.model_path,
        "events": f"/models/{quote(name)}/events",
    }
    return JSON(answer, 200 if job.done.done() else 202)
