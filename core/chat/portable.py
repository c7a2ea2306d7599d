"""Conversations as JSON to take away and bring back.

    {"format": "berth.conversations", "version": 1, "exported_at": "2026-11-21T09:00:00+00:00", "conversations": [
        {"title": "…", "system": "…", "created_at": "…", "updated_at": "…", "messages": [
            {"role": "user", "content": "…", "created_at": "…", "images": ["data:image/png;base64,…"]},
            {"role": "assistant", "content": "…", "created_at": "…", "status": "complete", "model": "…", …}]}]}

Messages are the user's and the assistant's in turn, beginning with the user's and ending with the assistant's. There
are no ids: what is brought back gets its own. A file with images is of version 2, any other of version 1. Images are
read as those of a request are, so that what somebody put into a file in their place does not get in.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from core.chat.rows import new_id, now
from core.chat.store import ConversationStore
from core.chat.templates import NAME
from core.chat.titles import check_title
from core.chat.types import Conversation, StoredMessage, stored_image
from core.errors import InvalidRequest, RequestTooLarge
from core.images.reader import MAX_IMAGE_BYTES, ImageReader
from core.params import valid_text

FORMAT, VERSION = "berth.conversations", 2
MAX_CONVERSATIONS = 1000  # in one file
MAX_MESSAGES = 20_000  # in one conversation

_Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
_Moment = Annotated[
    AwareDatetime, Field(strict=False, ge=datetime(1970, 1, 1, tzinfo=UTC), le=datetime(9999, 1, 1, tzinfo=UTC))
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class PortableMessage(_Strict):
    role: Literal["user", "assistant"]
    content: str
    created_at: _Moment
    sent: str | None = None
    status: Literal["complete", "interrupted"] = "complete"
    model: Annotated[str, Field(max_length=200)] | None = None
    template: Annotated[str, Field(pattern=rf"^{NAME.pattern}$")] | None = None
    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    finish_reason: Literal["stop", "length"] | None = None
    images: Annotated[list[str], Field(description="Of the user's message, as data: URIs.")] = []


class PortableConversation(_Strict):
    title: str
    system: str = ""
    created_at: _Moment
    updated_at: _Moment
    messages: Annotated[list[PortableMessage], Field(max_length=MAX_MESSAGES)]


class Portable(_Strict):
    format: Literal["berth.conversations"]
    version: Annotated[int, Field(ge=1, le=VERSION)]
    exported_at: _Moment | None = None
    conversations: Annotated[list[PortableConversation], Field(min_length=1, max_length=MAX_CONVERSATIONS)]


async def export(given: Sequence[Conversation], store: ConversationStore) -> dict[str, Any]:
    """A JSON object of the format above. Images whose file is gone are left out."""
    has_images = any(message.images for each in given for message in each.messages)
    return {
        "format": FORMAT,
        "version": VERSION if has_images else 1,
        "exported_at": now().isoformat(),
        "conversations": [await _exported(each, store) for each in given],
    }


async def read_portable(given: Any, reader: ImageReader) -> list[Conversation]:
    """Conversations from a JSON object of the format above.

    Raises InvalidRequest that names the place, and what `ImageReader.read` raises.
    """
    try:
        portable = given if isinstance(given, Portable) else Portable.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part)[:64] for part in first["loc"]) or "the file"
        raise InvalidRequest(f"`{where}`: {first['msg']}.") from None
    found: list[Conversation] = []
    size = 0
    for index, each in enumerate(portable.conversations):
        found.append(await _imported(f"conversations.{index}", each, reader))
        size += sum(image.size for message in found[-1].messages for image in message.images)
        if size > MAX_IMAGE_BYTES:
            raise RequestTooLarge(
                f"The file holds images of more than {MAX_IMAGE_BYTES >> 20} MiB, as they are kept. Bring back fewer "
                "conversations at once."
            )
    return found


async def _exported(conversation: Conversation, store: ConversationStore) -> dict[str, Any]:
    return {
        "title": conversation.title,
        "system": conversation.system,
        "created_at": conversation.created_at.isoformat(),
        "updated_at": conversation.updated_at.isoformat(),
        "messages": [
            {
                name: getattr(message, name)
                for name in PortableMessage.model_fields
                if name not in ("created_at", "images") and getattr(message, name) is not None
            }
            | {"created_at": message.created_at.isoformat()}
            | await _images(conversation.id, message, store)
            for message in conversation.messages
        ],
    }


async def _images(conversation_id: str, message: StoredMessage, store: ConversationStore) -> dict[str, list[str]]:
    uris = []
    for each in message.images:
        if (image := await store.images.shown(conversation_id, each)) is not None:
            uris.append(f"data:{each.media_type};base64,{base64.b64encode(image['data']).decode()}")
    return {"images": uris} if uris else {}


async def _imported(where: str, given: PortableConversation, reader: ImageReader) -> Conversation:
    roles = [message.role for message in given.messages]
    if len(roles) % 2 or any(role != ("user", "assistant")[index % 2] for index, role in enumerate(roles)):
        raise InvalidRequest(f"`{where}.messages` must be the user's and the assistant's in turn, ending with a reply.")
    for message in given.messages:
        for name in ("content", "sent", "model"):
            valid_text(f"{where}.messages.{name}", getattr(message, name) or "")
    if sum(len(message.images) for message in given.messages) > reader.max_in_chat:
        raise InvalidRequest(f"`{where}.messages` hold more images than the {reader.max_in_chat} that one may.")
    return Conversation(
        id=new_id(),
        title=check_title(given.title),
        system=valid_text(f"{where}.system", given.system),
        created_at=given.created_at,
        updated_at=given.updated_at,
        messages=tuple(
            [await _message(f"{where}.messages.{index}", each, reader) for index, each in enumerate(given.messages)]
        ),
    )


async def _message(where: str, given: PortableMessage, reader: ImageReader) -> StoredMessage:
    if given.images and given.role != "user":
        raise InvalidRequest(f"`{where}.images` may only be of the user's messages.")
    images = await reader.read(f"{where}.images", given.images)
    said = {name: value for name, value in given if name != "images"}
    return StoredMessage(id=new_id(), **said, images=tuple(map(stored_image, images)))
