"""What conversations ask of the server between messages. Every answer is plain; an error is told in `error`."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any

import gradio as gr

from core.chat.portable import export, read_portable
from core.chat.templates import Template
from core.chat.types import Conversation, StoredMessage
from core.core import Core
from core.errors import InvalidRequest
from core.images.encoded import data_uri, view_with_uris
from ui.guard import owner_of, told
from ui.pictures import read_pictures

PAGE_SIZE = 50


def server_functions(core: Core) -> list[Callable[..., Any]]:
    """By the names under which the page calls them: each takes one value."""
    chat = core.chat

    async def conversations(page: Any, owner: str) -> dict[str, Any]:
        found = await chat.conversations.page(owner, int(page or 1), PAGE_SIZE)
        return {"items": [{"id": item.id, "title": item.title} for item in found.items], "total": found.total}

    async def conversation(given: Any, owner: str) -> dict[str, Any]:
        return {"conversation": _plain_conversation(await chat.conversations.get(owner, str(given)))}

    async def image(given: Any, owner: str) -> dict[str, Any]:
        found = await chat.conversations.image(owner, str(given.get("conversation")), str(given.get("key")))
        return {"uri": data_uri(found.data or b"", found.media_type)}

    async def preview(given: Any, owner: str) -> dict[str, Any]:
        (image,) = await read_pictures(core, owner, [given.get("picture") or given])
        _, seen = await core.preview(image, str(given.get("model")))
        return {"preview": {**seen, "views": [view_with_uris(view) for view in seen["views"]]}}

    async def rename(given: Any, owner: str) -> dict[str, Any]:
        await chat.conversations.rename(owner, str(given.get("id")), str(given.get("title")))
        return {}

    async def remove(given: Any, owner: str) -> dict[str, Any]:
        await chat.delete(owner, str(given))
        return {}

    async def take_out(given: Any, owner: str) -> dict[str, Any]:
        return {"file": await export([await chat.conversations.get(owner, str(given))], chat.conversations)}

    async def bring_in(given: Any, owner: str) -> dict[str, Any]:
        return {"ids": list(await chat.bring_back(owner, await read_portable(given, core.images)))}

    async def templates(given: Any, owner: str) -> dict[str, Any]:
        language = "ko" if given == "ko" else "en"
        return {"templates": [_plain_template(each) for each in await chat.templates.list(owner, language)]}

    functions = (conversations, conversation, image, preview, rename, remove, take_out, bring_in, templates)
    return [_told(each) for each in functions]


def _told(function: Callable[[Any, str], Awaitable[dict[str, Any]]]) -> Callable[..., Any]:
    async def answer(given: Any, request: gr.Request) -> dict[str, Any]:
        try:
            if not isinstance(given, str | int | dict | None):
                raise InvalidRequest("This is not something that the page sends.")
            return await function(given, owner_of(request))
        except Exception as error:
            return {"error": told(error)}

    functools.update_wrapper(answer, function, assigned=("__name__",), updated=())
    del answer.__wrapped__  # type: ignore[attr-defined]  # Gradio would read the parameters of what is wrapped
    return answer


def _plain_conversation(given: Conversation) -> dict[str, Any]:
    return {
        "id": given.id,
        "title": given.title,
        "system": given.system,
        "messages": [_plain_message(each) for each in given.messages],
    }


def _plain_message(given: StoredMessage) -> dict[str, Any]:
    return {
        "id": given.id,
        "role": given.role,
        "content": given.content,
        "sent": given.sent,
        "status": given.status,
        "model": given.model,
        "prompt_tokens": given.prompt_tokens,
        "completion_tokens": given.completion_tokens,
        "finish_reason": given.finish_reason,
        "images": [{"key": each.key, "width": each.width, "height": each.height} for each in given.images],
    }


def _plain_template(given: Template) -> dict[str, Any]:
    return {
        "name": given.name,
        "title": given.title,
        "description": given.description,
        "system": given.system,
        "user": given.user,
        "variables": [
            {"name": name, "description": each.description, "default": each.default}
            for name, each in given.variables.items()
        ],
    }
