"""Conversations in the database. Another owner's conversation does not exist."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from sqlalchemy import delete, func, select, update

from core.chat import rows
from core.chat.database import Database, whole
from core.chat.image_limits import ImageLimits
from core.chat.image_store import ImageStore
from core.chat.images import ImageFolder
from core.chat.schema import conversations, messages
from core.chat.titles import check_title, title_of
from core.chat.types import Conversation, Page, StoredImage, StoredMessage, StoredTurn, Summary
from core.errors import ConversationNotFound, InvalidRequest

MAX_PAGE_SIZE = 100
MAX_PAGE = 1_000_000


class ConversationStore:
    """Every call may raise NotReady; those that write, DiskFull too. `folder` is where images are; None: nowhere."""

    def __init__(
        self, database: Database, folder: ImageFolder | None = None, limits: ImageLimits | None = None
    ) -> None:
        self._database = database
        self.images = ImageStore(database, folder, limits)

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
            listed = (await connection.execute(found)).all()
            number = (await connection.execute(total)).scalar_one()
        items = (Summary(row.id, row.title, row.created_at, row.updated_at, row.n) for row in listed)
        return Page(tuple(items), number, page, page_size)

    @whole
    async def get(self, owner: str, conversation_id: str) -> Conversation:
        """With all its messages. Raises ConversationNotFound."""
        async with self._database.read() as connection:
            row = await rows.find(connection, owner, conversation_id)
            found = select(messages).where(messages.c.conversation_id == row.id).order_by(messages.c.position)
            stored = tuple(rows.message_of(each) for each in await connection.execute(found))
        return Conversation(row.id, row.title, row.system, row.created_at, row.updated_at, stored)

    @whole
    async def history(
        self, owner: str, conversation_id: str, most: int, before: str | None = None
    ) -> tuple[str, tuple[StoredMessage, ...]]:
        """The system prompt and the newest `most` messages, those before the user's message `before` if one is named.

        Raises ConversationNotFound, InvalidRequest when `before` is no message of the user here.
        """
        async with self._database.read() as connection:
            row = await rows.find(connection, owner, conversation_id)
            chosen = await rows.within(connection, row.id, before)
            found = select(messages).where(chosen).order_by(messages.c.position.desc()).limit(most)
            newest = [rows.message_of(each) for each in await connection.execute(found)]
        return row.system, tuple(reversed(newest))

    @whole
    async def add_turn(
        self, owner: str, conversation_id: str, turn: StoredTurn, *, is_new: bool = False, replaces: str | None = None
    ) -> None:
        """Both messages or none, at the end or in the place of `replaces` and all that followed it.

        Raises ConversationNotFound when it was deleted meanwhile.
        """
        async with self.images.written([(conversation_id, turn.question.images)]):
            dropped = await self._add_turn(owner, conversation_id, turn, is_new=is_new, replaces=replaces)
        await self.images.remove(conversation_id, dropped)

    async def _add_turn(
        self, owner: str, conversation_id: str, turn: StoredTurn, *, is_new: bool, replaces: str | None
    ) -> set[StoredImage]:
        """Returns the images that no message of the conversation holds any more."""
        now, dropped = turn.answer.created_at, set[StoredImage]()
        async with self._database.write() as connection:
            if is_new:
                title = title_of(turn.question.content)
                await rows.begin(connection, conversation_id, owner, title, now)
            else:
                await rows.find(connection, owner, conversation_id, for_update=True)
            if replaces is not None:
                dropped = await rows.delete_from(connection, conversation_id, replaces)
            await rows.append(connection, conversation_id, (turn.question, turn.answer))
            changed = {"updated_at": now, "system": turn.system}
            await connection.execute(update(conversations).where(conversations.c.id == conversation_id).values(changed))
            return dropped - set(await rows.images(connection, await rows.within(connection, conversation_id)))

    async def image(self, owner: str, conversation_id: str, key: str) -> StoredImage:
        """With its data. Raises ConversationNotFound, for an image that is not there too."""
        for message in (await self.get(owner, conversation_id)).messages:
            for image in message.images:
                if image.key == key and (found := await self.images.shown(conversation_id, image)) is not None:
                    return replace(image, data=found["data"])
        raise ConversationNotFound("There is no such image in this conversation.")

    @whole
    async def rename(self, owner: str, conversation_id: str, title: str) -> None:
        """Raises ConversationNotFound, InvalidRequest."""
        title = check_title(title)
        async with self._database.write() as connection:
            await rows.find(connection, owner, conversation_id, for_update=True)
            chosen = conversations.c.id == conversation_id
            await connection.execute(update(conversations).where(chosen).values(title=title))

    @whole
    async def delete(self, owner: str, conversation_id: str) -> None:
        """Raises ConversationNotFound."""
        async with self._database.write() as connection:
            await rows.find(connection, owner, conversation_id, for_update=True)
            await connection.execute(delete(conversations).where(conversations.c.id == conversation_id))
        await self.images.remove_all(conversation_id)

    @whole
    async def add(self, owner: str, given: Iterable[Conversation], coming: int = 0) -> tuple[str, ...]:
        """Conversations from elsewhere, all or none, with ids of their own. Returns these in order.

        `coming`: bytes of images in turns of the owner that are being answered. Raises ImageQuotaExceeded.
        """
        made = [(rows.new_id(), each) for each in given]
        images = [(each_id, [image for message in each.messages for image in message.images]) for each_id, each in made]
        async with self.images.written(images), self._database.write() as connection:
            await self.images.check_import(connection, owner, images, coming)
            for each_id, each in made:
                more = {"updated_at": each.updated_at, "system": each.system}
                await rows.begin(connection, each_id, owner, each.title, each.created_at, **more)
                await rows.append(connection, each_id, each.messages, with_new_ids=True)
        return tuple(each_id for each_id, _ in made)


def _check_range(name: str, value: int, most: int) -> None:
    if not 1 <= value <= most:
        raise InvalidRequest(f"`{name}` must be a whole number from 1 to {most:,}.")
