"""Many HTTP clients in one thread, cheap enough not to be what is measured: keep-alive sockets and nothing else."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Load:
    """What a run of requests took. Times in seconds, one for each request, in the order they ended."""

    seconds: float
    times: list[float]
    bodies: list[bytes]

    @property
    def rate(self) -> float:
        return len(self.times) / self.seconds

    def percentile(self, share: float) -> float:
        return sorted(self.times)[min(len(self.times) - 1, int(len(self.times) * share))]


def post(path: str, body: object) -> bytes:
    """A POST request as it goes over the wire."""
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


async def answer_of(reader: asyncio.StreamReader) -> bytes:
    """The body of one answer. Raises RuntimeError unless its status is 200."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in lines[1:] if line)
    body = await reader.readexactly(int(fields[b"content-length"]))
    if b" 200 " not in lines[0]:
        raise RuntimeError(f"{lines[0]!r}: {body[:300]!r}")
    return body


async def _client(port: int, waiting: list[bytes], times: list[float], bodies: list[bytes]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while waiting:
        request = waiting.pop()
        started = time.perf_counter()
        writer.write(request)
        bodies.append(await answer_of(reader))
        times.append(time.perf_counter() - started)
    writer.close()


async def drive(port: int, requests: list[bytes], clients: int) -> Load:
    """Sends `requests`, each client one after the other, and waits for all answers."""
    waiting, times, bodies = list(reversed(requests)), [], []
    started = time.perf_counter()
    await asyncio.gather(*(_client(port, waiting, times, bodies) for _ in range(clients)))
    return Load(time.perf_counter() - started, times, bodies)
