"""Labels for a picture."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from core.types import Image, Label
from core.worker.runtimes.base import Runtime
from core.worker.runtimes.pixels import pixel_row
from core.worker.tasks.base import Prepared
from core.worker.tasks.text_classification import apply, best, default_function


class ImageRuntime(Runtime, Protocol):
    """A loaded model of pictures. Its rows are `PixelRow`s."""

    def pixels(self, image: Image) -> np.ndarray:
        """The picture as the model's own processor makes it ready: float32 (channels, height, width).

        Used by the text thread. Raises InvalidImage.
        """
        ...


def prepare(runtime: ImageRuntime, images: list[Image], params: dict[str, Any]) -> Prepared:
    """One row a picture. Its tokens are patches of 16 by 16 pixels of what the model is shown."""
    rows = [pixel_row(runtime.pixels(image)) for image in images]
    function = params["function_to_apply"] or default_function(runtime)

    def finish(arrays: list[np.ndarray]) -> list[list[Label]]:
        return [best(runtime.info.labels, apply(function, logits), params["top_k"]) for logits in arrays]

    return Prepared(
        rows=list(rows),
        finish=finish,
        input_tokens=[row.length for row in rows],
        windows=[1] * len(rows),
        truncated=[False] * len(rows),
    )
