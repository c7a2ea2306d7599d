"""The pictures of conversations, as files: `BERTH_DATA_DIR/images/CONVERSATION/KEY.png` or `.jpeg`.

The database says which message holds which; a file is written before the turn that names it is stored, and removed
once nothing names it any more. What a crash leaves between the two, a sweep removes later. A file that was removed by
hand is a picture that the model is not shown any more; the conversation goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from core.chat.types import StoredImage
from core.errors import DiskFull, NotReady
from core.types import Image

log = logging.getLogger(__name__)

_CONVERSATION = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NAME = re.compile(r"[0-9a-f]{64}\.(png|jpeg)|\.[0-9a-f]{64}\.(png|jpeg)\.\d+")  # the latter: not finished
_SETTLED_S = 24 * 3600.0  # what was touched since then may belong to a turn that is being stored


class ImageFolder:
    """Every call that writes may raise DiskFull and NotReady; none blocks the event loop."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def write(self, conversation_id: str, images: Sequence[StoredImage]) -> list[StoredImage]:
        """Those which were not there before; they are on disk afterwards. `data` must be there."""
        return await asyncio.to_thread(self._write, conversation_id, images) if images else []

    def _write(self, conversation_id: str, images: Sequence[StoredImage]) -> list[StoredImage]:
        made: list[StoredImage] = []
        try:
            with _disk_errors():
                directory = self._of(conversation_id)
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                for image in images:
                    assert image.data is not None
                    path = directory / image.file
                    if not path.exists():
                        _write_whole(path, image.data)
                        made.append(image)
                if made:
                    _sync(directory)
        except BaseException:
            self._remove(conversation_id, made)
            raise
        return made

    async def read(self, conversation_id: str, image: StoredImage) -> Image | None:
        """None where it is gone."""
        with contextlib.suppress(OSError):
            data = await asyncio.to_thread((self._of(conversation_id) / image.file).read_bytes)
            return {"data": data, "key": image.key}
        log.warning("image %s of conversation %s is gone", image.file, conversation_id)
        return None

    async def remove(self, conversation_id: str, images: Iterable[StoredImage]) -> None:
        await asyncio.to_thread(self._remove, conversation_id, tuple(images))

    def _remove(self, conversation_id: str, images: Iterable[StoredImage]) -> None:
        directory = self._of(conversation_id)
        for image in images:
            with contextlib.suppress(OSError):
                (directory / image.file).unlink()
        with contextlib.suppress(OSError):  # the last is gone
            directory.rmdir()

    async def remove_all(self, conversation_id: str) -> None:
        await asyncio.to_thread(shutil.rmtree, self._of(conversation_id), ignore_errors=True)

    async def settled(self) -> dict[str, list[str]]:
        """Conversation → names of its files, where nothing was written for a day."""
        return await asyncio.to_thread(self._settled)

    def _settled(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        with contextlib.suppress(OSError):
            for directory in os.scandir(self._directory):
                is_ours = _CONVERSATION.fullmatch(directory.name) and directory.is_dir(follow_symlinks=False)
                if is_ours and time.time() - directory.stat().st_mtime > _SETTLED_S:
                    found[directory.name] = [name for name in os.listdir(directory) if _NAME.fullmatch(name)]
        return found

    async def remove_files(self, conversation_id: str, names: Sequence[str]) -> None:
        for name in names:
            await asyncio.to_thread((self._of(conversation_id) / name).unlink, missing_ok=True)

    def _of(self, conversation_id: str) -> Path:
        assert _CONVERSATION.fullmatch(conversation_id)
        return self._directory / conversation_id


def _write_whole(path: Path, data: bytes) -> None:
    """All of it or nothing, whenever the power goes."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def _sync(directory: Path) -> None:
    """The names in it, and its own, are on disk afterwards."""
    for each in (directory, directory.parent):
        descriptor = os.open(each, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull("The disk is full, so the images cannot be kept. Free space and try again.") from None
        raise NotReady(f"The images cannot be kept: {error.strerror}. Look at BERTH_DATA_DIR/images.") from error
