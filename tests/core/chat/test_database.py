"""The database itself: processes that start at once or are killed, a disk that is full, a server that goes away."""

import asyncio
import os
import random
import sqlite3
import sys
from pathlib import Path

import pytest
from sqlalchemy import event, insert, select

from core.chat import schema
from core.chat.database import Database, parse_url
from core.chat.migrations import MIGRATIONS
from core.chat.rows import new_id, now
from core.chat.store import ConversationStore
from core.errors import DiskFull, InvalidRequest, NotReady
from tests.core.chat.turns import turn

ROOT = Path(__file__).parents[3]


async def program(what: str, url: str | None, data_dir: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.core.chat.turns", what, url or "", str(data_dir),
        cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def test_kill_9_loses_no_turn_that_was_acknowledged(database_url, tmp_path):
    rng = random.Random(os.urandom(8).hex())
    stored: dict[str, int] = {}  # conversation → turns acknowledged
    for _ in range(3):
        writer = await program("write", database_url, tmp_path)
        for _ in range(rng.randrange(1, 60)):
            conversation_id, number = (await writer.stdout.readline()).decode().split()
            stored[conversation_id] = int(number) + 1
        writer.kill()
        rest, _ = await writer.communicate()
        for line in rest.decode().splitlines(keepends=True):
            if line.endswith("\n"):
                stored[line.split()[0]] = int(line.split()[1]) + 1
    database = Database(parse_url(database_url, tmp_path))
    store = ConversationStore(database)
    for conversation_id, turns in stored.items():
        found = (await store.get("owner", conversation_id)).messages
        assert len(found) in (2 * turns, 2 * turns + 2)  # the last may have been stored and not yet told
        for number in range(len(found) // 2):
            assert found[2 * number].content == str(number)
            assert found[2 * number + 1].content == "답" * (1 + number * 997 % 5000)
    await store.add_turn("owner", new_id(), turn("and it goes on"), is_new=True)
    await database.close()


async def test_processes_that_start_at_once(database_url, tmp_path):
    starting = [await program("start", database_url, tmp_path) for _ in range(4)]
    for each in starting:
        await each.stdout.readline()
    for each in starting:
        each.stdin.write(b"go\n")
    ended = await asyncio.gather(*(each.communicate() for each in starting))
    assert [each.returncode for each in starting] == [0] * 4, ended
    database = Database(parse_url(database_url, tmp_path))
    assert (await ConversationStore(database).page("owner", 1, 20)).total == 4
    async with database.read() as connection:
        applied = (await connection.execute(select(schema.migrations.c.number))).scalars().all()
    assert applied == list(range(1, len(MIGRATIONS) + 1))
    await database.close()


async def test_a_database_of_a_newer_program_is_left_alone(database_url, tmp_path):
    first = Database(parse_url(database_url, tmp_path))
    async with first.write() as connection:
        await connection.execute(insert(schema.migrations).values(number=99, applied_at=now()))
    await first.close()
    second = Database(parse_url(database_url, tmp_path))
    for _ in range(2):
        with pytest.raises(NotReady, match="newer version"):
            await second.ping()
    await second.close()


async def test_what_fails_is_not_half_written(database, store):
    identity, made = new_id(), turn("x")
    await store.add_turn("me", identity, made, is_new=True)

    async def fail() -> None:
        async with database.write() as connection:
            await connection.execute(schema.messages.delete())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert len((await store.get("me", identity)).messages) == 2


async def test_a_cancelled_write_leaves_the_database_usable(database, store):
    identity = new_id()
    await store.add_turn("me", identity, turn("x"), is_new=True)
    for _ in range(20):
        writing = asyncio.ensure_future(store.add_turn("me", identity, turn("y")))
        for _ in range(random.randrange(12)):
            await asyncio.sleep(0)
        writing.cancel()
        await asyncio.wait([writing])
    await database.close()  # those that had begun end first
    count = len((await store.get("me", identity)).messages)
    assert count % 2 == 0
    await store.add_turn("me", identity, turn("z"))
    assert len((await store.get("me", identity)).messages) == count + 2


async def test_sqlite_keeps_a_write_ahead_log_and_syncs(tmp_path):
    database = Database(parse_url(None, tmp_path))
    async with database.write() as connection:
        assert (await connection.exec_driver_sql("PRAGMA journal_mode")).scalar() == "wal"
        assert (await connection.exec_driver_sql("PRAGMA synchronous")).scalar() == 2  # FULL
        assert (await connection.exec_driver_sql("PRAGMA foreign_keys")).scalar() == 1
    await database.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["berth.db"]


async def test_f10_a_full_disk(tmp_path):
    database = Database(parse_url(None, tmp_path))
    store, identity, most = ConversationStore(database), new_id(), 50
    await store.add_turn("me", identity, turn("안녕"), is_new=True)

    @event.listens_for(database._engine.sync_engine, "begin")
    def limit(connection):
        connection.exec_driver_sql(f"PRAGMA max_page_count={most}")

    with pytest.raises(DiskFull, match="Free space"):
        await store.add_turn("me", identity, turn("x" * 1_000_000))
    assert [m.content for m in (await store.get("me", identity)).messages] == ["안녕", "네."]
    most = 1_000_000
    await store.add_turn("me", identity, turn("x" * 1_000_000))
    await database.close()


async def test_f11_a_database_that_cannot_be_written(tmp_path):
    made = Database(parse_url(None, tmp_path))
    await ConversationStore(made).add_turn("me", new_id(), turn("x"), is_new=True)
    await made.close()
    refused = Database(parse_url(f"sqlite:///file:{tmp_path}/berth.db?mode=ro&uri=true", tmp_path))
    with pytest.raises(NotReady, match="read-only"):
        await ConversationStore(refused).add_turn("me", new_id(), turn("x"), is_new=True)
    await refused.close()


@pytest.mark.parametrize("damage", [b"not a database" * 100, "missing"])
async def test_a_database_that_is_none(tmp_path, damage):
    if damage == "missing":
        url = f"sqlite:///{tmp_path}/nowhere/berth.db"
    else:
        (tmp_path / "berth.db").write_bytes(damage)
        url = None
    database = Database(parse_url(url, tmp_path))
    with pytest.raises(NotReady) as raised:
        await database.ping()
    assert str(tmp_path) not in raised.value.message


async def test_a_writer_elsewhere_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr("core.chat.database._CONNECT_S", 0.2)
    database = Database(parse_url(None, tmp_path))
    store = ConversationStore(database)
    await store.add_turn("me", new_id(), turn("x"), is_new=True)
    other = sqlite3.connect(tmp_path / "berth.db")
    other.execute("BEGIN IMMEDIATE")
    assert (await store.page("me", 1, 20)).total == 1  # readers do not wait
    with pytest.raises(NotReady, match="Another process"):
        await store.add_turn("me", new_id(), turn("x"), is_new=True)
    other.rollback()
    other.close()
    await store.add_turn("me", new_id(), turn("x"), is_new=True)
    await database.close()


async def test_postgresql_goes_and_comes_back(postgres, tmp_path):
    database = Database(parse_url(postgres.new_database(), tmp_path))
    store, identity = ConversationStore(database), new_id()
    await store.add_turn("me", identity, turn("before"), is_new=True)
    await asyncio.to_thread(postgres.stop)
    try:
        for attempt in (database.ping(), store.get("me", identity), store.add_turn("me", identity, turn("x"))):
            with pytest.raises(NotReady, match="cannot be reached") as raised:
                await attempt
            assert "secret-of-the-test" not in raised.value.message
    finally:
        await asyncio.to_thread(postgres.start)
    await store.add_turn("me", identity, turn("after"))
    assert [m.content for m in (await store.get("me", identity)).messages][::2] == ["before", "after"]
    await database.close()


async def test_postgresql_without_such_a_database(postgres, tmp_path):
    url = postgres.new_database().partition("?")[0] + "x"
    database = Database(parse_url(url, tmp_path))
    with pytest.raises(NotReady, match="refuses us") as raised:
        await database.ping()
    assert "secret-of-the-test" not in raised.value.message


def test_urls(tmp_path):
    def shown(url: str) -> str:
        return parse_url(url, tmp_path).render_as_string(hide_password=False)

    assert shown("postgres://u:p@h:5/d") == shown("postgresql://u:p@h:5/d") == "postgresql+asyncpg://u:p@h:5/d"
    assert shown("postgresql+asyncpg://h/d?sslmode=require&channel_binding=require") == (
        "postgresql+asyncpg://h/d?ssl=require"
    )
    assert shown("") == f"sqlite+aiosqlite:///{tmp_path}/berth.db"
    assert shown("sqlite:////var/lib/b.db") == "sqlite+aiosqlite:////var/lib/b.db"
    for wrong in ("mysql://u:secret@h/d", "not a url, secret", "http://secret/", "sqlite://", "postgresql://h:secret/"):
        with pytest.raises(InvalidRequest, match="DATABASE_URL") as raised:
            parse_url(wrong, tmp_path)
        assert "secret" not in raised.value.message
