"""Tells the vision starter's attention where to look while it trains.

In the first layer an answer looks at the words that name what is asked about, a list also at the names that it told
last; in the second at the parts of the picture that are meant, a list at one thing after another. Two heads of each are
told so. A model of this size takes long to find that out by itself.
After Liu et al., 2016, "Neural Machine Translation with Supervised Attention".
"""

from __future__ import annotations

import threading
from typing import Any

import torch

LAYERS = (0, 1)
_HEADS = 2  # that share keys


class SupervisedAttention:
    """Keeps the attention of the first layers while it is entered, on each thread its own."""

    def __init__(self, text_model: Any) -> None:
        self._model, self._before = text_model, ""
        self._hooks: list[Any] = []

    def __enter__(self) -> SupervisedAttention:
        self._before, self._kept = self._model.config._attn_implementation, threading.local()
        self._model.set_attn_implementation("eager")  # the only one that tells its attention
        for layer in LAYERS:

            def keep(module: Any, args: Any, output: Any, layer: int = layer) -> None:
                self._kept.__dict__[layer] = output[1]

            self._hooks.append(self._model.layers[layer].self_attn.register_forward_hook(keep))
        return self

    def __exit__(self, *error: object) -> None:
        self._model.set_attn_implementation(self._before)
        while self._hooks:
            self._hooks.pop().remove()
        del self._kept

    def loss(self, wanted: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of the last attention against `wanted` (layers, rows, length, length).

        A place's wanted attention sums to 1, or to 0 where any will do.
        """
        losses = []
        for layer in LAYERS:
            places = wanted[layer].sum(-1) > 0
            attention = self._kept.__dict__[layer][:, :_HEADS].transpose(1, 2)[places]  # (places, heads, length)
            missed = -(wanted[layer][places][:, None] * (attention + 1e-6).log()).sum(-1)
            losses.append(missed.sum() / missed.numel() if missed.numel() else missed.sum())
        return torch.stack(losses).sum()
