"""Budgets, pins, stays and evictions as programs see them."""

import asyncio

import pytest

from core.core import Core
from core.fleet.launcher import Launcher
from core.fleet.placement import Placement
from core.settings import MIB


@pytest.fixture
def settings(settings):
    return settings.model_copy(update={"cpu_memory_budget_mb": 150, "keep_alive": 600.0, "load_wait_s": 20})


@pytest.fixture
def core(settings):
    core = Core(settings, Launcher("tests.fakes.runtime"))
    # whatever a plan says of the fakes: two of them fit
    core.registry.room._places = lambda *_: [Placement("cpu", {"cpu": 70 * MIB})]
    return core


async def test_the_third_of_two_makes_the_coldest_go_and_everybody_is_told(server, client):
    for name in ("a", "b", "org/c"):
        await server.load(name)
        assert (await server.predict(name, "four")).status_code == 200
    status = (await client.get("/system/status")).json()
    states = {model["name"]: model["status"] for model in status["models"]}
    assert states == {"a": "absent", "b": "loaded", "org/c": "loaded"}
    (evicted,) = status["evictions"]
    assert (evicted["model"], evicted["cause"], evicted["wanted_by"]) == ("a", "memory", "org/c")
    assert evicted["freed_bytes"]["cpu"] > 0
    assert evicted["left_bytes"] == {}
    budget = (await client.get("/system/memory")).json()["budgets"]["cpu"]
    assert budget["limit"] == 150 * MIB
    assert 0 < budget["held"] <= budget["limit"]
    assert (await server.predict("a", "four")).status_code == 200  # and it comes back


async def test_pinned_ones_stay_and_what_then_cannot_fit_is_507_with_the_numbers(server, client):
    await server.load("a", "b", pinned=True)
    body = {"model_name": "org/c", "model_path": "org/c"}
    answer = await client.post("/models/load?wait=true", json=body)
    assert answer.status_code == 507
    error = answer.json()["error"]
    assert error["type"] == "insufficient_memory"
    assert error["retryable"]
    assert "models may take 150 MiB" in error["message"]
    assert "a, b" in error["message"]
    assert (await client.get("/models/org/c")).status_code == 404
    await server.load("b", pinned=False)
    assert (await server.predict("b", "four")).status_code == 200
    await server.load("org/c")


@pytest.mark.parametrize(("said", "shown"), [("5m", 300), (90, 90), (0, 0), (-1, -1), (None, 600)])
async def test_how_long_a_model_stays_is_shown(server, client, said, shown):
    await server.load("a", **({} if said is None else {"keep_alive": said}))
    model = (await client.get("/models/a")).json()
    (row,) = (await client.get("/models")).json()["data"]
    for told in (model, row):
        assert told["pinned"] is False
        assert told["keep_alive"] == shown
        assert (told["expires_at"] is not None) == (shown > 0)


@pytest.mark.parametrize("said", ["five", "", "5 minutes", True, [], {"m": 5}, 1e300])
async def test_a_stay_that_cannot_be_read_is_refused(client, said):
    body = {"model_name": "a", "model_path": "a", "keep_alive": said}
    answer = await client.post("/models/load", json=body)
    assert answer.status_code == 422
    assert "keep_alive" in answer.text


async def test_a_stay_of_none_ends_with_the_answer(server, client):
    await server.load("a", keep_alive=0)
    assert (await server.predict("a", "four")).status_code == 200
    while not (evictions := (await client.get("/system/status")).json()["evictions"]):
        await asyncio.sleep(0.01)
    assert evictions[0]["cause"] == "keep_alive"
    assert (await server.predict("a", "four")).status_code == 200


async def test_unload_says_what_came_back(server, client):
    await server.load("a")
    answer = (await client.post("/models/a/unload")).json()
    assert answer["freed_bytes"]["cpu"] > 0
    assert answer["left_bytes"] == {}
