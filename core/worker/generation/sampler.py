"""Drawing the next token from the model's scores: the same parameters, order and seed on every runtime."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from core.errors import CorruptModel
from core.types import Sampling

_LIKELY = 1024  # tokens among which a top_p set is looked for before the whole vocabulary is sorted


@dataclass(frozen=True, slots=True)
class Drawn:
    """A token, and natural logarithms of probabilities before any parameter was applied."""

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()  # token, logprob; likeliest first


class Sampler:
    """One answer's. Its draws depend on its own scores and seed alone, whoever is generated beside it."""

    def __init__(self, sampling: Sampling, index: int, context: Iterable[int], name: str) -> None:
        self._sampling = sampling
        self._name = name
        seed = None if sampling.seed is None else sampling.seed + index
        self._random = np.random.Generator(np.random.Philox(seed))
        self._seen = set(context) if sampling.repetition_penalty != 1 else set()
        self._counts: dict[int, int] = {}  # token → times it was drawn

    def draw(self, logits: np.ndarray) -> Drawn:
        """The next token for float32 scores (vocabulary,). Raises CorruptModel when they are no numbers."""
        best = logits.max()
        if not np.isfinite(best):
            raise CorruptModel(
                f"{self._name} gives no numbers for the next token (NaN or infinity): its weights are damaged, or do "
                "not fit into this precision. Load it again with dtype float32, or from another source."
            )
        scores = self._penalised(logits)
        if self._sampling.temperature == 0:
            token = int(scores.argmax())
        else:
            tokens, chances = probabilities(scores, self._sampling)
            at = np.searchsorted(np.cumsum(chances), self._random.random() * chances.sum(), side="right")
            at = min(int(at), len(chances) - 1)
            token = at if tokens is None else int(tokens[at])
        self._remember(token)
        return self._told(logits, float(best), token)

    def _remember(self, token: int) -> None:
        if self._sampling.repetition_penalty != 1:
            self._seen.add(token)
        if self._sampling.presence_penalty or self._sampling.frequency_penalty:
            self._counts[token] = self._counts.get(token, 0) + 1

    def _penalised(self, logits: np.ndarray) -> np.ndarray:
        """A copy where a penalty applies."""
        sampling = self._sampling
        if not self._seen and not self._counts:
            return logits
        scores = logits.copy()
        if self._seen:
            seen = np.fromiter((token for token in self._seen if token < len(scores)), np.intp)
            theirs, penalty = scores[seen], np.float32(sampling.repetition_penalty)
            scores[seen] = np.where(theirs < 0, theirs * penalty, theirs / penalty)
        if self._counts:
            tokens = np.fromiter(self._counts, np.intp)
            counts = np.fromiter(self._counts.values(), np.float32)
            scores[tokens] -= sampling.presence_penalty + sampling.frequency_penalty * counts
        return scores

    def _told(self, logits: np.ndarray, best: float, token: int) -> Drawn:
        count = self._sampling.logprobs
        if count is None:
            return Drawn(token)
        total = best + float(np.log(np.exp(logits.astype(np.float64) - best).sum()))
        count = min(count, len(logits))
        top = np.argpartition(logits, -count)[-count:] if count else np.empty(0, np.intp)
        top = top[np.argsort(-logits[top], kind="stable")]
        return Drawn(
            token, float(logits[token]) - total, tuple((int(each), float(logits[each]) - total) for each in top)
        )


def probabilities(scores: np.ndarray, sampling: Sampling) -> tuple[np.ndarray | None, np.ndarray]:
    """The tokens that may be drawn, ascending (None: all of the vocabulary), and their weights, float64.

    The weights of those that are left need not sum to 1.
    """
    tokens: np.ndarray | None = None
    if 0 < sampling.top_k < len(scores):
        tokens = np.sort(np.argpartition(scores, -sampling.top_k)[-sampling.top_k :])
        scores = scores[tokens]
    scaled = scores.astype(np.float64) / sampling.temperature
    weights = np.exp(scaled - scaled.max())
    weights /= weights.sum()
    if sampling.top_p < 1:
        kept = _nucleus(weights, sampling.top_p)
        tokens, weights = kept if tokens is None else tokens[kept], weights[kept]
    if sampling.min_p > 0:
        kept = np.flatnonzero(weights >= sampling.min_p * weights.max())
        tokens, weights = kept if tokens is None else tokens[kept], weights[kept]
    return tokens, weights


def _nucleus(weights: np.ndarray, top_p: float) -> np.ndarray:
    """Ascending positions of the fewest weights, likeliest first, that reach `top_p` together; always one.

    Holtzman et al. 2019, "The Curious Case of Neural Text Degeneration", section 3.1.
    """
    likely = np.arange(len(weights))
    if len(weights) > _LIKELY:
        few = np.argpartition(weights, -_LIKELY)[-_LIKELY:]
        if weights[few].sum() >= top_p:
            likely = np.sort(few)
    order = likely[np.argsort(-weights[likely], kind="stable")]
    before = np.cumsum(weights[order]) - weights[order]
    return np.sort(order[: max(1, int(np.searchsorted(before, top_p, side="left")))])
