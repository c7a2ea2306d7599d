"""Greedy answers by hand, without the scheduler, and what plain transformers writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from core.worker.generation.base import Chunk, Generator

NOISE = 2e-3  # between the scores of two tokens; sums of floats in another order differ by less


@dataclass
class Sequence_:
    """One answer: its prompt, when it comes, how many tokens it wants."""

    prompt: list[int]
    count: int
    joins_at: int = 0  # step
    slot: int = 0
    read: int = 0
    tokens: list[int] = field(default_factory=list)

    @property
    def written(self) -> list[int]:
        return self.tokens[len(self.prompt) :]


def greedy(generator: Generator, sequences: Sequence[Sequence_], *, prefill: int = 1000) -> list[list[int]]:
    """Runs all of them, each in its slot, prompts in pieces of `prefill` tokens. Slots keep what they have read."""
    for each in sequences:
        each.tokens = list(each.prompt)
    step = 0
    while any(len(each.written) < each.count for each in sequences):
        chunks, running = [], []
        for each in sequences:
            if step >= each.joins_at and len(each.written) < each.count:
                new = each.tokens[each.read : each.read + prefill]
                chunks.append(Chunk(each.slot, new, each.read, each.read + len(new) == len(each.tokens)))
                running.append(each)
        scores = generator.step(chunks) if chunks else []
        for each, chunk, row in zip(running, chunks, scores, strict=True):
            each.read += len(chunk.tokens)
            assert (row is not None) == chunk.wants_logits
            if row is not None:
                assert row.dtype == "float32"
                each.tokens.append(int(row.argmax()))
        step += 1
    return [each.written for each in sequences]


def reference(model: Any, prompt: list[int], count: int) -> list[int]:
    """What `generate` writes, past any end token."""
    model.generation_config.eos_token_id = None
    ids = torch.tensor([prompt])
    mask = torch.ones_like(ids)
    written = model.generate(
        ids, attention_mask=mask, do_sample=False, num_beams=1, max_new_tokens=count, pad_token_id=0
    )
    return written[0, len(prompt) :].tolist()


def ties(model: Any, prompt: list[int], ours: list[int], theirs: list[int], noise: float = NOISE) -> int:
    """0 when both are equal, 1 when they part where two tokens lie within float noise; fails otherwise."""
    if ours == theirs:
        return 0
    at = next(index for index, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)
    with torch.inference_mode():
        scores = model(torch.tensor([prompt + theirs[:at]])).logits[0, -1].float()
    gap = abs(float(scores[ours[at]] - scores[theirs[at]]))
    assert gap < noise, f"{ours} is not {theirs}: they part at {at} by {gap}"
    print(f"parted at token {at} of {len(theirs)}, scores {gap:.1e} apart")
    return 1


def begun(generator: Generator, text: str, count: int, joins_at: int = 0, slot: int = 0) -> Sequence_:
    return Sequence_(generator.begin(slot, generator.codec.encode(text)), count, joins_at, slot)


def expected(model: Any, tokenizer: Any, text: str, count: int, begin: int) -> list[int]:
    """What `generate` writes after the `begin` tokens that every answer begins with, past any end token."""
    model.generation_config.eos_token_id = None
    model.generation_config.forced_eos_token_id = None
    inputs = tokenizer(text, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    written = model.generate(**inputs, do_sample=False, num_beams=1, max_new_tokens=count + begin - 1)
    return written[0, begin:].tolist()
