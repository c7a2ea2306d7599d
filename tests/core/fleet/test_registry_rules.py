"""A registry under any sequence of loads, requests, deaths, unloads and time: over real processes."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from core.errors import BerthError, InternalError
from core.fleet.launcher import Launcher
from core.fleet.loading import Loader
from core.fleet.placement import Placement
from core.memory.probe import Probe
from core.settings import MIB, Settings
from core.types import ModelSpec, State
from tests.core.fleet.clock import FakeClock
from tests.core.fleet.conftest import Crowd, Shelf

SIZES = {"a": 100, "b": 100, "c": 60, "d": 150, "e": 250}  # MiB; the last never fits
ROOM = 200
names = st.sampled_from("aaabbbccde")


class Machine(RuleBasedStateMachine):
    """Runs on a loop of its own, which moves on for a moment after every step."""

    loop: asyncio.AbstractEventLoop
    launcher: Launcher

    @initialize()
    def begin(self):
        self.folder = tempfile.TemporaryDirectory()
        shelf = Shelf(Path(self.folder.name))
        for name in SIZES:
            shelf.add(name)
        self.clock = FakeClock()
        told = Settings(
            _env_file=None, data_dir=shelf.root, cpu_memory_budget_mb=ROOM, load_wait_s=15, drain_s=0.2, max_queue=4
        )
        self.registry = Crowd(
            told,
            Loader(told, shelf, self.launcher),
            Probe(),
            self.clock,
            lambda inspection, settings, gpus: [Placement("cpu", {"cpu": SIZES[inspection.spec.name] * MIB})],
        )
        self.requests: list[tuple[asyncio.Task[None], asyncio.Event]] = []
        self.others: list[asyncio.Task[object]] = []

    def spend(self, seconds=0.002):
        self.loop.run_until_complete(asyncio.sleep(seconds))
        self.balance()

    def balance(self):
        """Every account is that of a model in memory or on its way there or away; nobody is admitted twice."""
        registry = self.registry
        ledger = registry.room.ledger
        assert registry.faults == []
        ready = {record.name for record in registry.records() if record.worker is not None}
        assert ready <= {*ledger.names}
        assert not {*ledger.names} & {*ledger.waiting}
        assert ledger.held("cpu") <= ROOM * MIB
        for record in registry.records():
            assert not isinstance(record.last_error, InternalError)
            assert record.leases >= 0
            assert record.idle.is_set() == (record.leases == 0)

    async def _request(self, name, done):
        async with self.registry.lease(name) as record:
            assert record.state is State.READY
            assert record.worker is not None
            await done.wait()

    @rule(
        name=names,
        pinned=st.sampled_from([None, None, None, True, False]),
        keep=st.sampled_from([None, None, 0.0, 7.0]),
    )
    def load(self, name, pinned, keep):
        spec = ModelSpec(name, name, pinned=pinned, keep_alive=keep)
        self.others.append(self.loop.create_task(self.registry.load(spec)))
        self.spend()

    @rule(name=names)
    def request(self, name):
        done = asyncio.Event()
        self.requests.append((self.loop.create_task(self._request(name, done)), done))
        self.spend()

    @rule(name=names)
    def use(self, name):
        """A request that ends as soon as it can."""
        self.request(name)
        task, done = self.requests[-1]
        done.set()
        self.loop.run_until_complete(asyncio.wait([task], timeout=0.2))
        self.balance()

    @rule(first=names, second=names)
    def compete(self, first, second):
        self.use(first)
        self.request(first)
        self.load(second, None, None)
        self.spend(0.05)

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), is_cancelled=st.booleans())
    def end(self, data, is_cancelled):
        task, done = self.requests[data.draw(st.integers(0, len(self.requests) - 1))]
        if is_cancelled:
            task.cancel()
        done.set()
        self.spend()

    @rule(name=names)
    def unload(self, name):
        self.others.append(self.loop.create_task(self.registry.unload(name)))
        self.spend()

    @rule(name=names)
    def cancel(self, name):
        self.others.append(self.loop.create_task(self.registry.cancel(name)))
        self.spend()

    @rule(name=names)
    def kill(self, name):
        record = self.registry.find(name)
        if record is not None and record.worker is not None:
            record.worker.process.kill()
        self.spend()

    @rule(seconds=st.sampled_from([1, 5, 10]))
    def tick(self, seconds):
        self.loop.call_soon(self.clock.advance, seconds)
        self.spend()

    @rule()
    def rest(self):
        self.spend(0.05)

    def teardown(self):
        if not hasattr(self, "registry"):
            return
        self.loop.run_until_complete(asyncio.wait_for(self._end_all(), 20))
        self.balance()
        for record in self.registry.records():
            assert record.waiting == 0
        self.loop.run_until_complete(self.registry.stop())
        assert self.registry.records() == []
        assert self.registry.room.ledger.names == ()
        assert self.registry.room.ledger.waiting == ()
        self.folder.cleanup()

    async def _end_all(self):
        """Once every request may end, everything does, with an answer or a typed error."""
        for _, done in self.requests:
            done.set()
        tasks = [task for task, _ in self.requests] + self.others
        while not all(task.done() for task in tasks) or self.registry.room.ledger.waiting:
            self.clock.advance(1)
            await asyncio.sleep(0.005)
        for task in tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                assert isinstance(error, BerthError), repr(error)
                assert not isinstance(error, InternalError), error.message


def test_any_sequence_keeps_the_budget_and_ends():
    loop = asyncio.new_event_loop()
    try:
        launcher = Launcher("tests.fakes.runtime")
        loop.run_until_complete(launcher.start())
        machine = type("Machine", (Machine,), {"loop": loop, "launcher": launcher})
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=12,
                stateful_step_count=15,
                derandomize=True,  # how far real processes come between two steps is random enough
                deadline=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
        loop.run_until_complete(launcher.stop())
    finally:
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()
