"""How much memory this machine and each model's process use, asked of the kernel and of NVML. Never of CUDA: asking
CUDA would make a context of its own on every device."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil

_CGROUP = Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60  # cgroup v1 writes a number near 2**63 where there is no limit


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """All in bytes. `available` is what a new process could take without anything being swapped out."""

    device: str  # "cpu", "cuda:0"
    name: str
    total: int
    available: int
    used: int

    @property
    def free(self) -> int:
        return self.available

    @property
    def percent(self) -> float:
        return round(100 * self.used / self.total, 1) if self.total else 0.0


class Probe:
    """Reads of the moment; nothing is cached but NVML's handles."""

    def __init__(
        self,
        cgroup: Path = _CGROUP,
        own_cgroup: Path = Path("/proc/self/cgroup"),
        nvml: Any = None,
        visible_gpus: str | None = None,  # as CUDA_VISIBLE_DEVICES has them
    ) -> None:
        self._cgroup, self._own_cgroup = cgroup, own_cgroup
        self._visible = visible_gpus
        self._nvml = nvml or _open_nvml()
        self._forgotten: set[int] = set()

    def host(self) -> DeviceMemory:
        """The machine's memory, or what the container may take of it, whichever is less."""
        machine = psutil.virtual_memory()
        total, available = machine.total, machine.available
        for limit, used in self._limits():
            if limit < total:
                total = limit
            available = min(available, max(0, limit - used))
        return DeviceMemory("cpu", "CPU", total, available, total - available)

    def gpus(self) -> list[DeviceMemory]:
        """Each NVIDIA GPU's memory as NVML tells it; none where there is no driver."""
        if self._nvml is None:
            return []
        found = []
        for index, handle in self._gpus():
            with contextlib.suppress(self._nvml.NVMLError):  # a device may be lost, or hidden from us
                memory = self._nvml.nvmlDeviceGetMemoryInfo(handle)
                name = self._nvml.nvmlDeviceGetName(handle)
                name = name.decode() if isinstance(name, bytes) else name
                found.append(DeviceMemory(f"cuda:{index}", name, memory.total, memory.free, memory.used))
        return found

    def process(self, pid: int) -> dict[str, int]:
        """Bytes that process `pid` holds for itself by device: memory it shares with no other, and GPU memory.

        Empty when the process is gone.
        """
        try:
            held = {"cpu": _private_bytes(pid)}
        except (psutil.Error, OSError):
            self._forgotten.discard(pid)
            return {}
        if self._nvml is not None:
            for index, handle in self._gpus():
                used = _gpu_bytes(self._nvml, handle, pid)
                if used is not None:
                    held[f"cuda:{index}"] = used
        return held

    def forget_peak(self, pid: int) -> None:
        """From now on the most that process `pid` has held is what it holds now."""
        self._forgotten.discard(pid)
        with contextlib.suppress(OSError):  # in some containers /proc cannot be written; or it is gone
            Path(f"/proc/{pid}/clear_refs").write_text("5")
            self._forgotten.add(pid)

    def peak(self, pid: int, held: dict[str, int]) -> dict[str, int]:
        """The most that process `pid`, which holds `held` now, has held since `forget_peak`, as far as it is known: a
        batch comes and goes between two looks."""
        if pid not in self._forgotten or "cpu" not in held:
            return held
        with contextlib.suppress(OSError, LookupError, ValueError):  # it may be gone
            # what is shared is told in one go: a batch that went between two looks would be counted twice
            now = _fields(Path(f"/proc/{pid}/smaps_rollup"))
            shared = now["Rss"] - sum(size for name, size in now.items() if name.startswith("Private_"))
            return {**held, "cpu": max(held["cpu"], _fields(Path(f"/proc/{pid}/status"))["VmHWM"] - shared)}
        return held

    def _gpus(self) -> Iterator[tuple[int, object]]:
        """Number and handle of each GPU that CUDA would show a worker. CUDA_VISIBLE_DEVICES renumbers them there, and
        NVML knows nothing of it; workers are told to count as NVML does (CUDA_DEVICE_ORDER)."""
        nvml: Any = self._nvml
        visible = self._visible
        for number, index in enumerate(_all(nvml) if visible is None else _named(nvml, visible.split(","))):
            try:
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
            except nvml.NVMLError:
                continue
            yield number, handle

    def _limits(self) -> Iterator[tuple[int, int]]:
        """(limit, bytes in use that cannot be dropped) of each control group that holds this process."""
        try:
            lines = self._own_cgroup.read_text().splitlines()
        except OSError:
            return
        for line in lines:
            _, controllers, path = line.split(":", 2)
            if controllers == "":
                yield from self._limits_under(self._cgroup, path, "memory.max", "memory.current", "inactive_file")
            elif "memory" in controllers.split(","):
                yield from self._limits_under(
                    self._cgroup / "memory", path, "memory.limit_in_bytes", "memory.usage_in_bytes",
                    "total_inactive_file",
                )  # fmt: skip

    def _limits_under(
        self, root: Path, path: str, limit_name: str, usage_name: str, cached_name: str
    ) -> Iterator[tuple[int, int]]:
        """From the process's own group up to the root: the tightest of them holds. In a container the path is
        often the host's, and the root is then the container's own group."""
        folder = root / path.lstrip("/")
        for group in (folder, *folder.parents):
            limit = _number(group / limit_name)
            if limit is not None and limit < _UNLIMITED:
                usage = _number(group / usage_name) or 0
                yield limit, max(0, usage - _stat(group / "memory.stat", cached_name))
            if group == root:
                return


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None  # cgroup v2 writes "max" where there is no limit


def _stat(path: Path, name: str) -> int:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name} ")), 0)


def _fields(path: Path) -> dict[str, int]:
    """Bytes by name, of a file of /proc."""
    lines = (line.partition(":") for line in path.read_text().splitlines())
    return {name: int(rest.split()[0]) * 1024 for name, _, rest in lines if rest.endswith(" kB")}


def _private_bytes(pid: int) -> int:
    """Memory that would come back if the process ended: what it has forked off and not written to is shared."""
    try:
        return int(psutil.Process(pid).memory_full_info().uss)
    except psutil.AccessDenied:
        info = psutil.Process(pid).memory_info()
        return int(info.rss - getattr(info, "shared", 0))


def _open_nvml() -> ModuleType | None:
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml  # type: ignore[no-any-return]


def _all(nvml: Any) -> range:
    with contextlib.suppress(nvml.NVMLError):  # the driver may have been taken away
        return range(nvml.nvmlDeviceGetCount())
    return range(0)


def _named(nvml: Any, names: list[str]) -> Iterator[int]:
    """NVML's numbers of GPUs given by number or by the beginning of their UUID. As CUDA has it, one that is not there
    hides those behind it."""
    for name in (each.strip() for each in names):
        found = [index for index in _all(nvml) if name == str(index) or (name and _uuid(nvml, index).startswith(name))]
        if len(found) != 1:
            return
        yield found[0]


def _uuid(nvml: Any, index: int) -> str:
    with contextlib.suppress(nvml.NVMLError):
        uuid = nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetHandleByIndex(index))
        return uuid.decode() if isinstance(uuid, bytes) else str(uuid)
    return ""


def _gpu_bytes(nvml: Any, handle: object, pid: int) -> int | None:
    """Bytes that `pid` holds on one GPU, None when it holds none or NVML does not tell (in some containers)."""
    with contextlib.suppress(nvml.NVMLError):
        for each in nvml.nvmlDeviceGetComputeRunningProcesses(handle):
            if each.pid == pid and each.usedGpuMemory is not None:
                return int(each.usedGpuMemory)
    return None
