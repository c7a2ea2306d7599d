"""What a model's processor made of an image, as pictures again: neither normalised nor in patches."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from transformers.image_processing_utils import select_best_resolution

from core.types import View
from core.worker.runtimes.previews import view


def views(processor: Any, pixels: dict[str, Any], size: tuple[int, int]) -> list[View]:
    """The pictures in `pixels`, what the image processor `processor` gives for one image of `size`, width and height.

    First the image as a whole, then in tiles, where the model sees both. `pixels` are written over.
    """
    values = np.asarray(pixels["pixel_values"], np.float32)
    if "image_grid_thw" in pixels:
        return [_view(processor, _joined(processor, values, pixels["image_grid_thw"]), 1)]
    tiles = values.reshape(-1, *values.shape[-3:])
    if len(tiles) == 1:
        return [_view(processor, tiles, 1)]
    if hasattr(processor, "get_number_of_image_patches"):  # Idefics': the whole comes last
        _, _, columns = processor.get_number_of_image_patches(size[1], size[0], {})
        return [_view(processor, tiles[-1:], 1), _view(processor, tiles[:-1], columns)]
    return [_view(processor, tiles[:1], 1), _view(processor, tiles[1:], _columns(processor, tiles, size))]


def _columns(processor: Any, tiles: np.ndarray, size: tuple[int, int]) -> int:
    """Of a canvas of LLaVA-NeXT's kind, that is chosen for the shape of the image."""
    count, width = len(tiles) - 1, tiles.shape[-1]
    if hasattr(processor, "image_grid_pinpoints"):
        across = select_best_resolution((size[1], size[0]), processor.image_grid_pinpoints)[1]
    elif hasattr(processor, "canvas"):  # our own
        across = processor.canvas((size[1], size[0]))[1]
    else:
        return math.isqrt(count - 1) + 1
    return max(1, across // width)


def _joined(processor: Any, patches: np.ndarray, grid: Any) -> np.ndarray:
    """(1, 3, height, width) from patches in the order of Qwen2-VL: blocks of those that are merged, row by row."""
    _, rows, columns = (int(each) for each in np.asarray(grid)[0])
    merged, edge, times = processor.merge_size, processor.patch_size, processor.temporal_patch_size
    blocks = patches[: rows * columns].reshape(
        rows // merged, columns // merged, merged, merged, -1, times, edge, edge
    )[:, :, :, :, :, 0]
    # (block row, block column, row in it, column in it, channel, y, x)
    joined = blocks.transpose(4, 0, 2, 5, 1, 3, 6)
    return joined.reshape(1, -1, rows * edge, columns * edge)


def _view(processor: Any, tiles: np.ndarray, columns: int) -> View:
    """`tiles` is (count, 3, height, width), as the model is given them; written over, for they may be large."""
    if getattr(processor, "do_normalize", False):
        mean, deviation = (
            np.reshape(np.broadcast_to(np.asarray(each, np.float32), tiles.shape[1]), (-1, 1, 1))
            for each in (processor.image_mean, processor.image_std)
        )
        tiles *= deviation
        tiles += mean
    if getattr(processor, "do_rescale", False):
        tiles /= processor.rescale_factor
    np.clip(np.rint(tiles, out=tiles), 0, 255, out=tiles)
    return view(tiles.astype(np.uint8).transpose(0, 2, 3, 1), columns)
