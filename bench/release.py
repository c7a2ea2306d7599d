"""Load, use, unload, twenty times for each runtime and quantisation: is all of it given back?

    python -m bench.release [--models DIR] [--cycles N] [--only NAME …]

DIR holds what bench/minilm.py, bench/llama.py and bench/t5.py write; without it they are made anew. One server does it
all. What is compared, after a first cycle (which imports what the fork server imports once) and after N more:

- *ours*: anonymous and shared memory of the server's processes, each page counted once (`Pss_Anon`, `Pss_Shmem` of
  /proc/PID/smaps_rollup). Pages of files are left out: they are the kernel's, which drops them at will, and how many
  count as ours depends on who else has the file open.
- *machine*: what the ledger's probe says is in use on this machine, less the same figure of every process that is not
  ours. It holds what the kernel keeps for us too, and the noise of everybody else: the median of several looks.
- the processes, threads and open files of the front process and the fork server, and files in /dev/shm.

`held` is the most that a model's process had to itself. Ends with status 1 when ours grew by 1 % or anything was left.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from bench.clients import drive, post
from bench.servers import berth, until_settled
from core.memory.probe import Probe

MIB = 1024 * 1024
ALLOWED = 0.01  # of what was held before
_SHM = Path("/dev/shm")
_LOOKS = 5
_TEXTS = ["좋아요", "Mina moved to Busan in May. " * 20, "What a wonderful day!"]
_MADE = {"minilm": ("minilm", "minilm-onnx"), "llama": ("llama", "llama-gguf", "llama-onnx"), "t5": ("t5",)}


@dataclass(frozen=True)
class Case:
    name: str
    source: str  # under the models directory
    options: dict[str, Any] = field(default_factory=dict)
    generates: bool = False


CASES = (
    Case("encoder, transformers", "minilm", {"runtime": "transformers"}),
    Case("encoder, transformers, bfloat16", "minilm", {"runtime": "transformers", "dtype": "bfloat16"}),
    Case("encoder, transformers, 8-bit", "minilm", {"runtime": "transformers", "quantization": "8bit"}),
    Case("encoder, transformers, 4-bit", "minilm", {"runtime": "transformers", "quantization": "4bit"}),
    Case("encoder, sentence-transformers", "minilm"),
    Case("encoder, ONNX", "minilm-onnx"),
    Case("decoder, transformers", "llama", generates=True),
    Case("decoder, transformers, 8-bit", "starter:chat", {"quantization": "8bit"}, generates=True),
    Case("decoder, transformers, 4-bit", "starter:chat", {"quantization": "4bit"}, generates=True),
    Case("encoder-decoder, transformers", "t5", generates=True),
    Case("decoder, ONNX", "llama-onnx", generates=True),
    Case("decoder, GGUF", "llama-gguf", generates=True),
)


@dataclass(frozen=True)
class Held:
    """At one moment. Bytes, and counts."""

    ours: int
    machine: int
    open: dict[str, int]


def _counted_once(pid: int) -> int:
    """Anonymous and shared bytes of a process; a page that n processes share counts an n-th."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    sizes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines[1:])}
    return (sizes["Pss_Anon"] + sizes["Pss_Shmem"]) * 1024


async def held(server: psutil.Process) -> Held:
    """Once the server is at rest."""
    await until_settled(server)
    family = [server, *server.children(recursive=True)]
    pids, beside = {each.pid for each in family}, []
    for _ in range(_LOOKS):
        others = 0
        for pid in set(psutil.pids()) - pids:
            with contextlib.suppress(OSError, IndexError, KeyError):  # it has gone, or is the kernel's
                others += _counted_once(pid)
        beside.append(Probe().host().used - others)
        await asyncio.sleep(0.2)
    return Held(
        ours=sum(_counted_once(each.pid) for each in family),
        machine=int(statistics.median(beside)),
        open={
            "processes": len(family),
            "threads": sum(each.num_threads() for each in family),
            "descriptors": sum(each.num_fds() for each in family),
            "shared memory": sum(path.stat().st_uid == os.getuid() for path in _SHM.iterdir()),
        },
    )


async def ask(port: int, path: str, body: object) -> dict[str, Any]:
    return json.loads((await drive(port, [post(path, body)], 1)).bodies[0])  # type: ignore[no-any-return]


async def cycle(port: int, server: psutil.Process, case: Case) -> int:
    """One load, use and unload; bytes that the model's process had to itself. Raises RuntimeError if some are left."""
    await ask(port, "/models/load?wait=true", {"model_name": "it", "model_path": case.source, **case.options})
    await ask(
        port, "/models/it/predict", {"text": _TEXTS[1], "max_new_tokens": 8} if case.generates else {"texts": _TEXTS}
    )
    (fork_server,) = server.children()
    (worker,) = fork_server.children()
    size = worker.memory_full_info().uss
    released = await ask(port, "/models/it/unload", {})
    if released["left_bytes"] or worker.is_running():
        raise RuntimeError(f"{case.name}: not all came back: {released}")
    return int(size)


async def prove(port: int, server: psutil.Process, case: Case, cycles: int) -> bool:
    """Prints the row of `case`; whether everything came back."""
    await cycle(port, server, case)
    before = await held(server)
    most = max([await cycle(port, server, case) for _ in range(cycles)])
    after = await held(server)
    more = {name: count - before.open[name] for name, count in after.open.items() if count > before.open[name]}
    grown, beside = after.ours - before.ours, after.machine - before.machine
    cells = (
        case.name,
        f"{most / MIB:.0f}",
        f"{before.ours / MIB:.1f}",
        f"{after.ours / MIB:.1f}",
        f"{grown / before.ours:+.2%}",
        f"{beside / MIB:+.0f} ({beside / before.machine:+.1%})",
        ", ".join(f"{count} {name}" for name, count in more.items()) or "nothing",
    )
    print(f"| {' | '.join(cells)} |", flush=True)
    return grown <= before.ours * ALLOWED and not more


async def main() -> bool:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, help="a directory that holds the models already")
    parser.add_argument("--cycles", type=int, default=20)
    parser.add_argument("--only", nargs="*", help="names of models, or parts of them")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        models = given.models or Path(made)
        _lay_out(models)
        print("| model | held, MiB | ours before | after | | machine, MiB | left |")
        print("|---|---|---|---|---|---|---|", flush=True)
        cases = [case for case in CASES if not given.only or any(part in case.name for part in given.only)]
        async with berth(models.resolve(), HF_HUB_OFFLINE="1") as (port, server):
            return all([await prove(port, server, case, given.cycles) for case in cases])


def _lay_out(root: Path) -> None:
    """What is not there yet."""
    from bench import llama, minilm, t5

    for module, names in ((minilm, _MADE["minilm"]), (llama, _MADE["llama"]), (t5, _MADE["t5"])):
        if not all((root / name).is_dir() for name in names):
            module.lay_out(root)


if __name__ == "__main__":
    sys.exit(0 if asyncio.run(main()) else 1)
