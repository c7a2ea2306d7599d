"""Tiny random GGUF files of what sees for a model (mmproj), one for each way that llama.cpp lays images out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np

from tests.fakes.gguf import _random, _write, write_gguf

WIDTH = 64  # of the text models in tests/fakes/gguf.py
_SIZES = {"embedding": 32, "layers": 2, "heads": 2, "feed_forward": 48, "patch": 4}
# LLaVA: each picture is a square. SmolVLM: tiles and the whole, with control tokens around them. Qwen2-VL: patches of
# the picture as it is, at places of two dimensions. Gemma 3: places of one picture look at each other.
KINDS = {"mlp": 16, "idefics3": 16, "qwen2vl_merger": 32, "gemma3": 32}  # projector → pixels of a side
# Control tokens that llama.cpp puts around images.
CONTROLS = {
    "idefics3": (
        "<fake_token_around_image>", "<global-img>", "\n\n",
        *(f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2)),
    ),
    "qwen2vl_merger": ("<|vision_start|>", "<|vision_end|>"),
    "gemma3": ("<start_of_image>", "<end_of_image>"),
}  # fmt: skip
ARCHITECTURES = {"qwen2vl_merger": "qwen2vl"}  # of the text model, where it is no llama


def write_seeing(folder: Path, kind: str = "mlp", **options: Any) -> tuple[Path, Path]:
    """A text model and what sees for it, as `folder`/m.gguf and `folder`/mmproj-m.gguf."""
    given = {"architecture": ARCHITECTURES.get(kind, "llama"), "controls": CONTROLS.get(kind, ()), **options}
    return write_gguf(folder / "m.gguf", **given), write_mmproj(folder / "mmproj-m.gguf", kind)


def write_mmproj(
    path: Path,
    kind: str = "mlp",
    *,
    width: int = WIDTH,
    seed: int = 1,
    metadata: dict[str, Any] | None = None,
    **shape: int,
) -> Path:
    """A tower of two layers with the projector `kind`, whose rows are `width` wide."""
    sizes = {**_SIZES, "side": KINDS[kind], **shape}
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_type("mmproj")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type(kind)
    writer.add_vision_image_size(sizes["side"])
    writer.add_vision_patch_size(sizes["patch"])
    writer.add_vision_embedding_length(sizes["embedding"])
    writer.add_vision_feed_forward_length(sizes["feed_forward"])
    writer.add_vision_block_count(sizes["layers"])
    writer.add_vision_head_count(sizes["heads"])
    writer.add_vision_attention_layernorm_eps(1e-5)
    writer.add_vision_projection_dim(width)
    writer.add_vision_image_mean([0.5, 0.5, 0.5])
    writer.add_vision_image_std([0.5, 0.5, 0.5])
    writer.add_vision_use_gelu(True)
    if kind == "idefics3":
        writer.add_vision_projector_scale_factor(2)
        writer.add_vision_preproc_image_size(2 * sizes["side"])
    for name, value in (metadata or {}).items():
        known = writer.kv_data[-1].get(name)
        if known is not None:
            known.value = value
        else:
            writer.add_string(name, value) if isinstance(value, str) else writer.add_uint32(name, value)
    for name, array in _tower(kind, width, sizes, np.random.default_rng(seed)):
        writer.add_tensor(name, array)
    return _write(writer, path)


def _tower(kind: str, width: int, sizes: dict[str, int], random: np.random.Generator) -> list[tuple[str, np.ndarray]]:
    inner, wide, patch = sizes["embedding"], sizes["feed_forward"], sizes["patch"]
    patches = (sizes["side"] // patch) ** 2
    arrays = {"v.patch_embd.weight": _random(random, inner, 3, patch, patch)}
    if kind == "qwen2vl_merger":
        arrays["v.patch_embd.weight.1"] = _random(random, inner, 3, patch, patch)
    else:
        arrays["v.patch_embd.bias"] = _random(random, inner)
        arrays["v.position_embd.weight"] = _random(random, patches + (kind == "mlp"), inner)
    if kind == "mlp":
        arrays["v.class_embd"] = _random(random, inner)
        arrays |= _norm("v.pre_ln", inner)
    for layer in range(sizes["layers"]):
        name = f"v.blk.{layer}"
        arrays |= _norm(f"{name}.ln1", inner) | _norm(f"{name}.ln2", inner)
        for part in ("attn_q", "attn_k", "attn_v", "attn_out"):
            arrays |= _linear(random, f"{name}.{part}", inner, inner)
        arrays |= _linear(random, f"{name}.ffn_up", inner, wide) | _linear(random, f"{name}.ffn_down", wide, inner)
    arrays |= _norm("v.post_ln", inner) | _projector(kind, width, inner, random)
    return list(arrays.items())


def _projector(kind: str, width: int, inner: int, random: np.random.Generator) -> dict[str, np.ndarray]:
    if kind == "idefics3":
        return {"mm.model.fc.weight": _random(random, width, 4 * inner)}
    if kind == "gemma3":
        return {"mm.input_projection.weight": _random(random, inner, width),
                "mm.soft_emb_norm.weight": np.ones(inner, np.float32)}  # fmt: skip
    wide = 4 * inner if kind == "qwen2vl_merger" else inner
    return _linear(random, "mm.0", wide, wide) | _linear(random, "mm.2", wide, width)


def _linear(random: np.random.Generator, name: str, inputs: int, outputs: int) -> dict[str, np.ndarray]:
    return {f"{name}.weight": _random(random, outputs, inputs), f"{name}.bias": 0.1 * _random(random, outputs)}


def _norm(name: str, width: int) -> dict[str, np.ndarray]:
    return {f"{name}.weight": np.ones(width, np.float32), f"{name}.bias": np.zeros(width, np.float32)}
