"""`GET /models/plan` over HTTP: what a load would take, what would make room, and that asking loads nothing."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from core.core import Core
from core.fleet.launcher import Launcher
from core.settings import Settings
from core.types import Task
from tests.fakes.decoders import write_decoder
from tests.fakes.gguf import write_gguf
from tests.fakes.models import write_model
from tests.serving import Served, serve

FIELDS = {
    "model_name", "model_path", "revision", "runtime", "task", "available_tasks", "architecture", "parameters",
    "quantization", "device", "dtype", "context_length", "max_sequences", "cached_tokens", "download_bytes",
    "disk_free", "fits_on_disk", "weight_bytes", "needs", "devices", "total_bytes", "reckoned_bytes", "measured",
    "verdict", "unload", "quantizations", "gpu_layers", "shorter_context", "warnings",
}  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    write_decoder(root / "write", "llama", hidden_size=256)
    write_model(root / "classify", "bert", Task.TEXT_CLASSIFICATION)
    (root / "gguf").mkdir()
    write_gguf(root / "gguf" / "tiny-q8_0.gguf", quantized=True, template=None)
    return root


def settings(models: Path, data: Path, **more: object) -> Settings:
    return Settings(_env_file=None, models_dir=models, data_dir=data, starter_dir=models / "none", offline=True, **more)


async def ask(server: Served, path: str, **query: object) -> dict[str, object]:
    answer = await server.client.get("/models/plan", params={"model_path": path, **query})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture
async def planning(models: Path, tmp_path: Path):
    async with serve(Core(settings(models, tmp_path / "data"), Launcher("tests.fakes.runtime"))) as served:
        yield served


async def test_a_plan_says_what_it_is_made_of(planning: Served) -> None:
    found = await ask(planning, "write", context_length=128)
    assert found.keys() == FIELDS
    assert (found["model_name"], found["verdict"], found["device"], found["dtype"]) == (
        "write",
        "fits",
        "cpu",
        "float32",
    )
    assert (found["context_length"], found["max_sequences"], found["cached_tokens"]) == (128, 8, 8 * 128)
    [(device, need)] = found["needs"].items()
    assert device == "cpu"
    assert need["total"] == found["total_bytes"] == found["reckoned_bytes"] == need["reckoned"]
    assert need["reckoned"] == sum(need[part] for part in ("weights", "cache", "activations", "overhead"))
    assert (need["measured"], found["measured"]) == (None, None)
    assert need["weights"] >= found["weight_bytes"] > 0
    room = found["devices"]["cpu"]
    assert room["free"] == room["limit"] - room["held"]
    assert (found["download_bytes"], found["fits_on_disk"]) == (0, True)


async def test_asking_loads_nothing(planning: Served) -> None:
    for path in ("write", "classify", "gguf"):
        await ask(planning, path)
    assert planning.core.models() == []
    assert (await planning.client.get("/models")).json()["all_models"] == []


async def test_what_is_asked_for_counts(planning: Served) -> None:
    asked = ({}, {"context_length": 16}, {"dtype": "bfloat16"}, {"quantization": "4bit"})
    plain, short, half, four = [await ask(planning, "write", **options) for options in asked]
    assert short["needs"]["cpu"]["cache"] < plain["needs"]["cpu"]["cache"]
    assert half["needs"]["cpu"]["weights"] * 2 == plain["needs"]["cpu"]["weights"]
    assert four["needs"]["cpu"]["weights"] < plain["needs"]["cpu"]["weights"]
    assert (await ask(planning, "write", load_in_4bit=True))["needs"] == four["needs"]


async def test_warnings_come_along(planning: Served) -> None:
    assert any("chat template" in warning for warning in (await ask(planning, "gguf"))["warnings"])


@pytest.mark.parametrize(
    ("query", "status", "kind"),
    [
        ({}, 422, "invalid_request"),
        ({"model_path": "write", "context_length": "many"}, 422, "invalid_request"),
        ({"model_path": "write", "context_length": 0}, 422, "invalid_request"),
        ({"model_path": "write", "quantization": "3bit"}, 422, "invalid_request"),
        ({"model_path": "write", "load_in_8bit": True, "load_in_4bit": True}, 422, "invalid_request"),
        ({"model_path": "write", "nonsense": 1}, 422, "invalid_request"),
        ({"model_path": "write", "device": "tpu"}, 422, "invalid_request"),
        ({"model_path": "write", "model_name": "../x"}, 422, "invalid_request"),
        ({"model_path": "gguf", "quantization": "4bit"}, 422, "invalid_request"),
        ({"model_path": "write", "task": "fill-mask"}, 400, "task_not_supported"),
        ({"model_path": "../write"}, 422, "invalid_request"),
        ({"model_path": "org/away"}, 503, "hub_unreachable"),
        ({"model_path": "starter:none"}, 404, "repository_not_found"),
    ],
)
async def test_what_cannot_be_planned_says_why(planning: Served, query: dict, status: int, kind: str) -> None:
    answer = await planning.client.get("/models/plan", params=query)
    assert (answer.status_code, answer.json()["error"]["type"]) == (status, kind), answer.text


async def test_a_field_that_is_not_there_is_named(planning: Served) -> None:
    answer = await planning.client.get("/models/plan", params={"model_path": "write", "nonsense": 1})
    assert "nonsense" in answer.json()["detail"]


async def test_a_corrupt_model_is_a_typed_error(planning: Served, models: Path) -> None:
    (models / "cut").mkdir(exist_ok=True)
    (models / "cut" / "config.json").write_text('{"architectures": ["BertModel"], "model_type": "bert"}')
    (models / "cut" / "model.safetensors").write_bytes(b"\xff" * 100)
    answer = await planning.client.get("/models/plan", params={"model_path": "cut"})
    assert (answer.status_code, answer.json()["error"]["type"]) == (422, "corrupt_model")


async def test_only_an_admin_plans_by_an_absolute_path(models: Path, tmp_path: Path) -> None:
    options = settings(models, tmp_path / "data", api_keys=("user",), admin_key="admin")
    async with serve(Core(options, Launcher("tests.fakes.runtime"))) as server:
        for key, status in (("user", 403), ("admin", 200), ("wrong", 401)):
            answer = await server.client.get(
                "/models/plan", params={"model_path": str(models / "write")}, headers={"X-API-Key": key}
            )
            assert answer.status_code == status, answer.text


async def test_within_a_budget(models: Path, tmp_path: Path) -> None:
    """What fits, what does not, and that a load agrees."""
    options = settings(models, tmp_path / "data", cpu_memory_budget_mb=26)
    async with serve(Core(options, Launcher("tests.fakes.runtime"))) as server:
        assert (await ask(server, "gguf"))["verdict"] == "fits"
        never = await ask(server, "write")
        assert never["devices"]["cpu"]["limit"] == 26 * 1024 * 1024
        assert never["verdict"] in ("never", "fits_as")
        refused = await server.client.post("/models/load", json={"model_name": "write", "model_path": "write"})
        assert refused.status_code == 507
        assert refused.json()["error"]["type"] == "insufficient_memory"
        said = refused.json()["plan"]
        assert {**said, "disk_free": 0} == {**never, "disk_free": 0}
        short = {"model_name": "write", "model_path": "write", "context_length": 16}
        assert "plan" not in (await server.client.post("/models/load", json={**short, "nonsense": 1})).json()


async def test_after_unloading(models: Path, tmp_path: Path) -> None:
    plan_server = Core(settings(models, tmp_path / "data"), Launcher("tests.fakes.runtime"))
    async with serve(plan_server) as server:
        need = (await ask(server, "classify"))["total_bytes"]
    budget_mb = need * 1.5 / 1024 / 1024
    tight = Core(settings(models, tmp_path / "data", cpu_memory_budget_mb=budget_mb), Launcher("tests.fakes.runtime"))
    async with serve(tight) as server:
        await server.load("classify")
        assert (await server.predict("classify", "x")).status_code == 200
        found = await ask(server, "classify", model_name="another")
        assert (found["verdict"], found["unload"]) == ("fits_after_unloading", ["classify"])
        assert found["devices"]["cpu"]["held"] > 0


async def budget_for_one(models: Path, data: Path) -> float:
    """MiB that hold one of two classifiers."""
    async with serve(Core(settings(models, data), Launcher("tests.fakes.runtime"))) as server:
        return (await ask(server, "classify"))["total_bytes"] * 1.5 / 1024 / 1024


async def test_who_waits_in_vain_is_told_what_would_make_room(models: Path, tmp_path: Path) -> None:
    fifo = tmp_path / "gate"
    os.mkfifo(fifo)
    budget = await budget_for_one(models, tmp_path / "data")
    options = settings(models, tmp_path / "data", cpu_memory_budget_mb=budget, load_wait_s=0.2)
    async with serve(Core(options, Launcher("tests.fakes.runtime"))) as server:
        await server.load("classify")
        busy = asyncio.create_task(server.predict("classify", f"wait:{fifo}"))
        while not server.core.registry.get("classify").leases:
            await asyncio.sleep(0.01)
        body = {"model_name": "another", "model_path": "classify"}
        following = await server.client.post("/models/load", json=body)
        assert following.status_code == 202
        lines = (await server.client.get("/models/another/events")).text.split()
        event = json.loads(" ".join(lines[lines.index("failed") + 2 :]))
        refused = await server.client.post("/models/load?wait=true", json=body)
        for answer in (event, refused.json()):
            assert answer["error"]["type"] == "insufficient_memory"
            assert answer["plan"].keys() == FIELDS
            assert (answer["plan"]["model_name"], answer["plan"]["verdict"]) == ("another", "fits_after_unloading")
            assert answer["plan"]["unload"] == ["classify"]
        assert refused.status_code == 507
        fifo.write_bytes(b"x")
        assert (await busy).status_code == 200


async def test_a_request_that_cannot_bring_its_model_back_is_told_too(models: Path, tmp_path: Path) -> None:
    budget = await budget_for_one(models, tmp_path / "data")
    options = settings(models, tmp_path / "data", cpu_memory_budget_mb=budget)
    async with serve(Core(options, Launcher("tests.fakes.runtime"))) as server:
        await server.load("classify")
        assert (await server.predict("classify", "x")).status_code == 200
        pinned = {"model_name": "pinned", "model_path": "classify", "pinned": True}
        assert (await server.client.post("/models/load?wait=true", json=pinned)).status_code == 200
        refused = await server.predict("classify", "x")
        assert refused.status_code == 507
        assert refused.json()["plan"].keys() == FIELDS
        assert refused.json()["plan"]["unload"] == []
        openai = await server.client.post("/v1/embeddings", json={"model": "classify", "input": "x"})
        assert openai.json().keys() == {"error"}
