"""Loading a model: a table picks the runtime's module, which is imported on use."""

from __future__ import annotations

import importlib

from core.errors import LoadFailed, RuntimeUnavailable
from core.types import TEXT_TO_TEXT_TASKS, Runtime, Task
from core.worker.generation.base import Generator
from core.worker.runtimes.base import LoadRequest, Progress
from core.worker.runtimes.base import Runtime as LoadedModel

LOADERS: dict[Runtime, str] = {
    Runtime.TRANSFORMERS: "core.worker.runtimes.transformers_encoder",
    Runtime.SENTENCE_TRANSFORMERS: "core.worker.runtimes.sentence_transformer",
    Runtime.ONNXRUNTIME: "core.worker.runtimes.onnxruntime_encoder",
}
GENERATORS: dict[tuple[Runtime, bool], str] = {  # runtime, whether the model is an encoder-decoder
    (Runtime.TRANSFORMERS, False): "core.worker.runtimes.transformers_decoder",
    (Runtime.TRANSFORMERS, True): "core.worker.runtimes.transformers_seq2seq",
    (Runtime.ONNXRUNTIME, False): "core.worker.runtimes.onnxruntime_decoder",
    (Runtime.ONNXRUNTIME, True): "core.worker.runtimes.onnxruntime_seq2seq",
    (Runtime.LLAMA_CPP, False): "core.worker.runtimes.llama_cpp",
}
IMAGE_LOADERS: dict[Runtime, str] = {  # of models that read images alone
    Runtime.TRANSFORMERS: "core.worker.runtimes.transformers_images",
    Runtime.ONNXRUNTIME: "core.worker.runtimes.onnxruntime_images",
}
SEEING: dict[Runtime, str] = {  # of models that read images and text
    Runtime.TRANSFORMERS: "core.worker.runtimes.transformers_vision",
    Runtime.LLAMA_CPP: "core.worker.runtimes.llama_vision",
    Runtime.ONNXRUNTIME: "core.worker.runtimes.onnxruntime_vision",
}

_TRANSFORMERS = (
    "numpy",
    "torch",
    "transformers",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
)
_ENCODERS = tuple(
    f"transformers.models.{name}.{part}_{name}"
    for part, names in (
        ("modeling", ("bert", "distilbert", "roberta", "xlm_roberta", "deberta_v2", "electra")),
        ("tokenization", ("bert", "distilbert", "roberta", "xlm_roberta", "deberta_v2")),
    )
    for name in names
)
_DECODERS = tuple(f"transformers.models.{name}.modeling_{name}" for name in ("llama", "gpt2", "qwen2"))
_OURS = ("core.worker.runtimes.loading", "core.worker.runtimes.sentence_modules", "core.worker.tasks")

# What the fork server imports for each runtime before it forks, in small steps.
PRELOADS: dict[Runtime, tuple[str, ...]] = {
    Runtime.TRANSFORMERS: (
        *_TRANSFORMERS,
        "transformers.modeling_utils",
        "transformers.generation.utils",
        *_ENCODERS,
        *_OURS,
        "core.worker.runtimes.transformers_encoder",
        *_DECODERS,
        "core.worker.runtimes.transformers_decoder",
    ),
    # onnxruntime itself starts a thread when it is imported, and a fork server must have one only; it takes 25 ms
    Runtime.ONNXRUNTIME: (*_TRANSFORMERS, *_OURS, "core.worker.devices"),
    Runtime.SENTENCE_TRANSFORMERS: (
        *_TRANSFORMERS,
        "sentence_transformers",
        *_ENCODERS,
        *_OURS,
        "core.worker.runtimes.sentence_transformer",
    ),
    Runtime.LLAMA_CPP: ("numpy", "llama_cpp", "core.worker.runtimes.llama_cpp"),
}
# And before the first worker that quantises; not where there is a GPU, since bitsandbytes asks CUDA what it can do.
QUANTIZING = ("bitsandbytes", "transformers.integrations.bitsandbytes")


def _module(request: LoadRequest) -> str:
    task = request.tasks[0]
    if Task.IMAGE_TEXT_TO_TEXT in request.tasks:
        if request.runtime not in SEEING:
            raise LoadFailed(f"{request.name} looks at images, which {request.runtime} does not do here.")
        return SEEING[request.runtime]
    if task is Task.IMAGE_CLASSIFICATION:
        return IMAGE_LOADERS[request.runtime]
    return GENERATORS[request.runtime, task in TEXT_TO_TEXT_TASKS] if task.generates else LOADERS[request.runtime]


def load(request: LoadRequest, on_progress: Progress) -> LoadedModel | Generator:
    """Loads and warms the model of `request`.

    Raises RuntimeUnavailable, CorruptModel, LoadFailed, RemoteCodeRefused, PickleRefused, InsufficientMemory.
    """
    try:
        module = importlib.import_module(_module(request))
    except ImportError as error:
        raise RuntimeUnavailable(
            f"{request.name} needs the library {request.runtime}, which does not import here: {error}. "
            "Install it and start the server again."
        ) from error
    return module.load(request, on_progress)
