"""Requests that HTTP does not know or this server does not take. The names are those of the test plan (B1 …)."""

import asyncio
import contextlib
import json

import pytest

from api.errors import STATUS, status_of
from core.errors import all_errors
from tests.api.refusals import MIB, TYPES, check_refusal, raw

pytestmark = pytest.mark.usefixtures("leaves_nothing")


def test_every_error_has_a_status():
    assert set(STATUS) <= set(all_errors())

    assert all(400 <= status_of(kind) <= 507 for kind in all_errors())


async def test_b17_many_or_large_headers(shared):
    check_refusal(await shared.client.get("/models", headers={"X-Large": "x" * 65536}), 431)
    many = [(f"X-{number}", "x") for number in range(1000)]
    assert (await shared.client.get("/models", headers=many)).status_code in (200, 431)


@pytest.mark.parametrize("method", ["TRACE", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", "/models", "/health", "/models/load"])
async def test_b69_a_method_the_path_does_not_take(shared, method, path):
    check_refusal(await shared.client.request(method, path), 404, 405)


async def test_b67_hosts(shared):
    for head in (b"Host: a/b?\r\n", b"Host: x\r\nHost: y\r\n", b"", b"Host: \xff\r\n"):
        status, _ = await raw(shared, b"GET /models HTTP/1.1\r\n" + head + b"Connection: close\r\n\r\n")
        assert status in (200, 400)


@pytest.mark.parametrize(
    "head",
    [
        b"CONNECT evil.example:443 HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nCookie: \x01\r\n\r\n", b"BREW / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nX : y\r\n\r\n",
        b"GET http:// HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)  # fmt: skip
async def test_what_is_not_http_is_refused_in_the_same_form(shared, head):
    status, answer = await raw(shared, head)
    assert status in (400, 404)
    assert b"content-type: application/json" in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["type"] in TYPES


async def test_a_head_without_end_is_cut_off(shared):
    reader, writer = await asyncio.open_connection("127.0.0.1", int(shared.url.rsplit(":", 1)[1]))
    writer.write(b"GET / HTTP/1.1\r\nX-Long: ")
    with contextlib.suppress(ConnectionError):
        for _ in range(100):
            writer.write(b"x" * 65536)
            await writer.drain()
        assert b" 431 " in await reader.read()
    writer.close()


async def test_b68_ranges_of_a_file(shared):
    headers = {"Range": "bytes=" + "0-0," * 10_000 + "0-0"}
    answer = await shared.client.get("/docs/assets/swagger-ui.css", headers=headers)
    assert answer.status_code in (200, 206, 400, 416)
    assert len(answer.content) < 3 * MIB


async def test_b72_b73_headers_that_say_odd_things(shared):
    for headers in (
        {"X-Forwarded-Host": "evil.example"}, {"Accept": "q=abc;;;,,," + "a/b;q=," * 9000}, {"Accept": "*/*;q=abc"},
        {"Accept-Language": "x" * 60_000}, {"Cookie": "=;;=a; berth_session=" + "x" * 50_000},
        {"X-Request-ID": "a b;c"}, {"X-Request-ID": "r" * 65}, {"Origin": "http://[::1"}, {"Origin": "x" * 60_000},
    ):  # fmt: skip
        answer = await shared.client.get("/", headers=headers)
        assert answer.status_code == 200, headers
        assert "evil.example" not in answer.text
        if "X-Request-ID" in headers:
            assert answer.headers["x-request-id"] not in headers.values()
    kept = await shared.client.get("/", headers={"X-Request-ID": "my-request.1"})
    assert kept.headers["x-request-id"] == "my-request.1"
    written = await shared.client.post("/system/cleanup", headers={"Origin": "http://[::1"})
    check_refusal(written, 403)
