"""Memory as the kernel and NVML tell it."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from core.memory.probe import DeviceMemory, Probe

GB = 1_000_000_000
MB = 1_000_000


def write(folder: Path, **values: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in values.items():
        (folder / name.replace("__", ".")).write_text(f"{value}\n")


def probe(tmp_path: Path, own: str) -> Probe:
    (tmp_path / "self").write_text(own)
    return Probe(tmp_path / "cgroup", tmp_path / "self")


def test_the_machine_without_limits(tmp_path: Path) -> None:
    machine = psutil.virtual_memory()
    host = probe(tmp_path, "0::/\n").host()
    assert (host.device, host.total) == ("cpu", machine.total)
    assert host.available + host.used == host.total
    assert 0 < host.percent < 100


def test_a_container_is_its_limit_v2(tmp_path: Path) -> None:
    write(tmp_path / "cgroup", memory__max="max", memory__current=9 * GB, memory__stat="inactive_file 1")
    stat = f"anon {500 * MB}\ninactive_file {200 * MB}\nactive_file 7"
    write(tmp_path / "cgroup/app", memory__max=GB, memory__current=700 * MB, memory__stat=stat)
    write(tmp_path / "cgroup/app/leaf", memory__max="max", memory__current=MB, memory__stat="")
    host = probe(tmp_path, "0::/app/leaf\n").host()
    assert host == DeviceMemory("cpu", "CPU", GB, 500 * MB, 500 * MB)
    assert host.percent == 50.0


def test_a_container_is_its_limit_v1(tmp_path: Path) -> None:
    write(
        tmp_path / "cgroup/memory/docker/x",
        memory__limit_in_bytes=GB,
        memory__usage_in_bytes=300 * MB,
        memory__stat=f"total_inactive_file {100 * MB}",
    )
    write(tmp_path / "cgroup/memory", memory__limit_in_bytes=9223372036854771712, memory__usage_in_bytes=GB)
    host = probe(tmp_path, "3:cpu,cpuacct:/docker/x\n2:memory:/docker/x\n1:name=systemd:/\n").host()
    assert host == DeviceMemory("cpu", "CPU", GB, 800 * MB, 200 * MB)


def test_a_path_of_the_host_falls_back_to_the_root(tmp_path: Path) -> None:
    write(tmp_path / "cgroup", memory__max=GB, memory__current=100 * MB, memory__stat="inactive_file 0")
    host = probe(tmp_path, "0::/kubepods/pod1/container1\n").host()
    assert (host.total, host.used) == (GB, 100 * MB)


def test_the_tightest_limit_holds(tmp_path: Path) -> None:
    write(tmp_path / "cgroup/a", memory__max=2 * GB, memory__current=1900 * MB, memory__stat="")
    write(tmp_path / "cgroup/a/b", memory__max=GB, memory__current=100 * MB, memory__stat="")
    host = probe(tmp_path, "0::/a/b\n").host()
    assert (host.total, host.available) == (GB, 100 * MB)


@pytest.mark.parametrize("own", ["", "0::/none\n"])
def test_files_that_are_not_there_limit_nothing(tmp_path: Path, own: str) -> None:
    assert probe(tmp_path, own).host().total == psutil.virtual_memory().total


def test_this_machine_can_be_read() -> None:
    host = Probe().host()
    assert 0 < host.available <= host.total <= psutil.virtual_memory().total


_HOLD = """
import mmap, sys
held = mmap.mmap(-1, int(sys.argv[1]))
for start in range(0, len(held), mmap.PAGESIZE):
    held[start] = 1
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def holder(size: int) -> Iterator[int]:
    """The pid of a process that holds `size` bytes for itself."""
    command = [sys.executable, "-c", _HOLD, str(size)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.communicate()


def test_a_process_holds_what_it_wrote_to() -> None:
    with holder(64 * MB) as large, holder(mmap.PAGESIZE) as small:
        difference = Probe().process(large)["cpu"] - Probe().process(small)["cpu"]
    assert 63 * MB < difference < 66 * MB


def test_a_process_that_is_gone_holds_nothing() -> None:
    with holder(mmap.PAGESIZE) as pid:
        pass
    assert Probe().process(pid) == {}


def test_no_driver_no_gpus() -> None:
    if os.path.exists("/dev/nvidiactl"):
        pytest.skip("this machine has a driver")
    assert Probe().gpus() == []


class _Lost(Exception):
    """An NVML error."""


class FakeNvml:
    """Three GPUs: one with two processes, one that is lost, one that tells of no processes."""

    NVMLError = _Lost

    def nvmlDeviceGetCount(self) -> int:
        return 3

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetUUID(self, handle: int) -> str | bytes:
        return b"GPU-a1b2-0" if handle == 0 else ["", "GPU-a1b2-1", "GPU-b2c4-2"][handle]

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:
        if handle == 1:
            raise _Lost
        return SimpleNamespace(total=80 * GB, free=60 * GB, used=19 * GB)

    def nvmlDeviceGetName(self, handle: int) -> str | bytes:
        return b"H200" if handle == 0 else "H200"

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[SimpleNamespace]:
        if handle == 2:
            raise _Lost
        mine = SimpleNamespace(pid=os.getpid(), usedGpuMemory=3 * GB if handle == 0 else None)
        return [SimpleNamespace(pid=1, usedGpuMemory=GB), mine]


def test_what_nvml_tells() -> None:
    probe = Probe(nvml=FakeNvml())
    assert probe.gpus() == [DeviceMemory(f"cuda:{index}", "H200", 80 * GB, 60 * GB, 19 * GB) for index in (0, 2)]
    held = probe.process(os.getpid())
    assert set(held) == {"cpu", "cuda:0"}
    assert held["cuda:0"] == 3 * GB


@pytest.mark.parametrize(
    ("named", "seen"),
    [
        ("", []), ("-1", []), ("0", [0]), ("2,0", [2, 0]), (" 2 , 9, 0", [2]), ("GPU-b2,0", [2, 0]), ("GPU-", []),
        ("GPU-b2c4", [2]), ("NoDevFiles", []),
    ],
)  # fmt: skip
def test_gpus_are_numbered_as_a_worker_sees_them(named: str, seen: list[int]) -> None:
    nvml = FakeNvml()
    nvml.nvmlDeviceGetMemoryInfo = lambda handle: SimpleNamespace(total=handle, free=handle, used=0)  # type: ignore[method-assign]
    assert [(gpu.device, gpu.total) for gpu in Probe(nvml=nvml, visible_gpus=named).gpus()] == [
        (f"cuda:{number}", index) for number, index in enumerate(seen)
    ]


@pytest.mark.gpu
def test_gpus_as_nvml_tells_them() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    gpus = Probe().gpus()
    assert [gpu.device for gpu in gpus] == [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    before = gpus[0].used
    held = torch.empty(512 * MB, dtype=torch.uint8, device="cuda:0")
    after = Probe().gpus()[0]
    assert after.used - before >= held.nbytes
    assert after.used + after.available <= after.total


def test_what_comes_and_goes_while_it_is_looked_at_is_counted_once() -> None:
    script = "while True:\n  x = b'x' * (80 << 20); del x"
    probe = Probe()
    with subprocess.Popen([sys.executable, "-c", script]) as child:
        try:
            while probe.process(child.pid)["cpu"] < 80 * MB:
                pass
            probe.forget_peak(child.pid)
            looks = [(held := probe.process(child.pid), probe.peak(child.pid, held)) for _ in range(300)]
        finally:
            child.kill()
    most = max(held["cpu"] for held, _ in looks)
    assert most > 80 * MB
    assert max(peak["cpu"] for _, peak in looks) < most + 20 * MB


def test_the_most_that_a_process_held_between_two_looks() -> None:
    """From a moment on, whatever it took and gave back before and after."""
    script = "import sys\nfor line in sys.stdin:\n  x = b'x' * int(line); del x; print('done', flush=True)"
    probe = Probe()
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None

        def take(size: int) -> None:
            child.stdin.write(b"%d\n" % size)  # type: ignore[union-attr]
            child.stdin.flush()  # type: ignore[union-attr]
            child.stdout.readline()  # type: ignore[union-attr]

        take(300 * MB)
        held = probe.process(child.pid)
        assert held["cpu"] < 100 * MB
        assert probe.peak(child.pid, held) == held, "not known before it was forgotten"
        probe.forget_peak(child.pid)
        assert probe.peak(child.pid, held)["cpu"] < 100 * MB
        take(200 * MB)
        assert 200 * MB < probe.peak(child.pid, probe.process(child.pid))["cpu"] < 300 * MB
        child.stdin.close()
        child.wait()
        assert probe.peak(child.pid, {}) == {}
    probe.forget_peak(child.pid)
