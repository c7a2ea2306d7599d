"""The pictures of conversations: files that live and die with the rows that name them."""

from __future__ import annotations

import contextlib
from collections import ChainMap
from collections.abc import AsyncIterator, Iterable, Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from core.chat import rows
from core.chat.database import Database, whole
from core.chat.image_limits import ImageLimits
from core.chat.images import ImageFolder
from core.chat.schema import conversations, messages
from core.chat.types import StoredImage
from core.types import Image


class ImageStore:
    """What reads the database may raise NotReady. `folder` is where images are; None: nowhere. `limits` None: none."""

    def __init__(
        self, database: Database, folder: ImageFolder | None = None, limits: ImageLimits | None = None
    ) -> None:
        self._database = database
        self._folder = folder
        self._limits = limits

    @whole
    async def check_turn(
        self, owner: str, conversation_id: str, given: Sequence[StoredImage], replaces: str | None, coming: int
    ) -> None:
        """Raises InvalidRequest, ImageQuotaExceeded unless a turn with images may be kept.

        It is for a conversation that there is or that it begins, in the place of `replaces` and what followed it.
        `coming`: bytes of other turns of the owner that are being answered.
        """
        if self._limits is None or not given:
            return
        async with self._database.read() as connection:
            before = await rows.images(connection, await rows.within(connection, conversation_id, replaces))
            held = await rows.image_sizes(connection, owner)
        self._limits.check_conversation(len(before), len(given))
        stay = {image.key for image in before}
        held = {file: size for file, size in held.items() if file[0] != conversation_id or file[1] in stay}
        held["", ""] = coming
        self._limits.check_owner(held, _sizes(conversation_id, given))

    async def check_import(
        self, connection: AsyncConnection, owner: str, given: Sequence[tuple[str, Sequence[StoredImage]]], coming: int
    ) -> None:
        """Raises ImageQuotaExceeded unless new conversations with these images may be kept. `coming`: see above."""
        sizes = [_sizes(*each) for each in given]
        if self._limits is not None and any(sizes):
            held = {**await rows.image_sizes(connection, owner), ("", ""): coming}
            self._limits.check_owner(held, dict(ChainMap(*sizes)))

    async def shown(self, conversation_id: str, image: StoredImage) -> Image | None:
        """An image as models are shown it; None where its file is gone."""
        return None if self._folder is None else await self._folder.read(conversation_id, image)

    @contextlib.asynccontextmanager
    async def written(self, given: Sequence[tuple[str, Sequence[StoredImage]]]) -> AsyncIterator[None]:
        """Writes images before what names them is stored, and takes them back if that fails.

        Raises DiskFull, NotReady.
        """
        made: list[tuple[str, list[StoredImage]]] = []
        try:
            for conversation_id, images in given:
                if images:
                    assert self._folder is not None
                    made.append((conversation_id, await self._folder.write(conversation_id, images)))
            yield
        except BaseException:
            for conversation_id, images in made:
                await self.remove(conversation_id, images)
            raise

    async def remove(self, conversation_id: str, images: Iterable[StoredImage]) -> None:
        """Images that no message of the conversation names any more."""
        if self._folder is not None and (gone := tuple(images)):
            await self._folder.remove(conversation_id, gone)

    async def remove_all(self, conversation_id: str) -> None:
        if self._folder is not None:
            await self._folder.remove_all(conversation_id)

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
            for start in range(0, len(ids), rows.ROWS):
                some = ids[start : start + rows.ROWS]
                there = await connection.execute(select(conversations.c.id).where(conversations.c.id.in_(some)))
                found |= {row.id: set() for row in there}
                held = select(messages.c.conversation_id, messages.c.images).where(
                    messages.c.conversation_id.in_(some), messages.c.images.is_not(None)
                )
                for row in await connection.execute(held):
                    found[row.conversation_id] |= {image.file for image in row.images}
        return found


def _sizes(conversation_id: str, images: Iterable[StoredImage]) -> dict[tuple[str, str], int]:
    """Bytes by file, as `rows.image_sizes` gives them."""
    return {(conversation_id, image.key): image.size for image in images}
