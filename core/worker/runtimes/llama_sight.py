"""How a GGUF model sees: a chat with images to token ids, and the images that are in use or were lately."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import cast

import numpy as np
from PIL import Image as Pillow

from core.errors import InvalidRequest, TemplateFailed
from core.types import IMAGE_MARK, Image, Message, Preview
from core.worker.generation.base import Chunk
from core.worker.generation.images import MAX_PLACES, images_of, number_of, parts_of, places, spans
from core.worker.runtimes.llama_codec import LlamaCodec
from core.worker.runtimes.llama_projector import Picture, Projector
from core.worker.runtimes.previews import view

MAX_IMAGES = 256  # in one prompt; the settings allow no more
LARGEST_SHARE = 0.5  # of the context, that one image may take; a larger one is made smaller, where that helps
_SPARE = 0.95  # sides are rounded to whole tokens, up too
KEPT_BYTES = 64 * 1024 * 1024  # of rows of images, beyond those that slots read; at least one image is kept


class LlamaSight:
    """See the protocol `Vision`."""

    max_images = MAX_IMAGES

    def __init__(
        self, codec: LlamaCodec, projector: Projector, name: str, *, context: int, slots: int, whole: int
    ) -> None:
        """`context` in tokens; `whole`: rows of the largest tile that can be read where they look at each other."""
        self._codec = codec
        self._projector = projector
        self._name = name
        self._largest = int(context * LARGEST_SHARE)
        self._whole = whole
        self._most = min(KEPT_BYTES, slots * self._largest * projector.width * 4)  # bytes in _kept
        self._lock = threading.Lock()  # guards _kept
        self._kept: OrderedDict[str, Picture] = OrderedDict()  # by key, longest unused first
        self._shown: dict[int, dict[int, Picture]] = {}  # slot → number of an image's key → picture

    def read(self, image: Image) -> None:
        self._picture(image)

    def encode(self, messages: Sequence[Message]) -> list[int]:
        images = images_of(messages)
        text = self._codec.render([cast(Message, {**each, "content": marked(each)}) for each in messages])
        first, *others = text.split(IMAGE_MARK)
        if len(others) != len(images):
            raise TemplateFailed(
                f"The chat template of {self._name} writes {len(others)} of {len(images)} images. Send the image with "
                "the last message of the user, or choose another model."
            )
        tokens = self._codec.encode_chat(first)
        for image, behind in zip(images, others, strict=True):
            tokens += self._tokens_of(image)
            tokens += self._codec.encode_part(behind)
        return tokens

    def preview(self, image: Image) -> Preview:
        """See `Vision`. What mtmd makes of the pixels that it is handed, it does not tell."""
        pixels, picture = self._handed(image)
        self._check(picture)
        return {"views": [view(pixels[None])], "tokens": picture.count, "is_exact": False}

    def show(self, slot: int, images: Sequence[Image]) -> None:
        if images:
            self._shown[slot] = {number_of(image["key"]): self._picture(image) for image in images}
        else:
            self._shown.pop(slot, None)

    def look_on(self, chunk: Chunk, *, may_embed: bool = True) -> bool:
        """See `Vision`: a tile at a time."""
        for span in spans(chunk.tokens, self._codec.size):
            picture = self.shown(chunk.slot, span.number)
            for tile in picture.ending(span):
                if tile.rows is None:
                    if may_embed:
                        self._projector.encode(picture, tile)
                    return False
        return True

    def look(self, chunk: Chunk) -> None:
        """All that `chunk` reads of images, at once."""
        for span in spans(chunk.tokens, self._codec.size):
            picture = self.shown(chunk.slot, span.number)
            for tile in picture.ending(span):
                self._projector.encode(picture, tile)

    def shown(self, slot: int, number: int) -> Picture:
        """The picture whose key has that number, among those that were shown for `slot`."""
        return self._shown[slot][number]

    def _tokens_of(self, image: Image) -> list[int]:
        picture = self._picture(image)
        ids = iter(places(self._codec.size, image["key"], picture.count))
        return [next(ids) if token is None else token for token in picture.layout]

    def _picture(self, image: Image) -> Picture:
        key = image["key"]
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        picture = self._laid_out(image)
        with self._lock:
            self._kept[key] = picture
            held = sum(map(self._bytes, self._kept.values()))
            while held > self._most and len(self._kept) > 1:
                held -= self._bytes(self._kept.popitem(last=False)[1])
        return picture

    def _bytes(self, picture: Picture) -> int:
        return picture.count * self._projector.width * 4

    def _handed(self, image: Image) -> tuple[np.ndarray, Picture]:
        """The pixels that mtmd is handed, and what it makes of them."""
        pixels = pixels_of(image, self._name)
        picture = self._projector.lay_out(pixels)
        if picture.count > self._largest:
            pixels = pixels_of(image, self._name, (self._largest / picture.count) ** 0.5 * _SPARE)
            picture = self._projector.lay_out(pixels)
        return pixels, picture

    def _laid_out(self, image: Image) -> Picture:
        _, picture = self._handed(image)
        self._check(picture)
        return picture

    def _check(self, picture: Picture) -> None:
        """Raises InvalidRequest for an image that no prompt can hold."""
        whole = max((tile.count for tile in picture.tiles if tile.is_seen_whole), default=0)
        if picture.count > MAX_PLACES or whole > self._whole:
            raise InvalidRequest(
                f"{self._name} would read this image as {picture.count:,} tokens, which are too many at once. "
                "Send a smaller one."
            )
        if self.lacks_tokens(picture):
            raise InvalidRequest(
                f"{self._name} has no tokens to put around an image of this form. Send one that is nearer to a square."
            )

    def lacks_tokens(self, picture: Picture) -> bool:
        """Whether its layout names tokens that the model does not have."""
        return any(token is not None and not 0 <= token < self._codec.size for token in picture.layout)


def marked(message: Message) -> str:
    """The text of a message with a mark for each of its images."""
    parts = parts_of(message)
    return "".join(part.replace(IMAGE_MARK, "") if isinstance(part, str) else IMAGE_MARK for part in parts)


def pixels_of(image: Image, name: str, share: float = 1) -> np.ndarray:
    """uint8 (height, width, 3), each side `share` of what it was. Raises InvalidRequest."""
    try:
        with Pillow.open(io.BytesIO(image["data"])) as opened:
            shown = opened.convert("RGB")
        if share < 1:
            size = max(1, int(shown.width * share)), max(1, int(shown.height * share))
            shown = shown.resize(size, Pillow.Resampling.BICUBIC)
        return np.asarray(shown)
    except (OSError, ValueError, SyntaxError, Pillow.DecompressionBombError) as error:
        raise InvalidRequest(
            f"An image for {name} cannot be read ({type(error).__name__}). Send it again as PNG or JPEG."
        ) from None
