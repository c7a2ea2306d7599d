"""What a plan says that a model takes, beside what its process takes when its batch and its cache are full.

    python -m bench.plan [--models DIR] [--only NAME …] [--threads N] [--times]

DIR holds `minilm`, `minilm-onnx`, `llama`, `llama-gguf` and `llama-onnx`, as bench/minilm.py and bench/llama.py write
them; without it they are made anew. Each model is loaded in a worker of its own and given its largest batch, or as many
prompts at once as it writes answers, as long as its context. MiB; `measured` is the most that the process had to
itself, looked at every 20 ms. To root, the pages of libraries that processes of others happen to have in use as well
count as its own; whoever is not root measures alone on the machine.

With `--times` nothing is loaded: what is printed is how long a plan takes, in milliseconds by the clock and of the
processor, the first of a model in a process that has made others, and the median of ten more.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from bench.pages import bytes_of_its_own
from core.core import Core
from core.fleet.record import Record
from core.memory.need import needs_of
from core.memory.overhead import BATCH_TOKENS
from core.settings import Settings
from core.types import ModelSpec, Need, Prompt, Quantization, Sampling

MIB = 1024 * 1024
SEQUENCES = 4  # answers at once
_LOOK_S = 0.02
_REQUESTS = 3  # at once, each a batch


@dataclass(frozen=True)
class Case:
    name: str
    source: str  # under the models directory
    options: dict[str, Any] = field(default_factory=dict)


CASES = (
    Case("classifier, 3 layers", "starter:sentiment"),
    Case("tagger, 3 layers", "starter:ner"),
    Case("embedder, 3 layers", "starter:embed"),
    Case("MiniLM, sentence-transformers", "minilm"),
    Case("MiniLM, transformers, bfloat16", "minilm", {"runtime": "transformers", "dtype": "bfloat16"}),
    Case("MiniLM, 4-bit", "minilm", {"quantization": Quantization.NF4}),
    Case("MiniLM, ONNX", "minilm-onnx"),
    Case("chat starter, transformers", "starter:chat", {"context_length": 512}),
    Case("chat starter, GGUF q8_0", "starter:chat", {"context_length": 512, "file": "chat-q8_0.gguf"}),
    Case("chat starter, ONNX", "starter:chat", {"context_length": 512, "file": "onnx/model.onnx"}),
    Case("LLaMA 135M, transformers", "llama", {"context_length": 512}),
    Case("LLaMA 135M, bfloat16", "llama", {"context_length": 256, "dtype": "bfloat16"}),
    Case("LLaMA 135M, 8-bit", "llama", {"context_length": 256, "quantization": Quantization.INT8}),
    Case("LLaMA 135M, 4-bit", "llama", {"context_length": 256, "quantization": Quantization.NF4}),
    Case("LLaMA 135M, GGUF q8_0", "llama-gguf", {"context_length": 512}),
    Case("LLaMA 135M, ONNX", "llama-onnx", {"context_length": 512}),
)


@asynccontextmanager
async def peak(core: Core, pid: int) -> AsyncIterator[list[int]]:
    """The most that process `pid` has to itself within the block, in bytes."""
    most = [0]

    async def look() -> None:
        while True:
            held = await asyncio.to_thread(core.probe.process, pid)
            most[0] = max(most[0], held.get("cpu", 0))
            await asyncio.sleep(_LOOK_S)

    looking = asyncio.create_task(look())
    try:
        yield most
        most[0] = max(most[0], core.probe.process(pid).get("cpu", 0))
    finally:
        looking.cancel()


def words(record: Record) -> list[str]:
    """What the model's vocabulary is made of, so that all of its table is read."""
    assert record.inspection is not None
    path = next(file.path for file in record.inspection.files if file.path.endswith("tokenizer.json"))
    vocabulary = json.loads((Path(str(record.inspection.local)) / path).read_text())["model"]["vocab"]
    names = vocabulary if isinstance(vocabulary, dict) else [piece for piece, _ in vocabulary]
    return [name.strip("▁#Ġ") or "a" for name in names]


async def fill(core: Core, record: Record) -> None:
    """The largest batch, or the whole cache."""
    info, chance = record.info, random.Random(7)
    assert info is not None
    length = info.context_length or 512
    if not info.tasks[0].generates:
        vocabulary, count = words(record), max(1, BATCH_TOKENS["cpu"] // length)

        def texts() -> list[str]:
            return [" ".join(chance.choices(vocabulary, k=length * 2 // 3)) for _ in range(count)]

        await asyncio.gather(*(core.predict(record.name, texts(), {}) for _ in range(_REQUESTS)))
        return

    async def answer() -> None:
        ids = tuple(chance.randrange(3, 3000) for _ in range(length - 16))
        prompt, sampling = Prompt(ids=ids), Sampling(max_tokens=16, temperature=0, ignore_eos=True)
        async for _ in core.generate(prompt, sampling, record.name, info.tasks[0]):
            pass

    await asyncio.gather(*(answer() for _ in range(info.max_sequences or 1)))


def in_use_by_others(core: Core, pid: int) -> int:
    """Bytes that would be the process's own if nobody but this server were here; 0 unless we are root."""
    alone = bytes_of_its_own(pid, (psutil.Process(pid).ppid(), os.getpid()))
    return max(0, alone - core.probe.process(pid)["cpu"])


async def measure(core: Core, case: Case) -> tuple[Need, int, int]:
    """What was planned, and what was measured once it was loaded and when it was full."""
    job = await core.load(ModelSpec(case.name, case.source, **case.options), admin=True)
    record = core.registry.get(case.name)
    await job.done
    assert record.worker is not None
    assert record.inspection is not None
    (need,) = needs_of(record.inspection, core.settings, "cpu")
    loaded = core.probe.process(record.worker.pid)["cpu"] + in_use_by_others(core, record.worker.pid)
    async with peak(core, record.worker.pid) as most:
        await fill(core, record)
        beside = in_use_by_others(core, record.worker.pid)
    await core.unload(case.name)
    return need, loaded, most[0] + beside


async def times(core: Core, cases: Sequence[Case]) -> None:
    """Prints how long plans take."""
    await core.plan(ModelSpec("warm", CASES[0].source), admin=True)  # imports, and the first look at the devices
    print("| model | first plan | of the processor | again | of the processor |")
    print("|---|---|---|---|---|")
    for case in cases:
        taken = []
        for _ in range(11):
            started = time.perf_counter(), time.process_time()
            await core.plan(ModelSpec(case.name, case.source, **case.options), admin=True)
            taken.append((time.perf_counter() - started[0], time.process_time() - started[1]))
        again = (statistics.median(column) for column in zip(*taken[1:], strict=True))
        cells = " | ".join(f"{seconds * 1000:.1f}" for seconds in (*taken[0], *again))
        print(f"| {case.name} | {cells} |", flush=True)


async def tables(core: Core, cases: Sequence[Case]) -> None:
    """Prints what was planned and what was taken."""
    print("| model | weights | cache | activations | process | planned | loaded | measured | off |")
    print("|---|---|---|---|---|---|---|---|---|")
    for case in cases:
        need, loaded, most = await measure(core, case)
        parts = (need.weights, need.cache, need.activations, need.overhead, need.total, loaded, most)
        cells = " | ".join(f"{size / MIB:.1f}" for size in parts)
        print(f"| {case.name} | {cells} | {100 * (need.total / most - 1):+.0f} % |", flush=True)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, help="a directory that holds the models already")
    parser.add_argument("--only", nargs="*", help="names of models, or parts of them")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--times", action="store_true", help="how long plans take, instead")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        models = given.models or Path(made) / "models"
        if not given.models:
            from bench import llama, minilm

            minilm.lay_out(models)
            llama.lay_out(models)
        settings = Settings(
            _env_file=None, models_dir=models.resolve(), data_dir=Path(made) / "data", offline=True,
            request_timeout_s=600, max_sequences=SEQUENCES, threads=given.threads,
        )  # fmt: skip
        core = Core(settings)
        await core.start()
        await core.launcher.warm.wait()
        cases = [case for case in CASES if not given.only or any(part in case.name for part in given.only)]
        await (times if given.times else tables)(core, cases)
        await core.stop()


if __name__ == "__main__":
    asyncio.run(main())
