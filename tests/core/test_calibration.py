"""What a model was seen to take corrects the plan and the promise of its next load, also of the next server's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from core.core import Core
from core.errors import InsufficientMemory
from core.fleet.launcher import Launcher
from core.settings import MIB, Settings
from core.types import Fit, ModelSpec, Task
from tests.fakes.models import write_model

Serving = Callable[..., AbstractAsyncContextManager[Core]]


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    """A server over the one data directory."""
    write_model(tmp_path / "models" / "m", "bert", Task.TEXT_CLASSIFICATION)

    @asynccontextmanager
    async def serve(launcher: Launcher | None = None, **more: object) -> AsyncIterator[Core]:
        options = {"models_dir": tmp_path / "models", "data_dir": tmp_path / "data", "offline": True, "threads": 1}
        core = Core(Settings(_env_file=None, **{**options, **more}), launcher)
        await core.start()
        yield core
        await core.stop()

    return serve


async def promised(core: Core, spec: ModelSpec) -> dict[str, int]:
    """What the load of `spec` is promised; it is ready afterwards."""
    await (await core.load(spec)).done
    account = core.registry.room.ledger.account(spec.name)
    assert account is not None
    return account.promised


SPEC = ModelSpec("m", "m")
TAKEN = 250  # MiB, for a moment, by a request: much more than so small a model is reckoned to take


async def test_what_one_server_saw_the_next_one_reckons_with(serving: Serving) -> None:
    async with serving(Launcher("tests.fakes.runtime")) as core:
        before = await core.plan(SPEC)
        assert before.measured is None
        assert await promised(core, SPEC) == {"cpu": before.total}
        assert before.total < TAKEN * MIB
        await core.predict("m", [f"take:{TAKEN}"], {})
    async with serving(Launcher("tests.fakes.runtime")) as core:
        plan = await core.plan(ModelSpec("by another name", "m"))
        assert plan.measured is not None
        assert TAKEN * MIB <= plan.measured["cpu"] < (TAKEN + 60) * MIB
        assert plan.total == plan.measured["cpu"]
        assert plan.needs[0].reckoned == before.total, "which is still shown beside it"
        assert await promised(core, SPEC) == {"cpu": plan.total}
        assert core.model("m").promised == plan.total
        assert (await core.plan(ModelSpec("m", "m", max_batch_tokens=64))).measured is None, "another setting"


async def test_what_was_seen_decides_whether_it_fits(serving: Serving) -> None:
    async with serving(Launcher("tests.fakes.runtime")) as core:
        await promised(core, SPEC)
        await core.predict("m", [f"take:{TAKEN}"], {})
    async with serving(Launcher("tests.fakes.runtime"), cpu_memory_budget_mb=TAKEN) as core:
        plan = await core.plan(SPEC)
        assert plan.needs[0].reckoned < TAKEN * MIB < plan.total
        assert plan.fit is not Fit.FITS
        with pytest.raises(InsufficientMemory) as caught:
            await core.load(SPEC)
        assert caught.value.plan is not None
        assert caught.value.plan.needs == plan.needs


async def test_a_damaged_file_is_no_reason_not_to_start(serving: Serving, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "calibration.json").write_bytes(b"\xff{")
    async with serving(Launcher("tests.fakes.runtime")) as core:
        assert (await core.plan(SPEC)).measured is None
        await promised(core, SPEC)
    async with serving(Launcher("tests.fakes.runtime")) as core:
        assert (await core.plan(SPEC)).measured is not None


async def test_a_starter_of_which_more_was_seen(serving: Serving) -> None:
    """A real one: what it took is near what was reckoned, and is known to the next server."""
    spec = ModelSpec("sentiment", "starter:sentiment")
    async with serving() as core:
        before = await core.plan(spec)
        await promised(core, spec)
        await core.predict("sentiment", ["정말 재미있었다! " * 50], {})
    async with serving(Launcher("tests.fakes.runtime")) as core:  # the promise is made before there is a process
        plan = await core.plan(spec)
        assert plan.measured is not None
        assert before.total / 2 < plan.measured["cpu"] < before.total * 1.5
        assert plan.total == max(before.total, plan.measured["cpu"])
        assert await promised(core, spec) == {"cpu": plan.total}
