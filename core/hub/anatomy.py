"""The sizes of a model, out of its headers and its configuration: what its memory is reckoned from.

A configuration says whatever its author wrote. A size that is no sensible number counts as not said.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from core.hub.gguf import GgufHeader
from core.hub.graph import GraphTensors
from core.hub.tensors import Tensors
from core.types import Anatomy

_MOST = 1 << 24  # a size beyond it is a mistake
_HIDDEN = ("hidden_size", "d_model", "n_embd", "dim")
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_DECODER_LAYERS = ("num_decoder_layers", "decoder_layers", *_LAYERS)
_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")
_DECODER_HEADS = ("decoder_attention_heads", *_HEADS)
_INNER = ("intermediate_size", "d_ff", "ffn_dim", "n_inner", "hidden_dim", "ffn_hidden_size")
_DECODER_INNER = ("decoder_ffn_dim", *_INNER)
# What transformers' LlamaConfig says of itself: configurations of models that see name only where they differ.
_LLAMA = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "vocab_size": 32000,
    "max_position_embeddings": 2048,
}


def of_configuration(
    config: dict[str, Any], tensors: Tensors, file_bytes: int, dtype_bytes: int, *, two_parts: bool
) -> Anatomy:
    """Of safetensors, or of pickles, which have no header: `file_bytes` of numbers of `dtype_bytes` each.

    `two_parts`: an encoder-decoder.
    """
    sizes = _sizes(config, two_parts=two_parts)
    if not tensors.weight_bytes:
        floats = file_bytes // dtype_bytes
        return Anatomy(tensor_bytes=file_bytes, floats=floats, linear=_linear(floats, sizes), **sizes)
    return Anatomy(
        tensor_bytes=tensors.weight_bytes,
        floats=tensors.floats,
        fixed_bytes=tensors.fixed_bytes,
        linear=tensors.linear or _linear(tensors.floats, sizes),
        linear_rows=tensors.linear_rows,
        **sizes,
    )


def of_graphs(config: dict[str, Any], found: Sequence[GraphTensors], file_bytes: int, *, two_parts: bool) -> Anatomy:
    """Of ONNX graphs that run together; `found` is empty when they were not read, since they lie far away."""
    sizes = _sizes(config, two_parts=two_parts)
    if not found:
        return Anatomy(tensor_bytes=file_bytes, floats=file_bytes // 4, **sizes)
    return Anatomy(
        tensor_bytes=sum(each.total_bytes for each in found),
        floats=sum(each.floats for each in found),
        fixed_bytes=sum(each.fixed_bytes for each in found),
        **sizes,
    )


def of_gguf(headers: Sequence[GgufHeader], file_bytes: int, sight: GgufHeader | None = None) -> Anatomy:
    """`headers` are those of all parts, or of the first alone, when `file_bytes` stand for the rest. `sight` is that of
    its mmproj file."""
    first = headers[0]
    is_whole = len(headers) == first.parts
    layers, heads, width = first.block_count or 0, first.head_count or 0, first.embedding_length or 0
    heads_kv = (first.head_counts_kv or (heads,))[0] or heads
    total = sum(header.tensor_bytes for header in headers) if is_whole else file_bytes
    return Anatomy(
        tensor_bytes=total,
        fixed_bytes=total,
        layer_bytes=sum(header.layer_bytes for header in headers) if is_whole else total,
        layers=layers,
        hidden=width,
        intermediate=first.feed_forward_length or 4 * width,
        heads=heads,
        vocabulary=first.vocabulary or 0,
        cache_numbers=(first.cache_bytes or 0) // 2,
        plain_cache_numbers=2 * layers * heads_kv * (width // heads if heads else 0),
        **(_of_projector(sight) if sight else {}),
    )


def _of_projector(header: GgufHeader) -> dict[str, Any]:
    tower = header.projector
    if tower is None:
        return {}
    return {
        "image_bytes": header.tensor_bytes,
        "image_patches": tower.patches,
        "image_hidden": tower.embedding_length or 0,
        "image_intermediate": tower.feed_forward_length or 4 * (tower.embedding_length or 0),
        "image_merge": tower.merged,
    }


def _sizes(config: dict[str, Any], *, two_parts: bool) -> dict[str, Any]:
    config = text_config(config)
    hidden = _number(config, *_HIDDEN)
    layers = _number(config, *(_DECODER_LAYERS if two_parts else _LAYERS))
    heads = _number(config, *(_DECODER_HEADS if two_parts else _HEADS))
    heads_kv = _number(config, "num_key_value_heads", "num_kv_heads") or (1 if config.get("multi_query") else heads)
    width = _number(config, "head_dim", "d_kv") or (hidden // heads if heads else 0)
    return {
        "layers": layers,
        "hidden": hidden,
        "intermediate": _number(config, *(_DECODER_INNER if two_parts else _INNER)) or 4 * hidden,
        "heads": heads,
        "vocabulary": _number(config, "vocab_size"),
        "cache_numbers": 2 * layers * heads_kv * width,
        "plain_cache_numbers": 2 * layers * heads_kv * width,
        "cross_attends": two_parts,
    }


def text_config(config: dict[str, Any]) -> dict[str, Any]:
    """The part that is about text, of a model that has others; what it leaves out is what its class says."""
    inner = next((config[name] for name in ("text_config", "language_config") if name in config), None)
    if not isinstance(inner, dict) or _number(config, *_LAYERS):
        return config
    is_llama = inner.get("model_type", "llama") == "llama"
    return (_LLAMA | inner) if is_llama else inner


def _number(config: dict[str, Any], *names: str) -> int:
    return next((config[name] for name in names if type(config.get(name)) is int and 0 < config[name] < _MOST), 0)


def _linear(floats: int, sizes: dict[str, Any]) -> int:
    """Numbers in the inner matrices, where no header gives their shapes: all but a table of the vocabulary."""
    return max(0, floats - int(sizes["vocabulary"]) * int(sizes["hidden"]))
