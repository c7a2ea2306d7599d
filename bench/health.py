"""Does /health answer while every model is busy?

    python -m bench.health

64 clients keep the three starter models busy for a bounded number of requests; meanwhile /health is asked again
and again. Prints its 50th and 99th percentile and worst time.
"""

from __future__ import annotations

import asyncio

from bench import corpus
from bench.clients import Load, drive, get, post
from bench.servers import berth

STARTERS = ("sentiment", "ner", "embed")
CLIENTS = 64
REQUESTS = 6000


async def ask_health(port: int, busy: asyncio.Task[Load]) -> list[float]:
    times: list[float] = []
    while not busy.done():
        times += (await drive(port, [get("/health")] * 10, 1)).times
    return sorted(times)


async def main() -> None:
    async with berth() as (port, _):
        for name in STARTERS:
            body = {"model_name": f"starter-{name}", "model_path": f"starter:{name}"}
            await drive(port, [post("/models/load?wait=true", body)], 1)
        requests = [
            post(f"/models/starter-{STARTERS[index % 3]}/predict", {"text": text})
            for index, text in enumerate(corpus.short(REQUESTS))
        ]
        busy = asyncio.create_task(drive(port, requests, CLIENTS))
        times = await ask_health(port, busy)
        load = await busy
    half, most = times[len(times) // 2], times[int(len(times) * 0.99)]
    print(
        f"{CLIENTS} clients, {load.rate:.0f} requests/s over {len(STARTERS)} models; "
        f"/health asked {len(times)} times: median {half * 1000:.1f} ms, p99 {most * 1000:.1f} ms, "
        f"worst {times[-1] * 1000:.1f} ms"
    )


if __name__ == "__main__":
    asyncio.run(main())
