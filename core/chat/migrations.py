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
    """What `schema.py` held when this was the last migration. The next to change a table writes it out here first."""
    schema.metadata.create_all(connection, [schema.conversations, schema.messages, schema.templates])


MIGRATIONS: tuple[Migration, ...] = (_m1_conversations,)


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
