"""Tiny models that look at images, as the three graphs in which onnx-community publishes them."""

from __future__ import annotations

import functools
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
import transformers

from tests.fakes.vision import write_vision

GRAPHS = ("smolvlm", "idefics3", "llava", "qwen2_vl")
STEMS = ("vision_encoder", "embed_tokens", "decoder_model_merged")
_PATCH, _MERGE = 8, 2


def write_onnx_vision(
    directory: Path, architecture: str, *, precision: str = "", dtype: torch.dtype = torch.float32
) -> Path:
    """A repository with `onnx/vision_encoder.onnx` and the two others, and its weights as safetensors, for a
    reference. `precision` stands behind the names; `dtype` is that of the graphs."""
    (directory / "onnx").mkdir(parents=True, exist_ok=True)
    for name, data in _made(architecture, precision, dtype).items():
        (directory / name).write_bytes(data)
    return directory


@functools.cache
def _made(architecture: str, precision: str, dtype: torch.dtype) -> dict[str, bytes]:
    """The files of a repository: an export takes a second, and several tests have the same."""
    with tempfile.TemporaryDirectory() as name:
        root = write_vision(Path(name), architecture)
        model = transformers.AutoModelForImageTextToText.from_pretrained(root, attn_implementation="eager").eval()
        write_graphs(root / "onnx", model, architecture, precision, dtype)
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def write_graphs(folder: Path, model: Any, architecture: str, precision: str, dtype: torch.dtype) -> None:
    """Exports `model` to `folder`."""
    folder.mkdir(exist_ok=True)
    tower, table, decoder = (folder / f"{stem}{precision}.onnx" for stem in STEMS)
    model = model.to(dtype)
    _write_tower(tower, model, architecture, dtype)
    ids = {"input_ids": torch.arange(6).reshape(2, 3)}
    axes = {0: "batch_size", 1: "sequence_length"}
    _export(_Table(model), table, ids, ["inputs_embeds"], {"input_ids": axes, "inputs_embeds": axes})
    _write_decoder(decoder, model, architecture == "qwen2_vl", dtype)


def _export(
    module: torch.nn.Module, path: Path, inputs: dict[str, torch.Tensor], outputs: list[str], axes: dict[str, Any]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=outputs,
            dynamic_axes=axes,
            opset_version=17,
            dynamo=False,
        )


def _write_tower(path: Path, model: Any, architecture: str, dtype: torch.dtype) -> None:
    output = ["image_features"]
    if architecture == "llava":
        pixels = {"pixel_values": torch.randn(2, 3, 32, 32, dtype=dtype)}
        _export(_WholeTower(model), path, pixels, output, {"pixel_values": {0: "batch_size"}})
    elif architecture == "qwen2_vl":
        inputs = {
            "pixel_values": torch.randn(24, 3 * 2 * _PATCH**2, dtype=dtype),
            "grid_thw": torch.tensor([[1, 4, 6]]),
        }
        axes = {"pixel_values": {0: "patches"}, "image_features": {0: "places"}}
        _export(_PatchTower(model), path, inputs, output, axes)
    else:
        side = model.config.vision_config.image_size
        inputs = {"pixel_values": torch.randn(1, 3, 3, side, side, dtype=dtype)}
        inputs["pixel_attention_mask"] = torch.ones(1, 3, side, side, dtype=torch.bool)
        axes = {name: {0: "batch_size", 1: "num_images"} for name in inputs}
        _export(_TileTower(model), path, inputs, output, {**axes, "image_features": {0: "num_images"}})


def _write_decoder(path: Path, model: Any, is_spread: bool, dtype: torch.dtype) -> None:
    config = model.config.get_text_config(decoder=True)
    shape = (2, config.num_key_value_heads, 4, config.hidden_size // config.num_attention_heads)
    caches = [f"{layer}.{part}" for layer in range(config.num_hidden_layers) for part in ("key", "value")]
    positions = torch.arange(4, 7).expand(2, 3)
    inputs = {
        "inputs_embeds": torch.randn(2, 3, config.hidden_size, dtype=dtype),
        "attention_mask": torch.ones(2, 7, dtype=torch.int64),
        "position_ids": positions.expand(3, 2, 3) if is_spread else positions,
    }
    inputs |= {f"past_key_values.{name}": torch.randn(shape, dtype=dtype) for name in caches}
    text = {0: "batch_size", 1: "sequence_length"}
    axes: dict[str, Any] = {"inputs_embeds": text, "logits": text, "attention_mask": {0: "batch_size", 1: "total"}}
    axes["position_ids"] = {1: "batch_size", 2: "sequence_length"} if is_spread else text
    axes |= {f"past_key_values.{name}": {0: "batch_size", 2: "past_length"} for name in caches}
    axes |= {f"present.{name}": {0: "batch_size", 2: "total"} for name in caches}
    _export(_Decoder(model), path, inputs, ["logits", *(f"present.{name}" for name in caches)], axes)


class _Table(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.table = model.get_input_embeddings()

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.table(ids)


class _Decoder(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        parts = model.model
        self.text = parts.text_model if hasattr(parts, "text_model") else parts.language_model
        self.head = model.lm_head

    def forward(
        self, embedded: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, *past: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        cache = transformers.DynamicCache()
        for layer in range(len(past) // 2):
            cache.update(past[2 * layer], past[2 * layer + 1], layer)
        found = self.text(inputs_embeds=embedded, attention_mask=mask, position_ids=positions, past_key_values=cache)
        caches = (tensor for layer in cache.layers for tensor in (layer.keys, layer.values))
        return (self.head(found.last_hidden_state), *caches)


class _WholeTower(torch.nn.Module):
    """LLaVA's."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.parts = model.model
        self.layer = model.config.vision_feature_layer

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        states = self.parts.vision_tower(pixels, output_hidden_states=True).hidden_states
        return self.parts.multi_modal_projector(states[self.layer][:, 1:])


class _TileTower(torch.nn.Module):
    """SmolVLM's and Idefics3's, for tiles that an image fills."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.tower, self.connector = model.model.vision_model, model.model.connector
        self.patch = model.config.vision_config.patch_size

    def forward(self, pixels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        side = pixels.shape[-1] // self.patch
        seen = mask.reshape(-1, side, self.patch, side, self.patch).sum((2, 4)) > 0
        unseen = (1 - seen.flatten(1)[:, None, None].to(pixels.dtype)) * -1e4
        table = self.tower.embeddings
        hidden = table.patch_embedding(pixels.flatten(0, 1)).flatten(2).transpose(1, 2)
        hidden = hidden + table.position_embedding.weight
        hidden = self.tower.encoder(inputs_embeds=hidden, attention_mask=unseen).last_hidden_state
        return self.connector(self.tower.post_layernorm(hidden))


class _PatchTower(torch.nn.Module):
    """Qwen2-VL's, for one image: rows of patches in the order of the places they become."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.tower = model.model.visual

    def forward(self, pixels: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
        tower = self.tower
        high, wide = grid[0, 1], grid[0, 2]
        rows = torch.arange(high)[:, None] + 0 * torch.arange(wide)[None]
        columns = 0 * torch.arange(high)[:, None] + torch.arange(wide)[None]
        merged = (each.reshape(high // _MERGE, _MERGE, wide // _MERGE, _MERGE) for each in (rows, columns))
        places = torch.stack([each.permute(0, 2, 1, 3).flatten() for each in merged], -1)
        hidden = tower.patch_embed(pixels)
        turns = tower.rotary_pos_emb(hidden, places)
        for block in tower.blocks:
            hidden = hidden + self._attend(block.attn, block.norm1(hidden), turns)
            hidden = hidden + block.mlp(block.norm2(hidden))
        return tower.merger(hidden)

    def _attend(self, attention: Any, hidden: torch.Tensor, turns: Any) -> torch.Tensor:
        from transformers.models.qwen2_vl.modeling_qwen2_vl import apply_rotary_pos_emb_vision

        count = hidden.shape[0]
        query, key, value = attention.qkv(hidden).reshape(count, 3, attention.num_heads, -1).permute(1, 0, 2, 3)
        query, key = apply_rotary_pos_emb_vision(query, key, *turns)
        query, key, value = (each.transpose(0, 1) for each in (query, key, value))
        scores = (query @ key.transpose(1, 2) * attention.scaling).softmax(-1)
        return attention.proj((scores @ value).transpose(0, 1).reshape(count, -1))
