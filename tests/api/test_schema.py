"""Requests made up from the API's own description, right and wrong ones: none may find a bug or an untyped error."""

import asyncio
import contextlib
import threading

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

from core.core import Core
from core.fleet.launcher import Launcher
from core.settings import Settings
from tests.serving import serve


@pytest.fixture(scope="module")
def address(fake_models, tmp_path_factory):
    """A server on a thread of its own: schemathesis asks and waits."""
    started, stop = threading.Event(), asyncio.Event()
    found: list = []

    async def run() -> None:
        data = tmp_path_factory.mktemp("data")
        own = Settings(
            _env_file=None, models_dir=fake_models, data_dir=data, starter_dir=fake_models / "none", offline=True
        )
        async with serve(Core(own, Launcher("tests.fakes.runtime"))) as served:
            found[:] = [served, asyncio.get_running_loop()]
            started.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    started.wait(30)
    served, loop = found
    yield served.url
    loop.call_soon_threadsafe(stop.set)
    thread.join(30)


def operations(address: str) -> list[APIOperation]:
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    return [found.ok() for found in schema.get_all_operations()]


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_made_up_requests(address, mode):
    asked = 0
    for operation in operations(address):
        if operation.path.endswith("/events"):
            continue  # a stream, with tests of its own

        @settings(
            max_examples=15, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: schemathesis.Case) -> None:
            nonlocal asked
            asked += 1
            check(case.call(timeout=30), case)

        with contextlib.suppress(Unsatisfiable):  # a call without a parameter cannot be made wrongly
            ask()
    assert asked > 100


def check(response: schemathesis.Response, case: schemathesis.Case) -> None:
    case.validate_response(response, checks=[status_code_conformance, content_type_conformance])
    assert response.status_code not in (500, 502)
    if response.status_code >= 400:
        body = response.json()
        if case.operation.path.startswith("/v1/"):
            assert set(body["error"]) == {"message", "type", "param", "code"}
        else:
            assert set(body["error"]) == {"type", "message", "request_id", "retryable"}
            assert body["detail"]
