"""How the fake that writes sees: an image takes four places in its prompt, and `look` is answered with what it was
shown, image by image: `48x32 #ff0000`, its size and the colour of its lower right corner. It says that it sees an image
in one piece of 8×8 pixels and as its two halves, left and right, or does not say, where `sees.txt` holds `blindly`."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image as Pillow

from core.types import IMAGE_MARK, Image, Message, Preview
from core.worker.generation.base import Chunk
from core.worker.generation.images import number_of, places, spans
from core.worker.runtimes.previews import view

SEES = "sees.txt"  # in a model's directory: it sees
PLACES = 4  # of one image


class Seeing:
    """A `core.worker.generation.base.Vision`."""

    max_images = 32
    parts = 0  # in which an image is embedded, each time that it is new

    def __init__(self, codec: Any, *, is_exact: bool = True) -> None:
        self._codec = codec
        self._is_exact = is_exact
        self._seen: dict[int, bytes] = {}  # number of an image's key → the image
        self._embedded: dict[int, int] = {}  # number of an image's key → parts
        self.looked: list[int] = []  # at a part of an image of this number

    def read(self, image: Image) -> None:
        pass

    def encode(self, messages: Sequence[Message]) -> list[int]:
        tokens: list[int] = []
        for message in messages:
            images = iter(message.get("images", ()))
            text = f"{message['role']}\n"
            marks = message["content"].count(IMAGE_MARK)
            text += IMAGE_MARK * (len(message.get("images", ())) - marks) + f"{message['content']}\n"
            for index, part in enumerate(text.split(IMAGE_MARK)):
                if index:
                    tokens.extend(places(self._codec.size, next(images)["key"], PLACES))
                tokens.extend(part.encode())
        return [*tokens, self._codec.answer]

    def preview(self, image: Image) -> Preview:
        with Pillow.open(io.BytesIO(image["data"])) as opened:
            whole = np.asarray(opened)
            small = np.asarray(opened.resize((8, 8)))
        half = whole.shape[1] // 2
        seen = [view(small[None]), view(np.stack([whole[:, :half], whole[:, half : 2 * half]]), 2)]
        return {"views": seen if self._is_exact else [view(whole[None])], "tokens": PLACES, "is_exact": self._is_exact}

    def show(self, slot: int, images: Sequence[Image]) -> None:
        self._seen |= {number_of(image["key"]): image["data"] for image in images}

    def look_on(self, chunk: Chunk, *, may_embed: bool = True) -> bool:
        for span in spans(chunk.tokens, self._codec.size):
            done = self._embedded.setdefault(span.number, 0)
            if done < self.parts:
                if may_embed:
                    self._embedded[span.number] = done + 1
                    self.looked.append(span.number)
                return False
        return True

    def described(self, tokens: Sequence[int]) -> bytes:
        found = []
        for span in spans(tokens, self._codec.size):
            with Pillow.open(io.BytesIO(self._seen[span.number])) as image:
                assert image.mode == "RGB"
                red, green, blue = image.getpixel((image.width - 1, image.height - 1))
                found.append(f"{image.width}x{image.height} #{red:02x}{green:02x}{blue:02x}")
        return " ".join(found).encode() or b"nothing"
