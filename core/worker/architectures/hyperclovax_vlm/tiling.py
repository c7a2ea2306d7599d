"""Any-resolution tiling: which tiles an image is cut into, and which places of the prompt they take.

An image is seen twice: as a whole, squeezed into one tile, and enlarged or reduced to the canvas of tiles that suits
its shape best, centred on it. Of the canvas only the part that the image covers takes places in the prompt, a row of
tokens at a time, each ended by a newline. Arithmetic only; the processor counts with it and the model cuts with it,
so that both always agree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Size = tuple[int, int]  # height, width; in pixels unless said otherwise


@dataclass(frozen=True, slots=True)
class Tiling:
    """One image's canvas. `top` and `left` tokens are left out on both of their sides."""

    rows: int  # of tiles
    columns: int
    side: int  # tokens along the edge of a tile
    top: int = 0
    left: int = 0
    has_newlines: bool = False

    @property
    def tiles(self) -> int:
        """The whole image's own tile included."""
        return 1 + self.rows * self.columns

    @property
    def shown(self) -> Size:
        """Rows and columns of tokens that are kept of the canvas."""
        return self.rows * self.side - 2 * self.top, self.columns * self.side - 2 * self.left

    @property
    def tokens(self) -> int:
        """Places that the image takes in the prompt."""
        height, width = self.shown
        return self.side**2 + height * (width + self.has_newlines)


def canvases(most: int, tile: int, *, with_single: bool = False) -> list[Size]:
    """All canvases of at most `most` tiles with an edge of `tile` pixels; a single tile only `with_single`."""
    shapes = [(rows, columns) for rows in range(1, most + 1) for columns in range(1, most // rows + 1)]
    return [(rows * tile, columns * tile) for rows, columns in shapes if with_single or rows * columns > 1]


def best_canvas(size: Size, among: Sequence[Size]) -> Size:
    """The canvas that shows most of an image of `size`, and of those the smallest; the first where they are equal."""
    height, width = size

    def worth(canvas: Size) -> tuple[int, int]:
        scale = min(canvas[1] / width, canvas[0] / height)
        pixels = min(int(width * scale) * int(height * scale), width * height)
        return pixels, pixels - canvas[0] * canvas[1]

    return max(among, key=worth)


def fitted(size: Size, canvas: Size) -> Size:
    """The size of an image that fills `canvas` as far as its shape allows; broken pixels are counted whole."""
    (height, width), (across_height, across_width) = size, canvas
    by_width, by_height = across_width / width, across_height / height
    if by_width < by_height:
        return min(math.ceil(height * by_width), across_height), across_width
    return across_height, min(math.ceil(width * by_height), across_width)


def tiling(size: Size, among: Sequence[Size], tile: int, side: int, *, unpad: bool) -> Tiling:
    """The tiling of an image of `size`; what its canvas has beyond it is left out with `unpad`."""
    canvas = best_canvas(size, among)
    rows, columns = canvas[0] // tile, canvas[1] // tile
    if not unpad:
        return Tiling(rows, columns, side)
    height, width = size
    high, wide = rows * side, columns * side
    if width / height > wide / high:
        return Tiling(rows, columns, side, top=(high - int(height * (wide / width))) // 2, has_newlines=True)
    return Tiling(rows, columns, side, left=(wide - int(width * (high / height))) // 2, has_newlines=True)
