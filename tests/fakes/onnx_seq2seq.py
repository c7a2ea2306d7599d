"""Tiny encoder-decoders as ONNX graphs, named and laid out as optimum publishes them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import transformers
from onnx import TensorProto, helper, numpy_helper

from tests.fakes.decoders import write_decoder

PARTS = ("decoder.key", "decoder.value", "encoder.key", "encoder.value")


def write_onnx_seq2seq(directory: Path, architecture: str, *, is_merged: bool = True, **config: Any) -> Path:
    """A repository with graphs in `onnx/`, and its weights as safetensors, for a reference."""
    write_decoder(directory, architecture, **config)
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(directory, attn_implementation="eager")
    write_halves(directory / "onnx", model, is_merged=is_merged)
    return directory


def write_halves(folder: Path, model: Any, *, is_merged: bool) -> None:
    """encoder_model.onnx, and a merged decoder or one for the first pass and one for later ones."""
    folder.mkdir(exist_ok=True)
    model = model.eval()
    layers, width = model.config.num_hidden_layers, model.config.d_model
    ids, mask = torch.arange(5, 9).expand(2, 4), torch.ones(2, 4, dtype=torch.int64)
    hidden = torch.randn(2, 4, width, dtype=model.dtype)
    _export(
        folder / "encoder_model.onnx",
        _Encoder(model),
        {"input_ids": ids, "attention_mask": mask},
        ["last_hidden_state"],
    )
    said = {"encoder_attention_mask": mask, "input_ids": ids[:, :3], "encoder_hidden_states": hidden}
    everything = [f"{layer}.{part}" for layer in range(layers) for part in PARTS]
    own = [name for name in everything if ".decoder." in name]
    first = folder / "decoder_model.onnx"
    _export(first, _First(model), said, ["logits", *(f"present.{name}" for name in everything)])
    with torch.no_grad():
        _, *pasts = _First(model)(*said.values())
    later = folder / "decoder_with_past_model.onnx"
    again = {"encoder_attention_mask": mask, "input_ids": ids[:, :1]}
    again |= {f"past_key_values.{name}": past for name, past in zip(everything, pasts, strict=True)}
    _export(later, _Later(model), again, ["logits", *(f"present.{name}" for name in own)])
    if is_merged:
        _merge(first, later, folder / "decoder_model_merged.onnx")
        first.unlink()
        later.unlink()


def _export(path: Path, module: torch.nn.Module, inputs: dict[str, torch.Tensor], outputs: Sequence[str]) -> None:
    def axes(name: str) -> dict[int, str]:
        if name.startswith(("past", "present")):
            return {0: "batch", 2: "columns of " + name}
        return {0: "batch", 1: "tokens" if name in ("input_ids", "logits") else "read"}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(), tuple(inputs.values()), str(path), input_names=list(inputs), output_names=list(outputs),
            dynamic_axes={name: axes(name) for name in (*inputs, *outputs)}, opset_version=17, dynamo=False,
        )  # fmt: skip


def _merge(first: Path, later: Path, target: Path) -> None:
    """Both as branches that `use_cache_branch` chooses. The later gives keys and values of the encoder with no rows,
    as optimum's merged decoders do."""
    models = {"first_": onnx.load(first), "later_": onnx.load(later)}
    inputs = {value.name: value for model in models.values() for value in model.graph.input}
    outputs = {value.name: value for value in models["first_"].graph.output}
    branches = {}
    for prefix, model in models.items():
        taken = [value.name for value in model.graph.input]
        given = {value.name for value in model.graph.output}
        branch = onnx.compose.add_prefix(model, prefix).graph
        for name in taken:
            branch.node.insert(0, helper.make_node("Identity", [name], [prefix + name]))
        del branch.input[:]
        found = {value.name.removeprefix(prefix): value for value in branch.output}
        del branch.output[:]
        for name, value in outputs.items():
            if name not in given:
                heads, size = (value.type.tensor_type.shape.dim[axis].dim_value for axis in (1, 3))
                zeros = numpy_helper.from_array(np.zeros((0, heads, 1, size), np.float32), prefix + name)
                branch.initializer.append(zeros)
                found[name] = helper.make_tensor_value_info(prefix + name, TensorProto.FLOAT, [0, heads, 1, size])
            branch.output.append(found[name])
        branches[prefix] = branch
    choice = helper.make_tensor_value_info("use_cache_branch", TensorProto.BOOL, [1])
    node = helper.make_node(
        "If", ["use_cache_branch"], list(outputs), then_branch=branches["later_"], else_branch=branches["first_"]
    )
    graph = helper.make_graph([node], "merged", [*inputs.values(), choice], list(outputs.values()))
    model = models["first_"]
    onnx.save(helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version), target)


class _Encoder(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder = model.get_encoder()

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        return hidden


class _First(torch.nn.Module):
    """The decoder before anything is written."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, mask: torch.Tensor, ids: torch.Tensor, hidden: torch.Tensor) -> tuple[torch.Tensor, ...]:
        cache = transformers.EncoderDecoderCache(transformers.DynamicCache(), transformers.DynamicCache())
        logits = _logits(self.model, mask, ids, hidden, cache)
        own, cross = cache.self_attention_cache.layers, cache.cross_attention_cache.layers
        return (
            logits,
            *(
                tensor
                for each, other in zip(own, cross, strict=True)
                for tensor in (each.keys, each.values, other.keys, other.values)
            ),
        )


class _Later(torch.nn.Module):
    """The decoder after something was written. What the encoder said is in its keys and values."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, mask: torch.Tensor, ids: torch.Tensor, *past: torch.Tensor) -> tuple[torch.Tensor, ...]:
        own, cross = transformers.DynamicCache(), transformers.DynamicCache()
        for layer in range(len(past) // 4):
            own.update(past[4 * layer], past[4 * layer + 1], layer)
            cross.update(past[4 * layer + 2], past[4 * layer + 3], layer)
        cache = transformers.EncoderDecoderCache(own, cross)
        hidden = torch.zeros(*mask.shape, self.model.config.d_model, dtype=past[0].dtype)
        logits = _logits(self.model, mask, ids, hidden, cache)
        return (logits, *(tensor for each in own.layers for tensor in (each.keys, each.values)))


def _logits(model: Any, mask: torch.Tensor, ids: torch.Tensor, hidden: torch.Tensor, cache: Any) -> torch.Tensor:
    outputs = model(
        encoder_outputs=transformers.modeling_outputs.BaseModelOutput(hidden),
        attention_mask=mask,
        decoder_input_ids=ids,
        past_key_values=cache,
        use_cache=True,
    )
    logits: torch.Tensor = outputs.logits
    return logits
