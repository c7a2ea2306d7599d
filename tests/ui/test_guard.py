"""The border between `core` and the page, without a browser."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from fastapi import FastAPI

import ui
import ui.page
from core.access import Role
from core.core import Core
from core.errors import LoadCancelled, ModelNotFound, NotAllowed
from core.fleet.job import LoadJob
from core.fleet.record import Record
from core.types import ModelSpec
from ui.guard import check_admin, failure, guarded, is_admin, role_of, told
from ui.loading import follow
from ui.spec import model_spec


def request(**state: Any) -> Any:
    """As Gradio hands it to an event."""
    return SimpleNamespace(request=SimpleNamespace(scope={"state": state} if state else {}))


def test_nobody_looked_means_nobody() -> None:
    assert role_of(request()) is Role.NOBODY
    assert not is_admin(request())


@pytest.mark.parametrize("role", [Role.NOBODY, Role.USER])
def test_only_an_admin_is_an_admin(role: Role) -> None:
    with pytest.raises(NotAllowed, match="admin key"):
        check_admin(request(role=role))
    check_admin(request(role=Role.ADMIN))


async def test_errors_of_ours_reach_clients_and_others_do_not() -> None:
    async def fails(error: Exception) -> None:
        raise error

    with pytest.raises(gr.Error) as known:
        await guarded(fails)(ModelNotFound("There is no model `x` here."))
    assert known.value.message == "There is no model `x` here."
    with pytest.raises(gr.Error) as secret:
        await guarded(fails)(ZeroDivisionError("/secret/path"))
    assert "secret" not in secret.value.message


def test_a_bug_is_told_without_its_words() -> None:
    assert told(KeyError("secret")) == {
        "type": "internal",
        "message": "Something went wrong in the server. Its log has the details.",
    }


def test_a_cancelled_load_did_not_fail() -> None:
    assert failure("a", LoadCancelled("stopped"))["failure"]["error"] is None


async def test_a_load_is_told_at_most_ten_times_a_second(core: Core) -> None:
    record, job = Record(ModelSpec("a", "a")), LoadJob("a")
    record.job = job
    core.registry._records["a"] = record
    steps = follow(core, job)
    seen = [await anext(steps)]
    for done in range(50):
        job.say("downloading", file="w", done=done, total=50, eta_s=None)
    job.fail(ModelNotFound("gone"))
    with contextlib.suppress(ModelNotFound):
        async for step in steps:
            seen.append(step)
    assert isinstance(job.done.exception(), ModelNotFound)
    assert 2 <= len(seen) <= 4  # queued, the first of the download, and the end; not all fifty


def test_a_spec_takes_what_the_form_gives() -> None:
    spec = model_spec(" org/name@v2 ", name="", revision="", task="fill-mask", context_length=" 128 ", device="auto")
    assert (spec.name, spec.source, spec.task, spec.context_length) == ("org/name", "org/name@v2", "fill-mask", 128)
    assert model_spec("/srv/models/mine/").name == "mine"


async def test_the_page_is_mounted_closed(core: Core) -> None:
    app = ui.mount(FastAPI(), core)
    blocks = app.routes[-1].app.get_blocks()  # type: ignore[attr-defined]
    assert blocks.show_error is False
    assert blocks.allowed_paths == []
    assert blocks.max_file_size == core.settings.max_body_bytes
    assert blocks.footer_links == []
    assert blocks.analytics_enabled is False
    assert blocks.enable_monitoring is False
    assert not blocks.ssr_mode
    assert not blocks.run_history
    assert blocks._queue.max_size is not None


def test_the_page_draws_text_and_no_markup() -> None:
    """Nothing that users or models wrote can become markup where no script ever writes markup."""
    from tests.ui.test_words import SCRIPTS

    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
        assert way not in SCRIPTS


async def test_names_of_handlers_are_theirs_alone(core: Core) -> None:
    page = ui.page.build(core)
    names = [fn.api_name for fn in page.fns.values()]
    assert len(names) == len(set(names))
    public = [fn for fn in page.fns.values() if fn.api_visibility == "public"]
    assert all(str(fn.api_name).isidentifier() for fn in public)


async def test_gradio_still_asks_its_queue_as_often_as_it_is_told() -> None:
    """`ui.page` sets these two; under other names they would set nothing."""
    plain = gr.Blocks().queue()._queue
    assert (plain.sleep_when_free, plain.progress_update_sleep_when_free) < (ui.page._POLL_S, ui.page._PROGRESS_POLL_S)
