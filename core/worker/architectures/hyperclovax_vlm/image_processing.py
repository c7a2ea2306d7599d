"""Images to tiles of pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from transformers.feature_extraction_utils import BatchFeature
from transformers.image_processing_backends import PilBackend
from transformers.image_utils import PILImageResampling, SizeDict
from transformers.processing_utils import ImagesKwargs
from transformers.utils.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from core.worker.architectures.hyperclovax_vlm.configuration import HCXVisionConfig
from core.worker.architectures.hyperclovax_vlm.tiling import Size, best_canvas, fitted


class HCXVisionImagesKwargs(ImagesKwargs, total=False):
    """What the released preprocessor_config.json says beyond transformers' own settings."""

    anyres: bool
    possible_resolutions: list[Any]  # canvases: height, width in pixels
    pad_to_square: bool  # whether the whole image keeps its shape in its tile


class HCXVisionImageProcessor(PilBackend):
    """Gives `pixel_values` (images, tiles, 3, edge, edge) in float32, filled up with zeros, and `image_sizes`."""

    model_input_names = ["pixel_values", "image_sizes"]
    valid_kwargs = HCXVisionImagesKwargs
    resample = PILImageResampling.BICUBIC
    image_mean = OPENAI_CLIP_MEAN
    image_std = OPENAI_CLIP_STD
    size: Any = {"shortest_edge": 378}
    crop_size: Any = {"height": 378, "width": 378}
    default_to_square = False
    do_resize = True
    do_center_crop = True
    do_rescale = True
    do_normalize = True
    do_convert_rgb = True
    anyres = False
    possible_resolutions: list[Any] = []
    pad_to_square = True

    def follow(self, config: HCXVisionConfig) -> None:
        """Takes what the tiles are from the model's configuration, which has to agree with it."""
        self.anyres = config.anyres
        self.possible_resolutions = [list(each) for each in config.canvases]
        self.crop_size = SizeDict(height=config.tile, width=config.tile)

    def canvas(self, size: Size) -> Size:
        """The canvas that an image of `size` is put on, where there are any."""
        return best_canvas(size, [(int(height), int(width)) for height, width in self.possible_resolutions])

    def _preprocess(  # type: ignore[override]
        self,
        images: list[np.ndarray],
        *,
        size: SizeDict,
        crop_size: SizeDict,
        resample: Any,
        anyres: bool,
        possible_resolutions: list[Any],
        pad_to_square: bool,
        image_mean: Any,
        return_tensors: str | None = None,
        **settings: Any,
    ) -> BatchFeature:
        """`images` of (3, height, width), 8 bits a value."""
        edge, ground = _edge(size), np.array([int(each * 255) for each in _channels(image_mean)], np.uint8)
        of_images = []
        for image in images:
            tiles = [self._whole(image, edge, resample, ground) if pad_to_square or anyres else image]
            if anyres and not pad_to_square:
                tiles = [self.resize(image, SizeDict(height=edge, width=edge), resample)]
            if anyres:
                canvases = [(int(height), int(width)) for height, width in possible_resolutions]
                canvas = self._canvas(image, canvases, resample, ground)
                tiles += _cut(canvas, int(crop_size.height or edge))
            finished = [self._finished(tile, size, crop_size, resample, image_mean, **settings) for tile in tiles]
            of_images.append(np.stack(finished))
        most = max(map(len, of_images), default=0)
        filled = [np.pad(each, ((0, most - len(each)), *[(0, 0)] * 3)) for each in of_images]
        data = {"pixel_values": filled, "image_sizes": [list(image.shape[-2:]) for image in images]}
        return BatchFeature(data, tensor_type=return_tensors)

    def _whole(self, image: np.ndarray, edge: int, resample: Any, ground: np.ndarray) -> np.ndarray:
        """The image with its longer side of `edge` pixels, in the middle of a square."""
        height, width = image.shape[-2:]
        longest = max(height, width)
        new = edge if height == longest else math.ceil(height / width * edge)
        across = edge if width == longest else math.ceil(width / height * edge)
        return _centred(self.resize(image, SizeDict(height=new, width=across), resample), (edge, edge), ground)

    def _canvas(self, image: np.ndarray, among: list[Size], resample: Any, ground: np.ndarray) -> np.ndarray:
        height, width = image.shape[-2:]
        canvas = best_canvas((height, width), among)
        new = fitted((height, width), canvas)
        return _centred(self.resize(image, SizeDict(height=new[0], width=new[1]), resample), canvas, ground)

    def _finished(
        self,
        tile: np.ndarray,
        size: SizeDict,
        crop_size: SizeDict,
        resample: Any,
        image_mean: Any,
        *,
        image_std: Any,
        do_resize: bool,
        do_center_crop: bool,
        do_rescale: bool,
        rescale_factor: float,
        do_normalize: bool,
        **_: Any,
    ) -> np.ndarray:
        if do_resize:
            tile = self.resize(tile, size, resample)
        if do_center_crop:
            tile = self.center_crop(tile, crop_size)
        if do_rescale:
            tile = self.rescale(tile, rescale_factor)
        if do_normalize:
            tile = self.normalize(tile, image_mean, image_std)
        return tile.astype(np.float32)


def _edge(size: SizeDict) -> int:
    return int(size.shortest_edge or size.height or 0)


def _channels(value: Any) -> list[float]:
    return [float(each) for each in value] if isinstance(value, list | tuple) else [float(value)] * 3


def _centred(image: np.ndarray, canvas: Size, ground: np.ndarray) -> np.ndarray:
    """`image` in the middle of a canvas of the colour `ground`."""
    (height, width), (high, wide) = image.shape[-2:], canvas
    placed = np.broadcast_to(ground[:, None, None], (3, high, wide)).copy()
    top, left = (high - height) // 2, (wide - width) // 2
    placed[:, top : top + height, left : left + width] = image
    return placed


def _cut(canvas: np.ndarray, tile: int) -> list[np.ndarray]:
    """Tiles of a canvas, row by row."""
    high, wide = canvas.shape[-2:]
    return [
        canvas[:, top : top + tile, left : left + tile] for top in range(0, high, tile) for left in range(0, wide, tile)
    ]
