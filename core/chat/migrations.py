"""How a database becomes what this program expects: a numbered list, each applied once, in a transaction.

No alembic: there are few tables, they are made by hand, and a list of functions needs no second configuration, no
scripts folder and no synchronous connection of its own. Never change a migration that was released: add one.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import Connection, func, insert, select, text

from core.chat import schema
from core.errors import NotReady

_LOCK = 0x6265727468  # "berth", of PostgreSQL's advisory locks

Migration = Callable[[Connection], None]


def _m1_conversations(connection: Connection) -> None:
    """Tables that have not changed since are those of `schema.py`; who changes one writes it out here first."""
    schema.metadata.create_all(connection, [schema.conversations, schema.templates])
    connection.execute(text(_MESSAGES_1))


def _m2_images(connection: Connection) -> None:
    connection.execute(text("ALTER TABLE messages ADD COLUMN images TEXT"))


_MESSAGES_1 = """
CREATE TABLE messages (
    id TEXT NOT NULL PRIMARY KEY,
    conversation_id TEXT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    role TEXT NOT NULL,
    content TEXT NOT NULL,
    sent TEXT,
    status TEXT NOT NULL,
    model TEXT,
    template TEXT,
    prompt_tokens INTEGER,
    completion_tokens INTEGER,
    finish_reason TEXT,
    created_at BIGINT NOT NULL,
    CONSTRAINT messages_in_order UNIQUE (conversation_id, position)
)"""
MIGRATIONS: tuple[Migration, ...] = (_m1_conversations, _m2_images)


def migrate(connection: Connection) -> None:
    """Applies what is missing. The transaction is the caller's; of several processes that start at once, one goes
    first and the others find the work done. Raises NotReady for a database that a newer program has changed."""
    if connection.dialect.name == "postgresql":  # SQLite's transaction holds the only lock already
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
    schema.migrations.create(connection, checkfirst=True)
    applied = connection.scalar(select(func.max(schema.migrations.c.number))) or 0
    if applied > len(MIGRATIONS):
        raise NotReady(
            f"The database is of a newer version of this program (migration {applied}, here {len(MIGRATIONS)}). "
            "Start that version, or point DATABASE_URL or BERTH_DATA_DIR elsewhere."
        )
    for number, apply in enumerate(MIGRATIONS[applied:], applied + 1):
        apply(connection)
        connection.execute(insert(schema.migrations).values(number=number, applied_at=datetime.now(UTC)))
