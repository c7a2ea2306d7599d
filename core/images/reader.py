"""Pictures of requests, read beside the event loop: a few at once, within a deadline."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from core.errors import DeadlineExceeded, InvalidRequest, QueueFull, RequestTooLarge
from core.images.encoded import decode_image
from core.images.reading import MAX_PIXELS, read_image
from core.types import Image

MAX_IMAGE_BYTES = 96 * 1024 * 1024  # of what a model is sent at once, and of one file of conversations
AT_ONCE = 2  # decoded pictures in memory, 60 MB each at the largest, a few times over while one is made
MAX_WAITING = 256
DEADLINE_S = 60.0


class ImageReader:
    """One for the server. At most `max_images` in a message, `max_in_chat` in all of a chat, `max_pixels` in one."""

    def __init__(self, max_images: int = 8, max_in_chat: int = 32, max_pixels: int = MAX_PIXELS) -> None:
        self.max_images = max_images
        self.max_in_chat = max_in_chat
        self.max_pixels = max_pixels
        self._threads = ThreadPoolExecutor(AT_ONCE, "image")
        self._waiting = 0

    def check_count(self, name: str, count: int) -> None:
        """Raises InvalidRequest when a message has more images, in the field `name`, than it may."""
        if count > self.max_images:
            error = InvalidRequest(
                f"`{name}` holds {count:,} images; a message takes {self.max_images}. Send fewer, or in several "
                "messages of a conversation."
            )
            error.param = name
            raise error

    async def read(self, name: str, given: Sequence[bytes | str]) -> tuple[Image, ...]:
        """The pictures of one message: files, or base64 and data: URIs. `name` is the field that they came in.

        Raises InvalidRequest, InvalidImage, RequestTooLarge, QueueFull, DeadlineExceeded.
        """
        if not given:
            return ()
        self.check_count(name, len(given))
        if self._waiting + len(given) > MAX_WAITING:
            raise QueueFull("Too many images are being read already. Try again shortly.")
        self._waiting += len(given)
        names = [name] if len(given) == 1 else [f"{name}[{index}]" for index in range(len(given))]
        try:
            async with asyncio.timeout(DEADLINE_S):
                images = tuple([await self._one(*each) for each in zip(names, given, strict=True)])
        except TimeoutError:
            raise DeadlineExceeded(
                f"The images could not be read within {DEADLINE_S:g} s. Try when the server is less busy."
            ) from None
        finally:
            self._waiting -= len(given)
        check_bytes(name, images)
        return images

    async def _one(self, name: str, given: bytes | str) -> Image:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, functools.partial(_read, name, given, self.max_pixels))


def check_bytes(name: str, images: Iterable[Image]) -> None:
    """Raises RequestTooLarge for more than a model is sent at once."""
    if sum(len(image["data"]) for image in images) > MAX_IMAGE_BYTES:
        raise RequestTooLarge(
            f"`{name}` holds images of more than {MAX_IMAGE_BYTES >> 20} MiB, as models are shown them. Send fewer, or "
            "smaller ones."
        )


def _read(name: str, given: bytes | str, max_pixels: int) -> Image:
    return read_image(decode_image(name, given) if isinstance(given, str) else given, name, max_pixels)
