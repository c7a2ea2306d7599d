"""ONNX graphs that run together, told from their names: both halves of an encoder-decoder, or the three parts of a
model that looks at images, as transformers.js publishes it.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from core.halves import halves_of

_DECODER = "decoder_model_merged"
# a precision may stand behind the name: _quantized, _fp16, _q4 …
_NAME = re.compile(rf"(vision_encoder|embed_tokens|{_DECODER})(_\w+)?\.onnx")
_ELSE = ("", "_fp16", "_quantized")  # in place of a precision that a part is not published in


@dataclass(frozen=True, slots=True)
class SeeingGraphs:
    """Paths inside the model."""

    tower: str  # pixels to rows of numbers
    table: str  # tokens to rows of numbers
    decoder: str  # rows of numbers, with keys and values of the past, to scores
    is_mixed: bool = False  # they are not all of one precision

    @property
    def paths(self) -> tuple[str, ...]:
        return self.tower, self.table, self.decoder


def seeing_graphs_of(path: str, paths: Collection[str]) -> SeeingGraphs | None:
    """The graphs among `paths` that go with the one at `path`, of its folder and precision.

    A decoder whose precision the others do not have is taken with those of another. None when `path` is no part of
    such a model, or when not all three are there.
    """
    folder, slash, name = path.rpartition("/")
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    own = match[2] or ""
    others = (own, *_ELSE) if match[1] == _DECODER else (own,)

    def part(stem: str, precisions: tuple[str, ...]) -> str | None:
        named = (f"{folder}{slash}{stem}{precision}.onnx" for precision in precisions)
        return next((each for each in named if each in paths), None)

    tower, table, decoder = part("vision_encoder", others), part("embed_tokens", others), part(_DECODER, (own,))
    if tower is None or table is None or decoder is None:
        return None
    is_mixed = tower != part("vision_encoder", (own,)) or table != part("embed_tokens", (own,))
    return SeeingGraphs(tower, table, decoder, is_mixed)


def graphs_of(path: str, paths: Collection[str]) -> tuple[str, ...]:
    """All graphs among `paths` that run together with the one at `path`, itself included."""
    together = halves_of(path, paths) or seeing_graphs_of(path, paths)
    return together.paths if together else (path,)
