"""POST /v1/embeddings."""

import base64
from typing import Any, Literal

from fastapi import APIRouter, Response
from pydantic import Field

from api.openai.names import model_meant
from api.openai.wire import Body, Tokens, refusal, routes_of_dialect
from api.responses import JSON
from api.wire import Wire
from core.core import Core
from core.params import MAX_TEXTS
from core.types import Task


class EmbeddingRequest(Body):
    input: str | list[str] | list[int] | list[list[int]] = Field(
        description="A text or several. Token ids are not taken: which tokens a text makes is the model's own affair."
    )
    dimensions: int | None = Field(None, description="Numbers of a vector that are kept; unset or 0: all.")
    encoding_format: Literal["float", "base64"] | None = Field(
        None, description="base64: of little-endian float32 numbers. Unset: float."
    )

    def texts(self) -> list[str]:
        """Raises InvalidRequest."""
        if isinstance(self.input, str):
            return [self.input]
        texts = [each for each in self.input if isinstance(each, str)]
        if not 1 <= len(texts) <= MAX_TEXTS or len(texts) < len(self.input):
            raise refusal("input", f"must be a text, or a list of 1 to {MAX_TEXTS:,} texts; token ids are not taken")
        return texts


class Embedding(Wire):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Embeddings(Wire):
    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Tokens


def router(core: Core) -> APIRouter:
    routes = routes_of_dialect()

    @routes.post("/embeddings", response_model=Embeddings)
    async def embeddings(body: EmbeddingRequest) -> Response:
        """A vector of length 1 for each text."""
        fields: dict[str, Any] = {"normalize": True, "dimensions": body.dimensions or None}
        reply = await core.run(Task.FEATURE_EXTRACTION, body.texts(), fields, model_meant(core, body.model))
        is_packed = body.encoding_format == "base64"
        rows = [
            {"object": "embedding", "index": index, "embedding": _packed(vector) if is_packed else vector}
            for index, vector in enumerate(reply.outputs)
        ]
        usage = {"prompt_tokens": reply.tokens, "total_tokens": reply.tokens}
        return JSON({"object": "list", "data": rows, "model": reply.model, "usage": usage})

    return routes


def _packed(vector: Any) -> str:
    """A float32 vector (dimension,) as base64."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
