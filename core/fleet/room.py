"""Memory for models: loads are admitted in the order in which they ask, and idle models go to make room."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from core.errors import BerthError, InsufficientMemory, LoadCancelled, ModelDraining
from core.fleet.clock import Clock
from core.fleet.eviction import Cause, Eviction
from core.fleet.job import LoadJob
from core.fleet.placement import Placement, over_several, placements
from core.fleet.record import Record
from core.fleet.refusal import cannot_fit, had_no_turn
from core.fleet.release import DeviceProbe, Released, release
from core.fleet.watch import Watch
from core.fleet.worker import Worker
from core.memory.calibration import Calibration
from core.memory.ledger import Ledger, Tenant, Verdict
from core.memory.plan import make_plan
from core.settings import Settings
from core.types import Inspection, ModelInfo, Plan, State

log = logging.getLogger(__name__)

_KEPT = 50  # evictions that are remembered
YIELD_S = (
    5.0  # the next in line waits so long for busy models to be idle by themselves; then they take no more requests
)

Places = Callable[[Inspection, Settings, Sequence[str]], list[Placement]]


class Room:
    """The ledger over the running models."""

    def __init__(
        self,
        settings: Settings,
        probe: DeviceProbe,
        records: Callable[[], Iterable[Record]],
        clock: Clock,
        places: Places = placements,
        calibration: Calibration | None = None,
    ) -> None:
        self.ledger = Ledger()
        self.calibration = calibration or Calibration()
        self.evictions: deque[Eviction] = deque(maxlen=_KEPT)
        self._settings = settings
        self._probe = probe
        self._records = records
        self._clock = clock
        self._places = places
        self._waiting: set[asyncio.Future[None]] = set()
        self._watch = Watch(settings, probe, records, clock, self.ledger, self.calibration)
        self._next: tuple[str, float] | None = None  # the first in line, if it waits, and since when
        self._yielding: list[Record] = []  # to it

    # admission

    async def choose(self, record: Record, job: LoadJob, inspection: Inspection) -> Placement:
        """The place with most room; else where the fewest have to go; else several GPUs together.

        Raises InsufficientMemory when none can ever do.
        """
        await self._watch.look()
        places = self._places(inspection, self._settings, self._watch.gpus)
        tenants = self._tenants()
        places = [place.corrected(self.calibration.seen(inspection, self._settings, place.kind)) for place in places]
        able = [place for place in places if self.ledger.could_fit(place.need, tenants)]
        able = able or over_several(inspection, self._settings, self._watch.gpus, self.ledger, tenants)
        able = able or (places if job.is_forced else [])
        if not able:
            raise self._refusal(record.name, places[0].need)
        return min(able, key=lambda place: (self._cost(place, tenants), -self._free(place)))

    def _free(self, place: Placement) -> int:
        """Bytes on the device where it would mostly be."""
        main = max(place.need, key=lambda device: (device != "cpu", place.need[device]), default="cpu")
        return self.ledger.room(main) if main in self.ledger.limits else 0

    def _cost(self, place: Placement, tenants: Sequence[Tenant]) -> int:
        """How many models have to go."""
        short = self.ledger.shortage(place.need)
        return len(self.ledger.victims(short, tenants)) or len(tenants) + 1 if short else 0

    async def admit(self, record: Record, job: LoadJob, inspection: Inspection, place: Placement) -> Placement:
        """Promises `record` its bytes: at once, or once idle models are gone, or once it is its turn and busy ones
        are idle; of several GPUs on the one that is best by then. Returns where. Raises InsufficientMemory when that
        never can be, or was not within BERTH_LOAD_WAIT."""
        deadline = self._clock.time() + self._settings.load_wait_s
        while self.ledger.account(record.name) is not None:  # its last process is not quite gone
            if self._clock.time() >= deadline:
                raise self._refusal(record.name, place.need, [record.name])
            await self._until_changed(deadline)
        self.ledger.ask(record.name, place.need)
        try:
            while True:
                if (
                    len(self._watch.gpus) > 1 and self.ledger.waiting[0] == record.name
                ):  # others have come and gone meanwhile
                    place = await self.choose(record, job, inspection)
                    self.ledger.ask_instead(record.name, place.need)
                if await self._is_admitted(record, job, place, deadline):
                    break
            record.promised = dict(place.need)
            return place
        finally:
            self.ledger.withdraw(record.name)
            self._relieve(record.name)
            self.changed()

    async def _is_admitted(self, record: Record, job: LoadJob, place: Placement, deadline: float) -> bool:
        """One look at it: admitted now, or something has changed since."""
        if not job.is_wanted(record.leases):  # nobody is evicted for nobody
            job.was_dropped = True
            raise LoadCancelled(f"Nobody waits for {record.name} any more. Load it again when you want it.")
        if self.ledger.waiting[0] == record.name:
            await self._watch.look()
        if job.is_forced:
            short = self.ledger.shortage(place.need)
            await self._evict_all(self.ledger.victims(short, self._tenants()), Cause.MEMORY, record.name)
            self.ledger.force(record.name)
            return True
        decision = self.ledger.decide(record.name, self._tenants())
        match decision.verdict:
            case Verdict.FITS:
                return True
            case Verdict.NEVER:
                raise self._refusal(record.name, place.need)
            case Verdict.EVICT:
                await self._evict_all(decision.victims, Cause.MEMORY, record.name)
            case Verdict.WAIT:
                if self._clock.time() >= deadline:
                    raise self._refusal(record.name, place.need, decision.blockers)
                if record.state is State.DOWNLOADING:
                    record.move(State.QUEUED)
                if job.current.data.get("waiting_for") != (waiting_for := list(decision.blockers)):
                    job.say("queued", waiting_for=waiting_for)
                await self._until_changed(deadline, self._press(record.name, place.need))
        return False

    def _press(self, name: str, need: Mapping[str, int]) -> float | None:
        """Has models that are always in use yield to `name`, which has been the next in line for long enough; when to
        look at that again, if not yet."""
        now = self._clock.time()
        if self.ledger.waiting[0] != name or self._yielding:
            return None
        if self._next is None or self._next[0] != name:
            self._next = name, now
        if (due := self._next[1] + YIELD_S) > now:
            return due
        # of the busy ones, those that ended a request last: they will be idle soonest
        tenants = [replace(each, is_busy=False, used_at=2 * now - each.used_at) if each.is_busy else each
                   for each in self._tenants()]  # fmt: skip
        self._yielding = self._named(self.ledger.victims(self.ledger.shortage(need), tenants))
        for record in self._yielding:
            record.is_open.clear()
        return None

    def _relieve(self, name: str) -> None:
        """`name` does not wait any more: who yielded to it takes requests again."""
        if self._next is None or self._next[0] != name:
            return
        for record in self._yielding:
            record.is_open.set()
        self._next, self._yielding = None, []

    async def _until_changed(self, deadline: float, look_at: float | None = None) -> None:
        """Until a model is idle, gone, or no longer just loaded, or it is `deadline` or `look_at`."""
        now = self._clock.time()
        changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        left = [
            min(deadline, look_at or deadline) - now,
            *(record.fresh_s(now) for record in self._records() if record.fresh_s(now) > 0),
        ]
        self._waiting.add(changed)
        timer = self._clock.call_later(max(0.0, min(left)), self.changed)
        try:
            await changed
        finally:
            timer.cancel()
            self._waiting.discard(changed)

    def changed(self) -> None:
        """Tells those who wait for memory to look again. Costs nothing where nobody does."""
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    async def make_room(self, record: Record) -> bool:
        """A device of `record` was full: every other idle model there goes. Whether there was any."""
        account = self.ledger.account(record.name)
        need = account.promised if account else {}
        idle = [tenant.name for tenant in self._tenants() if tenant.may_go and tenant.name != record.name]
        victims = [name for name in idle if self._share(name, need)]
        await self._evict_all(victims, Cause.OUT_OF_MEMORY, record.name)
        return bool(victims)

    def _share(self, name: str, need: Mapping[str, int]) -> bool:
        account = self.ledger.account(name)
        return account is not None and any(account.held(device) for device, size in need.items() if size)

    def _tenants(self) -> list[Tenant]:
        now = self._clock.time()
        return [record.tenant(now) for record in self._records() if record.state is State.READY and record.worker]

    def plan(self, inspection: Inspection, disk_free: int) -> Plan:
        """Whether it would fit now, and what would make it, by the last look at the devices."""
        tenants, gpus = self._tenants(), self._watch.gpus
        return make_plan(inspection, self._settings, self.ledger, tenants, gpus, disk_free, self.calibration)

    # what they hold

    def began(self, name: str, pid: int) -> None:
        """The process of an admitted model runs."""
        self._watch.pids[name] = pid

    def settle(self, record: Record, info: ModelInfo) -> None:
        """The model is ready, on the device that `info` says: what was promised elsewhere is needed here."""
        record.became_ready(self._clock.time())
        assert record.worker is not None
        self._watch.was_ready(record.worker.pid)
        account = self.ledger.account(record.name)
        if account is not None and info.device == "cpu" and account.promised.keys() - {"cpu"}:
            record.promised = account.promised = {"cpu": sum(account.promised.values())}

    async def measure(self, record: Record) -> dict[str, int]:
        """What a model holds now, by device; idle ones go where all together hold more than they may."""
        worker = record.worker
        if worker is not None and not worker.died.done():
            measured = await self._watch.measure(record, worker.pid)
            if record.worker is worker:
                record.measured = measured
                self.ledger.measure(record.name, measured)
                for victim in self._named(self.ledger.victims(self.ledger.overdrawn(), self._tenants())):
                    self.evict(victim, Cause.OVERDRAWN)
                await self.calibration.save()
        return record.measured

    def give_back(self, name: str) -> None:
        """The process of `name` is gone, or never was."""
        self.ledger.release(name)
        self._watch.forget(name)
        self.changed()

    async def budgets(self) -> dict[str, dict[str, int]]:
        """By device, the bytes that models may take (`limit`) and those that they count for (`held`)."""
        await self._watch.look()
        limits = self.ledger.limits
        return {device: {"limit": limits[device], "held": self.ledger.held(device)} for device in limits}

    # leaving

    def evict(self, record: Record, cause: Cause, wanted_by: str | None = None) -> asyncio.Task[Released]:
        """Takes an idle model out of memory. From this moment on it is absent, and the next request loads it again."""
        worker = record.worker
        assert worker is not None
        assert record.leases == 0
        record.worker = None
        record.move(State.ABSENT)
        record.releasing = asyncio.create_task(self._evicted(record, worker, cause, wanted_by))
        return record.releasing

    async def _evict_all(self, names: Iterable[str], cause: Cause, wanted_by: str) -> None:
        ends = [self.evict(record, cause, wanted_by) for record in self._named(names)]
        if ends:
            await asyncio.wait(ends)  # they end also when this load is cancelled

    def _named(self, names: Iterable[str]) -> list[Record]:
        wanted = set(names)
        return [record for record in self._records() if record.name in wanted]

    async def _evicted(self, record: Record, worker: Worker, cause: Cause, wanted_by: str | None) -> Released:
        try:
            reason = ModelDraining(f"{record.name} was taken out of memory. Send the request again.")
            released = await self.end(record, worker, reason)
            self.evictions.append(Eviction(record.name, datetime.now(UTC), cause, wanted_by, released))
            log.info("%s was evicted (%s%s)", record.name, cause, f", for {wanted_by}" if wanted_by else "")
            return released
        finally:
            record.releasing = None

    async def end(self, record: Record, worker: Worker, reason: BerthError | None) -> Released:
        """Ends a model's process and waits until its bytes are back."""
        others = [pid for pid in self._watch.pids.values() if pid != worker.pid]
        await self._watch.measure(record, worker.pid)
        try:
            released = await release(worker, self._probe, reason, others)
        finally:
            record.measured = {}
            self.give_back(record.name)
        await self.calibration.save()
        for device, owners in released.left.items():
            log.warning("%s left memory on %s that did not come back: %s", record.name, device, owners)
        return released

    def _refusal(self, name: str, need: Mapping[str, int], blockers: Sequence[str] = ()) -> InsufficientMemory:
        if blockers:
            return had_no_turn(self.ledger, name, need, blockers, self._settings.load_wait_s)
        pinned = [record.name for record in self._records() if record.spec.pinned and record.worker]
        return cannot_fit(self.ledger, name, need, pinned)
