"""The graphs of an encoder-decoder that is published as ONNX files, by the names that optimum gives them."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

# a precision may stand behind the name: _quantized, _fp16, _q4 …
_NAME = re.compile(r"(encoder_model|decoder_model_merged|decoder_with_past_model|decoder_model)(_\w+)?\.onnx")


@dataclass(frozen=True, slots=True)
class Halves:
    """Paths inside the model."""

    encoder: str
    first: str  # the decoder for a first pass
    later: str  # the decoder for those that follow, with keys and values of the past; a merged one is both

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.encoder, self.first, self.later)))


def halves_of(path: str, paths: Collection[str]) -> Halves | None:
    """The graphs among `paths` that go with the one at `path`, of its folder and precision.

    None when it is no half of anything, or when not all are there that are needed.
    """
    folder, slash, name = path.rpartition("/")
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    encoder, merged, first, later = (
        f"{folder}{slash}{stem}{match[2] or ''}.onnx"
        for stem in ("encoder_model", "decoder_model_merged", "decoder_model", "decoder_with_past_model")
    )
    for found in (Halves(encoder, merged, merged), Halves(encoder, first, later)):
        if path in found.paths and all(each in paths for each in found.paths):
            return found
    return None
