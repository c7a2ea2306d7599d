"""ONNX graphs that run together, told from their names: both halves of an encoder-decoder, or the three parts of a
model that looks at images, as transformers.js publishes it.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from core.halves import halves_of

# a precision may stand behind the name: _quantized, _fp16, _q4 …
_NAME = re.compile(r"(vision_encoder|embed_tokens|decoder_model_merged)(_\w+)?\.onnx")


@dataclass(frozen=True, slots=True)
class SeeingGraphs:
    """Paths inside the model."""

    tower: str  # pixels to rows of numbers
    table: str  # tokens to rows of numbers
    decoder: str  # rows of numbers, with keys and values of the past, to scores

    @property
    def paths(self) -> tuple[str, ...]:
        return self.tower, self.table, self.decoder


def seeing_graphs_of(path: str, paths: Collection[str]) -> SeeingGraphs | None:
    """The graphs among `paths` that go with the one at `path`, of its folder and precision.

    None when it is no part of such a model, or when not all three are there.
    """
    folder, slash, name = path.rpartition("/")
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    tower, table, decoder = (
        f"{folder}{slash}{stem}{match[2] or ''}.onnx"
        for stem in ("vision_encoder", "embed_tokens", "decoder_model_merged")
    )
    found = SeeingGraphs(tower, table, decoder)
    return found if all(each in paths for each in found.paths) else None


def graphs_of(path: str, paths: Collection[str]) -> tuple[str, ...]:
    """All graphs among `paths` that run together with the one at `path`, itself included."""
    together = halves_of(path, paths) or seeing_graphs_of(path, paths)
    return together.paths if together else (path,)
