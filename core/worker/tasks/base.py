"""What a task offers: texts in, rows for the model; arrays from the model in, the answer out.

Runs on the text thread, beside the model thread: tokenising never waits for a forward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.worker.runtimes.base import Row


@dataclass(slots=True)
class Prepared:
    """A request made ready for the model. All tuples have one element for each item of the request, in order."""

    rows: list[Row]
    finish: Callable[[list[np.ndarray]], Any]  # arrays in the order of `rows` → outputs, one for each item
    input_tokens: list[int]  # of each item as given, special tokens included, before any cut
    windows: list[int]  # windows each item was read in
    truncated: list[bool]  # whether the end of each item was not read
