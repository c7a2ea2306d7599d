"""All that is known of one model: its spec, where it is in its life, its process, and who is using it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field, replace
from datetime import datetime

from core.errors import BerthError
from core.fleet.job import LoadJob
from core.fleet.states import may_move
from core.fleet.worker import Worker
from core.types import Inspection, ModelInfo, ModelSpec, State

DEATHS = 3  # this many within …
DEATHS_WITHIN_S = 300.0  # … this long, and a model is not started again by itself


@dataclass(eq=False)
class Record:
    """One for each name. Moved along the arrows of `states.py` by `move`, and only by it."""

    spec: ModelSpec
    state: State = State.ABSENT
    inspection: Inspection | None = None
    info: ModelInfo | None = None
    worker: Worker | None = None
    job: LoadJob | None = None
    unloading: asyncio.Task[dict[str, int]] | None = None
    admin: bool = False  # whether an admin asked for it; a restart may do what that load was allowed to
    leases: int = 0  # requests that have, or wait for, the worker
    served: int = 0
    loaded_at: datetime | None = None
    last_error: BerthError | None = None
    measured: dict[str, int] = field(default_factory=dict)  # bytes by device, when last looked at
    deaths: deque[float] = field(default_factory=lambda: deque(maxlen=DEATHS))  # monotonic seconds
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.idle.set()

    @property
    def name(self) -> str:
        return self.spec.name

    def move(self, state: State) -> None:
        assert may_move(self.state, state), f"{self.name}: no arrow from {self.state} to {state}"
        self.state = state

    def take(self) -> None:
        self.leases += 1
        self.idle.clear()

    def give_back(self) -> None:
        self.leases -= 1
        if self.leases == 0:
            self.idle.set()

    def died(self) -> bool:
        """Counts a death; whether that is one too many."""
        self.deaths.append(time.monotonic())
        return len(self.deaths) == DEATHS and self.deaths[-1] - self.deaths[0] <= DEATHS_WITHIN_S

    @property
    def spec_again(self) -> ModelSpec:
        """What brings it back as it was: at the commit that was loaded, whatever the branch holds by now."""
        if self.inspection is None or self.inspection.revision == "local" or "@" in self.spec.source:
            return self.spec
        return replace(self.spec, revision=self.inspection.revision)

    def differs_from(self, spec: ModelSpec) -> str | None:
        """The first field in which `spec` asks for something else than is here; what it leaves open agrees."""
        if spec.source != self.spec.source:
            return "model_path"
        unsaid = ModelSpec(name=spec.name, source=spec.source)
        for name in ModelSpec.__dataclass_fields__:
            asked = getattr(spec, name)
            if asked != getattr(unsaid, name) and asked != getattr(self.spec, name):
                return name
        return None
