"""Bad input: a typed refusal, never a 500, and nothing left behind (`leaves_nothing`); bytes no client would send."""

import asyncio

import httpx

from core.errors import all_errors
from tests.serving import Served

TYPES = {kind.type for kind in all_errors()} | {"not_found", "method_not_allowed", "unsupported_media_type"}
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
