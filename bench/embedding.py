"""Embedding over HTTP against the bare library in bulk, and against infinity-emb, in one run.

    python -m bench.embedding [--infinity PATH_TO_ITS_PYTHON_BIN]

Prints texts a second and ratios: 32 clients with one text a request, mixed lengths; then one client's time over
the bare in-process call. infinity-emb needs an environment of its own: `pip install "infinity-emb[torch,server]"`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer

from bench import corpus, minilm
from bench.clients import Load, drive, post
from bench.servers import berth, free_port, process, until_healthy

CLIENTS = 32
TEXTS = 1000


def bulk_rate(model: SentenceTransformer, texts: list[str]) -> float:
    started = time.perf_counter()
    model.encode(texts, batch_size=32, show_progress_bar=False)
    return len(texts) / (time.perf_counter() - started)


async def over_http(port: int, texts: list[str], clients: int, **fields: object) -> Load:
    return await drive(port, [post("/api/v1/embed", {"text": text, **fields}) for text in texts], clients)


async def our_rates(models: Path, texts: list[str], reference: np.ndarray) -> dict[str, tuple[float, float]]:
    """Texts a second with 32 clients, and milliseconds of one client, for torch and ONNX."""
    rates = {}
    for name, passes in (("minilm", 1), ("minilm-onnx", 1), ("minilm-onnx", 2)):
        async with berth(models, BERTH_PASSES=str(passes)) as (port, _):
            load = post("/models/load?wait=true", {"model_name": name, "model_path": name})
            await drive(port, [load], 1)
            await over_http(port, texts[:64], CLIENTS, model=name)
            busy = await over_http(port, texts, CLIENTS, model=name)
            alone = await over_http(port, texts[:200], 1, model=name)
        found = np.array(json.loads(alone.bodies[0])["embedding"])
        assert abs(found - reference).max() < 1e-3, f"{name} gives other vectors than the bare library"
        key = name if passes == 1 else f"{name}, {passes} passes at once"
        rates[key] = (busy.rate, statistics.median(alone.times) * 1000)
    return rates


async def infinity_rate(python_bin: Path, models: Path, texts: list[str]) -> float:
    port = free_port()
    command = [
        str(python_bin / "infinity_emb"), "v2", "--model-id", str(models / "minilm"), "--engine", "torch",
        "--device", "cpu", "--port", str(port), "--served-model-name", "minilm", "--log-level", "error",
    ]  # fmt: skip
    async with process(*command, HF_HUB_OFFLINE="1", DO_NOT_TRACK="1", INFINITY_ANONYMOUS_USAGE_STATS="0"):
        await until_healthy(port)
        requests = [post("/embeddings", {"model": "minilm", "input": [text]}) for text in texts]
        await drive(port, requests[:64], CLIENTS)
        return (await drive(port, requests, CLIENTS)).rate


def one_by_one_ms(model: SentenceTransformer, texts: list[str]) -> float:
    """Median milliseconds of a call with one text."""
    times = []
    for text in texts:
        started = time.perf_counter()
        model.encode([text], show_progress_bar=False)
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


async def compare(kind: str, texts: list[str], models: Path, infinity: Path | None) -> None:
    """Everything on the same texts, one after the other, and the ratios."""
    bare = SentenceTransformer(str(models / "minilm"), device="cpu")
    bare.encode(texts[:64], show_progress_bar=False)
    bulk, alone_ms = bulk_rate(bare, texts), one_by_one_ms(bare, texts[:200])
    ours = await our_rates(models, texts, bare.encode(texts[0], show_progress_bar=False))
    peer = await infinity_rate(infinity, models, texts) if infinity else None
    print(f"\n{kind} texts. Bare library: {bulk:.1f} texts/s in bulk; one text: {alone_ms:.1f} ms")
    for name, (rate, alone) in ours.items():
        beside = f"; {rate / peer:.2f} times infinity-emb" if peer else ""
        print(
            f"{name}: {rate:.1f} texts/s with {CLIENTS} clients, {rate / bulk:.2f} of bulk{beside}; "
            f"one client {alone:.1f} ms, {alone - alone_ms:+.1f} ms over the bare call"
        )
    if peer:
        print(f"infinity-emb, torch engine: {peer:.1f} texts/s")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--infinity", type=Path, help="the bin directory of the environment of infinity-emb")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        minilm.lay_out(Path(name))
        for kind in (corpus.mixed, corpus.short):
            await compare(kind.__name__, kind(TEXTS), Path(name), arguments.infinity)


if __name__ == "__main__":
    asyncio.run(main())
