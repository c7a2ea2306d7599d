"""A model named by where it lies alone: on the command line, in the environment, or in `POST /load_model`."""

from __future__ import annotations

import os
import re
from pathlib import Path

from core.errors import InvalidRequest
from core.hub.catalog import Catalog
from core.names import check_new_name
from core.settings import Settings
from core.types import ModelSpec, Quantization

_NOT_IN_NAMES = re.compile(r"[^\w.+-]+")
_WEIGHTS = re.compile(r"\.(gguf|onnx|safetensors)$", re.IGNORECASE)


def spec_at_start(settings: Settings, catalog: Catalog) -> ModelSpec | None:
    """What the settings ask to be loaded when the server starts. Raises InvalidRequest."""
    path = settings.model_path or settings.sllm_model_path
    return spec_of(path, settings, catalog, settings.start_quantization) if path else None


def vision_spec_at_start(settings: Settings, catalog: Catalog) -> ModelSpec | None:
    """The model for images that the settings ask to be loaded when the server starts. Raises InvalidRequest."""
    path = settings.vision_model_path
    return spec_of(path, settings, catalog) if path else None


def spec_of(path: str, settings: Settings, catalog: Catalog, quantization: Quantization | None = None) -> ModelSpec:
    """What loads `path`: a model under the models directory, a path from where the server was started, or a Hub id.

    It is called what the catalogue, the Hub, or its directory calls it. Raises InvalidRequest.
    """
    path = path.rstrip("/") or path
    if entry := catalog.get(path):
        return ModelSpec(entry.name, entry.source, file=entry.file, runtime=entry.runtime, quantization=quantization)
    is_ours = os.path.lexists(settings.models_dir / path)
    source = os.path.realpath(path) if not is_ours and os.path.exists(path) else path
    name = _own_name(source) if is_ours or os.path.isabs(source) else source.partition("@")[0]
    try:
        return ModelSpec(check_new_name(name), source, quantization=quantization)
    except ValueError:
        raise InvalidRequest(
            f"`model_path` gives no name for a model: {path[:80]!r}. Write a Hub id `org/name`, or the path of a "
            "model's directory."
        ) from None


def _own_name(path: str) -> str:
    """The last part of a path, as far as a model can be called so."""
    return _NOT_IN_NAMES.sub("-", _WEIGHTS.sub("", Path(path).name)).strip("-.")
