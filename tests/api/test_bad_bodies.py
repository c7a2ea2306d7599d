"""Bodies that are not what the route reads. The names are those of the test plan (B1 …)."""

import asyncio
import gzip
import json

import pytest

from tests.api.refusals import MIB, check_refusal, raw
from tests.serving import JSON

pytestmark = pytest.mark.usefixtures("leaves_nothing")

OPENAI_ROUTES = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
BODY_ROUTES = (
    "/models/load",
    "/models/a/predict",
    "/models/a/unload",
    "/predict",
    "/api/v1/embed",
    "/api/v1/embed-batch",
    "/session",
    "/generate",
    "/chat",
    *OPENAI_ROUTES,
)
READ_A_BODY = tuple(path for path in BODY_ROUTES if not path.endswith("unload"))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="B1 empty"),
        pytest.param(b"null", id="B2 null"),
        pytest.param(b"[]", id="B3 list"),
        pytest.param(b'"text"', id="B4 string"),
        pytest.param(b'\xef\xbb\xbf{"text": "x"}', id="B5 BOM"),
        pytest.param(b'{"text": "\xff"}', id="B6 not UTF-8"),
        pytest.param(b'{"text": "x', id="B7 cut"),
        pytest.param(b"[" * 100_000, id="B8 nested lists"),
        pytest.param(b'{"text":' * 100_000, id="B8 nested objects"),
        pytest.param(b'{"text": %s}' % (b"9" * 5000), id="B9 long integer"),
        pytest.param(b'{"text": "x", "text": 5}', id="B10 a key twice"),
        pytest.param(b'{"surprise": 1}', id="B19 unknown field"),
        pytest.param(b'{"' + b"s" * 100_000 + b'": 1}', id="B19 long unknown field"),
        pytest.param(b'{"\\ud800": 1}', id="B37 surrogate as a name"),
        pytest.param(b'{"text": "\\ud800"}', id="B37 half a pair"),
        pytest.param(b'{"text": "\\ude00\\ud83d"}', id="B37 reversed pair"),
        pytest.param(b'{"text": NaN}', id="NaN"),
        pytest.param(b"{'text': 'x'}", id="single quotes"),
        pytest.param(b'{"text": "x"} trailing', id="trailing"),
    ],
)
async def test_a_body_that_is_not_the_routes(shared, body):
    for path in READ_A_BODY:
        check_refusal(await shared.client.post(path, content=body, headers=JSON), 422)


@pytest.mark.parametrize("path", BODY_ROUTES)
async def test_b11_b12_too_large(shared, path):
    large = json.dumps({"text": "x" * (MIB + 200_000)}).encode()
    told = await shared.client.post(path, content=large, headers=JSON)
    assert check_refusal(told, 413)["type"] == "request_too_large"

    async def chunks():
        for start in range(0, len(large), 65536):
            yield large[start : start + 65536]

    if path in READ_A_BODY:
        chunked = await shared.client.post(path, content=chunks(), headers=JSON)
        assert check_refusal(chunked, 413)["type"] == "request_too_large"


async def test_b13_lengths_that_do_not_fit(shared):
    body = b'{"text": "x"}'
    head = b"POST /models/a/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    short = await raw(shared, head + b"Content-Length: 5\r\nConnection: close\r\n\r\n" + body)
    assert short[0] == 422
    await raw(shared, head + b"Content-Length: 500\r\n\r\n" + body, half_close=True)  # gone in mid-body
    both = await raw(shared, head + b"Content-Length: 13\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
    assert both[0] == 400
    for length in (b"-1", b"1e3", b"99999999999999999999999", b"0x10"):
        status, _ = await raw(shared, head + b"Content-Length: " + length + b"\r\n\r\n" + body)
        assert status in (400, 413)


async def test_b14_a_compressed_body(shared):
    bomb = gzip.compress(b'{"text": "' + b"x" * 50_000_000 + b'"}')
    headers = {**JSON, "Content-Encoding": "gzip"}
    check_refusal(await shared.client.post("/models/a/predict", content=bomb, headers=headers), 415)


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "multipart/form-data",
        "application/x-www-form-urlencoded",
        "",
        "application/jsonx",
        "x" * 5000,
        "/",
    ],
)
async def test_b15_another_kind_of_body(shared, kind):
    answer = await shared.client.post("/models/a/predict", content=b'{"text": "x"}', headers={"Content-Type": kind})
    assert check_refusal(answer, 415)["type"] == "unsupported_media_type"


async def test_b16_ten_thousand_parts(shared):
    part = b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n1\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = await shared.client.post("/models/a/predict", content=part * 10_000 + b"--b--", headers=headers)
    check_refusal(answer, 415)


async def test_a_hundred_bad_requests_at_once(shared):
    await shared.load("a")
    bodies = [b"", b"[" * 10_000, b'{"text": "\\ud800"}', b'{"text": 5}', b'{"text": "x", "top_k": 1e400}'] * 20
    answers = await asyncio.gather(
        *(shared.client.post("/models/a/predict", content=body, headers=JSON) for body in bodies)
    )
    for answer in answers:
        check_refusal(answer, 422)
    assert (await shared.predict("a", "four")).json()["result"] == 4
