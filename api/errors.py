"""Every error as one JSON form: `{"detail", "error": {"type", "message", "request_id", "retryable"}}`.

A type of error is a row of `STATUS`, found by walking up its classes. What the framework itself refuses (unknown
path, wrong method, a body that is not what the route reads) takes the same form. Under /v1 the form is OpenAI's.
A load that there is no memory for has its `plan` beside the error, in the form of `GET /models/plan`.
"""

import logging
import math
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import Receive, Scope, Send

from api.dialect import is_openai, openai_error, openai_status
from api.negotiation import prefers_html
from api.planned import planned
from api.responses import JSON
from core import errors
from core.errors import BerthError

log = logging.getLogger(__name__)

STATUS: dict[type[BerthError], int] = {
    errors.CallerError: 422,
    errors.RequestTooLarge: 413,
    errors.NotAuthenticated: 401,
    errors.NotAllowed: 403,
    errors.ModelNotFound: 404,
    errors.NoSupportedTask: 400,
    errors.TaskNotSupported: 400,
    errors.WrongState: 409,
    errors.LoadCancelled: 409,
    errors.RepositoryNotFound: 404,
    errors.RepositoryGated: 403,
    errors.RemoteCodeRefused: 403,
    errors.PickleRefused: 403,
    errors.TemplateNotFound: 404,
    errors.ConversationNotFound: 404,
    errors.ConversationBusy: 409,
    errors.ImageQuotaExceeded: 409,
    errors.BusyError: 503,
    errors.QueueFull: 429,
    errors.DeadlineExceeded: 504,
    errors.HostError: 500,
    errors.InsufficientMemory: 507,
    errors.DiskFull: 507,
    errors.RuntimeUnavailable: 503,
    BerthError: 500,
}

# what the framework refuses by itself: status → type and message
_PLAIN: dict[int, tuple[str, str]] = {
    400: ("invalid_request", "The request cannot be read."),
    404: ("not_found", "There is nothing at this path. See /docs for what there is."),
    405: ("method_not_allowed", "This path does not take this method. See /docs for the one it takes."),
    413: ("request_too_large", "The request is larger than this server takes. Send less, or raise BERTH_MAX_BODY_MB."),
    415: (
        "unsupported_media_type",
        "Send the body as JSON, uncompressed, with `Content-Type: application/json`; /docs says which paths take forms "
        "or pictures.",
    ),
    431: ("request_too_large", "The request's headers are larger than this server takes."),
}
_CUDA_FULL = "CUDA out of memory"
_SHOWN = 64  # characters of a client's own field name that an answer repeats


class ErrorResponse(JSON):
    """An error in the form above; says in the scope that the answer needs no rewriting."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["is_typed"] = True
        await super().__call__(scope, receive, send)


def status_of(kind: type[BerthError]) -> int:
    return next(STATUS[base] for base in kind.__mro__ if base in STATUS)


def request_id_of(scope: Scope) -> str:
    return str(scope.get("state", {}).get("request_id", ""))


def _body(
    kind: str,
    message: str,
    detail: str,
    status: int,
    scope: Scope,
    *,
    retryable: bool = False,
    param: str | None = None,
) -> dict[str, Any]:
    if is_openai(scope):
        return openai_error(kind, message, status, param)
    error = {"type": kind, "message": message, "request_id": request_id_of(scope), "retryable": retryable}
    return {"detail": detail, "error": error}


def error_body(error: BerthError, scope: Scope) -> dict[str, Any]:
    """`error` as a client is told of it. What went wrong in our own code is logged here, and not told."""
    message = error.message
    if type(error) in (errors.InternalError, errors.HostError, BerthError):
        log.error("request %s: %s", request_id_of(scope), message, exc_info=error)
        message = f"Something went wrong in the server; its log says what, under {request_id_of(scope)}."
    detail = error.detail or message
    if isinstance(error, errors.InsufficientMemory) and _CUDA_FULL in message:
        detail = f"Prediction failed: {_CUDA_FULL}. {message}"
    status = status_of(type(error))
    body = _body(error.type, message, detail, status, scope, retryable=error.retryable, param=error.param)
    if isinstance(error, errors.InsufficientMemory) and error.plan is not None and not is_openai(scope):
        body["plan"] = planned(error.plan)
    return body


def error_response(error: BerthError, scope: Scope) -> ErrorResponse:
    """`error` as an answer."""
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after))
    if isinstance(error, errors.NotAuthenticated):
        headers["WWW-Authenticate"] = 'Bearer realm="berth"'
    if is_openai(scope):
        headers["X-Should-Retry"] = "true" if error.retryable else "false"
    return _answer(error_body(error, scope), status_of(type(error)), scope, headers)


def plain_response(status: int, scope: Scope, headers: dict[str, str] | None = None) -> ErrorResponse:
    """An answer for what the framework refuses by its status alone."""
    kind, message = _PLAIN.get(status, ("invalid_request" if status < 500 else "internal", "The request failed."))
    return _answer(_body(kind, message, message, status, scope), status, scope, headers)


def _answer(body: dict[str, Any], status: int, scope: Scope, headers: dict[str, str] | None = None) -> ErrorResponse:
    return ErrorResponse(body, openai_status(status) if is_openai(scope) else status, headers)


def starting_page(scope: Scope) -> HTMLResponse:
    """What a browser sees in the second or two before the page is there; it looks again by itself."""
    scope["state"]["is_typed"] = True
    content = '<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="1"><title>Berth</title>'
    return HTMLResponse(content, 503, {"Retry-After": "1", "Cache-Control": "no-store"})


async def on_berth_error(request: Request, error: Exception) -> ErrorResponse:
    assert isinstance(error, BerthError)
    return error_response(error, request.scope)


async def on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404 and (waiting := request.app.state.waiting_for) is not None:
        if prefers_html(request.headers.get("accept", "")):
            return starting_page(request.scope)
        return error_response(errors.NotReady(waiting), request.scope)
    return plain_response(error.status_code, request.scope, dict(error.headers or {}))


async def on_validation_error(request: Request, error: Exception) -> ErrorResponse:
    """Says which fields and why; never repeats what was sent, which may be secret, huge, or not even encodable."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()[:5]
    message = " ".join(map(_sentence, found))
    param = None if found[0]["type"] == "json_invalid" else _where(found[0]) or None
    body = _body("invalid_request", message, message, 422, request.scope, param=param)
    return _answer(body, 422, request.scope)


def _where(item: dict[str, Any]) -> str:
    return ".".join(str(part)[:_SHOWN] for part in item["loc"] if part != "body")


def _sentence(item: dict[str, Any]) -> str:
    where = _where(item)
    match item["type"]:
        case "json_invalid":
            return f"The body is not JSON: {item['ctx']['error']}, at character {where}."
        case "missing" if not where:
            return "The body is missing: send JSON."
        case "missing":
            return f"`{where}` is missing."
        case "extra_forbidden":
            return f"There is no field `{where}`."
        case _ if not where:
            return f"The body must be a JSON object with the fields of this call: {item['msg']}."
        case _:
            return f"`{where}`: {item['msg']}."
