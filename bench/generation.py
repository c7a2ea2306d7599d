"""Chat streams over HTTP against llama.cpp's native server, llama-cpp-python's and `transformers serve`, in one run.

    python -m bench.generation [--peers PATH_TO_THEIR_PYTHON_BIN] [--tokens N] [--rounds N]

Prints tokens a second and the time to the first token with 8 clients and with one, and then the time to the first token
of a second turn by the length of the first. The peers' environment holds `xllamacpp` and `llama-cpp-python[server]`;
`transformers serve` runs from ours.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from bench import llama
from bench.clients import drive, post
from bench.plot import lines
from bench.servers import berth, free_port, process

CLIENTS = 8
ROUNDS = 2  # streams of each client
QUESTIONS = ("How do I load a model?", "모델을 어떻게 불러와?", "What is a token?", "메모리를 비우려면 어떻게 해?")
HISTORY_WORDS = (30, 150, 300, 600, 1200)
THREADS = len(os.sched_getaffinity(0))
_LAST_CHUNK = b"\r\n0\r\n\r\n"  # of an HTTP answer; not every server ends a stream with [DONE]


@dataclass(frozen=True)
class Stream:
    """Seconds from the request on."""

    first: float
    total: float
    prompt_tokens: int  # 0 when the server was not asked for it


async def stream(port: int, body: dict[str, object]) -> Stream:
    """One chat stream, read to its end. Raises RuntimeError when it does not say why it ended."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    started, first = time.perf_counter(), None
    writer.write(post("/v1/chat/completions", {**body, "stream": True}))
    seen = b""
    while not seen.endswith(_LAST_CHUNK) and (piece := await reader.read(65536)):
        seen += piece.replace(b'": "', b'":"')
        if first is None and b'"content":"' in seen.replace(b'"content":""', b""):
            first = time.perf_counter() - started
    writer.close()
    if b'"finish_reason":"' not in seen:
        raise RuntimeError(f"the stream broke off after {seen[-300:]!r}")
    total = time.perf_counter() - started
    counted = re.search(rb'"prompt_tokens":(\d+)', seen)
    return Stream(first if first is not None else total, total, int(counted[1]) if counted else 0)


def body(model: str, tokens: int, number: int) -> dict[str, object]:
    question = f"{number}. {QUESTIONS[number % len(QUESTIONS)]}"
    messages = [{"role": "user", "content": question}]
    return {"model": model, "messages": messages, "max_tokens": tokens, "temperature": 0}


async def rate(port: int, model: str, tokens: int, clients: int) -> tuple[float, float]:
    """Tokens a second over all streams, and the median time to the first token in ms."""

    async def client(index: int) -> list[Stream]:
        return [await stream(port, body(model, tokens, index * ROUNDS + turn)) for turn in range(ROUNDS)]

    started = time.perf_counter()
    streams = [each for all_of_one in await asyncio.gather(*map(client, range(clients))) for each in all_of_one]
    seconds = time.perf_counter() - started
    return len(streams) * tokens / seconds, statistics.median(each.first for each in streams) * 1000


async def until_it_answers(port: int, model: str) -> None:
    async with asyncio.timeout(300):
        while True:
            with contextlib.suppress(OSError, RuntimeError):
                await stream(port, body(model, 2, 0))
                return
            await asyncio.sleep(0.5)


@contextlib.asynccontextmanager
async def ours(models: Path, name: str) -> AsyncIterator[int]:
    async with berth(models) as (port, _):
        await drive(port, [post("/models/load?wait=true", {"model_name": name, "model_path": name})], 1)
        yield port


@contextlib.asynccontextmanager
async def peer(*command: str) -> AsyncIterator[int]:
    port = free_port()
    async with process(*(part.replace("PORT", str(port)) for part in command), HF_HUB_OFFLINE="1"):
        yield port


Server = tuple[str, str, contextlib.AbstractAsyncContextManager[int]]  # what it is called, its model's name, its port


def gguf_servers(models: Path, peers: Path | None) -> list[Server]:
    file = str(models / "llama-gguf" / "llama-q8_0.gguf")
    servers: list[Server] = [("Berth, GGUF q8_0", "llama-gguf", ours(models, "llama-gguf"))]
    if peers:
        python = str(peers / "python")
        native = (python, "bench/native_llama.py", file, "PORT", str(THREADS))
        package = (python, "-m", "llama_cpp.server", "--model", file, "--port", "PORT", "--n_ctx", "2048")
        options = ("--n_threads", str(THREADS), "--interrupt_requests", "False")
        servers.append(("llama.cpp native, q8_0", "llama", peer(*native)))
        servers.append(("llama_cpp.server, q8_0", "llama", peer(*package, *options)))
    return servers


def weight_servers(models: Path) -> list[Server]:
    return [
        ("Berth, transformers fp32", "llama", ours(models, "llama")),
        ("Berth, ONNX fp32", "llama-onnx", ours(models, "llama-onnx")),
        ("transformers serve", str(models / "llama"), peer(*serve_command(models))),
    ]


def continuous_server(models: Path) -> Server:
    peer_of_it = peer(*serve_command(models), "--continuous-batching")
    return "transformers serve, continuous", str(models / "llama"), peer_of_it


def serve_command(models: Path) -> tuple[str, ...]:
    program, options = str(Path(sys.executable).parent / "transformers"), ("--device", "cpu", "--dtype", "float32")
    return (program, "serve", str(models / "llama"), "--port", "PORT", *options)


async def compare(servers: list[Server], tokens: int, rounds: int) -> None:
    """All of them up at once and asked in turn, so that a machine that slows down slows them all."""
    figures: dict[str, list[tuple[float, ...]]] = {name: [] for name, _, _ in servers}
    async with contextlib.AsyncExitStack() as stack:
        ports = [(name, model, await stack.enter_async_context(server)) for name, model, server in servers]
        for _, model, port in ports:
            await until_it_answers(port, model)
        for _ in range(rounds):
            for name, model, port in ports:
                many, one = await rate(port, model, tokens, CLIENTS), await rate(port, model, tokens, 1)
                figures[name].append((*many, *one))
    for name, rows in figures.items():
        many, first_many, one, first_one = map(statistics.median, zip(*rows, strict=True))
        print(f"| {name} | {many:.1f} | {first_many:.0f} ms | {one:.1f} | {first_one:.0f} ms |", flush=True)


async def second_turns(models: Path, plot: Path | None) -> None:
    """The first token of a turn, and of the next turn, which has all of the first before it."""
    series: dict[str, list[tuple[float, float]]] = {}
    print("\n| model | history, tokens | first turn | second turn |\n|---|---|---|---|")
    for label, name in (("GGUF", "llama-gguf"), ("transformers", "llama")):
        async with ours(models, name) as port:
            await until_it_answers(port, name)
            for words in HISTORY_WORDS:
                history = [{"role": "user", "content": f"{words} " + "load the model " * (words // 3)}]
                fields = {"model": name, "max_tokens": 2, "temperature": 0, "stream_options": {"include_usage": True}}
                anew = await stream(port, {**fields, "messages": history})
                more = [*history, {"role": "assistant", "content": "yes"}, {"role": "user", "content": "and then?"}]
                again = await stream(port, {**fields, "messages": more})
                for turn, told in (("first turn", anew), ("second turn", again)):
                    series.setdefault(f"{label}, {turn}", []).append((anew.prompt_tokens, told.first * 1000))
                print(f"| {label} | {anew.prompt_tokens} | {anew.first * 1000:.0f} ms | {again.first * 1000:.0f} ms |")
    if plot:
        title = "Time to the first token by the length of the history"
        plot.write_text(lines(title, "tokens of the first turn", "ms", series), encoding="utf-8")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=Path, help="the bin directory of the environment of the peers")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plot", type=Path, help="where the second turns are drawn, as SVG")
    parser.add_argument("--models", type=Path, help="where the models lie or are written; thrown away when not given")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        models = arguments.models or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if not (models / "llama").exists():
            llama.lay_out(models)
        print(f"{arguments.tokens} tokens a stream, {THREADS} cores, median of {arguments.rounds} rounds\n")
        print(f"| server | {CLIENTS} clients, tokens/s | first token | one client, tokens/s | first token |")
        print("|---|---|---|---|---|")
        await compare(gguf_servers(models, arguments.peers), arguments.tokens, arguments.rounds)
        await compare(weight_servers(models), arguments.tokens, arguments.rounds)
        # alone, since it does not rest when nobody asks; and fewer tokens, since they take it long on a CPU
        await compare([continuous_server(models)], max(arguments.tokens // 8, 1), 1)
        await second_turns(models, arguments.plot)


if __name__ == "__main__":
    asyncio.run(main())
