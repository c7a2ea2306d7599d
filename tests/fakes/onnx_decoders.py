"""Tiny decoders as ONNX graphs with past keys and values, laid out as optimum lays them out for the Hub."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import transformers
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from tests.fakes.decoders import write_decoder

_BLOCK = 32  # weights that share a scale


def write_onnx_decoder(directory: Path, architecture: str, **graph: Any) -> Path:
    """A repository with `onnx/model.onnx` and its weights as safetensors, for a reference; see `write_graph`."""
    write_decoder(directory, architecture)
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, attn_implementation="eager")
    write_graph(directory / "onnx" / "model.onnx", model, **graph)
    return directory


def write_graph(
    path: Path, model: Any, *, positions: bool = True, causal: bool = True, dtype: torch.dtype = torch.float32
) -> None:
    """Exports `model` with past keys and values to `path`.

    `positions`: whether it takes position_ids. Not `causal`: several tokens at once see one another, as in exports
    that were made for single tokens.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    config = model.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    shape = (2, heads, 4, config.hidden_size // config.num_attention_heads)
    caches = [f"{layer}.{part}" for layer in range(config.num_hidden_layers) for part in ("key", "value")]
    ids = torch.arange(10, 16).reshape(2, 3)
    inputs = {"input_ids": ids, "attention_mask": torch.ones(2, 7, dtype=torch.int64)}
    if positions:
        inputs["position_ids"] = torch.arange(4, 7).expand(2, 3)
    inputs |= {f"past_key_values.{name}": torch.randn(shape, dtype=dtype) for name in caches}
    axes = {"input_ids": {0: "batch_size", 1: "sequence_length"}, "logits": {0: "batch_size", 1: "sequence_length"}}
    axes |= {"attention_mask": {0: "batch_size", 1: "total_length"}, "position_ids": axes["input_ids"]}
    axes |= {f"past_key_values.{name}": {0: "batch_size", 2: "past_length"} for name in caches}
    axes |= {f"present.{name}": {0: "batch_size", 2: "total_length"} for name in caches}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _WithPast(model.to(dtype), positions, causal).eval(),
            tuple(inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=["logits", *(f"present.{name}" for name in caches)],
            dynamic_axes={name: axis for name, axis in axes.items() if positions or name != "position_ids"},
            opset_version=17,
            dynamo=False,
        )


def write_data(path: Path, data: str) -> None:
    """Moves the tensors of the graph at `path` to the file `data` beside it."""
    onnx.save(
        onnx.load(path), path, save_as_external_data=True, all_tensors_to_one_file=True, location=data, size_threshold=0
    )


def quantize(path: Path, target: Path) -> None:
    """Weights of int8, activations quantised as they come: `model_quantized.onnx` of the Hub."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantize_dynamic(path, target, weight_type=QuantType.QInt8)


def merge(first: Path, later: Path, target: Path) -> None:
    """Two graphs as the branches of a merged decoder, which `use_cache_branch` chooses: `later` for those with a past.

    As optimum did it, but for the weights, which each branch has here for itself. The first takes no notice of the
    past, whatever it is given.
    """
    models = {"later_": onnx.load(later), "first_": onnx.load(first)}
    branches = []
    for prefix, model in models.items():
        branch = onnx.compose.add_prefix(model, prefix).graph
        for value in model.graph.input:
            source = value.name
            if prefix == "first_" and source.startswith("past_key_values"):
                source = f"{prefix}{value.name}_none"
                branch.node.insert(0, _no_columns(value.name, source, branch))
            at = 0 if source == value.name else 1
            branch.node.insert(at, helper.make_node("Identity", [source], [prefix + value.name]))
        del branch.input[:]
        branches.append(branch)
    model = models["later_"]
    outputs = list(model.graph.output)
    choice = helper.make_tensor_value_info("use_cache_branch", TensorProto.BOOL, [1])
    node = helper.make_node(
        "If", ["use_cache_branch"], [each.name for each in outputs], then_branch=branches[0], else_branch=branches[1]
    )
    graph = helper.make_graph([node], "merged", [*model.graph.input, choice], outputs)
    onnx.save(helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version), target)


def _no_columns(name: str, target: str, branch: onnx.GraphProto) -> onnx.NodeProto:
    """Nothing of a past, as the input of a branch."""
    for constant, value in ((f"{target}_end", 0), (f"{target}_axis", 2)):
        branch.initializer.append(helper.make_tensor(constant, TensorProto.INT64, [1], [value]))
    return helper.make_node("Slice", [name, f"{target}_end", f"{target}_end", f"{target}_axis"], [target])


def write_fused(path: Path, model: Any, *, q4: bool = False) -> None:
    """A LLaMA with GroupQueryAttention, as the model builder of onnxruntime-genai writes it.

    How far each row has been read is counted from the attention mask, so there are no position_ids, and rows of
    different lengths could only be padded on the right. `q4`: the weights of its layers in 4 bits, see `four_bits`.
    """
    config = model.config
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    head_dim = config.hidden_size // heads
    fused = _Fused(model, q4)
    fused.table("one", np.array([1], np.int64))
    fused.table("axis", np.array(1, np.int64))
    angles = torch.outer(torch.arange(config.max_position_embeddings).float(), model.model.rotary_emb.inv_freq)
    fused.table("cos", angles.cos().numpy())
    fused.table("sin", angles.sin().numpy())
    read = fused.node("ReduceSum", ["attention_mask", "one"], keepdims=0)
    last = fused.node("Cast", [fused.node("Sub", [read, "one"])], to=TensorProto.INT32)
    shape = fused.node("Shape", ["attention_mask"])
    total = fused.node("Cast", [fused.node("Gather", [shape, "axis"])], to=TensorProto.INT32)
    fused.weight("model.embed_tokens")
    hidden = fused.node("Gather", ["model.embed_tokens", "input_ids"])
    for index in range(config.num_hidden_layers):
        layer = f"model.layers.{index}."
        normal = fused.norm(hidden, layer + "input_layernorm")
        parts = [fused.linear(normal, f"{layer}self_attn.{name}_proj") for name in "qkv"]
        pasts = [f"past_key_values.{index}.{name}" for name in ("key", "value")]
        attended = fused.node(
            "GroupQueryAttention", [*parts, *pasts, last, total, "cos", "sin"],
            more=[f"present.{index}.key", f"present.{index}.value"], domain="com.microsoft",
            num_heads=heads, kv_num_heads=kv_heads, do_rotary=1,
        )  # fmt: skip
        hidden = fused.node("Add", [hidden, fused.linear(attended, layer + "self_attn.o_proj")])
        normal = fused.norm(hidden, layer + "post_attention_layernorm")
        gate = fused.linear(normal, layer + "mlp.gate_proj")
        gate = fused.node("Mul", [gate, fused.node("Sigmoid", [gate])])
        up = fused.node("Mul", [gate, fused.linear(normal, layer + "mlp.up_proj")])
        hidden = fused.node("Add", [hidden, fused.linear(up, layer + "mlp.down_proj")])
    fused.nodes.append(
        helper.make_node("MatMul", [fused.norm(hidden, "model.norm"), fused.weight("lm_head")], ["logits"])
    )
    fused.save(path, (kv_heads, head_dim))


def four_bits(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(out, in) as MatMulNBits takes it: (out, blocks, bytes), the low half of a byte first, and (out, blocks)."""
    blocks = array.reshape(len(array), -1, _BLOCK)
    scales = (np.abs(blocks).max(axis=-1) / 7).astype(np.float32)
    steps = (np.round(blocks / scales[..., None]) + 8).astype(np.uint8)  # 8 is zero
    return steps[..., ::2] | (steps[..., 1::2] << 4), scales


def from_four_bits(packed: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """What `four_bits` made of (out, in)."""
    steps = np.stack([packed & 15, packed >> 4], axis=-1).reshape(*scales.shape, _BLOCK)
    return ((steps.astype(np.float32) - 8) * scales[..., None]).reshape(len(packed), -1)


class _Fused:
    """Nodes and tensors of a graph, each node's output named after its place."""

    def __init__(self, model: Any, q4: bool) -> None:
        self.config = model.config
        self.q4 = q4
        self.weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []

    def table(self, name: str, array: Any) -> str:
        self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def weight(self, name: str) -> str:
        array = self.weights[f"{name}.weight"]
        return self.table(name, array if array.ndim == 1 or "embed" in name else array.T)

    def node(self, kind: str, inputs: list[str], more: Any = (), **attributes: Any) -> str:
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name, *more], **attributes))
        return name

    def linear(self, value: str, name: str) -> str:
        if self.q4:
            array = self.weights[f"{name}.weight"]
            packed, scales = four_bits(array)
            inputs = [value, self.table(f"{name}_packed", packed), self.table(f"{name}_scales", scales)]
            sizes = {"N": array.shape[0], "K": array.shape[1], "bits": 4, "block_size": _BLOCK}
            return self.node("MatMulNBits", inputs, domain="com.microsoft", **sizes)
        return self.node("MatMul", [value, self.weight(name)])

    def norm(self, value: str, name: str) -> str:
        epsilon = self.config.rms_norm_eps
        return self.node("SimplifiedLayerNormalization", [value, self.weight(name)], axis=-1, epsilon=epsilon)

    def save(self, path: Path, size: tuple[int, int]) -> None:
        def value(name: str, kind: int, *shape: Any) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(name, kind, shape)

        caches = [f"{index}.{part}" for index in range(self.config.num_hidden_layers) for part in ("key", "value")]
        kind, heads, width = TensorProto.FLOAT, *size
        inputs = [value("input_ids", TensorProto.INT64, "rows", "tokens")]
        inputs += [value("attention_mask", TensorProto.INT64, "rows", "total")]
        inputs += [value(f"past_key_values.{name}", kind, "rows", heads, "past", width) for name in caches]
        outputs = [value("logits", kind, "rows", "tokens", self.config.vocab_size)]
        outputs += [value(f"present.{name}", kind, "rows", heads, "total", width) for name in caches]
        graph = helper.make_graph(self.nodes, "fused", inputs, outputs, self.tensors)
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)


class _WithPast(torch.nn.Module):
    """A decoder as a function of tensors."""

    def __init__(self, model: Any, positions: bool, causal: bool) -> None:
        super().__init__()
        self.model = model
        self.positions = positions
        self.causal = causal

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, *more: torch.Tensor) -> tuple[torch.Tensor, ...]:
        past = more[1:] if self.positions else more
        cache = transformers.DynamicCache()
        for layer in range(len(past) // 2):
            cache.update(past[2 * layer], past[2 * layer + 1], layer)
        outputs = self.model(
            input_ids=ids,
            attention_mask=mask if self.causal else ((1 - mask) * -1e9)[:, None, None, :],
            position_ids=more[0] if self.positions else None,
            past_key_values=cache,
        )
        return (outputs.logits, *(tensor for layer in cache.layers for tensor in (layer.keys, layer.values)))
