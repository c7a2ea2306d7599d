"""Rows of conversations and messages, read and written within a transaction that the caller began."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Text, delete, func, insert, select, type_coerce
from sqlalchemy.ext.asyncio import AsyncConnection

from core.chat.schema import conversations, messages
from core.chat.types import StoredImage, StoredMessage
from core.errors import ConversationNotFound, InvalidRequest

ROWS = 500  # in one statement; SQLite takes 32,766 values
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_FIELDS = tuple(StoredMessage.__dataclass_fields__)


def new_id() -> str:
    return str(uuid.uuid4())


def now() -> datetime:
    return datetime.now(UTC)


async def find(connection: AsyncConnection, owner: str, conversation_id: str, *, for_update: bool = False) -> Any:
    """The conversation's row. Raises ConversationNotFound, for another owner's as for none."""
    row = None
    if _ID.fullmatch(conversation_id):
        found = select(conversations).where(conversations.c.id == conversation_id, conversations.c.owner == owner)
        row = (await connection.execute(found.with_for_update() if for_update else found)).one_or_none()
    if row is None:
        raise ConversationNotFound("There is no such conversation. See GET /api/v4/conversations for those you have.")
    return row


async def begin(
    connection: AsyncConnection, conversation_id: str, owner: str, title: str, created_at: datetime, **more: Any
) -> None:
    """A conversation without messages. `more`: columns that are not as they are for a new one."""
    row: dict[str, Any] = {"id": conversation_id, "owner": owner, "title": title, "system": ""}
    row |= {"created_at": created_at, "updated_at": created_at}
    await connection.execute(insert(conversations).values(row | more))


async def within(connection: AsyncConnection, conversation_id: str, before: str | None = None) -> ColumnElement[bool]:
    """The messages of a conversation, or those before the user's message `before`. Raises InvalidRequest."""
    all_of_it: ColumnElement[bool] = messages.c.conversation_id == conversation_id
    if before is None:
        return all_of_it
    return all_of_it & (messages.c.position < await _position(connection, conversation_id, before))


async def images(connection: AsyncConnection, chosen: ColumnElement[bool]) -> list[StoredImage]:
    """Of the messages that are `chosen`."""
    found = await connection.execute(select(messages.c.images).where(chosen, messages.c.images.is_not(None)))
    return [image for row in found for image in row.images]


async def image_sizes(connection: AsyncConnection, owner: str) -> dict[tuple[str, str], int]:
    """Bytes of each image that the owner's conversations hold, by conversation and key: by file."""
    found = (
        select(messages.c.conversation_id, type_coerce(messages.c.images, Text).label("images"))
        .join(conversations, conversations.c.id == messages.c.conversation_id)
        .where(conversations.c.owner == owner, messages.c.images.is_not(None))
    )
    listed = (await connection.execute(found)).all()
    return await asyncio.to_thread(_sizes_in, listed)  # there may be very many


def _sizes_in(listed: Sequence[Row[Any]]) -> dict[tuple[str, str], int]:
    return {(row.conversation_id, each["key"]): each["size"] for row in listed for each in json.loads(row.images)}


async def append(
    connection: AsyncConnection, conversation_id: str, given: Sequence[StoredMessage], *, with_new_ids: bool = False
) -> None:
    """Messages behind those that there are."""
    last = select(func.max(messages.c.position)).where(messages.c.conversation_id == conversation_id)
    newest = (await connection.execute(last)).scalar()
    rows = [
        {**_row(each), "conversation_id": conversation_id, "position": position}
        | ({"id": new_id()} if with_new_ids else {})
        for position, each in enumerate(given, 0 if newest is None else newest + 1)
    ]
    for start in range(0, len(rows), ROWS):
        await connection.execute(insert(messages), rows[start : start + ROWS])


async def delete_from(connection: AsyncConnection, conversation_id: str, message_id: str) -> set[StoredImage]:
    """Deletes a message of the user and all that follow it. Returns the images that they held."""
    position = await _position(connection, conversation_id, message_id)
    chosen = (messages.c.conversation_id == conversation_id) & (messages.c.position >= position)
    held = set(await images(connection, chosen))
    await connection.execute(delete(messages).where(chosen))
    return held


async def _position(connection: AsyncConnection, conversation_id: str, message_id: str) -> int:
    found = select(messages.c.position).where(
        messages.c.conversation_id == conversation_id, messages.c.id == message_id, messages.c.role == "user"
    )
    position: int | None = (await connection.execute(found)).scalar() if _ID.fullmatch(message_id) else None
    if position is None:
        raise InvalidRequest("`replaces` must be the id of a message that the user wrote in this conversation.")
    return position


def message_of(row: Any) -> StoredMessage:
    return StoredMessage(**{name: getattr(row, name) for name in _FIELDS})


def _row(message: StoredMessage) -> dict[str, Any]:
    return {name: getattr(message, name) for name in _FIELDS}
