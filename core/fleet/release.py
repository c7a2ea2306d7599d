"""The end of a model's process, and proof that the devices have its bytes back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import psutil

from core.errors import BerthError
from core.fleet.worker import Worker
from core.memory.probe import DeviceMemory

_WAIT_S = 5.0  # the driver has this long to show the bytes back
_LOOK_S = 0.05
_BACK = 0.9  # of what a process was seen to hold on a GPU; less is rounding, and other processes' doing


class DeviceProbe(Protocol):
    """`core.memory.probe.Probe` is one."""

    def process(self, pid: int) -> dict[str, int]: ...

    def forget_peak(self, pid: int) -> None: ...

    def peak(self, pid: int, held: dict[str, int]) -> dict[str, int]: ...

    def host(self) -> DeviceMemory: ...

    def gpus(self) -> list[DeviceMemory]: ...


@dataclass(frozen=True, slots=True)
class Released:
    """Bytes by device. `left`: what has not come back within five seconds, by device and owner."""

    freed: dict[str, int] = field(default_factory=dict)
    left: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Held:
    """What a process, its children and every GPU held at one moment."""

    processes: Mapping[int, dict[str, int]]
    gpus: Mapping[str, int]  # in use there at all
    others: Mapping[str, int]  # by our other models

    def of(self, device: str) -> int:
        return sum(held.get(device, 0) for held in self.processes.values())


async def release(
    worker: Worker, probe: DeviceProbe, reason: BerthError | None = None, others: Sequence[int] = ()
) -> Released:
    """Ends `worker` and waits until what it held is back, or five seconds have passed.

    `others` are the pids of models that stay: what those take meanwhile is not taken for bytes that did not come back.
    """
    before = await asyncio.to_thread(_look, probe, _family(worker.pid), others)
    await worker.close(reason)
    pids = tuple(before.processes)
    left: dict[str, dict[str, int]] = {}
    for _ in range(int(_WAIT_S / _LOOK_S)):
        left = _left(before, await asyncio.to_thread(_look, probe, pids, others))
        if not left:
            break
        await asyncio.sleep(_LOOK_S)
    devices = {device for held in before.processes.values() for device in held}
    freed = {device: max(0, before.of(device) - sum(left.get(device, {}).values())) for device in sorted(devices)}
    return Released(freed, left)


def _family(pid: int) -> list[int]:
    """A process and its descendants."""
    with contextlib.suppress(psutil.Error):
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    return [pid]


def _look(probe: DeviceProbe, pids: Sequence[int], others: Sequence[int]) -> _Held:
    held = {pid: found for pid in pids if (found := probe.process(pid))}
    gpus = {gpu.device: gpu.used for gpu in probe.gpus()}
    beside = [probe.process(pid) for pid in others] if gpus else []
    return _Held(held, gpus, {device: sum(found.get(device, 0) for found in beside) for device in gpus})


def _left(before: _Held, now: _Held) -> dict[str, dict[str, int]]:
    """By device, what the processes that are left hold, and on a GPU what nobody is seen to hold."""
    left: dict[str, dict[str, int]] = {}
    for pid, held in now.processes.items():
        for device, size in held.items():
            if size:
                left.setdefault(device, {})[f"process {pid}"] = size
    for device, used in before.gpus.items():
        gone = before.of(device) - now.of(device)
        grown = now.others.get(device, 0) - before.others.get(device, 0)
        back = used - now.gpus.get(device, 0) + grown
        if gone and back < gone * _BACK:
            left.setdefault(device, {})["unknown"] = gone - max(0, back)
    return left
