"""The nouns of conversations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from core.images.reading import size_of
from core.types import Begun, Image, Sampling, Task, Usage

COMPLETE, INTERRUPTED = "complete", "interrupted"
CHAT_SAMPLING = Sampling(temperature=0.7, top_p=0.9)  # where a turn does not say


@dataclass(frozen=True, slots=True)
class StoredImage:
    """A picture of a message, kept as a file."""

    key: str  # SHA-256 of the file, hex
    kind: str  # png or jpeg
    width: int  # pixels
    height: int
    size: int  # bytes
    data: bytes | None = field(default=None, compare=False, repr=False)  # on its way to the file, or from it

    @property
    def file(self) -> str:
        return f"{self.key}.{self.kind}"

    @property
    def media_type(self) -> str:
        return f"image/{self.kind}"


def stored_image(image: Image) -> StoredImage:
    """How `image` is kept."""
    kind = "png" if image["data"].startswith(b"\x89") else "jpeg"
    return StoredImage(image["key"], kind, *size_of(image), len(image["data"]), image["data"])


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One message of a conversation."""

    id: str
    role: str  # user or assistant
    content: str  # as it was written
    created_at: datetime
    sent: str | None = None  # what the model was given for it, where a template changed it
    status: str = COMPLETE  # or interrupted: the client left, an error, a stop
    model: str | None = None
    template: str | None = None
    prompt_tokens: int | None = None  # of an answer: all that the model read for it
    completion_tokens: int | None = None
    finish_reason: str | None = None  # stop or length
    images: tuple[StoredImage, ...] = ()  # of the user's, as they stand before the text


@dataclass(frozen=True, slots=True)
class Conversation:
    id: str
    title: str
    system: str  # the system prompt; empty: none
    created_at: datetime
    updated_at: datetime
    messages: tuple[StoredMessage, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """A conversation in a list."""

    id: str
    title: str
    created_at: datetime
    updated_at: datetime
    message_count: int


@dataclass(frozen=True, slots=True)
class Page:
    items: tuple[Summary, ...]  # newest first
    total: int
    page: int  # from 1
    page_size: int


@dataclass(frozen=True, slots=True)
class StoredTurn:
    """A user's message and the answer to it, whole or interrupted, as they go into a conversation together."""

    question: StoredMessage
    answer: StoredMessage
    system: str


@dataclass(frozen=True, slots=True)
class ChatTurn:
    """What a user says, and how it is to be answered."""

    message: str
    model: str | None = None
    sampling: Sampling = CHAT_SAMPLING
    template: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    language: str | None = None  # of a built-in template: ko or en
    system: str | None = None  # a system prompt of one's own, instead of a template's; empty: none
    is_kept: bool = False  # in a conversation: `conversation_id`, or a new one
    conversation_id: str | None = None
    images: tuple[Image, ...] = ()
    task: Task = Task.TEXT_GENERATION  # decides who answers where `model` does not; images mean one that sees
    replaces: str | None = None  # id of an earlier message of the user: it and all after it make way for this turn


@dataclass(frozen=True, slots=True)
class ChatBegun:
    """The first thing that a reply says."""

    begun: Begun
    conversation_id: str | None  # None: the turn is not kept
    dropped_messages: int  # of the history, which no longer fit


@dataclass(frozen=True, slots=True)
class ChatEnded:
    """The last thing that a reply says: the turn is stored."""

    model: str
    usage: Usage
    finish_reason: str  # stop or length
    created_at: datetime
    conversation_id: str | None = None
    question_id: str | None = None
    answer_id: str | None = None
