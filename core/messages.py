"""The messages of a chat as a request sends them: texts, or OpenAI's lists of parts, some of which may be pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.errors import InvalidRequest
from core.images.reader import ImageReader, check_bytes
from core.params import checked, valid_text
from core.types import IMAGE_MARK, Image, Message

MAX_MESSAGES = 1000
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


def user_message(text: str, images: Sequence[Image]) -> Message:
    """The user's message as a model is sent it: the images, then the text."""
    if not images:
        return {"role": "user", "content": text}
    # a mark that somebody wrote would take an image's place
    return {"role": "user", "content": text.replace(IMAGE_MARK, ""), "images": tuple(images)}


def parse_messages(value: Any) -> tuple[Message, ...]:
    """The messages of a chat that holds text alone. Raises InvalidRequest."""
    written = _written(value)
    if any(each.pictures for each in written):
        raise InvalidRequest("`messages` holds images, which this call does not take. Send text.")
    return tuple(each.message for each in written)


async def read_messages(value: Any, reader: ImageReader) -> tuple[Message, ...]:
    """The messages of a chat, with what its pictures are made into.

    Raises InvalidRequest, RequestTooLarge, and what `ImageReader.read` raises.
    """
    written = _written(value)
    if (total := sum(len(each.pictures) for each in written)) > reader.max_in_chat:
        raise InvalidRequest(
            f"`messages` holds {total:,} images; a chat takes {reader.max_in_chat}. Leave the oldest out."
        )
    messages: list[Message] = []
    images: list[Image] = []
    for each in written:
        message = each.message
        if each.pictures:
            message = {**message, "images": await reader.read(each.name, each.pictures)}
            images += message["images"]
            check_bytes("messages", images)
        messages.append(message)
    return tuple(messages)


@dataclass(frozen=True, slots=True)
class _Written:
    """A message with its pictures as they were sent: data: URIs."""

    name: str
    message: Message
    pictures: list[str]


def _written(value: Any) -> tuple[_Written, ...]:
    messages: tuple[_Written, ...] = checked("messages", value, _messages)
    return messages


def _messages(name: str, value: Any) -> tuple[_Written, ...]:
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= MAX_MESSAGES:
        raise InvalidRequest(f"`{name}` must be a list of 1 to {MAX_MESSAGES:,} messages.")
    return tuple(_message(f"{name}[{index}]", each) for index, each in enumerate(value))


def _message(name: str, value: Any) -> _Written:
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"`{name}` must be an object with `role` and `content`.")
    role = value.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise InvalidRequest(f"`{name}.role` must be one of: {', '.join(_ROLES)}.")
    text, pictures = _content(f"{name}.content", value.get("content"))
    if pictures and role != "user":
        raise InvalidRequest(f"`{name}` holds an image, which only messages of the user may.")
    return _Written(f"{name}.content", {"role": _ROLES[role], "content": text}, pictures)


def _content(name: str, value: Any) -> tuple[str, list[str]]:
    """The text, with a mark where each picture stands, and the pictures."""
    if not isinstance(value, list | tuple):
        return valid_text(name, value), []
    texts: list[str | None] = []  # None: a picture
    pictures: list[str] = []
    for index, part in enumerate(value):
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "text":
            texts.append(valid_text(name, part.get("text")))
        elif kind == "image_url":
            texts.append(None)
            pictures.append(_url(f"{name}[{index}].image_url", part.get("image_url")))
        else:
            raise InvalidRequest(f"`{name}[{index}]` must be of type `text` or `image_url`; nothing else is read here.")
    if not pictures:
        return "".join(filter(None, texts)), []
    # a mark that somebody wrote would take a picture's place
    return "".join(IMAGE_MARK if text is None else text.replace(IMAGE_MARK, "") for text in texts), pictures


def _url(name: str, value: Any) -> str:
    """OpenAI's `{"url", "detail"}`, or the URL alone. `detail` chooses nothing here: models see what they can."""
    url = value.get("url") if isinstance(value, Mapping) else value
    if not isinstance(url, str):
        raise InvalidRequest(f'`{name}` must be {{"url": "data:image/png;base64,…"}}.')
    return url
