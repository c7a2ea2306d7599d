"""Processes: clean to fork from, gone with the front process, back after the fork server's death."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from core.errors import WorkerCrashed
from core.fleet.launcher import Launcher, Lines
from core.fleet.worker import Worker
from core.memory.probe import Probe
from core.types import Runtime

MIB = 1024 * 1024


@pytest.fixture
async def own_launcher():
    launcher = Launcher("tests.fakes.runtime")
    yield launcher
    await launcher.stop()


async def worker_of(launcher: Launcher) -> Worker:
    worker = Worker("a", await launcher.launch(Runtime.TRANSFORMERS))
    await worker.open()
    return worker


async def test_the_real_fork_server_imports_everything_and_stays_clean():
    launcher = Launcher()
    await launcher.start()
    try:
        async with asyncio.timeout(100):
            await launcher.warm.wait()
        assert launcher.unavailable == {}
        server = psutil.Process(launcher._server.pid)
        # one thread: a lock held by another at the moment of a fork would stay locked for ever in the child
        assert len(os.listdir(f"/proc/{server.pid}/task")) == 1
        worker = await worker_of(launcher)  # refused if CUDA had been touched
        assert await worker.is_alive()
        assert psutil.Process(worker.pid).ppid() == server.pid
        # what was imported stays shared: a collection of garbage would copy some 120 MiB into each worker
        await worker.call("trim", deadline_s=60)
        assert Probe().process(worker.pid)["cpu"] < 30 * MIB
        await worker.close()

        worker = Worker("b", await launcher.launch(Runtime.TRANSFORMERS, quantizes=True))
        await worker.open()
        assert await worker.is_alive()
        assert psutil.Process(worker.pid).ppid() == server.pid
        assert len(os.listdir(f"/proc/{server.pid}/task")) == 1
        # bitsandbytes asks CUDA what it can do, so with a GPU each worker imports it for itself
        is_imported = "libbitsandbytes" in Path(f"/proc/{server.pid}/maps").read_text()
        assert is_imported is not bool(Probe().gpus())
        await worker.close()
    finally:
        await launcher.stop()


async def test_a_fork_server_that_died_is_replaced_and_takes_its_workers_along(own_launcher):
    worker = await worker_of(own_launcher)
    psutil.Process(psutil.Process(worker.pid).ppid()).kill()
    assert isinstance(await worker.died, WorkerCrashed)
    replaced = await worker_of(own_launcher)
    assert await replaced.is_alive()
    await replaced.close()


async def test_a_worker_holds_no_descriptor_of_another(own_launcher):
    first, second = await worker_of(own_launcher), await worker_of(own_launcher)
    for worker in (first, second):
        assert await worker.is_alive()  # it has become a worker
    counts = [psutil.Process(worker.pid).num_fds() for worker in (first, second)]
    assert counts[0] == counts[1]
    await first.close()
    await second.close()


async def test_secrets_do_not_reach_the_workers(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_V3ry")
    monkeypatch.setenv("BERTH_ADMIN_KEY", "key_V3ry")
    launcher = Launcher("tests.fakes.runtime")
    worker = await worker_of(launcher)
    environment = psutil.Process(worker.pid).environ()
    await launcher.stop()
    assert not any("V3ry" in value for value in environment.values())


async def test_where_forking_is_refused_a_fresh_process_does_it():
    launcher = Launcher("tests.fakes.refusing", "tests.fakes.obedient")
    worker = await worker_of(launcher)
    assert await worker.is_alive()
    assert psutil.Process(worker.pid).ppid() == os.getpid()
    os.kill(worker.pid, signal.SIGKILL)
    assert "SIGKILL" in (await worker.died).message
    await launcher.stop()


_FRONT = """
import asyncio
from core.fleet.launcher import Launcher
from core.types import Runtime

async def main():
    launcher = Launcher("tests.fakes.runtime")
    workers = [await launcher.launch(Runtime.TRANSFORMERS) for _ in range(2)]
    print(launcher._server.pid, *(worker.pid for worker in workers), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_workers_end_when_the_front_process_is_killed():
    front = await asyncio.create_subprocess_exec(sys.executable, "-c", _FRONT, stdout=asyncio.subprocess.PIPE)
    processes = [psutil.Process(int(pid)) for pid in (await front.stdout.readline()).split()]
    front.kill()
    await front.wait()
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, timeout=10)
    assert alive == []


async def test_a_fork_that_fails_is_typed_and_harms_nobody(own_launcher):
    worker = await worker_of(own_launcher)
    server = psutil.Process(psutil.Process(worker.pid).ppid())
    limits = server.rlimit(psutil.RLIMIT_NOFILE)
    server.rlimit(psutil.RLIMIT_NOFILE, (3, limits[1]))  # no number below it is free for another descriptor
    with pytest.raises(WorkerCrashed, match="could be started"):
        await own_launcher.launch(Runtime.TRANSFORMERS)
    assert await worker.is_alive()
    server.rlimit(psutil.RLIMIT_NOFILE, limits)
    another = await worker_of(own_launcher)
    assert await another.is_alive()
    await worker.close()
    await another.close()


async def test_what_a_worker_prints_reaches_the_log_cut_and_counted(own_launcher, caplog):
    caplog.set_level("INFO", "core.fleet.launcher")
    lines = Lines(7)
    lines.feed(b"first\nsec")
    lines.feed(b"ond\x1b[31m\n" + b"x" * 5000 + b"\n" + b"line\n" * 1000)
    shown = [record.getMessage() for record in caplog.records]
    assert shown[:2] == ["worker 7: first", "worker 7: second\\x1b[31m"]
    assert max(map(len, shown)) < 1100
    assert len(shown) <= 100  # fifty a second, and the test may cross the border of one
