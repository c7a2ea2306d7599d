"""The chat service, v1 to v4. One handler: a version is the features that its request type takes."""

from collections.abc import AsyncGenerator
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from api.auth import owner_of
from api.errors import error_body
from api.responses import JSON
from api.routing import Route
from api.sse import EVENT_STREAM, event, open_stream
from api.wire import Body, Wire
from core.chat.portable import Portable, export, parse_portable
from core.chat.templates import Template, as_json
from core.chat.types import CHAT_SAMPLING, ChatBegun, ChatEnded, ChatTurn, Conversation, StoredMessage, Summary
from core.core import Core
from core.sampling import parse_sampling
from core.types import Delta, Usage

_SAMPLING = ("max_tokens", "temperature", "top_p", "stop", "seed")
_STREAMED: dict[int | str, dict[str, Any]] = {
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

    def turn(self) -> ChatTurn:
        """Raises InvalidRequest."""
        said = {name: value for name in _SAMPLING if (value := getattr(self, name)) is not None}
        usual = {"temperature": CHAT_SAMPLING.temperature, "top_p": CHAT_SAMPLING.top_p}
        given = self.model_dump(exclude=set(_SAMPLING), exclude_none=True)
        return ChatTurn(**given, sampling=parse_sampling({**usual, **said}), is_kept=self.is_kept)

    @property
    def is_kept(self) -> bool:
        return False


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


class VariableShown(Wire):
    description: str
    default: str | None


class TemplateShown(Wire):
    name: str
    title: str
    description: str
    system: str
    user: str
    variables: dict[str, VariableShown]
    language: str | None
    built_in: bool


class TemplateList(Wire):
    templates: list[TemplateShown]


class TemplateBody(Body):
    """What is not said is empty; `user` is then the message alone. A variable without a default must be given."""

    title: str | None = None
    description: str | None = None
    system: str | None = None
    user: str | None = Field(None, examples=["다음 글을 {tone} 고쳐 주세요.\n\n{message}"])
    variables: dict[str, dict[str, str | None]] | None = None


class NewTemplate(TemplateBody):
    name: str = Field(examples=["editor"])


class ChangedTemplate(TemplateBody):
    name: str | None = Field(None, description="If sent, the name in the path.")


class ConversationShown(Wire):
    id: str
    title: str
    created_at: str
    updated_at: str
    message_count: int


class ConversationPage(Wire):
    items: list[ConversationShown]
    total: int
    page: int
    page_size: int


class MessageShown(Wire):
    id: str
    role: str
    content: str
    status: str = Field(description="complete, or interrupted: the client left, a stop, an error.")
    model: str | None
    template: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    finish_reason: str | None
    created_at: str


class WholeConversation(ConversationShown):
    system: str
    messages: list[MessageShown]


class Rename(Body):
    title: str


class Deleted(Wire):
    message: str


class Imported(Wire):
    ids: list[str]


_Language = Annotated[str | None, Query(description="Of the built-in ones: ko or en. Unset: ko.", max_length=10)]
_B = TypeVar("_B", bound=V1)


def router(core: Core) -> APIRouter:
    routes = APIRouter(prefix="/api", route_class=Route, tags=["chat"])
    _add_chat(routes, core, "v1", V1, Answer, streams=False)
    _add_chat(routes, core, "v2", V2, Answer)
    _add_chat(routes, core, "v3", V3, Answer)
    _add_chat(routes, core, "v4", V4, KeptAnswer)
    for version in ("v3", "v4"):
        _add_template_reads(routes, core, version)
    _add_template_writes(routes, core)
    _add_conversations(routes, core)
    return routes


def _add_chat(
    routes: APIRouter, core: Core, version: str, body_type: type[_B], answer: type[Wire], *, streams: bool = True
) -> None:
    async def chat(request: Request, body: _B) -> Response:
        """The model's answer to a message."""
        return JSON(await _whole(core.chat.reply(body.turn(), owner_of(request))))

    async def stream(request: Request, body: _B) -> Response:
        """The model's answer as it is written: `data: {"delta": …}` events, then one `data: {"done": true, …}`."""
        lines = _lines(core.chat.reply(body.turn(), owner_of(request)))
        return await open_stream(lines, lambda error: event(error_body(error, request.scope), "error"))

    for handler in (chat, stream):
        handler.__annotations__["body"] = body_type
    routes.post(f"/{version}/chat", response_model=answer, name=f"chat_{version}")(chat)
    if streams:
        routes.post(f"/{version}/chat/stream", responses=_STREAMED, name=f"stream_{version}")(stream)


def _add_template_reads(routes: APIRouter, core: Core, version: str) -> None:
    @routes.get(f"/{version}/prompt/templates", response_model=TemplateList, name=f"templates_{version}")
    async def templates(request: Request, language: _Language = None) -> Response:
        """The templates that come along, and your own."""
        found = await core.chat.templates.list(owner_of(request), language)
        return JSON({"templates": [_template(each) for each in found]})

    @routes.get(f"/{version}/prompt/templates/{{name}}", response_model=TemplateShown, name=f"template_{version}")
    async def template(request: Request, name: str, language: _Language = None) -> Response:
        """One template."""
        return JSON(_template(await core.chat.templates.get(owner_of(request), name, language)))


def _add_template_writes(routes: APIRouter, core: Core) -> None:
    templates = core.chat.templates

    @routes.post("/v4/prompt/templates", response_model=TemplateShown, status_code=201)
    async def create(request: Request, body: NewTemplate) -> Response:
        """A template of your own; `{name}` in its texts stands for a variable, `{message}` for the message."""
        return JSON(_template(await templates.create(owner_of(request), body.model_dump(exclude_none=True))), 201)

    @routes.put("/v4/prompt/templates/{name}", response_model=TemplateShown)
    async def replace(request: Request, name: str, body: ChangedTemplate) -> Response:
        """Another text for a template of your own."""
        return JSON(_template(await templates.replace(owner_of(request), name, body.model_dump(exclude_none=True))))

    @routes.delete("/v4/prompt/templates/{name}", response_model=Deleted)
    async def delete(request: Request, name: str) -> Response:
        """Forgets a template of your own."""
        await templates.delete(owner_of(request), name)
        return JSON({"message": f"Template {name} deleted"})


def _add_conversations(routes: APIRouter, core: Core) -> None:
    chat, stored = core.chat, core.chat.conversations

    @routes.get("/v4/conversations", response_model=ConversationPage)
    async def page(
        request: Request, page: int = 1, page_size: Annotated[int | None, Query(description="Unset: PAGE_SIZE.")] = None
    ) -> Response:
        """Your conversations, the newest first."""
        found = await stored.page(owner_of(request), page, chat.page_size if page_size is None else page_size)
        items = [_summary(each) for each in found.items]
        return JSON({"items": items, "total": found.total, "page": found.page, "page_size": found.page_size})

    @routes.post("/v4/conversations/import", response_model=Imported, status_code=201)
    async def bring_back(request: Request, body: Portable) -> Response:
        """Conversations from an export, under ids of their own."""
        return JSON({"ids": await stored.add(owner_of(request), parse_portable(body))}, 201)

    @routes.get("/v4/conversations/{conversation_id}", response_model=WholeConversation)
    async def one(request: Request, conversation_id: str) -> Response:
        """A conversation with its messages."""
        return JSON(_conversation(await stored.get(owner_of(request), conversation_id)))

    @routes.get("/v4/conversations/{conversation_id}/export", response_model=Portable)
    async def take_away(request: Request, conversation_id: str) -> Response:
        """A conversation as a file that can be brought back."""
        found = await stored.get(owner_of(request), conversation_id)
        return JSON(export([found]), headers={"Content-Disposition": f'attachment; filename="{found.id}.json"'})

    @routes.patch("/v4/conversations/{conversation_id}", response_model=WholeConversation)
    async def rename(request: Request, conversation_id: str, body: Rename) -> Response:
        """Another title."""
        await stored.rename(owner_of(request), conversation_id, body.title)
        return JSON(_conversation(await stored.get(owner_of(request), conversation_id)))

    @routes.delete("/v4/conversations/{conversation_id}", response_model=Deleted)
    async def delete(request: Request, conversation_id: str) -> Response:
        """Forgets a conversation and its messages."""
        await chat.delete(owner_of(request), conversation_id)
        return JSON({"message": "Conversation deleted"})


async def _whole(items: _Reply) -> dict[str, Any]:
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
    return {"response": "".join(texts), **_ended(ended), "has_chat_template": begun.begun.has_chat_template}


async def _lines(items: _Reply) -> AsyncGenerator[bytes, None]:
    """The first delta of a kept turn says which conversation it is in."""
    first: dict[str, Any] = {}
    try:
        async for item in items:
            if isinstance(item, ChatBegun):
                first = {"conversation_id": item.conversation_id} if item.conversation_id else {}
            elif isinstance(item, ChatEnded):
                yield event({"done": True, **_ended(item)})
            elif item.text:
                yield event({"delta": item.text, **first})
                first = {}
    finally:
        await items.aclose()


def _ended(ended: ChatEnded) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "finish_reason": ended.finish_reason,
        "usage": _usage(ended.usage),
        "model": ended.model,
        "created_at": ended.created_at.isoformat(),
    }
    if ended.conversation_id is not None:
        ids = {"message_id": ended.question_id, "answer_id": ended.answer_id}
        shown |= {"conversation_id": ended.conversation_id, **ids}
    return shown


def _usage(usage: Usage) -> dict[str, int]:
    return {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}


def _template(template: Template) -> dict[str, Any]:
    return {**as_json(template), "language": template.language, "built_in": template.is_built_in}


def _summary(summary: Summary) -> dict[str, Any]:
    return {
        "id": summary.id,
        "title": summary.title,
        "created_at": summary.created_at.isoformat(),
        "updated_at": summary.updated_at.isoformat(),
        "message_count": summary.message_count,
    }


def _conversation(found: Conversation) -> dict[str, Any]:
    return {
        "id": found.id,
        "title": found.title,
        "created_at": found.created_at.isoformat(),
        "updated_at": found.updated_at.isoformat(),
        "message_count": len(found.messages),
        "system": found.system,
        "messages": [_message(each) for each in found.messages],
    }


def _message(message: StoredMessage) -> dict[str, Any]:
    names = ("id", "role", "content", "status", "model", "template")
    numbers = ("prompt_tokens", "completion_tokens", "finish_reason")
    shown = {name: getattr(message, name) for name in (*names, *numbers)}
    return {**shown, "created_at": message.created_at.isoformat()}
