"""What it is worth to choose which rows go together, and to leave out the padding between them.

    GOMP_SPINCOUNT=10000 python -m bench.batching [--texts 1000] [--rounds 3]

32 clients of one text each, all in this process and with no HTTP, in front of MiniLM's torch runtime and the real
batcher; only how it cuts its queue into passes differs. Prints texts a second, the median of the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from threading import Thread
from unittest.mock import patch

from bench import corpus, minilm
from core.params import parse_params
from core.types import Runtime, Task
from core.worker import batching, runtimes, tasks
from core.worker.runtimes import unpadding
from core.worker.runtimes.base import LoadRequest
from core.worker.runtimes.base import Runtime as LoadedModel

CLIENTS = 32
EMBED = Task.FEATURE_EXTRACTION

Cut = Callable[[list[int], int, int, int], tuple[int, int]]  # as `batching.cheapest`


def alone(lengths: list[int], seed: int, overhead: int, limit: int) -> tuple[int, int]:
    """A row a pass."""
    return seed, seed + 1


def greedy(lengths: list[int], seed: int, overhead: int, limit: int) -> tuple[int, int]:
    """The nearest row more, again and again, as long as all padding costs less than the passes that it saves."""
    start, end = seed, seed + 1
    while start > 0 or end < len(lengths):
        below = (start - 1, end) if start > 0 else None
        above = (start, end + 1) if end < len(lengths) else None
        grown = min((each for each in (below, above) if each), key=lambda each: padding(lengths, *each))
        rows = grown[1] - grown[0]
        if padding(lengths, *grown) > overhead * (rows - 1) or rows * lengths[grown[1] - 1] > limit:
            break
        start, end = grown
    return start, end


def padding(lengths: list[int], start: int, end: int) -> int:
    """In tokens, of a pass of these rows."""
    return (end - start) * lengths[end - 1] - sum(lengths[start:end])


def open_model(*, pads: bool) -> LoadedModel:
    request = LoadRequest(str(minilm.weights()), Runtime.SENTENCE_TRANSFORMERS, (EMBED,), name="minilm")
    known = frozenset() if pads else unpadding.MODEL_TYPES
    with patch.object(unpadding, "MODEL_TYPES", known):
        model = runtimes.load(request, lambda stage, data: None)
    assert model.pads is pads
    return model


def rate(model: LoadedModel, texts: list[str]) -> float:
    """Texts a second; each client sends its next text when it has the answer to the last."""
    batcher, text_thread = batching.Batcher(model), ThreadPoolExecutor(1)
    Thread(target=batcher.run, daemon=True).start()
    waiting, answered = deque(texts), SimpleQueue[batching.Job]()
    params = parse_params(EMBED, {})

    def ask() -> None:
        if waiting:
            prepared = tasks.prepare(EMBED, model, [waiting.popleft()], params)
            batcher.add(batching.Job(prepared, lambda job: (answered.put(job), text_thread.submit(ask))))

    started = time.perf_counter()
    for _ in range(CLIENTS):
        text_thread.submit(ask)
    jobs = [answered.get(timeout=60) for _ in texts]
    seconds = time.perf_counter() - started
    text_thread.shutdown()
    assert all(job.error is None for job in jobs)
    return len(texts) / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    padded, unpadded = open_model(pads=True), open_model(pads=False)
    steps: dict[str, tuple[LoadedModel, Cut]] = {
        "a row a pass": (padded, alone),
        "filled greedily up to a bound on padding": (padded, greedy),
        "the cheapest cut of the queue": (padded, batching.cheapest),
        "no padding between rows": (unpadded, batching.cheapest),
    }
    for kind in (corpus.short, corpus.mixed):
        texts, rates = kind(arguments.texts), {name: list[float]() for name in steps}
        for _ in range(arguments.rounds):  # one after the other in each round, so that all share the machine's moods
            for name, (model, cut) in steps.items():
                with patch.object(batching, "cheapest", cut):
                    rates[name].append(rate(model, texts))
        for name, found in rates.items():
            print(f"{kind.__name__} texts, {name}: {statistics.median(found):.1f} texts/s", flush=True)


if __name__ == "__main__":
    main()
