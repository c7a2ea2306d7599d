"""What models see of images, as pictures for people."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image

from core.types import View

_EFFORT = 1  # of 9, that compressing takes


def view(tiles: np.ndarray, columns: int = 1) -> View:
    """`tiles` is uint8 (count, height, width, 3)."""
    _, height, width, _ = tiles.shape
    return {"tiles": [_png(tile) for tile in tiles], "columns": columns, "width": width, "height": height}


def _png(tile: np.ndarray) -> bytes:
    written = io.BytesIO()
    PIL.Image.fromarray(np.ascontiguousarray(tile)).save(written, "PNG", compress_level=_EFFORT)
    return written.getvalue()
