"""Memory for models: loads are admitted in the order in which they ask, and idle models go to make room."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime

from core.errors import BerthError, InsufficientMemory, LoadCancelled, ModelDraining
from core.fleet.clock import Clock
from core.fleet.eviction import Cause, Eviction
from core.fleet.job import LoadJob
from core.fleet.limits import limits_of
from core.fleet.placement import Placement, placements
from core.fleet.record import Record
from core.fleet.release import DeviceProbe, Released, release
from core.fleet.worker import Worker
from core.memory.ledger import Ledger, Tenant, Verdict
from core.memory.probe import DeviceMemory
from core.settings import Settings
from core.types import Inspection, ModelInfo, State

log = logging.getLogger(__name__)

_KEPT = 50  # evictions that are remembered
_LOOK_S = 0.5  # seconds for which a look at the devices holds

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
    ) -> None:
        self.ledger = Ledger()
        self.evictions: deque[Eviction] = deque(maxlen=_KEPT)
        self._settings = settings
        self._probe = probe
        self._records = records
        self._clock = clock
        self._places = places
        self._gpus: tuple[str, ...] = ()
        self._pids: dict[str, int] = {}  # of everybody with an account and a process
        self._waiting: set[asyncio.Future[None]] = set()
        self._looked_at = float("-inf")

    # admission

    async def choose(self, record: Record, inspection: Inspection) -> Placement:
        """The place with room; else where the fewest have to go. Raises InsufficientMemory when none can ever do."""
        await self._look()
        places = self._places(inspection, self._settings, self._gpus)
        tenants = self._tenants()
        able = [place for place in places if self.ledger.could_fit(place.need, tenants)]
        if not able:
            raise self._refusal(record.name, places[0].need)
        return min(able, key=lambda place: self._cost(place, tenants))

    def _cost(self, place: Placement, tenants: Sequence[Tenant]) -> int:
        """How many models have to go."""
        short = self.ledger.shortage(place.need)
        return len(self.ledger.victims(short, tenants)) or len(tenants) + 1 if short else 0

    async def admit(self, record: Record, job: LoadJob, place: Placement) -> None:
        """Promises `record` its bytes: at once, or once idle models are gone, or once it is its turn and busy ones
        are idle. Raises InsufficientMemory when that never can be, or was not within BERTH_LOAD_WAIT."""
        deadline = self._clock.time() + self._settings.load_wait_s
        while self.ledger.account(record.name) is not None:  # its last process is not quite gone
            if self._clock.time() >= deadline:
                raise self._refusal(record.name, place.need, [record.name])
            await self._until_changed(deadline)
        self.ledger.ask(record.name, place.need)
        try:
            while not await self._is_admitted(record, job, place, deadline):
                pass
        finally:
            self.ledger.withdraw(record.name)
            self.changed()

    async def _is_admitted(self, record: Record, job: LoadJob, place: Placement, deadline: float) -> bool:
        """One look at it: admitted now, or something has changed since."""
        if not job.is_wanted(record.leases):  # nobody is evicted for nobody
            job.was_dropped = True
            raise LoadCancelled(f"Nobody waits for {record.name} any more. Load it again when you want it.")
        if self.ledger.waiting[0] == record.name:
            await self._look()
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
                await self._until_changed(deadline)
        return False

    async def _until_changed(self, deadline: float) -> None:
        """Until a model is idle, gone, or no longer just loaded, or `deadline` has come."""
        now = self._clock.time()
        changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        left = [deadline - now, *(record.fresh_s(now) for record in self._records() if record.fresh_s(now) > 0)]
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

    # what they hold

    def began(self, name: str, pid: int) -> None:
        """The process of an admitted model runs."""
        self._pids[name] = pid

    def settle(self, record: Record, info: ModelInfo) -> None:
        """The model is ready, on the device that `info` says: what was promised elsewhere is needed here."""
        record.became_ready(self._clock.time())
        account = self.ledger.account(record.name)
        if account is not None and info.device == "cpu" and account.promised.keys() - {"cpu"}:
            account.promised = {"cpu": sum(account.promised.values())}

    def measured(self, name: str, measured: Mapping[str, int]) -> None:
        """What a model was seen to hold; idle ones go where that is more than there is."""
        self.ledger.measure(name, measured)
        if victims := self.ledger.victims(self.ledger.overdrawn(), self._tenants()):
            for record in self._named(victims):
                self.evict(record, Cause.OVERDRAWN)

    def give_back(self, name: str) -> None:
        """The process of `name` is gone, or never was."""
        self.ledger.release(name)
        self._pids.pop(name, None)
        self._looked_at = float("-inf")
        self.changed()

    async def budgets(self) -> dict[str, dict[str, int]]:
        """By device, the bytes that models may take (`limit`) and those that they count for (`held`)."""
        await self._look()
        limits = self.ledger.limits
        return {device: {"limit": limits[device], "held": self.ledger.held(device)} for device in limits}

    async def _look(self) -> None:
        """Looks at the devices and at what everybody holds, unless that was done a moment ago."""
        if self._clock.time() - self._looked_at < _LOOK_S:
            return
        pids = dict(self._pids)
        held, host, gpus = await asyncio.to_thread(self._read, pids)
        self._looked_at = self._clock.time()
        for name, measured in held.items():
            if self._pids.get(name) == pids[name]:
                self.ledger.measure(name, measured)
        self._gpus = tuple(gpu.device for gpu in gpus)
        self.ledger.limits = limits_of(self._settings, host, gpus, held.values())

    def _read(self, pids: Mapping[str, int]) -> tuple[dict[str, dict[str, int]], DeviceMemory, list[DeviceMemory]]:
        return {name: self._probe.process(pid) for name, pid in pids.items()}, self._probe.host(), self._probe.gpus()

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
        others = [pid for pid in self._pids.values() if pid != worker.pid]
        try:
            released = await release(worker, self._probe, reason, others)
        finally:
            record.measured = {}
            self.give_back(record.name)
        for device, owners in released.left.items():
            log.warning("%s left memory on %s that did not come back: %s", record.name, device, owners)
        return released

    # words

    def _refusal(self, name: str, need: Mapping[str, int], blockers: Sequence[str] = ()) -> InsufficientMemory:
        """With the numbers of each device that is short."""
        told = []
        for device, size in need.items():
            if device in self.ledger.limits and size > self.ledger.room(device):
                limit, held = self.ledger.limits[device], self.ledger.held(device)
                told.append(f"{_mib(size)} on {device}, where models may take {_mib(limit)} and hold {_mib(held)}")
        wants = " and ".join(told) or "more memory than there is"
        if blockers:
            return InsufficientMemory(
                f"{name} needs {wants}. {', '.join(blockers)} did not make room within "
                f"{self._settings.load_wait_s:g} s. Try again, or unload a model.",
                retry_after=5,
            )
        pinned = [record.name for record in self._records() if record.spec.pinned and record.worker]
        stays = f" {', '.join(pinned)} stays: pinned." if pinned else ""
        return InsufficientMemory(
            f"{name} needs {wants}.{stays} Load it quantized, with a shorter context, or on another device, unload or "
            "unpin a model, or raise the memory budget."
        )

    def overrun(self, name: str, cause: str) -> InsufficientMemory:
        """Of a load that was promised its bytes and ran out of memory nevertheless."""
        account = self.ledger.account(name)
        told = [
            f"{_mib(size)} on {device}, where all models hold {_mib(self.ledger.held(device))}"
            for device, size in (account.promised if account else {}).items()
        ]
        return InsufficientMemory(
            f"{name} ran out of memory while loading, though it was promised {' and '.join(told)}: {cause} "
            "Load it quantized or with a shorter context, or unload another model."
        )


def _mib(size: int) -> str:
    return f"{size / 1024 / 1024:,.0f} MiB"
