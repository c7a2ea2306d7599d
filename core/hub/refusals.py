"""Models that would have code of their own run, found before anything of them is loaded. `trust_remote_code` stays
off here whatever a file says; these checks make sure that no file can say otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from core.errors import RemoteCodeRefused
from core.hub.architectures import NATIVE_TYPES, OWN_TYPES

_CLASS_ROOT = "sentence_transformers."
_ACTIVATION_ROOT = "torch.nn."


def refuse_remote_code(name: str, documents: dict[str, Any], model_type: str) -> None:
    """Raises RemoteCodeRefused when any of `documents` (path → parsed JSON) asks for code to be run.

    `auto_map` alone is harmless where transformers, or this project, carries the model type itself: that class is used.
    """
    for path, document in documents.items():
        for key, value in _pairs(document):
            if key == "trust_remote_code":
                raise _refused(name, f"{path} holds `trust_remote_code`")
            if key == "auto_map" and path.endswith("config.json") and model_type not in NATIVE_TYPES | OWN_TYPES:
                raise _refused(name, f"{path} maps model type {model_type[:64]!r} to code in the repository")
            if "activation" in key and isinstance(value, str) and _is_foreign_activation(value):
                raise _refused(name, f"{path} names {value[:80]!r} as an activation function")


def refuse_foreign_modules(name: str, documents: dict[str, Any]) -> None:
    """Raises RemoteCodeRefused when a sentence-transformers module is of a class from elsewhere."""
    modules = documents.get("modules.json")
    kinds = [entry.get("type") for entry in modules if isinstance(entry, dict)] if isinstance(modules, list) else []
    for path, document in documents.items():  # routers list the classes of their parts under "types"
        if path.endswith("config.json") and isinstance(document, dict) and isinstance(document.get("types"), dict):
            kinds.extend(document["types"].values())
    for kind in kinds:
        if not isinstance(kind, str) or not kind.startswith(_CLASS_ROOT):
            raise _refused(name, f"its modules are of class {str(kind)[:80]!r}")


def refuse_scripts(name: str, paths: Iterator[str]) -> None:
    """Raises RemoteCodeRefused when a directory that is loaded by path holds Python files."""
    script = next((path for path in paths if path.endswith((".py", ".pyc", ".so"))), None)
    if script is not None:
        raise _refused(name, f"the directory holds {script}; remove it if the model works without")


def _is_foreign_activation(value: str) -> bool:
    return "." in value and not value.startswith(_ACTIVATION_ROOT)


def _refused(name: str, why: str) -> RemoteCodeRefused:
    return RemoteCodeRefused(
        f"{name} wants to run code of its own: {why}. This server runs no code from models. "
        "Choose a model whose architecture transformers carries itself."
    )


def _pairs(document: Any) -> Iterator[tuple[str, Any]]:
    """Every key and value at any depth. A loop, so that nesting cannot exhaust the stack."""
    pending = [document]
    while pending:
        current = pending.pop()
        if isinstance(current, dict):
            yield from current.items()
            pending.extend(current.values())
        elif isinstance(current, list):
            pending.extend(current)
