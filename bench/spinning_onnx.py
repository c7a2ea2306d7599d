"""What onnxruntime's threads should do while they wait, and what passes side by side are worth. In this process.

    python -m bench.spinning_onnx [--texts 600] [--rounds 3]

MiniLM's ONNX graph on mixed texts, cut into passes once, as the batcher cuts them; then one text at a time. Prints
texts a second, the median of the rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from transformers import AutoTokenizer

from bench import corpus, minilm
from core.worker.batching import cheapest
from core.worker.runtimes.onnxruntime_encoder import OVERHEAD_TOKENS

LIMIT = 2048  # padded tokens of a pass
WINDOW = 128  # rows that the batcher looks at

Feed = dict[str, np.ndarray]


@dataclass(frozen=True)
class Way:
    """How a session is set up, and how many passes run at once."""

    name: str
    spins: bool
    arena: bool
    passes: int = 1

    def open(self, path: Path) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        options.intra_op_num_threads = max(1, len(os.sched_getaffinity(0)) // self.passes)
        options.enable_cpu_mem_arena = self.arena
        options.enable_mem_pattern = False
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(self.spins)))
        options.add_session_config_entry("session.force_spinning_stop", "1")
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


WAYS = (
    Way("no spinning", spins=False, arena=False),
    Way("spinning within a pass", spins=True, arena=False),
    Way("spinning within a pass, with an arena", spins=True, arena=True),
    Way("two passes at once, no spinning, with an arena", spins=False, arena=True, passes=2),
)


def feed_of(rows: list[list[int]]) -> Feed:
    """Token ids padded on the right: arrays (rows, longest)."""
    longest = max(map(len, rows))
    ids = np.array([row + [0] * (longest - len(row)) for row in rows], np.int64)
    mask = np.array([[1] * len(row) + [0] * (longest - len(row)) for row in rows], np.int64)
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def passes_of(rows: list[list[int]]) -> list[Feed]:
    """The rows in the order of their length, cut as the batcher cuts a full queue."""
    left, feeds = sorted(rows, key=len), []
    while left:
        _, end = cheapest([len(row) for row in left[:WINDOW]], 0, OVERHEAD_TOKENS["cpu"], LIMIT)
        feeds.append(feed_of(left[:end]))
        left = left[end:]
    return feeds


def rate(session: onnxruntime.InferenceSession, feeds: list[Feed], threads: int) -> float:
    """Rows a second with `threads` passes at once."""
    with ThreadPoolExecutor(threads) as pool:
        started = time.perf_counter()
        list(pool.map(lambda feed: session.run(None, feed), feeds))
        seconds = time.perf_counter() - started
    return sum(len(feed["input_ids"]) for feed in feeds) / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(minilm.weights())
    rows = tokenizer(corpus.mixed(arguments.texts), truncation=True, max_length=256)["input_ids"]
    bulk, singles = passes_of(rows), [feed_of([row]) for row in rows[: arguments.texts // 3]]
    with tempfile.TemporaryDirectory() as name:
        minilm.lay_out(Path(name))
        sessions = [(way, way.open(Path(name) / "minilm-onnx" / "onnx" / "model.onnx")) for way in WAYS]
    for label, feeds in (("in bulk", bulk), ("one text at a time", singles)):
        rates = {way.name: list[float]() for way in WAYS}
        for _ in range(arguments.rounds):  # one after the other in each round, so that all share the machine's moods
            for way, session in sessions:
                if label == "in bulk" or way.passes == 1:
                    rates[way.name].append(rate(session, feeds, way.passes))
        for name, found in rates.items():
            if found:
                print(f"{label}, {name}: {statistics.median(found):.1f} texts/s", flush=True)


if __name__ == "__main__":
    main()
