"""Texts to vectors, by the default embedding model unless the request names another."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import Field

from api.responses import JSON
from api.routing import Route
from api.wire import Body, Wire
from core.core import Core
from core.types import State, Task


class EmbedRequest(Body):
    text: str = Field(examples=["안녕하세요, 반갑습니다!"])
    normalize: bool = Field(True, description="Whether the vector has length 1.")
    model: str | None = None


class Embedding(Wire):
    embedding: list[float]
    dim: int
    model: str


class EmbedBatchRequest(Body):
    texts: list[str]
    normalize: bool = Field(True, description="Whether the vectors have length 1.")
    model: str | None = None


class Embeddings(Wire):
    embeddings: list[list[float]]
    dim: int
    count: int
    model: str


class ModelInfo(Wire):
    name: str | None
    dimension: int | None
    max_length: int | None = Field(description="Tokens; what is longer is cut.")
    pooling: str | None
    device: str | None
    state: str


def router(core: Core) -> APIRouter:
    routes = APIRouter(prefix="/api/v1", route_class=Route, tags=["embed"])

    @routes.post("/embed", response_model=Embedding)
    async def embed(body: EmbedRequest) -> Response:
        """One text to one vector. The first request loads the model and waits for it."""
        reply = await core.run(Task.FEATURE_EXTRACTION, [body.text], {"normalize": body.normalize}, body.model)
        vector = reply.outputs[0]
        return JSON({"embedding": vector, "dim": len(vector), "model": reply.model})

    @routes.post("/embed-batch", response_model=Embeddings)
    async def embed_batch(body: EmbedBatchRequest) -> Response:
        """Many texts, one vector each, in their order."""
        reply = await core.run(Task.FEATURE_EXTRACTION, body.texts, {"normalize": body.normalize}, body.model)
        count, dimension = reply.outputs.shape
        return JSON({"embeddings": reply.outputs, "dim": dimension, "count": count, "model": reply.model})

    @routes.get("/model-info", response_model=ModelInfo)
    async def model_info(model: Annotated[str | None, Query(max_length=200)] = None) -> Response:
        """What the embedding model is; loads nothing, so that some is unknown until the first request."""
        return JSON(_info(core, model or core.default_model(Task.FEATURE_EXTRACTION)))

    return routes


def _info(core: Core, name: str | None) -> dict[str, Any]:
    name = core.name_here(name) if name else None
    record = core.registry.find(name) if name else None
    if record is None:
        unknown = dict.fromkeys(("dimension", "max_length", "pooling", "device"))
        return {"name": name, **unknown, "state": State.ABSENT.shown}
    view = core.model(record.name)
    return {
        "name": view.name,
        "dimension": view.dimension,
        "max_length": view.context_length,
        "pooling": view.pooling,
        "device": view.device,
        "state": view.state.shown,
    }
