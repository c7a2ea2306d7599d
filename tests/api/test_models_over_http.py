"""Contract section 2 without the answers themselves: loading, following, listing, cancelling, unloading."""

import asyncio
import json
import os
from urllib.parse import quote

import pytest

from core.limits import BATCH_ROWS
from tests.serving import Served

LOAD_A = {"model_name": "a", "model_path": "a"}


async def events_of(served: Served, name: str) -> list[tuple[str, dict]]:
    """Every event up to the last, as (name, data)."""
    found = []
    async with served.client.stream("GET", f"/models/{name}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        stage = ""
        async for line in answer.aiter_lines():
            if line.startswith("event: "):
                stage = line.removeprefix("event: ")
            elif line.startswith("data: "):
                found.append((stage, json.loads(line.removeprefix("data: "))))
    return found


@pytest.fixture
def slow(fake_models):
    """A model whose load waits in the runtime until `release` is called."""
    from tests.fakes.repositories import ENCODER, bert_config, write_repository

    folder, fifo = fake_models / "slow", fake_models / "slow.fifo"
    write_repository(folder, bert_config(), ENCODER, {"load.txt": f"wait:{fifo}"})
    os.mkfifo(fifo)
    yield fifo
    fifo.unlink()


async def release(fifo) -> None:
    await asyncio.to_thread(fifo.write_bytes, b"go")


async def test_load_says_started_and_where_to_follow(shared):
    answer = await shared.client.post("/models/load", json=LOAD_A)
    assert answer.status_code == 202
    assert answer.json() == {
        "message": "Model a loading started",
        "model_name": "a",
        "model_path": "a",
        "events": "/models/a/events",
    }
    assert (await events_of(shared, "a"))[-1][0] == "ready"


async def test_load_and_wait_then_load_again(shared):
    answer = await shared.client.post("/models/load?wait=true", json=LOAD_A)
    assert (answer.status_code, answer.json()["message"]) == (200, "Model a loaded successfully")
    pid = shared.core.model("a").pid
    again = await shared.client.post("/models/load", json=LOAD_A)
    assert (again.status_code, again.json()["message"]) == (200, "Model a is already loaded")
    assert shared.core.model("a").pid == pid


async def test_the_same_name_with_another_source_is_a_conflict(shared):
    await shared.load("a")
    answer = await shared.client.post("/models/load", json={"model_name": "a", "model_path": "b"})
    assert (answer.status_code, answer.json()["error"]["type"]) == (409, "wrong_state")


@pytest.mark.parametrize(
    ("fields", "quantization"),
    [
        ({"load_in_8bit": True}, "8bit"),
        ({"load_in_4bit": True, "load_in_8bit": False}, "4bit"),
        ({"quantization": "8bit", "load_in_8bit": True}, "8bit"),
        ({"quantization": None}, None),
    ],
)
async def test_quantization_has_two_spellings(shared, fields, quantization):
    await shared.load("a", **fields)
    assert (await shared.client.get("/models/a")).json()["quantization"] == quantization


async def test_every_option_reaches_the_spec(shared):
    options = {
        "runtime": "transformers",
        "task": "text-classification",
        "device": "cpu",
        "dtype": "bfloat16",
        "context_length": 64,
        "max_batch_tokens": 512,
        "gpu_layers": 7,
    }
    await shared.load("a", **options)
    spec = shared.core.registry.get("a").spec
    assert {name: getattr(spec, name) for name in options} == options


@pytest.mark.parametrize("field", ["port", "trust_remote_code"])
async def test_what_is_not_known_is_refused_by_name(shared, field):
    answer = await shared.client.post("/models/load", json={**LOAD_A, field: 1})
    assert answer.status_code == 422
    assert f"`{field}`" in answer.json()["detail"]
    assert shared.core.registry.records() == []


async def test_the_list_is_that_of_the_guide_of_openai_and_of_infinity(shared):
    await shared.load("a", "org/c")
    listed = (await shared.client.get("/models")).json()
    assert listed["loaded_models"] == listed["all_models"] == ["a", "org/c"]
    assert listed["models_status"] == {"a": "loaded", "org/c": "loaded"}
    assert listed["target_models"] is None
    assert listed["object"] == "list"
    first = listed["data"][0]
    assert (first["id"], first["object"], first["owned_by"]) == ("a", "model", "infinity")
    assert first["created"] > 1_700_000_000
    assert set(first["stats"]) == {"queue_fraction", "queue_absolute", "results_pending", "batch_size"}
    assert first["stats"]["batch_size"] == BATCH_ROWS
    assert (first["backend"], first["capabilities"]) == ("transformers", ["classify"])


@pytest.mark.parametrize("path", ["/models/org/c", "/models/org%2Fc", "/models/org%2fc"])
async def test_a_name_with_a_slash_raw_or_encoded(shared, path):
    await shared.load("org/c")
    assert (await shared.client.get(path)).json()["name"] == "org/c"
    assert (await shared.client.get(f"{path}/tasks")).json() == {
        "model_name": "org/c",
        "supported_tasks": ["text-classification"],
    }
    assert (await shared.client.post(f"{path}/predict", json={"text": "four"})).json()["result"] == 4
    async with shared.client.stream("GET", f"{path}/events") as events:
        assert events.status_code == 200
    assert (await shared.client.post(f"{path}/unload")).status_code == 200


async def test_korean_names(shared):
    body = {"model_name": "감성/분석", "model_path": "a"}
    answer = await shared.client.post("/models/load?wait=true", json=body)
    assert answer.json()["model_name"] == "감성/분석"
    assert answer.json()["events"] == f"/models/{quote('감성/분석')}/events"
    assert (await shared.client.get(f"/models/{quote('감성/분석', safe='')}")).json()["name"] == "감성/분석"


async def test_all_that_is_known_of_one(shared):
    await shared.load("a")
    shown = (await shared.client.get("/models/a")).json()
    assert (shown["name"], shown["path"], shown["status"]) == ("a", "a", "loaded")
    assert isinstance(shown["memory_usage"], float)
    assert shown["memory"]["measured"]["cpu"] > 0
    assert shown["memory"]["estimated"] > 0
    assert shown["config_analysis"]["model_type"] == "fake"
    assert shown["config_analysis"]["task_type"] == "text-classification"
    assert shown["available_tasks"] == ["text-classification"]
    assert (shown["runtime"], shown["device"], shown["revision"]) == ("transformers", "cpu", "local")
    assert os.path.exists(f"/proc/{shown['pid']}")
    assert shown["load_time"]
    for field in ("quantization", "labels", "context_length"):
        assert field in shown


@pytest.mark.parametrize(
    "call",
    [
        "GET /models/x", "GET /models/x/tasks", "GET /models/x/events",
        "POST /models/x/cancel", "POST /models/x/unload", "POST /models/x/predict",
    ],
)  # fmt: skip
async def test_an_unknown_model_is_404_in_the_guides_words(shared, call):
    method, path = call.split()
    answer = await shared.client.request(method, path, json={"text": "x"} if path.endswith("predict") else None)
    assert answer.status_code == 404
    assert answer.json()["detail"] == "Model not found or not loaded"
    error = answer.json()["error"]
    assert (error["type"], error["retryable"]) == ("model_not_found", False)
    assert error["request_id"] == answer.headers["x-request-id"]


async def test_every_listener_sees_every_step_in_order(shared, slow):
    await shared.client.post("/models/load", json={"model_name": "slow", "model_path": "slow"})
    listeners = [asyncio.create_task(events_of(shared, "slow")) for _ in range(20)]
    job = shared.core.registry.get("slow").job
    while len(job._listeners) < 20:
        await asyncio.sleep(0.01)
    late = asyncio.create_task(events_of(shared, "slow"))
    await release(slow)
    told = await asyncio.gather(*listeners, late)
    order = ["queued", "downloading", "verifying", "loading", "warming", "ready"]
    for events in told:
        stages = [stage for stage, _ in events]
        assert stages == sorted(stages, key=order.index)
        assert stages[-1] == "ready"
        assert stages.count("ready") == 1
        assert all(data["model"] == "slow" and data["stage"] == stage for stage, data in events)
    assert (await events_of(shared, "slow")) == [told[0][-1]]  # afterwards: where it stands


async def test_a_listener_that_leaves_is_forgotten(shared, slow):
    await shared.client.post("/models/load", json={"model_name": "slow", "model_path": "slow"})
    job = shared.core.registry.get("slow").job
    async with shared.client.stream("GET", "/models/slow/events") as answer:
        await anext(answer.aiter_lines())
        assert len(job._listeners) == 1
    while job._listeners:
        await asyncio.sleep(0.01)
    await release(slow)
    await job.done


async def test_cancel_while_it_loads_leaves_nothing(shared, slow):
    await shared.client.post("/models/load", json={"model_name": "slow", "model_path": "slow"})
    listener = asyncio.create_task(events_of(shared, "slow"))
    waiter = asyncio.create_task(
        shared.client.post("/models/load?wait=true", json={"model_name": "slow", "model_path": "slow"})
    )
    job = shared.core.registry.get("slow").job
    while job.current.stage != "warming" or not job._listeners:
        await asyncio.sleep(0.01)
    answer = await shared.client.post("/models/slow/cancel")
    assert (answer.status_code, answer.json()["model_name"]) == (200, "slow")
    assert (await listener)[-1][0] == "cancelled"
    refused = await waiter
    assert (refused.status_code, refused.json()["error"]["type"]) == (409, "load_cancelled")
    assert shared.core.registry.records() == []
    assert (await shared.client.get("/models/slow")).status_code == 404


async def test_cancel_of_what_is_loaded_is_the_wrong_state(shared):
    await shared.load("a")
    answer = await shared.client.post("/models/a/cancel")
    assert (answer.status_code, answer.json()["error"]["type"]) == (409, "wrong_state")


async def test_unload_tells_what_it_gave_back(shared):
    await shared.load("a")
    pid = shared.core.model("a").pid
    answer = await shared.client.post("/models/a/unload")
    assert answer.status_code == 200
    assert answer.json()["message"] == "Model a unloaded successfully"
    assert answer.json()["freed_bytes"]["cpu"] > 0
    assert not os.path.exists(f"/proc/{pid}")
    assert (await shared.client.post("/models/a/unload")).status_code == 404


async def test_unload_without_waiting(shared):
    await shared.load("a")
    answer = await shared.client.post("/models/a/unload?wait=false")
    assert (answer.status_code, answer.json()["message"]) == (202, "Model a is being unloaded")
    while shared.core.registry.find("a"):
        await asyncio.sleep(0.01)


async def test_fifty_unloads_at_once_get_one_answer(shared):
    await shared.load("a")
    answers = await asyncio.gather(*(shared.client.post("/models/a/unload") for _ in range(50)))
    done = [answer.json() for answer in answers if answer.status_code == 200]
    assert done
    assert all(each == done[0] for each in done)
    assert all(answer.status_code in (200, 404) for answer in answers)  # 404: it came after the end


async def test_fifty_loads_at_once_are_one_process(shared, slow):
    body = {"model_name": "slow", "model_path": "slow"}
    forks = shared.core.launcher._numbers
    loads = [asyncio.create_task(shared.client.post("/models/load?wait=true", json=body)) for _ in range(50)]
    while not (record := shared.core.registry.find("slow")) or record.job.current.stage != "warming":
        await asyncio.sleep(0.01)
    await release(slow)
    assert {answer.status_code for answer in await asyncio.gather(*loads)} == {200}
    assert shared.core.launcher._numbers == forks + 1


@pytest.mark.parametrize(
    ("command", "words"), [("die", "SIGKILL"), ("exit", "status 0"), ("segfault", "SIGSEGV"), ("bug", "")]
)
async def test_a_load_that_dies_is_a_typed_error_and_can_be_tried_again(shared, fake_models, command, words):
    from tests.fakes.repositories import ENCODER, bert_config, write_repository

    folder = write_repository(fake_models / f"bad-{command}", bert_config(), ENCODER, {"load.txt": command})
    body = {"model_name": folder.name, "model_path": folder.name}
    answer = await shared.client.post("/models/load?wait=true", json=body)
    if command == "bug":
        assert answer.status_code == 500
        shared.log.clear()  # one of our own making
        assert "a bug" not in answer.text
    else:
        assert (answer.status_code, answer.json()["error"]["type"]) == (422, "load_failed")
        assert words in answer.json()["detail"]
    assert (await shared.client.get(f"/models/{folder.name}")).json()["status"] == "failed"
    assert (await events_of(shared, folder.name))[-1][0] == "failed"
    (folder / "load.txt").write_text("")
    assert (await shared.client.post("/models/load?wait=true", json=body)).status_code == 200
