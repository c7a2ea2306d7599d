"""Rows of different lengths through an encoder's layers with no padding between them, on a CPU.

A row that waits should not have to wait for others of its length. Embeddings are made as ever, (rows, longest,
width); a hook then lays the tokens of all rows end to end, (1, tokens, width), the layers run on those alone,
attention within each row, and a second hook puts the result back into rows. So every head and pooling stays as
transformers wrote it, and the numbers are the same; only the arithmetic on padding is gone.

On a GPU padding costs less than the many small attention calls would, so it is not used there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

# model types whose layers mix tokens in attention alone, and there by transformers' attention interface
MODEL_TYPES = frozenset({"bert", "camembert", "electra", "roberta", "xlm-roberta"})
_NAME = "berth_unpadded"


class Unpadding:
    """Hooks in one model. Used by its model thread alone."""

    current: Unpadding | None = None  # the one inside `rows`, for attention functions, which are global

    def __init__(self, model: Any) -> None:
        self._lengths: list[int] = []
        self._kept: torch.Tensor | None = None  # (rows, longest), true where there is a token
        model.set_attn_implementation(_NAME)
        encoder = model.base_model.encoder
        encoder.register_forward_pre_hook(self._join, with_kwargs=True)
        encoder.register_forward_hook(self._split)

    @contextlib.contextmanager
    def rows(self, lengths: list[int]) -> Iterator[None]:
        """Within the block the model is given rows of these lengths, in tokens, padded on the right."""
        Unpadding.current = self
        self._lengths = lengths
        if min(lengths) < max(lengths):
            self._kept = torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)
        try:
            yield
        finally:
            Unpadding.current = None
            self._lengths, self._kept = [], None

    def _join(self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        if self._kept is None:
            return None
        return (args[0][self._kept].unsqueeze(0), *args[1:]), kwargs

    def _split(self, _: Any, args: tuple[Any, ...], output: Any) -> Any:
        if self._kept is None:
            return None
        joined = output.last_hidden_state
        rows = joined.new_zeros((*self._kept.shape, joined.shape[-1]))
        rows[self._kept] = joined[0]
        output.last_hidden_state = rows
        return output

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float) -> torch.Tensor:
        """Each row to itself: (1, heads, tokens, size) to (1, tokens, heads, size).

        Rows of one length come as they are, (rows, heads, length, size), and have nothing to mask.
        """
        if self._kept is None:
            return scaled_dot_product_attention(query, key, value, scale=scaling).transpose(1, 2)
        rows = zip(*(each.split(self._lengths, dim=2) for each in (query, key, value)), strict=True)
        found = [scaled_dot_product_attention(q, k, v, scale=scaling) for q, k, v in rows]
        return torch.cat(found, dim=2).transpose(1, 2)


def unpadding_of(model: Any, device: str) -> Unpadding | None:
    """The hooks for `model`, None where it has to be padded."""
    if device != "cpu" or model.config.model_type not in MODEL_TYPES or model.config.is_decoder:
        return None
    return Unpadding(model)


def _attention(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any, **kwargs: Any
) -> tuple[torch.Tensor, None]:
    """As transformers' attention interface has it."""
    current = Unpadding.current
    if current is None:
        return sdpa_attention_forward(module, query, key, value, mask, **kwargs)
    return current.attend(query, key, value, kwargs["scaling"]), None


def _mask(*args: Any, **kwargs: Any) -> torch.Tensor | None:
    return sdpa_mask(*args, **kwargs) if Unpadding.current is None else None


AttentionInterface.register(_NAME, _attention)
AttentionMaskInterface.register(_NAME, _mask)
