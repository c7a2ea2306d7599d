"""Conversations that are kept: listed, read, renamed, deleted, taken away and brought back."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from api.auth import owner_of
from api.responses import JSON
from api.routing import Route
from api.wire import Body, Deleted, Wire
from core.chat.portable import Portable, export, read_portable
from core.chat.types import Conversation, StoredMessage, Summary
from core.core import Core

_PICTURE: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}, "image/jpeg": {}}}}


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


class ImageShown(Wire):
    key: str
    url: str
    media_type: str
    width: int
    height: int
    size: int = Field(description="Bytes.")


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
    images: list[ImageShown] = Field(description="Of the user's message.")


class WholeConversation(ConversationShown):
    system: str
    messages: list[MessageShown]


class Rename(Body):
    title: str


class Imported(Wire):
    ids: list[str]


def router(core: Core) -> APIRouter:
    routes = APIRouter(prefix="/api/v4", route_class=Route, tags=["chat"])
    chat, stored = core.chat, core.chat.conversations

    @routes.get("/conversations", response_model=ConversationPage)
    async def page(
        request: Request, page: int = 1, page_size: Annotated[int | None, Query(description="Unset: PAGE_SIZE.")] = None
    ) -> Response:
        """Your conversations, the newest first."""
        found = await stored.page(owner_of(request), page, chat.page_size if page_size is None else page_size)
        items = [_summary(each) for each in found.items]
        return JSON({"items": items, "total": found.total, "page": found.page, "page_size": found.page_size})

    @routes.post("/conversations/import", response_model=Imported, status_code=201)
    async def bring_back(request: Request, body: Portable) -> Response:
        """Conversations from an export, under ids of their own."""
        return JSON({"ids": await chat.bring_back(owner_of(request), await read_portable(body, core.images))}, 201)

    @routes.get("/conversations/{conversation_id}", response_model=WholeConversation)
    async def one(request: Request, conversation_id: str) -> Response:
        """A conversation with its messages."""
        return JSON(_conversation(await stored.get(owner_of(request), conversation_id)))

    @routes.get("/conversations/{conversation_id}/export", response_model=Portable)
    async def take_away(request: Request, conversation_id: str) -> Response:
        """A conversation as a file that can be brought back."""
        found = await stored.get(owner_of(request), conversation_id)
        return JSON(
            await export([found], stored), headers={"Content-Disposition": f'attachment; filename="{found.id}.json"'}
        )

    @routes.get("/conversations/{conversation_id}/images/{key}", response_class=Response, responses=_PICTURE)
    async def image(request: Request, conversation_id: str, key: str) -> Response:
        """A picture of a conversation as the model is shown it."""
        found = await stored.image(owner_of(request), conversation_id, key)
        headers = {"Cache-Control": "private, max-age=31536000, immutable"}
        return Response(found.data, media_type=found.media_type, headers=headers)

    @routes.patch("/conversations/{conversation_id}", response_model=WholeConversation)
    async def rename(request: Request, conversation_id: str, body: Rename) -> Response:
        """Another title."""
        await stored.rename(owner_of(request), conversation_id, body.title)
        return JSON(_conversation(await stored.get(owner_of(request), conversation_id)))

    @routes.delete("/conversations/{conversation_id}", response_model=Deleted)
    async def delete(request: Request, conversation_id: str) -> Response:
        """Forgets a conversation and its messages."""
        await chat.delete(owner_of(request), conversation_id)
        return JSON({"message": "Conversation deleted"})

    return routes


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
        "messages": [_message(found.id, each) for each in found.messages],
    }


def _message(conversation_id: str, message: StoredMessage) -> dict[str, Any]:
    names = ("id", "role", "content", "status", "model", "template")
    numbers = ("prompt_tokens", "completion_tokens", "finish_reason")
    shown = {name: getattr(message, name) for name in (*names, *numbers)}
    images = [
        {
            "key": each.key,
            "url": f"/api/v4/conversations/{conversation_id}/images/{each.key}",
            "media_type": each.media_type,
            "width": each.width,
            "height": each.height,
            "size": each.size,
        }
        for each in message.images
    ]
    return {**shown, "created_at": message.created_at.isoformat(), "images": images}
