"""Conversations in the database. Another owner's conversation does not exist."""

from __future__ import annotations

import contextlib
import re
import unicodedata
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from core.chat.database import Database, whole
from core.chat.images import ImageFolder
from core.chat.schema import conversations, messages
from core.chat.types import Conversation, Page, StoredImage, StoredMessage, StoredTurn, Summary
from core.errors import ConversationNotFound, InvalidRequest
from core.params import valid_text
from core.types import Image

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
    """Every call may raise NotReady; those that write, DiskFull too. `folder` is where images are; None: nowhere."""

    def __init__(self, database: Database, folder: ImageFolder | None = None) -> None:
        self._database = database
        self._folder = folder

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
        async with self._with_images([(conversation_id, turn.question.images)]):
            dropped = await self._add_turn(owner, conversation_id, turn, is_new=is_new, replaces=replaces)
        if self._folder is not None and dropped:
            await self._folder.remove(conversation_id, dropped)

    async def _add_turn(
        self, owner: str, conversation_id: str, turn: StoredTurn, *, is_new: bool, replaces: str | None
    ) -> set[StoredImage]:
        """Returns the images that no message of the conversation holds any more."""
        now, dropped = turn.answer.created_at, set[StoredImage]()
        async with self._database.write() as connection:
            if is_new:
                title = title_of(turn.question.content)
                await connection.execute(
                    insert(conversations).values(_conversation(conversation_id, owner, title, now))
                )
            else:
                await _find(connection, owner, conversation_id, for_update=True)
            if replaces is not None:
                dropped = await _delete_from(connection, conversation_id, replaces)
            last = select(func.max(messages.c.position)).where(messages.c.conversation_id == conversation_id)
            newest = (await connection.execute(last)).scalar()
            await _insert(
                connection, conversation_id, (turn.question, turn.answer), 0 if newest is None else newest + 1
            )
            changed = {"updated_at": now, "system": turn.system}
            await connection.execute(update(conversations).where(conversations.c.id == conversation_id).values(changed))
            return dropped - set(await _images(connection, messages.c.conversation_id == conversation_id))

    @whole
    async def images(self, conversation_id: str, before: str | None = None) -> list[StoredImage]:
        """All of a conversation, or those before the user's message `before`. Raises InvalidRequest."""
        async with self._database.read() as connection:
            within: ColumnElement[bool] = messages.c.conversation_id == conversation_id
            if before is not None:
                within &= messages.c.position < await _position(connection, conversation_id, before)
            return await _images(connection, within)

    async def image(self, owner: str, conversation_id: str, key: str) -> StoredImage:
        """With its data. Raises ConversationNotFound, for an image that is not there too."""
        for message in (await self.get(owner, conversation_id)).messages:
            for image in message.images:
                if image.key == key and (found := await self.shown(conversation_id, image)) is not None:
                    return replace(image, data=found["data"])
        raise ConversationNotFound("There is no such image in this conversation.")

    async def shown(self, conversation_id: str, image: StoredImage) -> Image | None:
        """An image as models are shown it; None where its file is gone."""
        return None if self._folder is None else await self._folder.read(conversation_id, image)

    async def sweep(self) -> None:
        """Removes image files that no message names, as a crash may leave them.

        Where none of the conversations is known, the database is another one than that of the files: all stay.
        """
        if self._folder is None or not (settled := await self._folder.settled()):
            return
        known = await self._files(list(settled))
        if not known:
            return
        for conversation_id, names in settled.items():
            if conversation_id not in known:
                await self._folder.remove_all(conversation_id)
            elif strays := [name for name in names if name not in known[conversation_id]]:
                await self._folder.remove_files(conversation_id, strays)

    @whole
    async def _files(self, ids: list[str]) -> dict[str, set[str]]:
        """Of the conversations among `ids` that there are: the names of the files of their images."""
        found: dict[str, set[str]] = {}
        async with self._database.read() as connection:
            for start in range(0, len(ids), _ROWS):
                some = ids[start : start + _ROWS]
                there = await connection.execute(select(conversations.c.id).where(conversations.c.id.in_(some)))
                found |= {row.id: set() for row in there}
                held = select(messages.c.conversation_id, messages.c.images).where(
                    messages.c.conversation_id.in_(some), messages.c.images.is_not(None)
                )
                for row in await connection.execute(held):
                    found[row.conversation_id] |= {image.file for image in row.images}
        return found

    @contextlib.asynccontextmanager
    async def _with_images(self, given: Sequence[tuple[str, Sequence[StoredImage]]]) -> AsyncIterator[None]:
        """Writes images before what names them is stored, and takes them back if that fails."""
        made: list[tuple[str, list[StoredImage]]] = []
        try:
            for conversation_id, images in given:
                if images:
                    assert self._folder is not None
                    made.append((conversation_id, await self._folder.write(conversation_id, images)))
            yield
        except BaseException:
            for conversation_id, images in made:
                assert self._folder is not None
                await self._folder.remove(conversation_id, images)
            raise

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
        if self._folder is not None:
            await self._folder.remove_all(conversation_id)

    @whole
    async def add(self, owner: str, given: Iterable[Conversation]) -> tuple[str, ...]:
        """Conversations from elsewhere, all or none, with ids of their own. Returns these in order."""
        made = [(new_id(), each) for each in given]
        images = [(each_id, [image for message in each.messages for image in message.images]) for each_id, each in made]
        async with self._with_images(images), self._database.write() as connection:
            for each_id, each in made:
                row = _conversation(each_id, owner, each.title, each.created_at)
                row |= {"updated_at": each.updated_at, "system": each.system}
                await connection.execute(insert(conversations).values(row))
                await _insert(connection, each_id, each.messages, 0, with_new_ids=True)
        return tuple(each_id for each_id, _ in made)


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


async def _delete_from(connection: AsyncConnection, conversation_id: str, message_id: str) -> set[StoredImage]:
    """Deletes a message of the user and all that follow it. Returns the images that they held."""
    position = await _position(connection, conversation_id, message_id)
    within = (messages.c.conversation_id == conversation_id) & (messages.c.position >= position)
    held = set(await _images(connection, within))
    await connection.execute(delete(messages).where(within))
    return held


async def _images(connection: AsyncConnection, within: ColumnElement[bool]) -> list[StoredImage]:
    found = await connection.execute(select(messages.c.images).where(within, messages.c.images.is_not(None)))
    return [image for row in found for image in row.images]


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
