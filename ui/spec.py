"""What somebody typed into the load form, as a ModelSpec."""

from __future__ import annotations

import re
from typing import Any

from core.errors import InvalidRequest
from core.names import check_new_name
from core.types import ModelSpec, Quantization, Runtime, Task

_DEVICE = re.compile(r"auto|cpu|cuda(:\d{1,2})?")
MAX_LAYERS = 1000
DTYPES = ("float32", "float16", "bfloat16")


def default_name(source: str) -> str:
    """What a model is called when nobody says: its id with no revision, or the last part of a path."""
    if source.startswith("/"):
        return source.rstrip("/").rsplit("/", 1)[-1]
    return source.partition("@")[0]


def model_spec(source: str, *, name: str | None = None, device: str | None = None, **options: Any) -> ModelSpec:
    """A spec from plain values; None, "" and 0 leave a choice to the model's files. Raises InvalidRequest."""
    source = source.strip()
    if not source:
        raise InvalidRequest("Type the id of a model first, such as org/name.")
    said_name = (name or "").strip()
    name = said_name or default_name(source)
    try:
        check_new_name(name)
    except ValueError as error:
        if not said_name:
            raise InvalidRequest(f"{source[:80]!r} is not a model's source. Write a Hub id such as org/name.") from None
        raise InvalidRequest(f"{name[:80]!r} cannot be a model's name: it {error}.") from None
    if device and not _DEVICE.fullmatch(device):
        raise InvalidRequest("`device` must be auto, cpu, cuda or cuda:N.")
    said = {key: value for key, value in options.items() if value}
    for key, kind in (("runtime", Runtime), ("task", Task), ("quantization", Quantization)):
        if key in said:
            said[key] = _one_of(key, kind, said[key])
    if said.get("dtype", DTYPES[0]) not in DTYPES:
        raise InvalidRequest(f"`dtype` must be one of: {', '.join(DTYPES)}.")
    if "context_length" in said:
        said["context_length"] = _tokens(said["context_length"])
    if "gpu_layers" in said and not (type(said["gpu_layers"]) is int and 0 < said["gpu_layers"] <= MAX_LAYERS):
        raise InvalidRequest(f"`gpu_layers` must be a whole number from 1 to {MAX_LAYERS}.")
    return ModelSpec(name, source, device=device or "auto", **said)


def _one_of(key: str, kind: Any, value: Any) -> Any:
    try:
        return kind(value)
    except ValueError:
        raise InvalidRequest(f"`{key}` must be one of: {', '.join(kind)}.") from None


def _tokens(value: Any) -> int:
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():  # from the form
        value = int(value.strip()[:9])
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 10_000_000 or value % 1:
        raise InvalidRequest("`context_length` must be a whole number of tokens, at least 1.")
    return int(value)
