"""Loading a model: a table picks the runtime's module, which is imported on use."""

from __future__ import annotations

import importlib

from core.errors import RuntimeUnavailable
from core.types import Runtime
from core.worker.runtimes.base import LoadRequest, Progress
from core.worker.runtimes.base import Runtime as LoadedModel

LOADERS: dict[Runtime, str] = {
    Runtime.TRANSFORMERS: "core.worker.runtimes.transformers_encoder",
    Runtime.SENTENCE_TRANSFORMERS: "core.worker.runtimes.sentence_transformer",
    Runtime.ONNXRUNTIME: "core.worker.runtimes.onnxruntime_encoder",
}

_ENCODERS = ("bert", "distilbert", "roberta", "xlm_roberta", "deberta_v2", "electra")
_TORCH = ("numpy", "torch", "transformers", "transformers.models.auto.modeling_auto")

# What the fork server imports for each runtime before it forks, in small steps.
PRELOADS: dict[Runtime, tuple[str, ...]] = {
    Runtime.TRANSFORMERS: (
        *_TORCH,
        "transformers.models.auto.tokenization_auto",
        *(f"transformers.models.{name}.modeling_{name}" for name in _ENCODERS),
        "core.worker.runtimes.transformers_encoder",
        "core.worker.tasks",
    ),
    # onnxruntime itself starts a thread when it is imported, and a fork server must have one only; it takes 25 ms
    Runtime.ONNXRUNTIME: (*_TORCH, "transformers.models.auto.tokenization_auto", "core.worker.tasks"),
    Runtime.SENTENCE_TRANSFORMERS: (
        *_TORCH,
        "sentence_transformers",
        "core.worker.runtimes.sentence_transformer",
        "core.worker.tasks",
    ),
}


def load(request: LoadRequest, on_progress: Progress) -> LoadedModel:
    """Loads and warms the model of `request`.

    Raises RuntimeUnavailable, CorruptModel, LoadFailed, RemoteCodeRefused, PickleRefused, InsufficientMemory.
    """
    try:
        module = importlib.import_module(LOADERS[request.runtime])
    except ImportError as error:
        raise RuntimeUnavailable(
            f"{request.name} needs the library {request.runtime}, which does not import here: {error}. "
            "Install it and start the server again."
        ) from error
    return module.load(request, on_progress)
