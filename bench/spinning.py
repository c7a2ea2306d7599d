"""How long an OpenMP thread that waits should spin: alone the longer the better, beside other models the shorter.

    python -m bench.spinning [--texts 100]

For each GOMP_SPINCOUNT: milliseconds that one text of 80 tokens takes through MiniLM (torch), the median, in one
process alone and in three at once.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

COUNTS = (1_000, 10_000, 30_000, 100_000)
TOKENS = 80


def measure(texts: int) -> None:
    """In a process of its own: says when it is ready, waits for a line, and prints its median."""
    import torch
    from transformers import AutoModel

    from bench import minilm

    model = AutoModel.from_pretrained(minilm.weights()).eval()
    ids = torch.randint(1000, 2000, (1, TOKENS), generator=torch.Generator().manual_seed(7))
    times = []
    with torch.inference_mode():
        model(ids)
        print("ready", flush=True)
        sys.stdin.readline()
        for _ in range(texts):
            started = time.perf_counter()
            model(ids)
            times.append((time.perf_counter() - started) * 1000)
    print(statistics.median(times), flush=True)


def medians(spins: int, processes: int, texts: int) -> list[float]:
    """Of `processes` that run at once, ascending."""
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "bench.spinning", "--texts", str(texts), "--child"],
            env={**os.environ, "GOMP_SPINCOUNT": str(spins)}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )
        for _ in range(processes)
    ]  # fmt: skip
    for child in children:
        assert child.stdout
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin
        child.stdin.write("\n")
        child.stdin.flush()
    return sorted(float(child.communicate()[0]) for child in children)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=100)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        measure(arguments.texts)
        return
    for spins in COUNTS:
        (alone,), three = medians(spins, 1, arguments.texts), medians(spins, 3, arguments.texts)
        print(f"GOMP_SPINCOUNT={spins}: {alone:.0f} ms alone, {three[0]:.0f} to {three[-1]:.0f} ms beside two others",
              flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
