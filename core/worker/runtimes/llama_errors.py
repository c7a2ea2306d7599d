"""What llama.cpp says when a file does not load, as errors that say what to do next."""

from __future__ import annotations

from pathlib import Path

from core.errors import BerthError, CorruptModel, InsufficientMemory, LoadFailed
from core.worker.runtimes import llama_log
from core.worker.runtimes.base import LoadRequest

_FULL = ("unable to allocate", "failed to allocate", "out of memory", "bad_alloc", "failed to create memory")
_DAMAGED = ("corrupt", "invalid data", "not within the file bounds", "failed to read", "invalid magic", "key not found",
            "missing tensor", "wrong shape", "wrong number of tensors", "duplicate", "invalid split")  # fmt: skip
_FOREIGN = "mismatch between text model"


def load_error(request: LoadRequest, path: Path) -> BerthError:
    """Of a model's own file."""
    said = _shown(request, path, request.name).removeprefix("llama_model_load: ").removeprefix("error loading model: ")
    if _has(said, _FULL):
        return InsufficientMemory(f"There is no memory for {request.name}: {said}. Unload another model.")
    if _has(said, _DAMAGED):
        return CorruptModel(f"{request.file} of {request.name} is damaged: {said}. Fetch it again.")
    return LoadFailed(f"llama.cpp could not load {request.name}: {said or 'it does not say why'}. Choose another file.")


def projector_error(request: LoadRequest, path: Path) -> BerthError:
    """Of the file that sees for it."""
    file = str(request.projector)
    said = reason(_shown(request, path, file))
    if _FOREIGN in said:
        return LoadFailed(
            f"{file} was made for another model than {request.file} of {request.name}: {said}. Put the mmproj file of "
            "this model beside it, or load it for text-generation."
        )
    if _has(said, _FULL):
        return InsufficientMemory(f"There is no memory for {file} of {request.name}: {said}. Unload another model.")
    return CorruptModel(
        f"{file} of {request.name} cannot be read: {said or 'llama.cpp does not say why'}. Fetch it again, or load the "
        "model for text-generation."
    )


def reason(said: str) -> str:
    """What is behind the name of a function and "error:"."""
    return " ".join(said.split()).rpartition("error: ")[2]


def _shown(request: LoadRequest, path: Path, name: str) -> str:
    return llama_log.complaint().replace(str(path), name).replace(request.path, request.name)


def _has(said: str, signs: tuple[str, ...]) -> bool:
    lowered = said.lower()
    return any(sign in lowered for sign in signs)
