"""The tables of conversations and of templates that users made."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, MetaData, Table, Text, UniqueConstraint
from sqlalchemy.types import TypeDecorator

from core.chat.types import StoredImage

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ESCAPE = "\x10"  # "data link escape"
_IMAGE = ("key", "kind", "width", "height", "size")


class SafeText(TypeDecorator[str]):
    """Any text that UTF-8 can hold. PostgreSQL cannot store U+0000, and a user or a model may write it: it is kept
    as U+0010 and "0", U+0010 itself as U+0010 and "1", and both come back as they were, in either database."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        if value is None or ("\0" not in value and _ESCAPE not in value):
            return value
        return value.replace(_ESCAPE, f"{_ESCAPE}1").replace("\0", f"{_ESCAPE}0")

    def process_result_value(self, value: str | None, dialect: Any) -> str | None:
        if value is None or _ESCAPE not in value:
            return value
        return value.replace(f"{_ESCAPE}0", "\0").replace(f"{_ESCAPE}1", _ESCAPE)


class Moment(TypeDecorator[datetime]):
    """A point in time as whole microseconds since 1970, which sorts alike in either database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> int | None:
        return None if value is None else (value - _EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: int | None, dialect: Any) -> datetime | None:
        return None if value is None else _EPOCH + timedelta(microseconds=value)


class Images(TypeDecorator[tuple[StoredImage, ...]]):
    """What is known of a message's pictures, as JSON; NULL: it has none."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: tuple[StoredImage, ...] | None, dialect: Any) -> str | None:
        return json.dumps([{name: getattr(each, name) for name in _IMAGE} for each in value]) if value else None

    def process_result_value(self, value: str | None, dialect: Any) -> tuple[StoredImage, ...]:
        return tuple(StoredImage(**each) for each in json.loads(value)) if value else ()


metadata = MetaData()

migrations = Table(
    "migrations",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("applied_at", Moment, nullable=False),
)

conversations = Table(
    "conversations",
    metadata,
    Column("id", Text, primary_key=True),  # UUID, made by the server
    Column("owner", Text, nullable=False),
    Column("title", SafeText, nullable=False),
    Column("system", SafeText, nullable=False),  # the system prompt of the newest turn; empty: none
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    Index("conversations_by_owner", "owner", "updated_at", "id"),
)

messages = Table(
    "messages",
    metadata,
    Column("id", Text, primary_key=True),
    Column("conversation_id", Text, ForeignKey("conversations.id", ondelete="CASCADE"), nullable=False),
    Column("position", Integer, nullable=False),  # from 0; even: the user's, odd: the answer to it
    Column("role", Text, nullable=False),
    Column("content", SafeText, nullable=False),  # as the user wrote it, before a template
    Column("sent", SafeText),  # what the model was given for it; NULL: the content
    Column("status", Text, nullable=False),
    Column("model", SafeText),
    Column("template", Text),
    Column("prompt_tokens", Integer),
    Column("completion_tokens", Integer),
    Column("finish_reason", Text),
    Column("created_at", Moment, nullable=False),
    Column("images", Images),
    UniqueConstraint("conversation_id", "position", name="messages_in_order"),
)

templates = Table(
    "templates",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("document", Text, nullable=False),  # JSON that `parse_template` reads
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    UniqueConstraint("owner", "name", name="templates_by_name"),
)
