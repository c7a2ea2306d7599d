"""How a route reads its body, and what happens when the client leaves before the answer."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class JsonRequest(Request):
    """Reads its body with orjson: fast, bounded in depth, and no NaN, Infinity or half a surrogate pair gets in."""

    async def json(self) -> Any:
        return orjson.loads(await self.body())

    async def prepare(self) -> None:
        """Before the route reads its fields. Raises errors of `core/errors.py`."""


class OtherRequest(JsonRequest, ABC):
    """One that also takes bodies which are no JSON, and gives the route the fields that they stand for."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._sent_as = Headers(scope=scope).get("content-type", "")
        self._fields: dict[str, Any] | None = None
        self._is_other = self.takes(self._sent_as)
        if self._is_other:  # the framework asks no other than JSON for its fields
            rest = [each for each in scope["headers"] if each[0] != b"content-type"]
            scope = {**scope, "headers": [*rest, (b"content-type", b"application/json")]}
        super().__init__(scope, receive)

    @staticmethod
    @abstractmethod
    def takes(content_type: str) -> bool:
        """Whether a body sent as this is one of those."""

    @abstractmethod
    def fields(self, content_type: str, body: bytes) -> dict[str, Any]:
        """What the body would be as JSON, where a picture is bytes. Raises InvalidRequest."""

    async def prepare(self) -> None:
        if self._is_other:
            self._fields = self.fields(self._sent_as, await self.body())

    async def json(self) -> Any:
        return await super().json() if self._fields is None else self._fields


class Route(APIRoute):
    """A write stops as soon as its client is gone: the handler is cancelled, and with it the work that it waits for."""

    request_class: type[JsonRequest] = JsonRequest

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()

        async def read(request: Request) -> Response:
            request = self.request_class(request.scope, request.receive)
            if request.method not in ("POST", "PUT", "PATCH", "DELETE"):
                return await handle(request)
            if await request.body() and not _is_json(request.headers.get("content-type", "")):
                raise HTTPException(415)
            await request.prepare()
            return await _while_connected(request, handle)

        return read


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


async def _while_connected(request: Request, handle: Handler) -> Response:
    """The body has been read, so the next thing to receive is the client's leaving."""
    answer = asyncio.ensure_future(handle(request))
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        answer.cancel()
        await asyncio.wait({answer})
        return Response(status_code=499)  # nobody reads it
    finally:
        answer.cancel()
        gone.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
