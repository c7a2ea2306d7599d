"""A step that runs out of memory at any of its allocations leaves every slot as it was: it can be run again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from core.errors import InsufficientMemory
from core.types import Runtime, Task
from core.worker import runtimes
from core.worker.generation.base import Chunk, Generator
from core.worker.runtimes.base import LoadRequest
from core.worker.runtimes.keyvalues import KeyValues
from tests.core.worker.runtimes.writing import Sequence_, greedy
from tests.fakes.decoders import write_decoder

PROMPTS = [[7 + (3 * index * (row + 2)) % 400 for index in range(length)] for row, length in enumerate((9, 21, 3, 17))]
COUNTS = (6, 4, 8, 3)
TRIES = 9  # allocations that fail, spread over all
_PLAIN = (torch.ops.aten.zeros, torch.ops.aten.empty, torch.ops.aten.clone)
MAMBA = {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}


class Short(TorchDispatchMode):
    """Counts the operations that give a new tensor, and fails the one that it is told to, as torch does."""

    def __init__(self, fails_at: int | None = None) -> None:
        super().__init__()
        self.count = 0
        self.plain: list[int] = []  # which of them made or copied a tensor and did nothing else
        self._fails_at = fails_at

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if all(returned.alias_info is None for returned in func._schema.returns):
            self.count += 1
            if func.overloadpacket in _PLAIN:
                self.plain.append(self.count)
            if self.count == self._fails_at:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB.")
        return func(*args, **(kwargs or {}))


def grown(rows: int, columns: int) -> KeyValues:
    """Two layers with `rows` in use."""
    cache = KeyValues(rows)
    cache.reserve(rows, columns)
    for layer in range(2):
        cache.update(torch.ones(rows, 1, 4, 2), torch.ones(rows, 1, 4, 2), layer)
    cache.commit(4)
    return cache


def test_rows_that_memory_ran_out_for_are_made_when_they_are_wanted() -> None:
    """Rows that have left are let go while the cache grows; what did not grow has them still."""
    cache = grown(4, 64)
    cache.rows = 2
    with Short(fails_at=2), pytest.raises(torch.OutOfMemoryError):
        cache.reserve(2, 200)
    cache.reserve(3, 40)
    assert {tensor.shape[0] for tensor in (*cache.keys, *cache.values)} == {3, 4}
    cache.put(2, grown(1, 8))


class Patient:
    """Runs a step again that there was no memory for."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self.failures = 0

    def step(self, chunks: Sequence[Chunk]) -> list[np.ndarray | None]:
        try:
            return self._generator.step(chunks)
        except InsufficientMemory:
            self.failures += 1
            return self._generator.step(chunks)


def loaded(path: Path, task: Task) -> Any:
    request = LoadRequest(str(path), Runtime.TRANSFORMERS, (task,), threads=1, name="org/model")
    return runtimes.load(request, lambda stage, data: None)


def company(generator: Generator) -> list[Sequence_]:
    """Four of different lengths, which come and go at different steps."""
    lines = enumerate(zip(PROMPTS, COUNTS, (2, 0, 4, 5), strict=True))
    return [Sequence_(generator.begin(slot, prompt), count, at, slot) for slot, (prompt, count, at) in lines]


def written(generator: Generator, fails_at: int | None = None) -> tuple[list[list[int]], Short, int]:
    """The answers, the tensors that were made on the way, and how many steps failed."""
    for slot in range(generator.max_sequences):
        generator.trim(slot, 0)
    sequences, patient, short = company(generator), Patient(generator), Short(fails_at)
    with short:
        found = greedy(patient, sequences, prefill=8)  # type: ignore[arg-type]
    return found, short, patient.failures


@pytest.mark.parametrize(
    ("name", "sizes", "task"),
    [
        ("llama", {}, Task.TEXT_GENERATION),
        ("mamba", MAMBA, Task.TEXT_GENERATION),
        ("bart", {}, Task.TEXT2TEXT_GENERATION),
    ],
)
def test_a_step_can_be_run_again_whatever_it_had_no_memory_for(
    name: str, sizes: dict[str, Any], task: Task, tmp_path: Path
) -> None:
    generator = loaded(write_decoder(tmp_path / name, name, **sizes), task)
    expected, short, _ = written(generator)
    places = [*range(1, short.count, short.count // TRIES), *short.plain[:: len(short.plain) // TRIES + 1]]
    failures = 0
    for fails_at in places:
        found, _, failed = written(generator, fails_at)
        assert found == expected, f"another answer after allocation {fails_at} of {short.count} had failed"
        failures += failed
    assert failures >= TRIES // 2  # a few fell between two steps


def trimmed(generator: Generator, slot: int, length: int, fails_at: int) -> Callable[[], int]:
    def call() -> int:
        with Short(fails_at):
            return generator.trim(slot, length)

    return call


def test_room_that_cannot_be_made_is_a_typed_error_and_loses_nothing(tmp_path: Path) -> None:
    generator = loaded(write_decoder(tmp_path / "llama", "llama"), Task.TEXT_GENERATION)
    generator.step([Chunk(slot, prompt, 0, True) for slot, prompt in enumerate(PROMPTS)])
    generator.step([Chunk(slot, [5], len(prompt), True) for slot, prompt in enumerate(PROMPTS)])
    with pytest.raises(InsufficientMemory):
        trimmed(generator, 1, 10, fails_at=2)()  # in the middle of copying it out of the others' batch
    assert generator.trim(1, 10) == 10
    (again,) = generator.step([Chunk(1, PROMPTS[1][10:], 10, True)])
    generator.trim(7, 0)
    (alone,) = generator.step([Chunk(7, PROMPTS[1], 0, True)])
    assert again is not None
    assert alone is not None
    np.testing.assert_allclose(again, alone, atol=1e-3)
