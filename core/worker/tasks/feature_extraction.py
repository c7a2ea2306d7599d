"""One vector a text."""

from __future__ import annotations

from typing import Any

import numpy as np

from core.errors import InvalidRequest
from core.worker.runtimes.base import Embedding, Row, Runtime
from core.worker.tasks.base import Prepared, room


def prepare(runtime: Runtime, texts: list[str], params: dict[str, Any]) -> Prepared:
    """One row a text, its end cut off where it is longer than the model reads. Output: float32 (texts, dimension)."""
    embedding = runtime.embedding
    assert embedding is not None
    tokenizer = runtime.tokenizer
    dimensions = _dimensions(embedding, params["dimensions"])
    size = room(runtime, tokenizer.single_overhead, params["max_length"])
    prompt = _prompt(runtime.name, embedding, params["prompt_name"])
    sequences = tokenizer.ids([_as_read(embedding, prompt + text) for text in texts])
    unpooled = _prompt_tokens(runtime, embedding, prompt)
    normalize = embedding.normalizes if params["normalize"] is None else params["normalize"]

    def finish(arrays: list[np.ndarray]) -> np.ndarray:
        vectors = np.stack(arrays)[:, :dimensions].astype(np.float32)
        return unit(vectors) if normalize else vectors

    return Prepared(
        rows=[Row(tokenizer.inputs(sequence[:size]), "embedding", unpooled=unpooled) for sequence in sequences],
        finish=finish,
        input_tokens=[len(sequence) + tokenizer.single_overhead for sequence in sequences],
        windows=[1] * len(texts),
        truncated=[len(sequence) > size for sequence in sequences],
    )


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length one; a zero vector stays zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _dimensions(embedding: Embedding, wanted: int | None) -> int:
    if wanted is not None and wanted > embedding.dimension:
        raise InvalidRequest(f"`dimensions` must be at most {embedding.dimension}, the length of this model's vectors.")
    return wanted or embedding.dimension


def _prompt(model: str, embedding: Embedding, name: str | None) -> str:
    name = embedding.default_prompt if name is None else name
    if name is None:
        return ""
    if name not in embedding.prompts:
        known = ", ".join(embedding.prompts) or "none"
        raise InvalidRequest(f"{model} has no prompt `{name[:64]}`. Its prompts: {known}.")
    return embedding.prompts[name]


def _as_read(embedding: Embedding, text: str) -> str:
    return text.lower() if embedding.lowers else text


def _prompt_tokens(runtime: Runtime, embedding: Embedding, prompt: str) -> int:
    """Leading tokens that the pooling leaves out: the prompt and the special tokens before it."""
    if not prompt or embedding.pools_prompt:
        return 0
    (ids,) = runtime.tokenizer.ids([_as_read(embedding, prompt)])
    return len(runtime.tokenizer.single.parts[0]) + len(ids)
