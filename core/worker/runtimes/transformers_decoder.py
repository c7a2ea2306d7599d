"""Causal models of the transformers library, in torch, several answers at once."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from transformers import AutoModelForCausalLM
from transformers.cache_utils import get_layer_types_and_kwargs

from core.types import ModelInfo, Task
from core.types import Runtime as RuntimeName
from core.worker.devices import guarded
from core.worker.generation.base import Chunk, Vision
from core.worker.generation.codec import HFCodec
from core.worker.runtimes.base import LoadRequest, Progress
from core.worker.runtimes.generator_loading import cached_tokens, generation_length, load_generator
from core.worker.runtimes.keyvalues import Batch, KeyValues

PREFILL_TOKENS = {"cpu": 256, "cuda": 2048}  # of prompts in one step: what the running answers wait for
# A pass more costs as much as so many tokens: LLaMA 135M in fp32 on 2 cores, some 45 ms a pass and 2 ms a token.
PASS_TOKENS = 16
_TASKS = (Task.TEXT_GENERATION, Task.IMAGE_TEXT_TO_TEXT)
_PLAIN = {"full_attention", "sliding_attention"}  # layers that keep one key and one value for each token


class TransformersDecoder:
    """See the protocol `Generator`."""

    is_encoder_decoder = False
    vision: Vision | None = None

    def __init__(
        self, request: LoadRequest, model: Any, codec: HFCodec, device: str, forward: Forward | None = None
    ) -> None:
        self.name = request.name
        self.codec = codec
        self.max_sequences = request.max_sequences
        self.prefill_tokens = PREFILL_TOKENS[device.partition(":")[0]]
        context = generation_length(request, model.config)
        self.max_cached_tokens = cached_tokens(request, model, context, device)
        self.info = ModelInfo(
            tasks=tuple(task for task in request.tasks if task in _TASKS),
            runtime=RuntimeName.TRANSFORMERS,
            device="+".join(request.layers) if request.layers else device,
            dtype=str(model.dtype).removeprefix("torch."),
            model_type=model.config.model_type,
            context_length=context,
            parameters=model.num_parameters(),
            has_chat_template=codec.has_template,
            max_sequences=request.max_sequences,
        )
        forward = forward or Forward(model, device)
        self._slots: _Slots = Together(forward, context) if keeps_keys_and_values(model) else OneByOne(forward)
        self._device = device

    def begin(self, slot: int, prompt: Sequence[int]) -> list[int]:
        return list(prompt)

    def step(self, chunks: Sequence[Chunk]) -> list[np.ndarray | None]:
        """See `Generator`."""
        doing = f"{self.name} was writing {len(chunks)} answers"
        with torch.inference_mode():
            return guarded(lambda: self._slots.step(chunks), self._device, doing)

    def trim(self, slot: int, length: int) -> int:
        doing = f"{self.name} was making room"
        with torch.inference_mode():
            return guarded(lambda: self._slots.trim(slot, length), self._device, doing)


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


class _Slots(Protocol):
    def step(self, chunks: Sequence[Chunk]) -> list[np.ndarray | None]: ...

    def trim(self, slot: int, length: int) -> int: ...


class Together:
    """Answers that are being written go through the model in one batch, prompts that begin in others of like length.

    A prompt that goes on is read by itself. A slot is in the batch, or it is parked: read so far, or waiting for its
    next turn.
    """

    def __init__(self, forward: Forward, limit: int) -> None:
        self._forward = forward
        self._parked: dict[int, KeyValues] = {}
        self._batch = Batch(limit)
        self._limit = limit

    def step(self, chunks: Sequence[Chunk]) -> list[np.ndarray | None]:
        written = {chunk.slot: chunk for chunk in chunks if len(chunk.tokens) == 1 and chunk.start}
        self._arrange(written)
        scores: dict[int, np.ndarray] = {}
        begun: dict[int, KeyValues] = {}
        read: list[tuple[KeyValues, int]] = []
        for group in of_like_length([chunk for chunk in chunks if not chunk.start]):
            begun |= self._begin(group, scores)
        for chunk in chunks:
            if chunk.start and chunk.slot not in written:
                cache, scores[chunk.slot] = self._read(chunk)
                read.append((cache, len(chunk.tokens)))
        if written:
            scores |= self._write(written)
            self._batch.cache.commit(1)
        self._parked |= begun  # nothing fails any more
        for cache, count in read:
            cache.commit(count)
        return [scores[chunk.slot] if chunk.wants_logits else None for chunk in chunks]

    def trim(self, slot: int, length: int) -> int:
        if slot in self._batch.slots:
            parked = self._batch.leave(slot, keep=length > 0)
            if parked is not None:
                self._parked[slot] = parked
        if length == 0:
            self._parked.pop(slot, None)
        elif slot in self._parked:
            self._parked[slot].length = min(length, self._parked[slot].length)
        return self._parked[slot].length if slot in self._parked else 0

    def _arrange(self, written: dict[int, Chunk]) -> None:
        """The batch holds exactly the slots that are being written."""
        for slot in [slot for slot in self._batch.slots if slot not in written]:
            parked = self._batch.leave(slot, keep=True)
            assert parked is not None
            self._parked[slot] = parked
        for slot in written:
            if slot not in self._batch.slots:
                self._batch.join(slot, self._parked[slot])
                del self._parked[slot]  # only now: there may be no memory to join

    def _begin(self, chunks: list[Chunk], scores: dict[int, np.ndarray]) -> dict[int, KeyValues]:
        """Reads them side by side from the first column on. What stands behind a shorter one is seen by no token of
        it, so that no mask is needed."""
        length = max(len(chunk.tokens) for chunk in chunks)
        cache = KeyValues(len(chunks))
        cache.reserve(len(chunks), length)
        tokens = [[*chunk.tokens, *[chunk.tokens[-1]] * (length - len(chunk.tokens))] for chunk in chunks]
        ends = [len(chunk.tokens) - 1 for chunk in chunks]
        positions = [self._forward.positions(chunk.slot, 0, length) for chunk in chunks]
        of_rows, _ = self._forward(tokens, positions, ends, past_key_values=cache)
        scores.update(zip((chunk.slot for chunk in chunks), of_rows, strict=True))
        return {chunk.slot: cache.take(row, 0, len(chunk.tokens)) for row, chunk in enumerate(chunks)}

    def _read(self, chunk: Chunk) -> tuple[KeyValues, np.ndarray]:
        cache = self._parked.setdefault(chunk.slot, KeyValues())
        end = chunk.start + len(chunk.tokens)
        cache.reserve(1, end, self._limit)
        positions = [self._forward.positions(chunk.slot, chunk.start, len(chunk.tokens))]
        scores, _ = self._forward([list(chunk.tokens)], positions, past_key_values=cache)
        return cache, scores[0]

    def _write(self, written: dict[int, Chunk]) -> dict[int, np.ndarray]:
        batch = self._batch
        batch.make_room()
        tokens = [[written[slot].tokens[0]] for slot in batch.slots]
        positions = [self._forward.positions(slot, written[slot].start, 1) for slot in batch.slots]
        mask = batch.mask(self._forward.device)
        scores, _ = self._forward(tokens, positions, past_key_values=batch.cache, attention_mask=mask)
        return dict(zip(batch.slots, scores, strict=True))


@dataclass(slots=True)
class _Alone:
    """A slot of a model with a state of its own kind."""

    state: Any = None  # as the model gave it; None where it gives none
    tokens: list[int] = field(default_factory=list)  # read so far
    waiting: list[int] = field(default_factory=list)  # of the prompt, for its last token
    answered: tuple[int, np.ndarray] | None = None  # the scores after so many tokens


class OneByOne:
    """For models whose state is no list of keys and values: one sequence after the other, and nothing to be cut.

    A prompt goes through in one piece, since not all such models can go on from a state with more than one token.
    """

    _STATES = ("past_key_values", "cache_params")

    def __init__(self, forward: Forward) -> None:
        self._forward = forward
        self._state = next((name for name in self._STATES if name in forward.takes), None)
        self._slots: dict[int, _Alone] = {}

    def step(self, chunks: Sequence[Chunk]) -> list[np.ndarray | None]:
        return [self._one(chunk) for chunk in chunks]

    def trim(self, slot: int, length: int) -> int:
        alone = self._slots.get(slot)
        if alone is None or length != len(alone.tokens) + len(alone.waiting):
            self._slots.pop(slot, None)
            return 0
        return length

    def _one(self, chunk: Chunk) -> np.ndarray | None:
        alone = self._slots.setdefault(chunk.slot, _Alone())
        end = chunk.start + len(chunk.tokens)
        if alone.answered and alone.answered[0] == end:  # a step that failed for another slot is run again
            return alone.answered[1]
        if len(alone.tokens) + len(alone.waiting) < end:
            alone.waiting += chunk.tokens
        if not chunk.wants_logits:
            return None
        pieces = [alone.waiting] if alone.state is None else [[token] for token in alone.waiting]
        whole = [*alone.tokens, *alone.waiting]
        try:
            for piece in pieces:
                scores = self._run(alone, piece)
        except BaseException:  # nobody knows what its state is now: all is read again
            alone.tokens, alone.waiting, alone.state = [], whole, None
            raise
        alone.waiting = []
        alone.answered = (end, scores)
        return scores

    def _run(self, alone: _Alone, piece: list[int]) -> np.ndarray:
        before = len(alone.tokens)
        alone.tokens += piece
        if self._state is not None and alone.state is not None:
            positions = [list(range(before, len(alone.tokens)))]
            scores, outputs = self._forward([piece], positions, **{self._state: alone.state})
        else:
            scores, outputs = self._forward([alone.tokens], [list(range(len(alone.tokens)))])
        alone.state = outputs.get(self._state) if self._state is not None else None
        return scores[0]


def of_like_length(chunks: Sequence[Chunk]) -> list[list[Chunk]]:
    """Groups in each of which padding a chunk to the longest costs less than a pass of its own."""
    groups: list[list[Chunk]] = []
    for chunk in sorted(chunks, key=lambda chunk: -len(chunk.tokens)):
        if groups and len(groups[-1][0].tokens) - len(chunk.tokens) < PASS_TOKENS:
            groups[-1].append(chunk)
        else:
            groups.append([chunk])
    return groups


def keeps_keys_and_values(model: Any) -> bool:
    """Whether all the model remembers of a token is a key and a value in each layer."""
    if model._is_stateful or not model._supports_default_dynamic_cache():
        return False
    config = model.config.get_text_config(decoder=True)
    try:
        kinds, _ = get_layer_types_and_kwargs(config)
    except (AttributeError, TypeError):
        return False
    return set(kinds) <= _PLAIN and "past_key_values" in inspect.signature(model.forward).parameters


def load(request: LoadRequest, on_progress: Progress) -> TransformersDecoder:
    """Reads the files, puts the model on its device, and writes two tokens."""
    model, codec, device = load_generator(request, on_progress, AutoModelForCausalLM, HFCodec)
    decoder = TransformersDecoder(request, model, codec, device)
    on_progress("warming", {})
    warm(decoder)
    return decoder


def warm(decoder: TransformersDecoder) -> None:
    """Writes two tokens."""
    first = next(iter(decoder.codec.encode_chat("a")), 0)
    decoder.step([Chunk(0, [first], 0, True)])
    decoder.step([Chunk(0, [first], 1, True)])
    decoder.trim(0, 0)
