"""Contract section 1, the documentation, and what a client would rather read."""

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.negotiation import prefers_html, prefers_korean

HTML = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "is_html"),
    [
        (HTML, True), ("text/html", True), ("*/*", False), ("", False), ("application/json", False),
        ("text/html;q=0.5, application/json", False), ("text/html, application/json", True),
        ("text/html;q=0.9, application/*", False), ("text/html;q=0", False), ("TEXT/HTML", True), ("text/*", False),
        ("text/html;q=abc", False), (",;q=,text/html", True), ("text/html;q=nan", False), ("text/html;level=1", True),
    ],
)  # fmt: skip
async def test_the_root_is_json_unless_html_is_wanted_at_least_as_much(shared, accept, is_html):
    assert prefers_html(accept) is is_html
    answer = await shared.client.get("/", headers={"Accept": accept})
    assert "accept" in answer.headers["vary"].lower()
    if is_html:
        assert answer.status_code == 404  # the page is not mounted here, and this is where it would be
    else:
        assert answer.status_code == 200
        assert answer.json()["docs"] == "/docs"


def test_languages():
    assert prefers_korean("ko-KR,ko;q=0.9,en-US;q=0.8")
    assert prefers_korean("ko")
    assert not prefers_korean("en-US,en;q=0.9,ko;q=0.8")
    assert not prefers_korean("")


async def test_root_health_and_ready(shared):
    assert (await shared.client.get("/")).json() == {
        "message": "Berth: many models, one server",
        "version": "0.1.0",
        "docs": "/docs",
        "models_loaded": 0,
    }
    health = (await shared.client.get("/health")).json()
    assert (health["status"], health["models_loaded"], health["model_loaded"]) == ("healthy", 0, False)
    assert health["model_name"] is None
    assert health["device"] in ("cpu", "cuda")
    assert isinstance(health["unix"], float)
    await shared.load("a")
    health = (await shared.client.get("/health")).json()
    assert (health["models_loaded"], health["model_loaded"], health["model_name"]) == (1, True, "a")
    assert (await shared.client.get("/ready")).json() == {"status": "ready"}
    for path in ("/", "/health", "/ready"):
        head = await shared.client.head(path)
        assert (head.status_code, head.content) == (200, b"")


async def test_ready_says_why_not(shared, tmp_path):
    shared.app.state.waiting_for = "The page is starting."
    try:
        answer = await shared.client.get("/ready")
        assert (answer.status_code, answer.json()["detail"]) == (503, "The page is starting.")
        assert "retry-after" in answer.headers
        page = await shared.client.get("/", headers={"Accept": HTML})
        assert (page.status_code, page.headers["content-type"]) == (503, "text/html; charset=utf-8")
        assert (await shared.client.get("/config")).json()["error"]["type"] == "not_ready"
        assert (await shared.client.get("/health")).status_code == 200
    finally:
        shared.app.state.waiting_for = None


async def test_ready_is_503_when_nothing_can_be_written(core, server):
    data = core.settings.data_dir
    data.rmdir()
    data.write_text("in the way")
    answer = await server.client.get("/ready")
    assert (answer.status_code, answer.json()["error"]["type"]) == (503, "not_ready")
    assert str(data) not in answer.text


async def test_status_and_memory(shared):
    await shared.load("a", "org/c")
    await shared.predict("a", "four")
    status = (await shared.client.get("/system/status")).json()
    assert status["version"] == "0.1.0"
    assert status["uptime"] > 0
    assert status["cpu"]["count"] >= 1
    assert [(model["name"], model["served"], model["waiting"]) for model in status["models"]] == [
        ("a", 1, 0),
        ("org/c", 0, 0),
    ]
    memory = (await shared.client.get("/system/memory")).json()
    system = memory["system_memory"]
    assert system["total"] == system["available"] + system["used"]
    assert 0 < system["percent"] < 100
    assert isinstance(memory["gpu_memory"], list)
    assert set(memory["ledger"]) == {"a", "org/c"}
    assert memory["ledger"]["a"]["measured"]["cpu"] > 0
    assert memory["ledger"]["a"]["promised"] > 0
    cleanup = (await shared.client.post("/system/cleanup")).json()
    assert cleanup["message"] == "System cleanup completed"
    assert cleanup["freed_bytes"]["cpu"] >= 0


async def test_metrics_are_what_prometheus_reads(shared):
    await shared.load("a")
    await shared.predict("a", "four")
    await shared.client.get("/made/up/path/1")
    answer = await shared.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert samples["berth_model_state", ("model", "a"), ("state", "loaded")] == 1
    assert samples["berth_model_requests_served_total", ("model", "a")] == 1
    assert samples["berth_model_requests_waiting", ("model", "a")] == 0
    assert samples["berth_model_memory_bytes", ("device", "cpu"), ("model", "a")] > 0
    route = ("route", "/models/{name:path}/predict")
    assert samples["berth_requests_total", ("method", "POST"), route, ("status", "200")] >= 1
    assert samples["berth_request_seconds_count", route] >= 1
    assert "made/up" not in answer.text  # or clients could make as many series as they like


# documentation


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
async def test_the_documentation_needs_no_internet(shared, path):
    page = await shared.client.get(path)
    assert page.status_code == 200
    assert not re.search(r"(?:src|href)=[\"'](?:https?:)?//", page.text)
    assets = re.findall(r"(?:src|href)=[\"']([^\"']+)", page.text)
    assert assets
    for asset in assets:
        if not asset.startswith("data:"):
            assert (await shared.client.get(f"/{asset}")).status_code == 200


async def test_openapi_describes_every_row_and_its_errors(shared):
    described = (await shared.client.get("/openapi.json")).json()
    for path, method in {
        "/": "get", "/health": "get", "/ready": "get", "/system/status": "get", "/system/memory": "get",
        "/system/cleanup": "post", "/metrics": "get", "/models": "get", "/models/load": "post",
        "/models/{name}": "get", "/models/{name}/tasks": "get", "/models/{name}/events": "get",
        "/models/{name}/cancel": "post", "/models/{name}/unload": "post", "/models/{name}/predict": "post",
        "/api/v1/embed": "post", "/api/v1/embed-batch": "post", "/api/v1/model-info": "get", "/predict": "post",
    }.items():  # fmt: skip
        operation = described["paths"][path][method]
        assert operation["responses"]["4XX"]["content"]["application/json"]["schema"]["$ref"].endswith("/Error")
        assert operation.get("description")
        assert "422" not in operation["responses"]
    names = {parameter["name"] for parameter in described["paths"]["/models/{name}"]["get"]["parameters"]}
    assert names == {"name"}
    assert set(described["components"]["securitySchemes"]) == {"key", "bearer"}


async def test_the_assets_are_only_the_assets(shared):
    for path in (
        "/docs/assets/../../../app.py",
        "/docs/assets/%2e%2e/%2e%2e/wire.py",
        "/docs/assets/",
        "/docs/assets/x",
    ):
        answer = await shared.client.get(path)
        assert answer.status_code == 404
        assert answer.json()["error"]["type"] == "not_found"
