"""The label map, whichever way round it was pickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scripts.kobert.errors import ImportRefused
from scripts.kobert.pickles import read_pickle


def read_labels(path: Path, count: int) -> list[str]:
    """Names of the `count` outputs, in order, from {name: index}, {index: name} or a list. Raises ImportRefused."""
    data = read_pickle(path)
    named = _by_index(data)
    if named is None:
        raise ImportRefused(f"{path.name} holds no label map: a dictionary between names and numbers, or a list.")
    if sorted(named) != list(range(count)):
        raise ImportRefused(
            f"{path.name} names outputs {sorted(named)}, and the model has {count}, numbered from 0."
            " It belongs to another model."
        )
    return [named[index] for index in range(count)]


def _by_index(data: Any) -> dict[int, str] | None:
    if isinstance(data, (list, tuple)):
        return {index: str(name) for index, name in enumerate(data)}
    if not isinstance(data, dict):
        return None
    if all(isinstance(value, int) for value in data.values()):
        return {index: str(name) for name, index in data.items()}
    if all(isinstance(key, int) for key in data):
        return {index: str(name) for index, name in data.items()}
    return None
