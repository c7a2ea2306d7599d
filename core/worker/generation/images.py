"""Images in a prompt, as token ids of their own.

Each row of numbers that an image is embedded as has a place in the prompt. The ids of these places lie above the
vocabulary and are made from the image's key, so that prompts which begin with the same text and the same images begin
with the same ids, and the scheduler keeps what was read of them without knowing of images at all.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from core.types import IMAGE_MARK, Image, Message

MAX_PLACES = 1 << 20  # of one image
_BYTES = 5  # of the number that stands for an image, so that ids stay far below 2**63
_SALT = os.urandom(16)  # nobody can look for a second image with the number of the first


def number_of(key: str) -> int:
    """The number that stands for an image in token ids, the same for as long as the process lives."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=_BYTES, key=_SALT).digest())


def places(size: int, key: str, count: int) -> range:
    """The ids of the `count` places of an image, above a vocabulary of `size` tokens."""
    first = size + number_of(key) * MAX_PLACES
    return range(first, first + count)


@dataclass(frozen=True, slots=True)
class Span:
    """Places of one image that follow each other among the tokens of a prompt."""

    start: int  # index of the first of them
    number: int  # of the image's key
    place: int  # of the first, within its image
    count: int


def spans(tokens: Sequence[int], size: int) -> Iterator[Span]:
    """Where images lie among `tokens`, in order."""
    index = 0
    while index < len(tokens):
        if tokens[index] < size:
            index += 1
            continue
        number, place = divmod(tokens[index] - size, MAX_PLACES)
        start = index
        while index < len(tokens) and tokens[index] == tokens[start] + index - start:
            index += 1
        yield Span(start, number, place, index - start)


def tokens_of(images: Sequence[Image], tokens: Sequence[int], size: int) -> list[int]:
    """How many of `tokens` each of the images that are shown in them takes."""
    taken, numbers = Counter[int](), [number_of(image["key"]) for image in images]
    for span in spans(tokens, size):
        taken[span.number] += span.count
    shown = Counter(numbers)
    return [taken[number] // shown[number] for number in numbers]


def parts_of(message: Message) -> list[str | Image]:
    """Texts and images of a message in the order in which they stand. Images that have no mark come first."""
    images = message.get("images", ())
    texts = message["content"].split(IMAGE_MARK) if images else [message["content"]]
    marked = min(len(texts) - 1, len(images))
    parts: list[str | Image] = [*images[marked:], texts[0]]
    for index, text in enumerate(texts[1:]):
        parts += [images[index], text] if index < marked else [text]
    return [part for part in parts if part] or [""]


def images_of(messages: Iterable[Message]) -> tuple[Image, ...]:
    """The images of a chat, in the order in which they are shown."""
    return tuple(part for message in messages for part in parts_of(message) if not isinstance(part, str))
