"""The outermost layer, around the routes and the page alike: request ids, limits, one log line, typed errors."""

import asyncio
import contextlib
import logging
import re
import secrets
import time
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import error_response, plain_response
from core.errors import InternalError

log = logging.getLogger("api.access")

MAX_HEADER_BYTES = 64 * 1024
_DISCARD_BYTES, _DISCARD_S = 64 * 1024 * 1024, 10
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Gradio's own paths: its clients read its own errors there
_PAGE = ("/gradio_api/", "/config", "/assets/", "/static/", "/svelte/", "/login", "/logout", "/monitoring")

Finished = Callable[[Scope, int, float], None]  # scope, status, seconds


class BodyTooLarge(Exception):
    """Ends whoever reads the body; the answer is written by `Edge`."""


class Edge:
    """`on_finish` is told of every request once it is answered."""

    def __init__(self, app: ASGIApp, max_body_bytes: int, on_finish: Finished) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._on_finish = on_finish

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        exchange = _Exchange(scope, receive, send, self._max_body_bytes)
        try:
            await exchange.run(self._app)
        finally:
            seconds = time.monotonic() - started
            self._on_finish(scope, exchange.status, seconds)
            _log(scope, exchange.status, seconds)


class _Exchange:
    """One request on its way in and its answer on its way out."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, limit: int) -> None:
        self.status = 499  # what the log says when nobody was left to answer
        self._scope, self._receive, self._send = scope, receive, send
        self._limit = limit
        self._read = 0  # bytes of the body so far
        self._too_large = False
        self._started = False
        self._replacing = False
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        state = scope.setdefault("state", {})
        state["request_id"] = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        self._headers = headers

    async def run(self, app: ASGIApp) -> None:
        refused = self._refusal()
        if refused:
            await self._answer(refused)
            return
        try:
            await app(self._scope, self.receive, self.send)
        except (BodyTooLarge, ClientDisconnect):
            pass
        except Exception as error:
            if self._started:
                log.error("request %s broke off", self._scope["state"]["request_id"], exc_info=error)
                return
            self._replacing = False
            await error_response(_internal(error), self._scope)(self._scope, self.receive, self.send)
        if not self._started and (self._too_large or self._replacing):
            await self._answer(413 if self._too_large else self.status)

    def _refusal(self) -> int | None:
        """The status of a request that is too large by what it says of itself."""
        if sum(len(name) + len(value) for name, value in self._scope["headers"]) > MAX_HEADER_BYTES:
            return 431
        length = self._headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > self._limit:
            return 413
        if self._headers.get("content-encoding", "identity").lower() != "identity":
            return 415  # nothing here inflates, so nothing can be blown up
        return None

    async def _answer(self, status: int) -> None:
        self._too_large = self._replacing = False
        headers = None
        if status in (413, 431) and not await self._discard():
            headers = {"Connection": "close"}
        await plain_response(status, self._scope, headers)(self._scope, self._receive, self.send)

    async def _discard(self) -> bool:
        """Reads the rest of a body, if it is not too long for that: a client that is still sending when the
        connection closes never gets to read why. Whether it was all read."""
        if "expect" in self._headers:
            return False  # it sends nothing until it is told to go on
        read = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DISCARD_S):
                while read < _DISCARD_BYTES:
                    message = await self._receive()
                    read += len(message.get("body", b""))
                    if not message.get("more_body", False):
                        return True
        return False

    async def receive(self) -> Message:
        message = await self._receive()
        self._read += len(message.get("body", b""))
        if self._read > self._limit:
            self._too_large = True
            raise BodyTooLarge
        return message

    async def send(self, message: Message) -> None:
        if self._too_large or (self._replacing and message["type"] != "http.response.start"):
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self._is_foreign(self.status):
                self._replacing = True
                return
            self._started = True
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = self._scope["state"]["request_id"]
            headers.setdefault("X-Content-Type-Options", "nosniff")
            if self._scope["path"] == "/":
                headers.add_vary_header("Accept")
        await self._send(message)

    def _is_foreign(self, status: int) -> bool:
        """Whether an error comes from the framework or the page's catch-all, in a form of its own."""
        if status < 400 or self._scope["state"].get("is_typed", False):
            return False
        return not self._scope["path"].startswith(_PAGE) or self._scope["method"] == "OPTIONS"


def _internal(error: Exception) -> InternalError:
    internal = InternalError(f"{type(error).__name__}: {error}")
    internal.__cause__ = error
    return internal


def _log(scope: Scope, status: int, seconds: float) -> None:
    """The path as it was sent, so percent-encoded, and without its query; nothing else of what a client chose."""
    path = scope.get("raw_path", b"").split(b"?")[0][:200].decode("ascii", "backslashreplace")
    printable = path.encode("unicode_escape").decode("ascii")
    state = scope["state"]
    role = state["role"].name.lower() if "role" in state else "-"
    log.info("%s %s %d %.1f ms %s %s", scope["method"], printable, status, seconds * 1000, state["request_id"], role)
