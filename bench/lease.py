"""What memory's bookkeeping costs the front process: the lease of a request, and the admission of a load.

    python -m bench.lease

Six starters are in memory, under a budget. Prints microseconds, median and 99th percentile: taking and giving back the
lease of a ready model, which every request does; and what a load is told by the ledger, with six models and with 50:
that there is room, that idle ones have to go and which, or that it has to wait for busy ones.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from core.core import Core
from core.memory.ledger import Ledger, Tenant, Verdict
from core.settings import Settings
from core.types import ModelSpec, Task

MIB = 1024 * 1024
MODELS = {f"{kind}-{number}": f"starter:{kind}" for number in (1, 2) for kind in ("sentiment", "ner", "embed")}
LEASES = 20_000
DECISIONS = 5_000


def told(what: str, nanoseconds: list[int]) -> None:
    taken = sorted(nanoseconds)
    print(f"| {what} | {taken[len(taken) // 2] / 1000:.1f} | {taken[int(len(taken) * 0.99)] / 1000:.1f} |", flush=True)


async def leases(core: Core) -> list[int]:
    taken = []
    for _ in range(LEASES):
        started = time.perf_counter_ns()
        async with core.registry.lease("sentiment-1", Task.TEXT_CLASSIFICATION):
            pass
        taken.append(time.perf_counter_ns() - started)
    return taken


def decisions(count: int, verdict: Verdict) -> list[int]:
    """Of a ledger that `count` models share."""
    ledger = Ledger({"cpu": (count + (verdict is Verdict.FITS)) * MIB})
    tenants = [Tenant(f"m{number}", float(number), is_busy=verdict is Verdict.WAIT) for number in range(count)]
    for tenant in tenants:
        ledger.ask(tenant.name, {"cpu": MIB})
        ledger.force(tenant.name)
    return [_timed(lambda: _decide(ledger, tenants, verdict)) for _ in range(DECISIONS)]


def _decide(ledger: Ledger, tenants: list[Tenant], verdict: Verdict) -> None:
    ledger.ask("new", {"cpu": MIB})
    if ledger.decide("new", tenants).verdict is not verdict:
        raise AssertionError("another verdict than the one that is measured")
    ledger.withdraw("new")
    ledger.release("new")


def _timed(work: Callable[[], None]) -> int:
    started = time.perf_counter_ns()
    work()
    return time.perf_counter_ns() - started


async def main() -> None:
    with tempfile.TemporaryDirectory() as made:
        settings = Settings(
            _env_file=None, models_dir=Path(made), data_dir=Path(made) / "data", offline=True, threads=1,
            cpu_memory_budget_mb=2048,
        )  # fmt: skip
        core = Core(settings)
        await core.start()
        for name, source in MODELS.items():
            await (await core.load(ModelSpec(name, source))).done
        print(f"load average {os.getloadavg()[0]:.0f}\n\n| | median, µs | 99 %, µs |\n|---|---|---|")
        told("lease of a ready model", await leases(core))
        await core.stop()
    for verdict, what in ((Verdict.FITS, "fits"), (Verdict.EVICT, "who goes"), (Verdict.WAIT, "wait")):
        for count in (len(MODELS), 50):
            told(f"admission, {count} models: {what}", decisions(count, verdict))


if __name__ == "__main__":
    asyncio.run(main())
