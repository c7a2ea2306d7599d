"""Conversations in the database. Another owner's conversation does not exist."""

from __future__ import annotations

import re
import unicodedata
import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from core.chat.database import Database, whole
from core.chat.schema import conversations, messages
from core.chat.types import Conversation, Page, StoredMessage, StoredTurn, Summary
from core.errors import ConversationNotFound, InvalidRequest
from core.params import valid_text

MAX_TITLE = 200  # characters of a title that a user gives
MAX_PAGE_SIZE = 100
MAX_PAGE = 1_000_000
_TITLE_FROM_TEXT = 60  # characters
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_BIDIRECTIONAL = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_ROWS = 500  # inserted at once; SQLite takes 32,766 values in a statement


def new_id() -> str:
    return str(uuid.uuid4())


def title_of(text: str) -> str:
    """A title from a message: its beginning on one line, without what controls a terminal or turns the writing."""
    shown = "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text[:4000])
    line = " ".join("".join(c for c in shown if c not in _BIDIRECTIONAL).split())
    return line if 0 < len(line) <= _TITLE_FROM_TEXT else f"{line[: _TITLE_FROM_TEXT - 1].rstrip()}…"


class ConversationStore:
    """Every call may raise NotReady; those that write, DiskFull too."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @whole
    async def page(self, owner: str, page: int, page_size: int) -> Page:
        """Newest first. Raises InvalidRequest."""
        _check_range("page", page, MAX_PAGE)
        _check_range("page_size", page_size, MAX_PAGE_SIZE)
        count = (
            select(func.count()).where(messages.c.conversation_id == conversations.c.id).scalar_subquery().label("n")
        )
        columns = (conversations.c[name] for name in ("id", "title", "created_at", "updated_at"))
        found = (
            select(*columns, count)
            .where(conversations.c.owner == owner)
            .order_by(conversations.c.updated_at.desc(), conversations.c.id.desc())
            .limit(page_size)
            .offset((page - 1) * page_size)
        )
        total = select(func.count()).where(conversations.c.owner == owner)
        async with self._database.read() as connection:
            rows = (await connection.execute(found)).all()
            number = (await connection.execute(total)).scalar_one()
        items = (Summary(row.id, row.title, row.created_at, row.updated_at, row.n) for row in rows)
        return Page(tuple(items), number, page, page_size)

    @whole
    async def get(self, owner: str, conversation_id: str) -> Conversation:
        """With all its messages. Raises ConversationNotFound."""
        async with self._database.read() as connection:
            row = await _find(connection, owner, conversation_id)
            found = select(messages).where(messages.c.conversation_id == row.id).order_by(messages.c.position)
            stored = tuple(_message(each) for each in await connection.execute(found))
        return Conversation(row.id, row.title, row.system, row.created_at, row.updated_at, stored)

    @whole
    async def history(
        self, owner: str, conversation_id: str, most: int, before: str | None = None
    ) -> tuple[str, tuple[StoredMessage, ...]]:
        """The system prompt and the newest `most` messages, those before the user's message `before` if one is named.

        Raises ConversationNotFound, InvalidRequest when `before` is no message of the user here.
        """
        async with self._database.read() as connection:
            row = await _find(connection, owner, conversation_id)
            within: ColumnElement[bool] = messages.c.conversation_id == row.id
            if before is not None:
                within &= messages.c.position < await _position(connection, row.id, before)
            found = select(messages).where(within).order_by(messages.c.position.desc()).limit(most)
            newest = [_message(each) for each in await connection.execute(found)]
        return row.system, tuple(reversed(newest))

    @whole
    async def add_turn(
        self, owner: str, conversation_id: str, turn: StoredTurn, *, is_new: bool = False, replaces: str | None = None
    ) -> None:
        """Both messages or none, at the end or in the place of `replaces` and all that followed it.

        Raises ConversationNotFound when it was deleted meanwhile.
        """
        now = turn.answer.created_at
        async with self._database.write() as connection:
            if is_new:
                title = title_of(turn.question.content)
                await connection.execute(
                    insert(conversations).values(_conversation(conversation_id, owner, title, now))
                )
            else:
                await _find(connection, owner, conversation_id, for_update=True)
            if replaces is not None:
                position = await _position(connection, conversation_id, replaces)
                await connection.execute(
                    delete(messages).where(
                        messages.c.conversation_id == conversation_id, messages.c.position >= position
                    )
                )
            last = select(func.max(messages.c.position)).where(messages.c.conversation_id == conversation_id)
            newest = (await connection.execute(last)).scalar()
            await _insert(
                connection, conversation_id, (turn.question, turn.answer), 0 if newest is None else newest + 1
            )
            changed = {"updated_at": now, "system": turn.system}
            await connection.execute(update(conversations).where(conversations.c.id == conversation_id).values(changed))

    @whole
    async def rename(self, owner: str, conversation_id: str, title: str) -> None:
        """Raises ConversationNotFound, InvalidRequest."""
        title = check_title(title)
        async with self._database.write() as connection:
            await _find(connection, owner, conversation_id, for_update=True)
            chosen = conversations.c.id == conversation_id
            await connection.execute(update(conversations).where(chosen).values(title=title))

    @whole
    async def delete(self, owner: str, conversation_id: str) -> None:
        """Raises ConversationNotFound."""
        async with self._database.write() as connection:
            await _find(connection, owner, conversation_id, for_update=True)
            await connection.execute(delete(conversations).where(conversations.c.id == conversation_id))

    @whole
    async def add(self, owner: str, given: Iterable[Conversation]) -> tuple[str, ...]:
        """Conversations from elsewhere, all or none, with ids of their own. Returns these in order."""
        made = []
        async with self._database.write() as connection:
            for each in given:
                made.append(new_id())
                row = _conversation(made[-1], owner, each.title, each.created_at)
                row |= {"updated_at": each.updated_at, "system": each.system}
                await connection.execute(insert(conversations).values(row))
                await _insert(connection, made[-1], each.messages, 0, with_new_ids=True)
        return tuple(made)


def check_title(title: str) -> str:
    """Raises InvalidRequest unless it can be shown on a line."""
    title = valid_text("title", title).strip()
    if not 1 <= len(title) <= MAX_TITLE or any(unicodedata.category(c) == "Cc" for c in title):
        raise InvalidRequest(f"`title` must be 1 to {MAX_TITLE} characters on one line.")
    return title


def _check_range(name: str, value: int, most: int) -> None:
    if not 1 <= value <= most:
        raise InvalidRequest(f"`{name}` must be a whole number from 1 to {most:,}.")


def _conversation(conversation_id: str, owner: str, title: str, now: datetime) -> dict[str, Any]:
    times = {"created_at": now, "updated_at": now}
    return {"id": conversation_id, "owner": owner, "title": title, "system": "", **times}


async def _find(connection: AsyncConnection, owner: str, conversation_id: str, *, for_update: bool = False) -> Any:
    """The conversation's row. Raises ConversationNotFound, for another owner's as for none."""
    row = None
    if _ID.fullmatch(conversation_id):
        found = select(conversations).where(conversations.c.id == conversation_id, conversations.c.owner == owner)
        row = (await connection.execute(found.with_for_update() if for_update else found)).one_or_none()
    if row is None:
        raise ConversationNotFound("There is no such conversation. See GET /api/v4/conversations for those you have.")
    return row


async def _position(connection: AsyncConnection, conversation_id: str, message_id: str) -> int:
    found = select(messages.c.position).where(
        messages.c.conversation_id == conversation_id, messages.c.id == message_id, messages.c.role == "user"
    )
    position: int | None = (await connection.execute(found)).scalar() if _ID.fullmatch(message_id) else None
    if position is None:
        raise InvalidRequest("`replaces` must be the id of a message that the user wrote in this conversation.")
    return position


async def _insert(
    connection: AsyncConnection,
    conversation_id: str,
    given: Sequence[StoredMessage],
    first: int,
    *,
    with_new_ids: bool = False,
) -> None:
    rows = [
        {**_row(each), "conversation_id": conversation_id, "position": position}
        | ({"id": new_id()} if with_new_ids else {})
        for position, each in enumerate(given, first)
    ]
    for start in range(0, len(rows), _ROWS):
        await connection.execute(insert(messages), rows[start : start + _ROWS])


_FIELDS = tuple(StoredMessage.__dataclass_fields__)


def _row(message: StoredMessage) -> dict[str, Any]:
    return {name: getattr(message, name) for name in _FIELDS}


def _message(row: Any) -> StoredMessage:
    return StoredMessage(**{name: getattr(row, name) for name in _FIELDS})


def now() -> datetime:
    return datetime.now(UTC)
