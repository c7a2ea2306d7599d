"""What a model is promised before it loads, told from its headers."""

from __future__ import annotations

from core.types import Inspection, Quantization, Runtime

# An allowance for what a worker holds besides weights: starters of 8 to 12 MB were seen to hold 32 to 42 MiB in all.
OVERHEAD_BYTES = 64 * 1024 * 1024


def promised_bytes(inspection: Inspection) -> int:
    """Host bytes for the weights at the load's precision, and the process around them."""
    weights = inspection.weight_bytes
    if inspection.runtime is Runtime.LLAMA_CPP:  # as stored, whatever is asked for
        return weights + OVERHEAD_BYTES
    stored = {"float16": 2, "bfloat16": 2, "F16": 2, "BF16": 2}.get(inspection.dtype or "", 4)
    match inspection.spec.quantization, inspection.spec.dtype:
        case Quantization.INT8, _:
            weights = weights // stored
        case Quantization.NF4, _:
            weights = weights // stored * 55 // 100
        case None, "float16" | "bfloat16":
            weights = weights // stored * 2
        case _:
            weights = weights // stored * 4
    return weights + OVERHEAD_BYTES
