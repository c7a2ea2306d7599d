"""Read a pickle's data without running anything of it.

A pickle is a program: it names functions and calls them. Here no name is ever looked up. A few are known to mean plain
data and are given inert stand-ins written below; any other name stops the reading before it could be called.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, Self

from scripts.kobert.errors import ImportRefused

MAX_BYTES = 64 * 1024**2  # a vocabulary of 100,000 tokens has about 5 MB


class Record(dict[Any, Any]):
    """Stands for an object whose class is not imported: a dictionary's items, and its attributes in `fields`."""

    arguments: tuple[Any, ...]
    fields: dict[str, Any]

    def __new__(cls, *arguments: Any) -> Self:
        record = super().__new__(cls)
        record.arguments = arguments
        record.fields = {}
        if arguments and isinstance(arguments[0], dict):
            record.update(arguments[0])
        return record

    def __init__(self, *arguments: Any) -> None:
        """Nothing: a dictionary's own __init__ would read the arguments."""

    def __setstate__(self, state: Any) -> None:
        parts = state if isinstance(state, tuple) else (state,)
        for part in parts:
            if isinstance(part, dict):
                self.fields.update(part)


def _reconstructor(_: Any, __: Any, state: Any) -> Record:
    """What protocols 0 and 1 call to make an object: class, base class, the base's value."""
    return Record(state)


def _numpy_scalar(dtype: Record, raw: bytes) -> int | str:
    """A numpy integer or string, as labels taken from a data frame often are."""
    kind = str(dtype.arguments[0])[:1]
    if kind in "iu":
        return int.from_bytes(raw, "little", signed=kind == "i")
    if kind == "U":
        return raw.decode("utf-32-le").rstrip("\0")
    raise ImportRefused(f"a numpy value of type {dtype.arguments[0]!r} is neither a number nor a text")


def _latin1(text: str, _: str) -> bytes:
    """How protocols below 3 write bytes: as the text that Latin-1 turns into them."""
    return text.encode("latin-1")


_STAND_INS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): Record,
    ("collections", "defaultdict"): Record,
    ("collections", "Counter"): Record,
    ("copyreg", "_reconstructor"): _reconstructor,
    ("copy_reg", "_reconstructor"): _reconstructor,
    ("builtins", "object"): Record,
    ("builtins", "dict"): Record,
    ("__builtin__", "object"): Record,
    ("__builtin__", "dict"): Record,
    ("_codecs", "encode"): _latin1,
    ("numpy", "dtype"): Record,
    ("numpy.core.multiarray", "scalar"): _numpy_scalar,
    ("numpy._core.multiarray", "scalar"): _numpy_scalar,
}
_INERT_PACKAGES = ("gluonnlp", "kobert")  # whatever they name becomes a Record


class _DataReader(pickle.Unpickler):
    """The standard interpreter with its only door, looking up a name, closed."""

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] in _INERT_PACKAGES:
            return Record
        if (module, name) in _STAND_INS:
            return _STAND_INS[module, name]
        raise ImportRefused(f"it names {module}.{name}, which is not data")

    def persistent_load(self, pid: Any) -> Any:
        raise ImportRefused("it refers to something outside itself")


def read_pickle(path: Path) -> Any:
    """The data in a pickle, objects as Records. Raises ImportRefused; nothing of the pickle has run then, either."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ImportRefused(f"it has more than {MAX_BYTES:,} bytes")
        with path.open("rb") as file:
            return _DataReader(file).load()
    except OSError as error:
        raise ImportRefused(f"{path} cannot be read: {error.strerror}.") from error
    except ImportRefused as error:
        raise ImportRefused(f"{path.name} was not read: {error}. Ask whoever made it for a plain JSON file.") from error
    except Exception as error:  # the interpreter raises nearly anything on bytes that are no pickle
        raise ImportRefused(f"{path.name} is no pickle that can be read as data: {error}") from error
