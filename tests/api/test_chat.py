"""The chat service, v1 to v4, over HTTP and a real worker process."""

import asyncio
import hashlib
import json

import httpx
import pytest

from core.core import Core
from core.fleet.launcher import Launcher
from core.settings import Settings
from tests.api.refusals import check_refusal
from tests.serving import serve

VERSIONS = ("v1", "v2", "v3", "v4")
ANSWER = {"response", "model", "created_at", "usage", "finish_reason", "has_chat_template"}
KEPT = ANSWER | {"conversation_id", "message_id", "answer_id"}


async def say(served, message: str, version: str = "v4", **given) -> dict:
    answer = await served.client.post(f"/api/{version}/chat", json={"message": message, **given})
    assert answer.status_code == 200, answer.text
    return answer.json()


def events_of(text: str) -> list[tuple[str | None, dict]]:
    """(name, data) of each server-sent event."""
    found = []
    for block in text.strip().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n"))
        found.append((lines.get("event"), json.loads(lines["data"])))
    return found


async def stream(served, message: str, version: str = "v4", **given) -> list[tuple[str | None, dict]]:
    answer = await served.client.post(f"/api/{version}/chat/stream", json={"message": message, **given})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    return events_of(answer.text)


@pytest.mark.parametrize("version", VERSIONS)
async def test_an_answer(writer, version):
    answer = await say(
        writer, "say:안녕하세요 🙂", version, max_tokens=50, temperature=0.5, top_p=0.9, stop=["끝"], seed=7
    )
    assert set(answer) == (KEPT if version == "v4" else ANSWER)
    assert (answer["response"], answer["model"], answer["finish_reason"]) == ("안녕하세요 🙂", "writer", "stop")
    assert set(answer["usage"]) == {"prompt_tokens", "completion_tokens"}
    assert answer["usage"]["completion_tokens"] > 1
    cut = await say(writer, "count:20", version, max_tokens=5, model="writer", temperature=0)
    assert (cut["response"], cut["finish_reason"], cut["usage"]["completion_tokens"]) == ("abcde", "length", 5)
    stopped = await say(writer, "count:20", version, stop="def")
    assert (stopped["response"], stopped["finish_reason"]) == ("abc", "stop")


LATER = {"template": "v3", "variables": "v3", "language": "v3", "conversation_id": "v4", "replaces": "v4"}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("field", [*LATER, "surprise", "messages", "system", "owner", "n", "top_k"])
async def test_a_version_refuses_what_only_a_later_one_knows_by_name(writer, version, field):
    if field in LATER and LATER[field] <= version:
        return
    for path in [f"/api/{version}/chat"] + ([f"/api/{version}/chat/stream"] if version != "v1" else []):
        answer = await writer.client.post(path, json={"message": "hi", field: "x"})
        assert f"`{field}`" in check_refusal(answer, 422)["message"]


async def test_v1_does_not_stream(writer):
    check_refusal(await writer.client.post("/api/v1/chat/stream", json={"message": "hi"}), 404)


@pytest.mark.parametrize("version", VERSIONS[1:])
async def test_a_stream(writer, version):
    *deltas, (name, done) = await stream(writer, "say:안녕하세요 🙂", version)
    assert [each for each, _ in deltas] == [None] * len(deltas)
    assert "".join(data["delta"] for _, data in deltas) == "안녕하세요 🙂"
    assert all(data["delta"] for _, data in deltas)
    assert name is None
    assert (done["done"], done["finish_reason"], set(done["usage"])) == (
        True, "stop", {"prompt_tokens", "completion_tokens"},
    )  # fmt: skip
    first = deltas[0][1]
    assert ("conversation_id" in first) == ("conversation_id" in done) == (version == "v4")
    empty = await stream(writer, "say:", version)
    assert [data.get("done") for _, data in empty] == [True]


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({"message": "hi", "model": "nobody"}, 404, "model_not_found"),
        ({"message": "x" * 5000}, 422, "context_length_exceeded"),
        ({"message": ""}, 422, "invalid_request"),
        ({"message": "  \n"}, 422, "invalid_request"),
        ({"message": None}, 422, "invalid_request"),
        ({"message": ["hi"]}, 422, "invalid_request"),
        ({}, 422, "invalid_request"),
        ({"message": "oom"}, 507, "insufficient_memory"),
        ({"message": "hi", "max_tokens": 0}, 422, "invalid_request"),
        ({"message": "hi", "max_tokens": 2**31}, 422, "invalid_request"),
        ({"message": "hi", "max_tokens": 1.5}, 422, "invalid_request"),
        ({"message": "hi", "temperature": -1}, 422, "invalid_request"),
        ({"message": "hi", "temperature": "0.7"}, 422, "invalid_request"),
        ({"message": "hi", "temperature": True}, 422, "invalid_request"),
        ({"message": "hi", "top_p": 1.0001}, 422, "invalid_request"),
        ({"message": "hi", "seed": -1}, 422, "invalid_request"),
        ({"message": "hi", "seed": 2**64}, 422, "invalid_request"),
        ({"message": "hi", "stop": [""]}, 422, "invalid_request"),
        ({"message": "hi", "stop": ["x"] * 10_000}, 422, "invalid_request"),
        ({"message": "hi", "stop": "x" * 500_000}, 422, "invalid_request"),
    ],
)
async def test_errors_before_the_first_token_are_answers_of_their_own(writer, body, status, kind):
    for path in ("/api/v1/chat", "/api/v2/chat/stream", "/api/v4/chat/stream"):
        assert check_refusal(await writer.client.post(path, json=body), status)["type"] == kind


async def test_null_is_not_said(writer):
    body = dict.fromkeys(("model", "max_tokens", "temperature", "top_p", "stop", "seed", "template", "variables"))
    assert (await say(writer, "say:ok", **body, conversation_id=None))["response"] == "ok"


async def test_an_error_after_the_first_token_is_an_event(writer):
    found = await stream(writer, "then:oom\ncount:20", "v2")
    *deltas, (name, data) = found
    assert "".join(each["delta"] for _, each in deltas) == "ab"
    assert name == "error"
    assert set(data) == {"detail", "error"}
    assert data["error"]["type"] == "insufficient_memory"


async def test_b39_b41_any_text_goes_in_and_comes_back(writer):
    for text in (
        "\u202e\x1b[31m\a\0\r\t",
        "<|im_end|></s>[INST]",
        "👨‍👩‍👧",
        "e\u0301" * 100,
        "<script>alert(1)</script>",
    ):
        answer = await say(writer, f"say:{text}")
        assert answer["response"] == text.partition("\n")[0]
        stored = (await writer.client.get(f"/api/v4/conversations/{answer['conversation_id']}")).json()
        assert [each["content"] for each in stored["messages"]] == [f"say:{text}", text]


# templates


@pytest.mark.parametrize("version", ["v3", "v4"])
async def test_templates_are_listed_and_read(writer, version):
    listed = (await writer.client.get(f"/api/{version}/prompt/templates")).json()["templates"]
    assert [each["name"] for each in listed if each["built_in"]] == [
        "code_assistant", "creative_writer", "default", "sql_assistant", "therapy_assistant",
    ]  # fmt: skip
    one = (await writer.client.get(f"/api/{version}/prompt/templates/sql_assistant")).json()
    assert one in listed
    assert (one["language"], one["variables"]["dialect"]["default"]) == ("ko", "PostgreSQL")
    english = await writer.client.get(f"/api/{version}/prompt/templates/sql_assistant?language=en")
    assert english.json()["title"] == "SQL assistant"
    check_refusal(await writer.client.get(f"/api/{version}/prompt/templates/nothing"), 404)
    check_refusal(await writer.client.get(f"/api/{version}/prompt/templates/default?language=fr"), 422)


async def test_a_template_of_ones_own(writer):
    made = {"name": "mine", "system": "You are {who}.", "user": "say:{message}"}
    created = await writer.client.post("/api/v4/prompt/templates", json=made)
    assert (created.status_code, created.json()["variables"]) == (201, {"who": {"description": "", "default": None}})
    check_refusal(await writer.client.post("/api/v4/prompt/templates", json=made), 409)
    for version in ("v3", "v4"):
        answer = await say(writer, "{who} {{7*7}} %(x)s", version, template="mine", variables={"who": "a poet"})
        assert answer["response"] == "{who} {{7*7}} %(x)s"
        missing = await writer.client.post(f"/api/{version}/chat", json={"message": "x", "template": "mine"})
        assert "`who`" in check_refusal(missing, 422)["message"]
    changed = {"user": "say:또 {message}"}
    assert (await writer.client.put("/api/v4/prompt/templates/mine", json=changed)).json()["user"] == changed["user"]
    assert (await say(writer, "x", "v3", template="mine"))["response"] == "또 x"
    assert (await writer.client.delete("/api/v4/prompt/templates/mine")).status_code == 200
    for method in ("GET", "PUT", "DELETE"):
        given = {"json": {}} if method == "PUT" else {}
        check_refusal(await writer.client.request(method, "/api/v4/prompt/templates/mine", **given), 404)
    check_refusal(await writer.client.post("/api/v3/chat", json={"message": "x", "template": "mine"}), 404)
    check_refusal(await writer.client.delete("/api/v4/prompt/templates/default"), 409)


NAMES = [
    "..%2fx",
    "%2e%2e%2f",
    "..",
    "a%00b",
    "x" * 300,
    "CON",
    "%C3%A9",
    "x.",
    ".hidden",
    "default%0a",
    "%2fetc%2fpasswd",
]


@pytest.mark.parametrize("name", NAMES)
async def test_b47_to_b52_names_that_lead_nowhere(writer, name):
    for method in ("GET", "PUT", "DELETE"):
        given = {"json": {}} if method == "PUT" else {}
        for kind in ("prompt/templates", "conversations"):
            answer = await writer.client.request(method, f"/api/v4/{kind}/{name}", **given)
            check_refusal(answer, 404, 405, 422)
    data = writer.core.settings.data_dir
    assert {path.name for path in data.iterdir()} <= {"berth.db", "berth.db-wal", "berth.db-shm", "calibration.json"}


# conversations


async def test_a_conversation(writer):
    first = await say(writer, "say:하나")
    identity = first["conversation_id"]
    *_, (_, done) = await stream(writer, "say:둘", conversation_id=identity)
    assert done["conversation_id"] == identity
    stored = (await writer.client.get(f"/api/v4/conversations/{identity}")).json()
    assert (stored["title"], stored["message_count"]) == ("say:하나", 4)
    assert [(each["role"], each["content"], each["status"]) for each in stored["messages"]] == [
        ("user", "say:하나", "complete"), ("assistant", "하나", "complete"),
        ("user", "say:둘", "complete"), ("assistant", "둘", "complete"),
    ]  # fmt: skip
    assert stored["messages"][3]["id"] == done["answer_id"]
    await say(writer, "say:셋", conversation_id=identity, replaces=done["message_id"])
    renamed = await writer.client.patch(f"/api/v4/conversations/{identity}", json={"title": "수 세기"})
    assert [each["content"] for each in renamed.json()["messages"]] == ["say:하나", "하나", "say:셋", "셋"]
    page = (await writer.client.get("/api/v4/conversations?page=1&page_size=1")).json()
    assert set(page) == {"items", "total", "page", "page_size"}
    assert set(page["items"][0]) == {"id", "title", "created_at", "updated_at", "message_count"}
    assert (page["items"][0]["id"], page["items"][0]["title"]) == (identity, "수 세기")
    assert (await writer.client.get("/api/v4/conversations")).json()["page_size"] == 20
    exported = await writer.client.get(f"/api/v4/conversations/{identity}/export")
    imported = await writer.client.post("/api/v4/conversations/import", json=exported.json())
    assert imported.status_code == 201
    (copy,) = imported.json()["ids"]
    assert (await writer.client.delete(f"/api/v4/conversations/{identity}")).status_code == 200
    for method in ("GET", "DELETE"):
        check_refusal(await writer.client.request(method, f"/api/v4/conversations/{identity}"), 404)
    gone = await writer.client.post("/api/v4/chat", json={"message": "x", "conversation_id": identity})
    assert check_refusal(gone, 404)["type"] == "conversation_not_found"
    assert (await say(writer, "say:넷", conversation_id=copy))["conversation_id"] == copy
    assert (await writer.client.get(f"/api/v4/conversations/{copy}")).json()["title"] == "수 세기"


@pytest.mark.parametrize("query", ["page=0", "page=-1", "page_size=0", "page_size=101", "page=x", "page=" + "9" * 30])
async def test_pages_that_are_none(writer, query):
    check_refusal(await writer.client.get(f"/api/v4/conversations?{query}"), 422)


@pytest.mark.parametrize("body", [{}, [], {"format": "x"}, {"format": "berth.conversations", "version": 9}])
async def test_imports_that_are_none(writer, body):
    check_refusal(await writer.client.post("/api/v4/conversations/import", json=body), 422)


async def test_two_turns_at_once(writer):
    identity = (await say(writer, "say:x"))["conversation_id"]
    bodies = [{"message": f"say:{number}", "conversation_id": identity} for number in range(10)]
    answers = await asyncio.gather(*(writer.client.post("/api/v4/chat", json=body) for body in bodies))
    statuses = sorted(answer.status_code for answer in answers)
    assert set(statuses) == {200, 409}
    for answer in answers:
        if answer.status_code == 409:
            assert check_refusal(answer, 409)["type"] == "conversation_busy"
    stored = (await writer.client.get(f"/api/v4/conversations/{identity}")).json()
    assert stored["message_count"] == 2 + 2 * statuses.count(200)


async def test_a_client_that_leaves_is_remembered(writer):
    async with writer.client.stream("POST", "/api/v4/chat/stream", json={"message": "count:4000"}) as answer:
        async for line in answer.aiter_lines():
            identity = json.loads(line[6:])["conversation_id"]
            break
    while claim := writer.core.chat._claims.get(identity):
        await claim.ended.wait()
    stored = (await writer.client.get(f"/api/v4/conversations/{identity}")).json()
    assert stored["messages"][1]["status"] == "interrupted"
    assert stored["messages"][1]["content"].startswith("a")
    assert len(stored["messages"][1]["content"]) < 4000


async def test_b55_what_belongs_to_whom(fake_models, tmp_path):
    """Every verb with another's key: nothing is there. A browser that signed in with a key sees what that key made."""
    settings = Settings(
        _env_file=None, models_dir=fake_models, starter_dir=fake_models / "none", offline=True, data_dir=tmp_path,
        api_keys="one-key,two-key", admin_key="admin-key",
    )  # fmt: skip
    one, two = {"X-API-Key": "one-key"}, {"Authorization": "Bearer two-key"}
    async with serve(Core(settings, Launcher("tests.fakes.runtime"))) as served:
        client = served.client
        load = {"model_name": "writer", "model_path": "writer"}
        await client.post("/models/load?wait=true", json=load, headers={"X-API-Key": "admin-key"})
        made = await client.post("/api/v4/chat", json={"message": "say:비밀"}, headers=one)
        identity, message_id = made.json()["conversation_id"], made.json()["message_id"]
        template = {"name": "mine", "user": "say:{message}"}
        assert (await client.post("/api/v4/prompt/templates", json=template, headers=one)).status_code == 201
        asked: list[tuple[str, str, dict | None]] = [
            ("GET", f"conversations/{identity}", None),
            ("GET", f"conversations/{identity}/export", None),
            ("PATCH", f"conversations/{identity}", {"title": "x"}),
            ("DELETE", f"conversations/{identity}", None),
            ("POST", "chat", {"message": "x", "conversation_id": identity}),
            ("POST", "chat/stream", {"message": "x", "conversation_id": identity, "replaces": message_id}),
            ("POST", "chat", {"message": "x", "template": "mine"}),
            ("GET", "prompt/templates/mine", None),
            ("PUT", "prompt/templates/mine", {}),
            ("DELETE", "prompt/templates/mine", None),
        ]
        for headers in (two, {"X-API-Key": "admin-key"}):
            for method, path, body in asked:
                answer = await client.request(method, f"/api/v4/{path}", json=body, headers=headers)
                check_refusal(answer, 404)
                assert "비밀" not in answer.text
            assert (await client.get("/api/v4/conversations", headers=headers)).json()["total"] == 0
        check_refusal(await client.get(f"/api/v4/conversations/{identity.upper()}", headers=one), 404)
        assert (await client.get(f"/api/v4/conversations/{identity}", headers=one)).json()["message_count"] == 2
        async with httpx.AsyncClient(base_url=served.url, headers={"Origin": served.url}) as browser:
            await browser.post("/session", json={"key": "one-key"})
            assert (await browser.get("/api/v4/conversations")).json()["total"] == 1
            await browser.post("/session", json={"key": "two-key"})
            assert (await browser.get("/api/v4/conversations")).json()["total"] == 0
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"one-key" not in stored
    assert hashlib.sha256(b"one-key").hexdigest().encode() in stored


async def test_conversations_outlive_a_restart(fake_models, tmp_path):
    settings = Settings(
        _env_file=None, models_dir=fake_models, starter_dir=fake_models / "none", offline=True, data_dir=tmp_path
    )
    async with serve(Core(settings, Launcher("tests.fakes.runtime"))) as served:
        await served.load("writer")
        identity = (await say(served, "say:기억해"))["conversation_id"]
    async with serve(Core(settings, Launcher("tests.fakes.runtime"))) as served:
        stored = (await served.client.get(f"/api/v4/conversations/{identity}")).json()
        assert [each["content"] for each in stored["messages"]] == ["say:기억해", "기억해"]


async def test_a_database_that_is_away_is_told(fake_models, tmp_path):
    settings = Settings(
        _env_file=None, models_dir=fake_models, starter_dir=fake_models / "none", offline=True,
        data_dir=tmp_path / "data", database_url=f"sqlite:///{tmp_path}/away/berth.db",
    )  # fmt: skip
    async with serve(Core(settings, Launcher("tests.fakes.runtime"))) as served:
        await served.load("writer")
        ready = await served.client.get("/ready")
        assert "database" in check_refusal(ready, 503)["message"]
        check_refusal(await served.client.get("/api/v4/conversations"), 503)
        check_refusal(await served.client.post("/api/v4/chat", json={"message": "say:x"}), 503)
        *_, (name, data) = await stream(served, "say:x")
        assert (name, data["error"]["type"]) == ("error", "not_ready")
        assert (await say(served, "say:x", "v3", template="default"))["response"]
        (tmp_path / "away").mkdir()
        assert (await served.client.get("/ready")).status_code == 200
        assert (await say(served, "say:x"))["response"] == "x"
