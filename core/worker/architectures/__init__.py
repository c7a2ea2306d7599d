"""Architectures that transformers does not carry, written here and registered with its Auto classes."""

from __future__ import annotations

import importlib

_MODULES: dict[str, str] = {"hyperclovax_vlm": "core.worker.architectures.hyperclovax_vlm"}
TYPES = frozenset(_MODULES)


def register(model_type: str) -> None:
    """Makes `model_type` known to transformers, where it is one of ours; may be called again."""
    if model_type in _MODULES:
        importlib.import_module(_MODULES[model_type]).register()
