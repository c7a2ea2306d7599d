"""All that is known of one model: its spec, where it is in its life, its process, and who is using it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field, replace
from datetime import datetime

from core.errors import BerthError, ModelFailed
from core.fleet.clock import Handle
from core.fleet.job import LoadJob
from core.fleet.release import Released
from core.fleet.states import may_move
from core.fleet.worker import Worker
from core.keep_alive import FOR_GOOD
from core.memory.ledger import Tenant
from core.types import Inspection, ModelInfo, ModelSpec, State

DEATHS = 3  # this many within …
DEATHS_WITHIN_S = 300.0  # … this long, and a model is not started again by itself
FRESH_S = 5.0  # a model that was just loaded is left alone for so long, or until it has been used
STAY = frozenset({"pinned", "keep_alive"})  # fields of a spec that can change while the model is in memory


@dataclass(eq=False)
class Record:
    """One for each name. Moved along the arrows of `states.py` by `move`, and only by it."""

    spec: ModelSpec
    state: State = State.ABSENT
    inspection: Inspection | None = None
    info: ModelInfo | None = None
    worker: Worker | None = None
    job: LoadJob | None = None
    unloading: asyncio.Task[Released] | None = None
    releasing: asyncio.Task[Released] | None = None  # after an eviction, until its bytes are back
    admin: bool = False  # whether an admin asked for it; a restart may do what that load was allowed to
    leases: int = 0  # requests that have, or wait for, the worker
    served: int = 0
    served_before: int = 0  # by the processes that it had before
    loaded_at: datetime | None = None
    last_error: BerthError | None = None
    measured: dict[str, int] = field(default_factory=dict)  # bytes by device, when last looked at
    promised: dict[str, int] = field(default_factory=dict)  # bytes by device, when it was last admitted
    deaths: deque[float] = field(default_factory=lambda: deque(maxlen=DEATHS))  # monotonic seconds
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    is_open: asyncio.Event = field(default_factory=asyncio.Event)  # not so: requests wait until another had its turn
    outside: int = 0  # requests that wait for that
    ready_at: float = 0.0  # seconds of the fleet's clock
    used_at: float = 0.0  # end of the last request, or when it was ready
    uses: int = 0  # requests that have ended since it was ready
    default_keep_s: float = FOR_GOOD  # keep_alive where the spec says nothing
    timer: Handle | None = None  # looks whether its keep_alive is over

    def __post_init__(self) -> None:
        self.idle.set()
        self.is_open.set()

    @property
    def name(self) -> str:
        return self.spec.name

    def move(self, state: State) -> None:
        assert may_move(self.state, state), f"{self.name}: no arrow from {self.state} to {state}"
        self.state = state

    def take(self) -> None:
        self.leases += 1
        self.idle.clear()

    def give_back(self, now: float) -> bool:
        """Ends a lease; whether that was the last."""
        self.leases -= 1
        self.uses += 1
        self.used_at = now
        if self.leases:
            return False
        self.idle.set()
        return True

    @property
    def waiting(self) -> int:
        """Requests that wait or run."""
        return self.leases + self.outside

    async def until_open(self) -> None:
        self.outside += 1
        try:
            await self.is_open.wait()
        finally:
            self.outside -= 1

    def became_ready(self, now: float) -> None:
        self.ready_at = self.used_at = now
        self.uses = 0
        self.served_before = self.served

    @property
    def was_used(self) -> bool:
        """Whether the process that it has, or had last, has answered anything."""
        return self.served > self.served_before

    def fresh_s(self, now: float) -> float:
        """Seconds for which it is still left alone as just loaded; 0 or less: not at all."""
        return FRESH_S - (now - self.ready_at) if self.state is State.READY and not self.uses else 0.0

    def tenant(self, now: float) -> Tenant:
        """As the ledger sees it."""
        is_busy = self.leases > 0 or self.unloading is not None
        return Tenant(self.name, self.used_at, is_busy, bool(self.spec.pinned), self.fresh_s(now) > 0)

    @property
    def keep_alive_s(self) -> float:
        """Seconds that it stays after its last request, or FOR_GOOD."""
        return self.default_keep_s if self.spec.keep_alive is None else self.spec.keep_alive

    @property
    def expires_s(self) -> float | None:
        """When its stay ends if nobody uses it again, on the fleet's clock; None: not by itself."""
        keep_s = self.keep_alive_s
        if keep_s == FOR_GOOD or self.spec.pinned or self.state is not State.READY or (keep_s == 0 and not self.uses):
            return None
        return self.used_at + keep_s

    def died(self, reason: BerthError) -> None:
        """Its process has ended. The next request starts it again, unless that was one time too many."""
        self.worker, self.last_error, self.measured = None, reason, {}
        self.deaths.append(time.monotonic())
        if len(self.deaths) < DEATHS or self.deaths[-1] - self.deaths[0] > DEATHS_WITHIN_S:
            self.move(State.ABSENT)
            return
        self.move(State.FAILED)
        self.last_error = ModelFailed(
            f"{self.name} has died {DEATHS} times in five minutes and is not started again by itself. "
            f"{reason.message.removesuffix(' Send the request again.')} Load it again to try once more."
        )

    @property
    def spec_again(self) -> ModelSpec:
        """What brings it back as it was: at the commit that was loaded, whatever the branch holds by now."""
        if self.inspection is None or self.inspection.revision == "local" or "@" in self.spec.source:
            return self.spec
        return replace(self.spec, revision=self.inspection.revision)

    def keep_as(self, spec: ModelSpec) -> None:
        """How long it stays is from now on as `spec` says, where it says anything."""
        said = {name: value for name in STAY if (value := getattr(spec, name)) is not None}
        self.spec = replace(self.spec, **said)

    def differs_from(self, spec: ModelSpec) -> str | None:
        """The first field in which `spec` asks for something else than is here; what it leaves open agrees."""
        if spec.source != self.spec.source:
            return "model_path"
        unsaid = ModelSpec(name=spec.name, source=spec.source)
        for name in ModelSpec.__dataclass_fields__:
            asked = getattr(spec, name)
            if name not in STAY and asked != getattr(unsaid, name) and asked != getattr(self.spec, name):
                return name
        return None
