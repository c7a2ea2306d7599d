"""Answers of a model while they are written, as the page and its clients are told of them."""

from __future__ import annotations

import time
from typing import Any

from core.types import Begun, Delta, Generated, TokenScore


class Written:
    """Takes in what a generation says; `plain` is how far it is. Times are in milliseconds."""

    def __init__(self, answers: int = 1) -> None:
        self._texts: list[list[str]] = [[] for _ in range(answers)]
        self._tokens = [0] * answers
        self._finish: list[str | None] = [None] * answers
        self._scores: list[list[TokenScore]] = [[] for _ in range(answers)]
        self._begun: Begun | None = None
        self._generated: Generated | None = None
        self._first = self._last = 0.0  # monotonic seconds of the first and of the newest token
        self._started = time.monotonic()

    def take(self, item: Begun | Delta | Generated) -> None:
        if isinstance(item, Begun):
            self._begun = item
        elif isinstance(item, Generated):
            self._generated = item
        else:
            self._last = time.monotonic()
            self._first = self._first or self._last
            self._texts[item.index].append(item.text)
            self._tokens[item.index] += item.tokens
            self._finish[item.index] = item.finish_reason
            self._scores[item.index].extend(item.logprobs)

    @property
    def is_done(self) -> bool:
        return self._generated is not None

    def texts(self) -> list[str]:
        for parts in self._texts:  # joined once, not at every look
            parts[:] = ["".join(parts)]
        return [parts[0] for parts in self._texts]

    def plain(self) -> dict[str, Any]:
        begun = self._begun
        return {
            "model": begun.model if begun else None,
            "revision": begun.revision if begun else None,
            "result": self.texts(),
            "tokens": list(self._tokens),
            "finish_reasons": list(self._finish),
            "prompt_tokens": begun.prompt_tokens if begun else 0,
            "context_length": begun.context_length if begun else None,
            **self._times(),
        }

    def scores(self) -> list[list[dict[str, Any]]]:
        """Of each answer, its tokens with their likeliest alternatives; empty unless they were asked for."""
        return [[_plain_score(score) for score in scores] for scores in self._scores]

    def _times(self) -> dict[str, Any]:
        """`tokens_per_s` counts what came after the first token, over all answers."""
        since_first = (self._last - self._first) * 1000
        queue: float | None = None
        first: float | None = (self._first - self._started) * 1000 if self._first else None
        total = (time.monotonic() - self._started) * 1000
        if (done := self._generated) is not None:
            queue, first, total = done.queue_ms, done.first_token_ms, done.total_ms
            since_first = total - first
        later = sum(self._tokens) - len(self._tokens)
        return {
            "queue_ms": None if queue is None else round(queue, 3),
            "first_token_ms": None if first is None else round(first, 3),
            "total_ms": round(total, 3),
            "tokens_per_s": round(later / since_first * 1000, 2) if later > 0 and since_first > 0 else None,
        }


def _plain_score(score: TokenScore) -> dict[str, Any]:
    shown = [{"token": each["token"], "logprob": each["logprob"]} for each in score["top"]]
    return {"token": score["token"], "logprob": score["logprob"], "top": shown}
