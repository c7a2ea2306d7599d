"""What a model's directory says, read before any library does: refused code, refused pickles, broken files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core.errors import BerthError, CorruptModel, LoadFailed, PickleRefused, RemoteCodeRefused
from core.worker.runtimes.base import ContextLost, LoadRequest

MAX_JSON = 4 * 1024 * 1024  # bytes of a configuration file
# by name: their libraries are not imported here
_DAMAGED = frozenset(
    ("SafetensorError", "UnpicklingError", "JSONDecodeError", "UnicodeDecodeError", "EOFError")
    + ("InvalidProtobuf", "InvalidGraph", "NoSuchFile")
)
_ABSOLUTE = re.compile(r"(?<![\w.:/])/[\w.@+-]+(?:/[\w.@+-]+)+")  # a path of this machine
_NOT_CONFIGURATION = frozenset({"tokenizer.json", "vocab.json", "added_tokens.json"})  # tables, and often large


def read_json(path: Path, name: str) -> Any:
    """A small JSON file, None when it is not there. Raises CorruptModel."""
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > MAX_JSON:
            raise CorruptModel(f"`{path.name}` of {name} is larger than {MAX_JSON:,} bytes; it is no configuration.")
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CorruptModel(f"`{path.name}` of {name} is not valid JSON. Download the model again.") from error


def refuse_code(request: LoadRequest) -> None:
    """Raises RemoteCodeRefused when any configuration asks for code of its own to be trusted."""
    root = Path(request.path)
    for path in sorted([*root.glob("*.json"), *root.glob("*/*.json")]):
        if path.name in _NOT_CONFIGURATION or path.stat().st_size > MAX_JSON:
            continue
        if _mentions(read_json(path, request.name), "trust_remote_code"):
            raise RemoteCodeRefused(
                f"`{path.name}` of {request.name} asks for the repository's own code to be run. That never happens "
                "here; choose a model of an architecture that transformers knows itself."
            )


def _mentions(value: Any, key: str) -> bool:
    """Whether `key` occurs at any depth with a value other than false."""
    stack = [value]
    while stack:
        each = stack.pop()
        if isinstance(each, dict):
            if each.get(key):
                return True
            stack.extend(each.values())
        elif isinstance(each, list):
            stack.extend(each)
    return False


def has_safetensors(root: Path) -> bool:
    return any(root.glob("*.safetensors"))


def refuse_pickle(request: LoadRequest, root: Path) -> bool:
    """Whether to read safetensors. Raises PickleRefused when only pickles are there and they are not allowed."""
    wants_pickle = request.file is not None and Path(request.file).suffix in (".bin", ".pt", ".pth")
    if has_safetensors(root) and not wants_pickle:
        return True
    if not any(root.glob("*.bin")):
        raise LoadFailed(f"{request.name} has no weights: neither *.safetensors nor pytorch_model.bin is in its files.")
    if not request.allow_pickle:
        raise PickleRefused(
            f"{request.name} has its weights only as a pickle (pytorch_model.bin), which may be loaded by an admin's "
            "call and while ALLOW_PICKLE_WEIGHTS is not false. Load it as an admin, or choose a safetensors revision."
        )
    return False


@contextmanager
def loading_errors(request: LoadRequest) -> Iterator[None]:
    """The one border that errors of the libraries cross while a model loads. No path leaves with them."""
    try:
        yield
    except (BerthError, ContextLost):
        raise
    except Exception as error:
        kind = type(error).__name__
        said = _ABSOLUTE.sub("…", " ".join(str(error).replace(request.path, request.name).split()))[:400]
        if "trust_remote_code" in said:
            raise RemoteCodeRefused(
                f"{request.name} needs its own code to run, which never happens here. Choose a model of an "
                "architecture that transformers knows itself."
            ) from error
        if kind in _DAMAGED:
            raise CorruptModel(f"A file of {request.name} is damaged: {said} Download the model again.") from error
        raise LoadFailed(f"{request.name} could not be loaded: {said or kind}") from error
