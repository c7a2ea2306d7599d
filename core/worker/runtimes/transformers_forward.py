"""One pass of a causal model of transformers, whatever its `forward` takes."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch


class Forward:
    """A forward pass of the model: the scores after the last token of each row."""

    def __init__(self, model: Any, device: str) -> None:
        self.device = device
        self._model = model
        self.takes = frozenset(inspect.signature(model.forward).parameters)

    def __call__(
        self, tokens: list[list[int]], positions: list[list[Any]], ends: Sequence[int] | None = None, **more: Any
    ) -> tuple[np.ndarray, Any]:
        """`tokens` and `positions` of (rows, new). Returns float32 (rows, vocabulary) and all that the model gave.

        `ends`: the column of each row's last token, where that is not the last column for all.
        """
        if "position_ids" in self.takes:
            more["position_ids"] = self._placed(torch.tensor(positions, device=self.device))
        last = len(tokens[0]) - 1
        columns = sorted(set(ends)) if ends else [last]  # whose scores are computed
        if "logits_to_keep" in self.takes:
            more["logits_to_keep"] = torch.tensor(columns, device=self.device) if ends else 1
        else:
            columns = list(range(last + 1))
        given = {name: value for name, value in more.items() if value is not None}
        outputs = self._model(**self._inputs(tokens), use_cache=True, **given)
        at = [columns.index(end) for end in ends or [last] * len(tokens)]
        return outputs.logits[torch.arange(len(at)), at].float().cpu().numpy(), outputs

    def positions(self, slot: int, start: int, count: int) -> list[Any]:
        """Of `count` tokens from the index `start` on."""
        return list(range(start, start + count))

    def _inputs(self, tokens: list[list[int]]) -> dict[str, torch.Tensor]:
        return {"input_ids": torch.tensor(tokens, device=self.device)}

    def _placed(self, positions: torch.Tensor) -> torch.Tensor:
        return positions
