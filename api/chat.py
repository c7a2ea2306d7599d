"""The chat service, v1 to v4. One handler: a version is the features that its request type takes.

v5, which adds pictures, is in `api/vision.py`.
"""

from collections.abc import AsyncGenerator
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from pydantic import Field

from api.auth import owner_of
from api.errors import error_body
from api.responses import JSON
from api.routing import Route
from api.sse import EVENT_STREAM, event, open_stream
from api.wire import Body, Wire
from core.chat.types import CHAT_SAMPLING, ChatBegun, ChatEnded, ChatTurn
from core.core import Core
from core.sampling import parse_sampling
from core.types import Delta, Image, Task, Usage

_SAMPLING = ("max_tokens", "temperature", "top_p", "stop", "seed")
STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"content": {EVENT_STREAM: {}}, "description": "`delta` events, then one with `done`; or an `error` event."}
}
_Reply = AsyncGenerator[ChatBegun | Delta | ChatEnded]


class V1(Body):
    message: str = Field(examples=["안녕하세요! 자기소개를 해 주세요."])
    model: str | None = Field(None, description="Unset: the default model, or the only one that writes.")
    max_tokens: int | None = None
    temperature: float | None = Field(None, description=f"Unset: {CHAT_SAMPLING.temperature}.")
    top_p: float | None = Field(None, description=f"Unset: {CHAT_SAMPLING.top_p}.")
    stop: str | list[str] | None = Field(None, description="The answer ends before the first of these.")
    seed: int | None = None

    def turn(self, images: tuple[Image, ...] = ()) -> ChatTurn:
        """Raises InvalidRequest."""
        said = {name: value for name in _SAMPLING if (value := getattr(self, name)) is not None}
        usual = {"temperature": CHAT_SAMPLING.temperature, "top_p": CHAT_SAMPLING.top_p}
        given = self.model_dump(exclude={*_SAMPLING, "image", "images"}, exclude_none=True)
        sampling = parse_sampling({**usual, **said})
        return ChatTurn(**given, sampling=sampling, images=images, task=self.task, is_kept=self.is_kept)

    @property
    def is_kept(self) -> bool:
        return False

    @property
    def task(self) -> Task:
        return Task.TEXT_GENERATION


class V2(V1):
    """As v1; answers can be streamed."""


class V3(V2):
    template: str | None = Field(None, description="A prompt template; see GET /api/v3/prompt/templates.")
    variables: dict[str, str] | None = Field(None, description="Its variables; those left out have their defaults.")
    language: str | None = Field(None, description="Of a built-in template: ko or en. Unset: ko.")


class V4(V3):
    conversation_id: str | None = Field(None, description="The conversation to go on with. Unset: a new one.")
    replaces: str | None = Field(
        None, description="Id of one of your earlier messages: it and all after it make way for this one."
    )

    @property
    def is_kept(self) -> bool:
        return True


class UsageShown(Wire):
    prompt_tokens: int
    completion_tokens: int
    image_tokens: int | None = Field(
        None, description="Of the prompt's, those that stand for images, if there are any."
    )


class Answer(Wire):
    response: str
    model: str
    created_at: str
    usage: UsageShown
    finish_reason: str
    has_chat_template: bool | None = Field(description="False: the model has none of its own and got a plain one.")


class KeptAnswer(Answer):
    conversation_id: str
    message_id: str = Field(description="Of the user's message, for `replaces`.")
    answer_id: str


_B = TypeVar("_B", bound=V1)


def router(core: Core) -> APIRouter:
    routes = APIRouter(prefix="/api", route_class=Route, tags=["chat"])
    _add_chat(routes, core, "v1", V1, Answer, streams=False)
    _add_chat(routes, core, "v2", V2, Answer)
    _add_chat(routes, core, "v3", V3, Answer)
    _add_chat(routes, core, "v4", V4, KeptAnswer)
    return routes


def _add_chat(
    routes: APIRouter, core: Core, version: str, body_type: type[_B], answer: type[Wire], *, streams: bool = True
) -> None:
    async def chat(request: Request, body: _B) -> Response:
        """The model's answer to a message."""
        return JSON(await whole(core.chat.reply(body.turn(), owner_of(request))))

    async def stream(request: Request, body: _B) -> Response:
        """The model's answer as it is written: `data: {"delta": …}` events, then one `data: {"done": true, …}`."""
        return await streamed(request, core.chat.reply(body.turn(), owner_of(request)))

    for handler in (chat, stream):
        handler.__annotations__["body"] = body_type
    routes.post(f"/{version}/chat", response_model=answer, name=f"chat_{version}")(chat)
    if streams:
        routes.post(f"/{version}/chat/stream", responses=STREAMED, name=f"stream_{version}")(stream)


async def streamed(request: Request, items: _Reply) -> Response:
    """A reply as server-sent events."""
    return await open_stream(_lines(items), lambda error: event(error_body(error, request.scope), "error"))


async def whole(items: _Reply) -> dict[str, Any]:
    """A reply as one JSON object."""
    begun, texts, ended = None, [], None
    async for item in items:
        if isinstance(item, Delta):
            texts.append(item.text)
        elif isinstance(item, ChatBegun):
            begun = item
        else:
            ended = item
    assert begun is not None
    assert ended is not None
    shown = {"response": "".join(texts), **_ended(ended, begun)}
    return {**shown, "has_chat_template": begun.begun.has_chat_template}


async def _lines(items: _Reply) -> AsyncGenerator[bytes, None]:
    """The first delta of a kept turn says which conversation it is in."""
    first: dict[str, Any] = {}
    begun: ChatBegun | None = None
    try:
        async for item in items:
            if isinstance(item, ChatBegun):
                begun = item
                first = {"conversation_id": item.conversation_id} if item.conversation_id else {}
            elif isinstance(item, ChatEnded):
                assert begun is not None
                yield event({"done": True, **_ended(item, begun)})
            elif item.text:
                yield event({"delta": item.text, **first})
                first = {}
    finally:
        await items.aclose()


def _ended(ended: ChatEnded, begun: ChatBegun) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "finish_reason": ended.finish_reason,
        "usage": _usage(ended.usage, sum(begun.begun.image_tokens)),
        "model": ended.model,
        "created_at": ended.created_at.isoformat(),
    }
    if ended.conversation_id is not None:
        ids = {"message_id": ended.question_id, "answer_id": ended.answer_id}
        shown |= {"conversation_id": ended.conversation_id, **ids}
    return shown


def _usage(usage: Usage, image_tokens: int) -> dict[str, int]:
    shown = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
    return {**shown, "image_tokens": image_tokens} if image_tokens else shown
