"""Bad input: a typed refusal, never a 500, and nothing left behind. The names are those of the test plan (B1 …)."""

import asyncio
import contextlib
import gzip
import json
import os

import httpx
import psutil
import pytest

from api.errors import STATUS
from core.errors import all_errors
from tests.serving import JSON, Served

TYPES = {kind.type for kind in all_errors()} | {"not_found", "method_not_allowed", "unsupported_media_type"}
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
MIB = 1024 * 1024


def check_refusal(answer: httpx.Response, *statuses: int) -> dict:
    """The error contract; where OpenAI's clients read, theirs, which knows no 422."""
    is_openai = answer.request.url.path.startswith("/v1/")
    if is_openai:
        statuses = tuple(400 if status == 422 else status for status in statuses)
    assert answer.status_code in (statuses or (400, 403, 404, 405, 409, 413, 415, 422, 431)), answer.text[:500]
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert len(answer.content) < 4000
    for leak in ("Traceback", "site-packages", ".py", "pydantic"):
        assert leak not in answer.text
    if is_openai:
        assert set(body) == {"error"}
        assert set(body["error"]) == {"message", "type", "param", "code"}
        assert body["error"]["code"] in TYPES
        return {**body["error"], "type": body["error"]["code"]}
    assert set(body) == {"detail", "error"}
    assert set(body["error"]) == {"type", "message", "request_id", "retryable"}
    assert body["error"]["type"] in TYPES
    assert body["error"]["request_id"] == answer.headers["x-request-id"]
    assert body["detail"]
    return body["error"]


async def raw(served: Served, request: bytes, *, half_close: bool = False) -> tuple[int, bytes]:
    """Status and all else that the server says to these bytes; status 0 when it says nothing."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(served.url.rsplit(":", 1)[1]))
    writer.write(request)
    if half_close:
        writer.write_eof()
    try:
        answer = await asyncio.wait_for(reader.read(MIB), 10)
    finally:
        writer.close()
    return (int(answer.split()[1]) if answer else 0), answer


@pytest.fixture(autouse=True)
async def leaves_nothing(shared, fake_models):
    """No model, no file and no process more than before."""
    files = sorted(fake_models.rglob("*"))
    yield
    assert {record.name for record in shared.core.registry.records()} <= {"a"}
    assert sorted(fake_models.rglob("*")) == files
    children = psutil.Process(shared.core.launcher._server.pid).children()
    assert len(children) == len(shared.core.registry.records())


def test_every_error_has_a_status():
    assert set(STATUS) <= set(all_errors())
    from api.errors import status_of

    assert all(400 <= status_of(kind) <= 507 for kind in all_errors())


# bodies


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


async def test_b17_many_or_large_headers(shared):
    check_refusal(await shared.client.get("/models", headers={"X-Large": "x" * 65536}), 431)
    many = [(f"X-{number}", "x") for number in range(1000)]
    assert (await shared.client.get("/models", headers=many)).status_code in (200, 431)


# numbers

NUMBERS = [
    ("temperature", ["NaN", "Infinity", "-Infinity", "1e400", "-1", "1e308", '"0.7"', "true", "[]"]),
    ("max_new_tokens", ["0", "-1", str(2**31), str(2**63), str(2**64), "1.5", "1e3", '"5"']),
    ("max_length", ["0", "-1", str(2**31), "2.0"]),
    ("top_p", ["1.0001", "-0.5", '"1"']),
    ("top_k", ["-1", "0", str(2**40), "1.5", "true"]),
    ("repetition_penalty", ["0", "-1", "NaN"]),
    ("seed", ["-1", str(2**64), "0.5"]),
    ("stride", ["-1", str(2**40)]),
    ("dimensions", ["0", "-1", str(2**31)]),
    ("do_sample", ["1", '"true"', "0.0"]),
    ("normalize", ["1", '"yes"']),
    ("aggregation_strategy", ['"best"', "1", '""']),
    ("candidate_labels", ["[]", '"a,b"', "[1]", "[null]", json.dumps(["x"] * 257)]),
    ("targets", ["[]", "[1]"]),
    ("hypothesis_template", ['"no place"', '"{} {}"', '"{0.__class__}"', json.dumps("{}" + "x" * 1001)]),
    ("task", ['"conversational"', "1", '"token-classification"']),
    ("n", [str(10**9)]),
    ("n_ctx", ["0", str(2**31)]),
    ("stop", [json.dumps(["x"] * 10_000)]),
    ("timeout", ["0", "-1", str(10**9)]),
]


@pytest.mark.parametrize(("field", "values"), NUMBERS, ids=[field for field, _ in NUMBERS])
async def test_b21_to_b35_a_value_out_of_range(shared, field, values):
    await shared.load("a")
    for value in values:
        body = f'{{"text": "x", "{field}": {value}}}'
        answer = await shared.client.post("/models/a/predict", content=body, headers=JSON)
        error = check_refusal(answer, 400 if value == '"token-classification"' else 422)
        if value not in ("NaN", "Infinity", "-Infinity", "1e400"):  # these are not JSON
            assert field in error["message"] or value.strip('"') in error["message"]


GENERATION = [
    ("temperature", ["NaN", "Infinity", "1e400", "-1", "1e308", '"0.7"', "true", "[]"]),
    ("top_p", ["1.0001", "-0.5", '"1"']),
    ("seed", ["-1", str(2**64), "0.5", '"1"']),
    ("stop", [json.dumps(["x"] * 10_000), json.dumps("x" * 900_000), '[""]', "[1]", "5", '{"a": 1}']),
    ("stream", ["1", '"true"', "[]"]),
    ("model", ["5", '["a"]']),
]
LENGTHS = ["0", "-1", str(2**31), str(2**63), str(2**64), "1.5", '"5"']
ANSWERS = ["0", "-1", str(10**9), "1.5", "true"]
OF_ROUTES = [
    ("/generate", "max_new_tokens", LENGTHS), ("/chat", "max_new_tokens", LENGTHS),
    ("/generate", "num_return_sequences", ANSWERS), ("/generate", "repetition_penalty", ["0", "-1", "NaN"]),
    ("/generate", "top_k", ["-1", str(2**40), "1.5"]), ("/generate", "n", ["1"]), ("/generate", "logprobs", ["1"]),
    ("/v1/chat/completions", "max_tokens", LENGTHS), ("/v1/chat/completions", "n", ANSWERS),
    ("/v1/chat/completions", "logprobs", ["5", '"x"']), ("/v1/chat/completions", "top_logprobs", ["5", "-1", "2.5"]),
    ("/v1/completions", "max_tokens", LENGTHS), ("/v1/completions", "n", ANSWERS),
    ("/v1/completions", "logprobs", ["21", "-1", "true"]), ("/v1/completions", "best_of", ["2", "0"]),
    ("/v1/completions", "prompt", ["[]", "5", "null", '[1, "x"]', "[[]]", json.dumps(["x"] * 129)]),
    ("/v1/embeddings", "input", ["[]", "5", "null", "[1]", "[[1]]", '["x", 1]', json.dumps(["x"] * 2049)]),
    ("/v1/embeddings", "dimensions", ["-1", str(2**31), "1.5"]),
    ("/v1/embeddings", "encoding_format", ['"int8"', "5"]),
]  # fmt: skip
WRITE = {
    "/generate": {"prompt": "x"},
    "/chat": {"instruction": "x"},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "x"}]},
    "/v1/completions": {"prompt": "x"},
}


@pytest.mark.parametrize(
    ("path", "field", "values"),
    [*((path, *row) for path in WRITE for row in GENERATION), *OF_ROUTES],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_b21_to_b35_a_value_out_of_range_for_what_writes(shared, path, field, values):
    for value in values:
        given = WRITE.get(path, {"input": "x"}).items()
        rest = "".join(f", {json.dumps(name)}: {json.dumps(said)}" for name, said in given if name != field)
        answer = await shared.client.post(path, content=f'{{"{field}": {value}{rest}}}', headers=JSON)
        error = check_refusal(answer, 422)
        if value not in ("NaN", "Infinity", "1e400"):  # these are not JSON
            assert field in error["message"]


@pytest.mark.parametrize(
    "messages",
    [
        "[]", "{}", '"x"', "null", "[null]", '["x"]', "[[]]", '[{"role": "user"}]', '[{"content": "x"}]',
        '[{"role": "user", "content": 5}]', '[{"role": "user", "content": null}]', '[{"role": 5, "content": "x"}]',
        '[{"role": "wizard", "content": "x"}]', '[{"role": "user", "content": [{"type": "text"}]}]',
        '[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}]',
        json.dumps([{"role": "user", "content": "x"}] * 10_000),
        '[{"role": "user", "content": "\\ud800"}]',
    ],
    ids=lambda messages: messages[:40],
)  # fmt: skip
async def test_messages_that_are_none(shared, messages):
    answer = await shared.client.post("/v1/chat/completions", content=f'{{"messages": {messages}}}', headers=JSON)
    check_refusal(answer, 422)


async def test_what_nobody_here_can_write(shared):
    await shared.load("a")
    for path, body in WRITE.items():
        assert check_refusal(await shared.client.post(path, json=body), 404)["type"] == "model_not_found"
        classifier = await shared.client.post(path, json={**body, "model": "a"})
        assert check_refusal(classifier, 400)["type"] == "task_not_supported"
        unknown = await shared.client.post(path, json={**body, "model": "x" * 150})
        assert check_refusal(unknown, 404)["type"] == "model_not_found"
        check_refusal(await shared.client.post(path, json={**body, "model": "x" * 100_000}), 422)


async def test_what_is_at_the_edge_is_taken(shared):
    await shared.load("a")
    for field, value in (
        ("top_p", -0.0), ("top_p", 1.0), ("top_p", 1), ("temperature", 0), ("top_k", 1), ("seed", 2**63 - 1),
        ("max_length", None), ("normalize", None), ("task", "text-classification"),
    ):  # fmt: skip
        assert (await shared.predict("a", "four", **{field: value})).status_code == 200, field


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("context_length", 0), ("context_length", 2**31), ("context_length", "64"), ("max_batch_tokens", 0),
        ("max_batch_tokens", 2**40), ("device", "gpu"), ("device", "cuda:999"), ("device", ""), ("device", 0),
        ("dtype", "int8"), ("quantization", "2bit"), ("quantization", 8), ("load_in_8bit", 1), ("runtime", "vllm"),
        ("task", "conversational"), ("revision", ""), ("revision", 5), ("file", ""),
    ],
)  # fmt: skip
async def test_b33_a_load_with_a_value_out_of_range(shared, field, value):
    body = {"model_name": "x", "model_path": "a", field: value}
    error = check_refusal(await shared.client.post("/models/load", json=body), 422)
    assert field in error["message"]


async def test_two_ways_to_quantise_must_agree(shared):
    for fields in ({"load_in_8bit": True, "load_in_4bit": True}, {"quantization": "4bit", "load_in_8bit": True}):
        body = {"model_name": "x", "model_path": "a", **fields}
        check_refusal(await shared.client.post("/models/load", json=body), 422)


# what is asked


@pytest.mark.parametrize(
    "body",
    [
        {}, {"texts": []}, {"text": "x", "texts": ["x"]}, {"question": "x"}, {"context": "x"}, {"texts": "x"},
        {"text": ["x"]}, {"text": None}, {"texts": [None]}, {"texts": [1]}, {"texts": ["x"] * 2049},
        {"question": "who", "context": "x"}, {"text": "x", "question": "who", "context": "x"},
        {"texts": ["x", {"text": "y"}]}, {"text": {"text": "x"}},
    ],
)  # fmt: skip
async def test_one_text_many_texts_or_a_question(shared, body):
    await shared.load("a")
    check_refusal(await shared.client.post("/models/a/predict", json=body), 422)


# names and paths

BAD_SOURCES = [
    "../x", "..", ".", "/", "//", "..\\x", "%2e%2e%2f", "..%252f", "....//", "a/../../x", "a/..", "./a",
    "a/./b", "", " ", " a", "a ", "a.", "a\n", "a\t", ".hidden", "CON", "con.txt", "NUL", "aux/x", "a\x00b",
    "a" * 300, "a/" * 200, "/proc/self/environ", "/dev/zero", "/dev/random", "/etc/passwd", "/proc",
    "/proc/self/root", "/../etc", "http://169.254.169.254/", "file:///etc/passwd", "hf://a/b", "//host/x",
    "user:pw@host", "https://huggingface.co/a", "org/na me", "a/b/c", "org--name", "o" * 97, "org/" + "n" * 97,
    "org/name@", "org/name@../x", "org/name@" + "r" * 1000, "org/name@refs/pr/1/../2", "@main", "org/@main",
    "é", "e\u0301", "a\u202eb", "\u200b", "ａ", "-a", "a..b", "~", "~/x", "$HOME", "${x}", "{0.__class__}",
    "a;b", "a|b", "a&b", "a`b", "*", "a?b", "a#b", "C:\\x", "\\\\host\\x", "starter:../x", "starter:x/y",
    "starter:",
]  # fmt: skip


@pytest.mark.parametrize("source", BAD_SOURCES, ids=lambda source: repr(source)[:24])
async def test_b47_to_b54_a_source_that_is_none(shared, source):
    answer = await shared.client.post("/models/load?wait=true", json={"model_name": "x", "model_path": source})
    check_refusal(answer, 403, 404, 422)
    assert shared.core.registry.records() == []


async def test_b48_b50_b51_paths_that_lead_elsewhere(shared, tmp_path, fake_models):
    outside = tmp_path / "models-evil"
    outside.mkdir()
    fifo, link, loop = tmp_path / "fifo", fake_models / "link", fake_models / "loop"
    os.mkfifo(fifo)
    link.symlink_to(outside)
    loop.symlink_to(loop)
    sources = [str(fifo), "link", "loop", f"../{outside.name}", str(tmp_path / "nothing"), str(outside)]
    try:
        for source in sources:
            answer = await shared.client.post("/models/load", json={"model_name": "x", "model_path": source})
            check_refusal(answer, 403, 404, 422, 503)  # 503: it could be on the Hub, and this server is offline
            assert shared.core.registry.records() == []
    finally:
        link.unlink()
        loop.unlink()


@pytest.mark.parametrize(
    "name",
    ["", " ", "../x", "/x", "x/", "x//y", "x\\y", "x\ny", "x\x00y", "x" * 201, ".x", "-x", "x y", "x?y", "x#y",
     "x%2fy", "x/events", "x/predict", "load", "e\u0301", "\u202ex", "<script>", "{x}", "x/../y", "😀"],
    ids=repr,
)  # fmt: skip
async def test_b49_b52_a_name_no_model_can_have(shared, name):
    answer = await shared.client.post("/models/load", json={"model_name": name, "model_path": "a"})
    assert "model_name" in check_refusal(answer, 422)["message"]


@pytest.mark.parametrize("field", ["revision", "file"])
@pytest.mark.parametrize(
    "value",
    ["../x", "/etc/passwd", "..", "a\x00b", "x" * 1000, "http://x/y", "a\nb", "..\\..\\x", "%2e%2e/x"],
    ids=repr,
)
async def test_b54_a_revision_or_file_that_is_none(shared, field, value):
    body = {"model_name": "x", "model_path": "a", field: value}
    check_refusal(await shared.client.post("/models/load?wait=true", json=body), 403, 404, 422)
    assert shared.core.registry.records() == []


@pytest.mark.parametrize(
    "name",
    ["..%2f..%2fetc%2fpasswd", "%2e%2e", "a%00b", "x" * 5000, "%ff%fe", "%0d%0aX-Injected:%201", "....//", "a%5cb",
     "%20", "%F0%9F%98%80", "..%252f", "%1b[31m"],
)  # fmt: skip
async def test_names_in_paths(shared, name):
    for call in ("GET /models/{}", "GET /models/{}/tasks", "GET /models/{}/events", "POST /models/{}/unload",
                 "POST /models/{}/cancel", "POST /models/{}/predict"):  # fmt: skip
        method, path = call.split()
        answer = await shared.client.request(
            method, path.format(name), json={"text": "x"} if path.endswith("predict") else None
        )
        check_refusal(answer, 404)
        assert "x-injected" not in answer.headers


# HTTP


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


async def test_a_hundred_bad_requests_at_once(shared):
    await shared.load("a")
    bodies = [b"", b"[" * 10_000, b'{"text": "\\ud800"}', b'{"text": 5}', b'{"text": "x", "top_k": 1e400}'] * 20
    answers = await asyncio.gather(
        *(shared.client.post("/models/a/predict", content=body, headers=JSON) for body in bodies)
    )
    for answer in answers:
        check_refusal(answer, 422)
    assert (await shared.predict("a", "four")).json()["result"] == 4
