"""Bytes of a model's weights once they are loaded."""

from __future__ import annotations

from core.types import Inspection, Quantization, Runtime

ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
QUANTIZED_RUNTIMES = (Runtime.TRANSFORMERS, Runtime.SENTENCE_TRANSFORMERS)
_SCALE_BYTES = 4  # in 8 bits: of each row
_BLOCK, _BLOCKS = 64, 256  # in 4 bits: numbers with one scale of a byte, and such scales with one of four bytes
# onnxruntime lays matrices out anew and takes memory by steps: held against loaded, of graphs of 12 to 620 MiB.
_GRAPH_SHARE = 1.22


def item_bytes(inspection: Inspection, device: str) -> int:
    """Bytes of a number as the model computes: as asked for, else 4 on a CPU and 2 on a GPU."""
    if inspection.runtime is Runtime.ONNXRUNTIME:
        return 2 if inspection.anatomy.tensor_bytes < 3 * inspection.anatomy.floats else 4
    return ITEM_BYTES.get(inspection.spec.dtype or "", 4 if device == "cpu" else 2)


def weight_bytes(inspection: Inspection, quantization: Quantization | None, number: int) -> int:
    """All weights, each of `number` bytes unless the files or `quantization` say otherwise.

    bitsandbytes quantises the inner matrices; embeddings, heads, norms and biases keep their precision.
    """
    anatomy = inspection.anatomy
    if inspection.runtime is Runtime.LLAMA_CPP:  # the file as it is, mapped
        return anatomy.tensor_bytes
    if inspection.runtime is Runtime.ONNXRUNTIME:
        return int(anatomy.tensor_bytes * _GRAPH_SHARE)
    kept = (anatomy.floats - anatomy.linear) * number + anatomy.fixed_bytes
    match quantization:
        case Quantization.INT8:
            return kept + anatomy.linear + anatomy.linear_rows * _SCALE_BYTES
        case Quantization.NF4:
            scales = anatomy.linear // _BLOCK
            return kept + anatomy.linear // 2 + scales + scales // _BLOCKS * 4
        case None:
            return anatomy.floats * number + anatomy.fixed_bytes
