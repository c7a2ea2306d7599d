"""An image on its way through a model's tower, some tiles at a time, so that others are answered in between.

Where a model lays the rows of an image's tiles beside each other after the tower, the parts are taken as its own
`get_image_features` takes them, and laid together by its own functions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import torch

Encode = Callable[[Any], torch.Tensor]  # a part of the pixels to its rows
Join = Callable[[torch.Tensor], torch.Tensor]  # the rows of all parts to those of the image


class Passage:
    """What of an image is encoded, and what is not yet."""

    def __init__(self, parts: Iterable[Any], encode: Encode, join: Join = lambda rows: rows) -> None:
        self._left = deque(parts)
        self._encode = encode
        self._join = join
        self._rows: list[torch.Tensor] = []

    def go_on(self) -> torch.Tensor | None:
        """Encodes the next part. Returns (places, width) of the image with the last one.

        What it raises leaves the part for another try.
        """
        if self._left:
            self._rows.append(self._encode(self._left[0]))
            self._left.popleft()
        return None if self._left else self._join(torch.cat(self._rows))


def in_tiles(model: Any, pixels: dict[str, Any], device: str, count: int) -> Passage | None:
    """`count` tiles at a time of an image that is split; None for a model that splits none, or sees them together."""
    split = _SPLITTING.get(getattr(getattr(model, "config", None), "model_type", ""))
    if split is None:
        return None
    tiles, encode, join = split(model, pixels)
    return Passage(tiles.split(count), lambda some: encode(some.to(device)), join)


def _llava_next(model: Any, pixels: dict[str, Any]) -> tuple[torch.Tensor, Encode, Join]:
    inner, config = model.model, model.config
    layers = config.vision_feature_layer
    strategy = config.vision_feature_select_strategy

    def encode(tiles: torch.Tensor) -> torch.Tensor:
        # those alone are kept, as `get_image_features` has it; all of them would take more than the pass
        hidden = inner.vision_tower(tiles, output_hidden_states=layers, return_dict=True).hidden_states
        chosen = [hidden[layer] for layer in ([layers] if isinstance(layers, int) else layers)]
        features = torch.cat(chosen, dim=-1)
        projected: torch.Tensor = inner.multi_modal_projector(features[:, 1:] if strategy == "default" else features)
        return projected

    def join(rows: torch.Tensor) -> torch.Tensor:
        packed, _ = inner.pack_image_features(
            [rows], pixels["image_sizes"], strategy, image_newline=inner.image_newline
        )
        joined: torch.Tensor = packed[0]
        return joined

    return pixels["pixel_values"][0], encode, join


def _hyperclovax(model: Any, pixels: dict[str, Any]) -> tuple[torch.Tensor, Encode, Join]:
    height, width = pixels["image_sizes"][0].tolist()
    tiling = model.config.tiling((height, width))

    def encode(tiles: torch.Tensor) -> torch.Tensor:
        projected: torch.Tensor = model.mm_projector(model.vision_model(tiles))
        return projected

    def join(rows: torch.Tensor) -> torch.Tensor:
        joined: torch.Tensor = model.assembled(rows, tiling)
        return joined

    return pixels["pixel_values"][0][: 1 if tiling is None else tiling.tiles], encode, join


_SPLITTING = {"llava_next": _llava_next, "hyperclovax_vlm": _hyperclovax}
