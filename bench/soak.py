"""More models than there is memory for, all in use at random: nobody is lost, and the budget holds.

    python -m bench.soak [minutes]

Loads six models once to see what each counts for, then starts a server with a budget that fits any two of them and no
three, and has 32 clients ask all six at random. Prints what became of every request, the longest wait, how often a
model was evicted, and the most that was ever held: as the server's ledger says, and as the kernel says of its
processes. Ends with status 1 when a request was lost or failed, or the budget was exceeded.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

import psutil

from bench.clients import answer_of, drive, get, post
from bench.servers import berth

MIB = 1024 * 1024
MODELS = {f"{kind}-{number}": f"starter:{kind}" for number in (1, 2) for kind in ("sentiment", "ner", "embed")}
CLIENTS = 32
TEXTS = ("좋아요", "정말 실망했어요. 다시는 안 살 거예요.", "Mina moved to Busan in May.", "What a wonderful day!")


@dataclass
class Story:
    """What happened. Seconds and bytes."""

    sent: int = 0
    waits: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    evictions: set[tuple[str, str]] = field(default_factory=set)  # model, when
    limit: int = 0
    most_held: int = 0  # by the ledger
    most_measured: int = 0  # by the kernel


async def ask_json(port: int, path: str) -> dict[str, object]:
    return json.loads((await drive(port, [get(path)], 1)).bodies[0])  # type: ignore[no-any-return]


def load(name: str) -> bytes:
    return post("/models/load?wait=true", {"model_name": name, "model_path": MODELS[name]})


async def sizes() -> list[int]:
    """Bytes that each model counts for once it has answered, in no order."""
    async with berth() as (port, _):
        await drive(port, [load(name) for name in MODELS], 1)
        await drive(port, [post(f"/models/{name}/predict", {"text": TEXTS[1]}) for name in MODELS], 1)
        ledger = (await ask_json(port, "/system/memory"))["ledger"]
        return [max(each["promised"], each["measured"]["cpu"]) for each in ledger.values()]  # type: ignore[attr-defined]


async def client(port: int, until: float, draw: random.Random, story: Story) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.monotonic() < until:
        request = post(f"/models/{draw.choice(list(MODELS))}/predict", {"text": draw.choice(TEXTS)})
        started = time.monotonic()
        story.sent += 1
        writer.write(request)
        try:
            await answer_of(reader)
        except RuntimeError as error:
            story.failures[str(error)[:120]] += 1
        except (OSError, asyncio.IncompleteReadError):
            story.failures["no answer"] += 1
            writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        else:
            story.waits.append(time.monotonic() - started)
    writer.close()


async def watch(port: int, server: psutil.Process, story: Story) -> None:
    """Looks at the ledger and at the processes until it is cancelled."""
    while True:
        budget = (await ask_json(port, "/system/memory"))["budgets"]["cpu"]  # type: ignore[index]
        story.limit, story.most_held = budget["limit"], max(story.most_held, budget["held"])
        story.most_measured = max(story.most_measured, held_by_workers(server))
        status = await ask_json(port, "/system/status")
        story.evictions |= {(each["model"], each["at"]) for each in status["evictions"]}  # type: ignore[attr-defined]
        await asyncio.sleep(0.2)


def held_by_workers(server: psutil.Process) -> int:
    """Bytes that the models' processes hold for themselves: those whose parent is the fork server."""
    held = 0
    for child in server.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if child.ppid() != server.pid:
                held += child.memory_full_info().uss
    return held


async def main(minutes: float) -> bool:
    each = sorted(await sizes())
    budget = sum(each[-2:]) + MIB
    assert budget < sum(each[:3]), "three of the models would fit"
    print(f"six models of {each[0] / MIB:.0f} to {each[-1] / MIB:.0f} MiB; budget {budget / MIB:.0f} MiB, two of them")
    story, draw = Story(), random.Random(4)
    async with berth(BERTH_CPU_MEMORY_BUDGET_MB=str(budget / MIB)) as (port, server):
        await drive(port, [load(name) for name in MODELS], 1)
        watching = asyncio.create_task(watch(port, server, story))
        until = time.monotonic() + minutes * 60
        await asyncio.gather(*(client(port, until, random.Random(draw.random()), story) for _ in range(CLIENTS)))
        watching.cancel()
        await asyncio.wait([watching])
    return told(story, minutes)


def told(story: Story, minutes: float) -> bool:
    waits = sorted(story.waits)
    print(f"{minutes:g} min, {CLIENTS} clients: {story.sent} requests sent, {len(waits)} answered, "
          f"{sum(story.failures.values())} failed")  # fmt: skip
    for failure, count in story.failures.most_common():
        print(f"  {count} × {failure}")
    print(f"wait: median {waits[len(waits) // 2]:.2f} s, 99 % below {waits[int(len(waits) * 0.99)]:.2f} s, "
          f"longest {waits[-1]:.2f} s")  # fmt: skip
    print(f"evictions seen: {len(story.evictions)}; of {story.limit / MIB:.0f} MiB the ledger held at most "
          f"{story.most_held / MIB:.0f}, the processes at most {story.most_measured / MIB:.0f}")  # fmt: skip
    return len(waits) == story.sent and max(story.most_held, story.most_measured) <= story.limit


if __name__ == "__main__":
    sys.exit(0 if asyncio.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else 10)) else 1)
