"""Pictures as rows of a pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from io import BytesIO

import numpy as np
from PIL import Image as Pillow

from core.errors import InvalidImage
from core.types import Image
from core.worker.runtimes.base import Row

PATCH = 16  # pixels a side of what counts as one token: the patch of most vision transformers


@dataclass(slots=True)
class PixelRow(Row):
    """One picture, made ready. Pictures of one pass have one shape, which `want` names."""

    pixels: np.ndarray = field(default_factory=lambda: np.zeros((3, 0, 0), np.float32))  # channels first

    @property
    def length(self) -> int:
        """What it costs, in patches."""
        return max(1, self.pixels.size // (len(self.pixels) * PATCH * PATCH))


def pixel_row(pixels: np.ndarray) -> PixelRow:
    """A row for `pixels`, float32 (channels, height, width)."""
    return PixelRow({}, f"logits of {'x'.join(map(str, pixels.shape))}", pixels=pixels)


def noise() -> Image:
    """A picture to warm up with."""
    made = BytesIO()
    Pillow.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(made, "PNG")
    return {"data": made.getvalue(), "key": ""}


def open_image(image: Image) -> Pillow.Image:
    """The picture in RGB. Raises InvalidImage."""
    try:
        with Pillow.open(BytesIO(image["data"]), formats=["PNG", "JPEG"]) as opened:
            return opened.convert("RGB")
    except (OSError, ValueError, SyntaxError) as error:
        raise InvalidImage("An image of the request cannot be read. Send it anew, whole.") from error
