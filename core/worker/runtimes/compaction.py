"""What quantising leaves behind on a CPU, given back."""

from __future__ import annotations

import ctypes
import gc
from typing import Any

import torch


def compact(model: Any) -> None:
    """Frees what `model`, quantised on a CPU, does not need any more.

    Weights that kept their precision are views of the weight file, and one view keeps the whole file in memory; the
    threads that quantised leave what they freed in their heaps. Of a model of 135 million parameters in 8 bits that
    was four fifths of the process.
    """
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point() and tensor.device.type == "cpu":
                tensor.data = tensor.data.clone()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
