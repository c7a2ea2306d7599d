"""The weights: a bare state dict, maybe dynamically quantised, as float32 tensors under transformers' names."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertForSequenceClassification

from scripts.kobert.errors import ImportRefused

WRAPPINGS = ("state_dict", "model_state_dict")
PACKED = "._packed_params._packed_params"  # (int8 weight, bias) of a dynamically quantised linear layer
BOOKKEEPING = ("._packed_params.dtype", ".scale", ".zero_point")
HEAD_WIDTH = 64  # of every published BERT


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """float32 tensors by name, int8 layers dequantised by their own scale and zero point. Raises ImportRefused."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns that such quantised tensors are a thing of the past
            held = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ImportRefused(f"{path} cannot be read: {error.strerror}.") from error
    except pickle.UnpicklingError as error:
        raise ImportRefused(
            f"{path.name} holds more than tensors, so it was not opened: {str(error).splitlines()[0]}"
            " Save it again where it was made: torch.save(model.state_dict(), …)."
        ) from error
    except Exception as error:  # a cut or foreign file: zipfile, struct, Unicode, runtime errors
        raise ImportRefused(f"{path.name} is not a file that torch.save wrote: {error}") from error
    for wrapping in WRAPPINGS:
        if isinstance(held, dict) and isinstance(held.get(wrapping), dict):
            held = held[wrapping]
    if not isinstance(held, dict) or not all(isinstance(name, str) for name in held):
        raise ImportRefused(f"{path.name} holds a {type(held).__name__}, not a state dict.")
    return _plain({name.removeprefix("module."): value for name, value in held.items()})


def _plain(held: dict[str, Any]) -> dict[str, torch.Tensor]:
    packed = [name.removesuffix(PACKED) for name in held if name.endswith(PACKED)]
    bookkeeping = {layer + suffix for layer in packed for suffix in BOOKKEEPING}
    state: dict[str, torch.Tensor] = {}
    for name, value in held.items():
        if name.endswith(PACKED):
            weight, bias = value
            state[f"{name.removesuffix(PACKED)}.weight"] = weight.dequantize()
            if bias is not None:
                state[f"{name.removesuffix(PACKED)}.bias"] = bias.detach()
        elif name not in bookkeeping and not name.endswith(".position_ids"):  # a buffer that counts from 0
            if not isinstance(value, torch.Tensor):
                raise ImportRefused(f"the weights hold {name}, a {type(value).__name__}, which no BERT classifier has.")
            state[name] = value.dequantize() if value.is_quantized else value.detach()
    return {name: tensor.to(torch.float32).contiguous() for name, tensor in state.items()}


def config_of(state: dict[str, torch.Tensor], heads: int | None = None) -> BertConfig:
    """What the shapes tell; `heads` only where they are not 64 wide. Raises ImportRefused."""
    try:
        vocabulary, hidden = state["bert.embeddings.word_embeddings.weight"].shape
        positions = state["bert.embeddings.position_embeddings.weight"].shape[0]
        types = state["bert.embeddings.token_type_embeddings.weight"].shape[0]
        intermediate = state["bert.encoder.layer.0.intermediate.dense.weight"].shape[0]
        labels = state["classifier.weight"].shape[0]
    except KeyError as error:
        names = ", ".join(sorted(state)[:3])
        raise ImportRefused(
            f"the weights have no {error.args[0]}; they begin with {names}. No KoBERT classifier."
        ) from error
    if heads is None and hidden % HEAD_WIDTH:
        raise ImportRefused(
            f"the width {hidden} is no multiple of {HEAD_WIDTH}; give the number of heads with --heads."
        )
    layers = {int(name.split(".")[3]) for name in state if name.startswith("bert.encoder.layer.")}
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=max(layers) + 1,
        num_attention_heads=heads or hidden // HEAD_WIDTH,
        intermediate_size=intermediate,
        max_position_embeddings=positions,
        type_vocab_size=types,
    )
    config.num_labels = labels
    return config


def build_model(state: dict[str, torch.Tensor], config: BertConfig) -> BertForSequenceClassification:
    """A model that holds exactly `state`, in float32. Raises ImportRefused when a weight is missing or left over."""
    model = BertForSequenceClassification(config)
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except RuntimeError as error:  # shapes
        raise ImportRefused(f"the weights do not fit a BERT of these sizes: {error}") from error
    if missing or unexpected:
        raise ImportRefused(
            f"the weights are no KoBERT classifier: missing {missing[:5] or 'nothing'}, left over"
            f" {unexpected[:5] or 'nothing'}. A missing weight would be random, so nothing was written."
        )
    return model
