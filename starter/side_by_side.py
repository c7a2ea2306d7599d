"""Trains on several batches at once, each on a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch


class Averaged(torch.autograd.Function):
    """A loss whose gradients are known already: the mean of those of several batches."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, grads: list[torch.Tensor], *weights: torch.Tensor) -> torch.Tensor:
        ctx.grads = grads
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return None, None, *(outer[0] * grad for grad in ctx.grads)


class SideBySide:
    """Batches on a thread each: operations as small as these gain more from that than from threads within them."""

    def __init__(self, module: torch.nn.Module, loss: Callable[[Any], torch.Tensor], threads: int) -> None:
        self._weights, self._loss = list(module.parameters()), loss
        torch.set_num_threads(1)
        self._pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))

    def __call__(self, group: Any) -> torch.Tensor:
        """Mean loss of a group of batches."""
        parts = list(self._pool.map(self._one, group))
        value = torch.stack([value for value, _ in parts]).mean()
        grads = [torch.stack(each).mean(0) for each in zip(*(grads for _, grads in parts), strict=True)]
        return Averaged.apply(value, grads, *self._weights)  # type: ignore[no-untyped-call, no-any-return]

    def _one(self, batch: Any) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        loss = self._loss(batch)
        return loss.detach(), torch.autograd.grad(loss, self._weights)


def pairs(batches: Iterator[Any]) -> Iterator[list[Any]]:
    """Two by two whatever the number of threads, so that this does not change what is learnt."""
    while True:
        yield [next(batches), next(batches)]
