"""Who may do what, over every route there is and over the page."""

import asyncio

import gradio as gr
import httpx
import pytest
from fastapi import FastAPI

from api.auth import COOKIE
from core.access import Access
from core.core import Core
from core.fleet.launcher import Launcher
from tests.serving import serve

USER, ADMIN = {"X-API-Key": "user-key"}, {"Authorization": "Bearer admin-key"}
PUBLIC = {
    ("GET", "/"), ("HEAD", "/"), ("GET", "/health"), ("HEAD", "/health"), ("GET", "/ready"), ("HEAD", "/ready"),
    ("GET", "/session"), ("POST", "/session"), ("DELETE", "/session"),
}  # fmt: skip
FOR_ADMINS = {
    ("POST", "/models/load"), ("POST", "/models/{name}/cancel"), ("POST", "/models/{name}/unload"),
    ("POST", "/system/cleanup"), ("POST", "/load_model"),
}  # fmt: skip


def routes_of(app: FastAPI) -> list[tuple[str, str]]:
    """(method, path) of every route and of the page's, as a client would write them."""
    described = [(method.upper(), path) for path, methods in app.openapi()["paths"].items() for method in methods]
    hidden = [("GET", path) for path in ("/docs", "/redoc", "/openapi.json", "/docs/assets/swagger-ui.css")]
    page = [
        ("GET", "/config"), ("GET", "/gradio_api/info"), ("GET", "/gradio_api/startup-events"),
        ("GET", "/gradio_api/heartbeat/x"), ("GET", "/gradio_api/app_id"), ("GET", "/gradio_api/openapi.json"),
        ("POST", "/gradio_api/queue/join"), ("GET", "/gradio_api/queue/data"), ("POST", "/gradio_api/run/predict"),
        ("POST", "/gradio_api/upload"), ("GET", "/gradio_api/file=/etc/passwd"), ("POST", "/gradio_api/reset"),
        ("POST", "/gradio_api/cancel"), ("GET", "/theme.css"), ("GET", "/manifest.json"), ("GET", "/robots.txt"),
        ("GET", "/login"), ("POST", "/login"), ("GET", "/logout"), ("GET", "/assets/x.js"), ("GET", "/static/x"),
        ("GET", "/monitoring"), ("GET", "/nothing/here"),
    ]  # fmt: skip
    return described + hidden + page


@pytest.fixture(scope="module")
async def keyed(fake_models, tmp_path_factory):
    """A server with a key for use and one for all, a page mounted, and no model."""
    from core.settings import Settings

    settings = Settings(
        _env_file=None, models_dir=fake_models, starter_dir=fake_models / "none", offline=True,
        data_dir=tmp_path_factory.mktemp("data"),
        api_keys="user-key,second-key", admin_key="admin-key", cors_origins="https://friend.example",
    )  # fmt: skip
    core = Core(settings, Launcher("tests.fakes.runtime"))
    async with serve(core) as served:
        with gr.Blocks(analytics_enabled=False) as page:
            gr.Markdown("a page")
        gr.mount_gradio_app(served.app, page, path="/", ssr_mode=False, run_history=False)
        served.app.openapi_schema = None
        yield served


async def ask(served, method, path, **given) -> httpx.Response:
    """One answer's head; a stream is not read to its end."""
    async with served.client.stream(method, path.replace("{name}", "a"), **given) as answer:
        if "event-stream" not in answer.headers.get("content-type", ""):
            await answer.aread()
        return answer


async def test_without_a_key_nothing_but_the_public_list(keyed):
    found = routes_of(keyed.app)
    assert len(found) > 40
    for method, path in found:
        answer = await ask(keyed, method, path)
        if (method, path) in PUBLIC:
            assert answer.status_code != 401 or path == "/session", (method, path)
        else:
            assert answer.status_code == 401, (method, path, answer.status_code)
            error = answer.json()["error"]
            assert (error["code"] if path.startswith("/v1/") else error["type"]) == "not_authenticated"
            assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "headers",
    [
        {"X-API-Key": "wrong"}, {"X-API-Key": ""}, {"X-API-Key": "user-key "[:-2]}, {"Authorization": "Bearer"},
        {"Authorization": "Bearer wrong"}, {"Authorization": "Basic dXNlci1rZXk6"}, {"Authorization": "user-key"},
        {"Cookie": f"{COOKIE}=user-key"}, {"Cookie": f"{COOKIE}="}, {"X-API-Key": "k" * 60_000},
        {"Authorization": b"Bearer \xff\xfe"}, {"Authorization": "Bearer admin-key, user-key"},
    ],
)  # fmt: skip
async def test_a_wrong_key_is_no_key(keyed, headers):
    answer = await keyed.client.get("/models", headers=headers)
    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "not_authenticated"


@pytest.mark.parametrize(
    "path",
    [
        "//models", "/models/", "/./models", "/models/../models", "/Models", "/models?x=/health",
        "/health/../models", "/%6dodels", "/health%2f..%2fmodels", "/health/", "/static",
    ],
)  # fmt: skip
async def test_no_spelling_of_a_path_gets_around_the_check(keyed, path):
    port = int(keyed.url.rsplit(":", 1)[1])
    for host in ("127.0.0.1", "a/b?", "localhost"):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        status = int((await reader.readline()).split()[1])
        writer.close()
        assert status in (400, 401), (path, host, status)


@pytest.mark.parametrize("headers", [USER, {"Authorization": "Bearer user-key"}, {"X-API-Key": "second-key"}])
async def test_a_user_uses_models_and_no_more(keyed, headers):
    for method, path in routes_of(keyed.app):
        answer = await ask(keyed, method, path, headers=headers, json={"key": "user-key"})
        if (method, path) in FOR_ADMINS:
            assert (answer.status_code, answer.json()["error"]["type"]) == (403, "not_allowed"), path
        else:
            refused_by_the_page = path.startswith(("/gradio_api/file", "/monitoring"))
            assert answer.status_code not in (401, 403) or refused_by_the_page, (method, path)


async def test_an_admin_may_do_all(keyed):
    loaded = await keyed.client.post(
        "/models/load?wait=true", json={"model_name": "a", "model_path": "a"}, headers=ADMIN
    )
    assert loaded.status_code == 200
    assert (await keyed.client.post("/models/a/predict", json={"text": "four"}, headers=USER)).status_code == 200
    assert (await keyed.client.post("/system/cleanup", headers=ADMIN)).status_code == 200
    assert (await keyed.client.post("/models/a/unload", headers=ADMIN)).status_code == 200


async def test_a_session_stands_for_its_key(keyed):
    async with httpx.AsyncClient(base_url=keyed.url, headers={"Origin": keyed.url}) as browser:
        assert (await browser.get("/session")).json() == {"role": "nobody"}
        refused = await browser.post("/session", json={"key": "wrong"})
        assert (refused.status_code, "set-cookie" in refused.headers) == (401, False)
        signed_in = await browser.post("/session", json={"key": "user-key"})
        assert signed_in.json() == {"role": "user"}
        cookie = signed_in.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert "user-key" not in cookie
        assert (await browser.get("/models")).status_code == 200
        assert (await browser.get("/config")).status_code == 200
        assert (await browser.post("/system/cleanup")).status_code == 401  # an admin's call
        await browser.post("/session", json={"key": "admin-key"})
        assert (await browser.get("/session")).json() == {"role": "admin"}
        assert (await browser.post("/system/cleanup")).status_code == 200
        token = browser.cookies[COOKIE]
        assert (await browser.delete("/session")).status_code == 200
        assert (await browser.get("/models")).status_code == 401
        stolen = await keyed.client.get("/models", headers={"Cookie": f"{COOKIE}={token}"})
        assert stolen.status_code == 401  # signing out ends it on the server too


async def test_behind_https_the_cookie_works_in_a_frame(keyed):
    answer = await keyed.client.post(
        "/session", json={"key": "user-key"}, headers={"X-Forwarded-Proto": "https", "Host": "u-s.hf.space"}
    )
    cookie = answer.headers["set-cookie"]
    assert "Secure" in cookie
    assert "SameSite=none" in cookie
    assert "Partitioned" in cookie


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", None])
async def test_another_sites_page_cannot_use_a_session(keyed, origin):
    signed_in = await keyed.client.post("/session", json={"key": "admin-key"})
    headers = {"Cookie": signed_in.headers["set-cookie"].split(";")[0]}
    keyed.client.cookies.clear()
    if origin is not None:
        headers["Origin"] = origin
    answer = await keyed.client.post("/system/cleanup", headers=headers)
    assert (answer.status_code, answer.json()["error"]["type"]) == (403, "not_allowed")
    own = await keyed.client.post("/system/cleanup", headers={**headers, "Origin": keyed.url})
    assert own.status_code == 200
    with_key = await keyed.client.post("/system/cleanup", headers={"Origin": "https://evil.example", **ADMIN})
    assert with_key.status_code == 200  # no browser sends a key by itself


async def test_a_browser_without_a_key_is_asked_to_sign_in_in_its_language(keyed):
    for language, words in (("ko-KR,ko;q=0.9,en;q=0.8", "로그인"), ("en-US", "Sign in"), ("fr", "Sign in")):
        page = await keyed.client.get("/", headers={"Accept": "text/html,*/*;q=0.8", "Accept-Language": language})
        assert page.status_code == 401
        assert page.headers["content-type"].startswith("text/html")
        assert words in page.text
        for outside in ("src=", 'href="http', "@import", "//cdn"):
            assert outside not in page.text
    inside = await keyed.client.get("/", headers={"Accept": "text/html", **USER})
    assert inside.status_code == 200
    assert "gradio" in inside.text


async def test_cors_is_closed_to_all_but_those_named(keyed):
    for path in ("/models", "/config", "/health"):
        for origin in ("https://evil.example", "null"):
            answer = await keyed.client.get(path, headers={"Origin": origin, **USER})
            assert not [name for name in answer.headers if name.startswith("access-control-allow-origin")]
            asked = await keyed.client.options(
                path, headers={"Origin": origin, "Access-Control-Request-Method": "POST"}
            )
            assert asked.status_code == 400
            assert asked.json()["error"]["type"] == "invalid_request"
            assert "access-control-allow-origin" not in asked.headers
    friend = await keyed.client.get("/models", headers={"Origin": "https://friend.example", **USER})
    assert friend.headers["access-control-allow-origin"] == "https://friend.example"
    assert "access-control-allow-credentials" not in friend.headers


async def test_no_key_and_no_text_of_a_client_is_in_the_log(keyed):
    await keyed.client.post("/models/a/predict?x=user-key", json={"text": "비밀"}, headers=USER)
    await keyed.client.post("/session", json={"key": "admin-key"})
    await keyed.client.get("/%0d%0aINJECTED%1b[31m", headers=USER)
    keyed.client.cookies.clear()
    lines = [record.getMessage() for record in keyed.log if record.name.startswith(("api", "core"))]
    assert lines
    for line in lines:
        assert line.isprintable()
        for secret in ("user-key", "admin-key", "비밀", "\n"):
            assert secret not in line


# with no keys


async def test_alone_on_this_machine_everybody_is_admin_but_not_by_another_name(server):
    assert (await server.client.get("/session")).json() == {"role": "admin"}
    assert (await server.client.post("/system/cleanup")).status_code == 200
    # a page whose name was made to lead here, and the visitors of a proxy on this machine
    for headers in ({"Host": "evil.example"}, {"X-Forwarded-For": "203.0.113.7"}):
        assert (await server.client.get("/session", headers=headers)).json() == {"role": "user"}
        assert (await server.client.post("/system/cleanup", headers=headers)).status_code == 401
        key = {**headers, "X-API-Key": "anything"}
        assert (await server.client.post("/system/cleanup", headers=key)).status_code == 403
    other_site = await server.client.post("/system/cleanup", headers={"Origin": "https://evil.example"})
    assert (other_site.status_code, other_site.json()["error"]["type"]) == (403, "not_allowed")


async def test_bound_wider_use_is_open_and_admins_need_the_key_that_was_made(settings):
    wide = settings.model_copy(update={"host": "0.0.0.0"})
    access = Access(wide)
    assert access.made_key
    async with serve(Core(wide, Launcher("tests.fakes.runtime")), access) as served:
        body = {"model_name": "a", "model_path": "a"}
        assert (await served.client.get("/models")).status_code == 200
        assert (await served.client.post("/models/load?wait=true", json=body)).status_code == 401
        key = {"X-API-Key": access.made_key}
        assert (await served.client.post("/models/load?wait=true", json=body, headers=key)).status_code == 200
        assert (await served.predict("a", "four")).json()["result"] == 4


def test_sessions_are_bounded():
    from api.auth import MAX_SESSIONS, Sessions
    from core.access import Role

    sessions = Sessions()
    first = sessions.open(Role.USER)
    tokens = {sessions.open(Role.USER) for _ in range(MAX_SESSIONS)}
    assert len(tokens) == MAX_SESSIONS
    assert sessions.role_of(first) is None
    assert sessions.role_of(next(iter(tokens))) is Role.USER
