"""Pictures of conversations: files that live and die with the rows that name them, over both databases."""

import os
import sqlite3
import stat
import time
from dataclasses import replace

import pytest
from sqlalchemy import delete, text

from core.chat import migrations, schema
from core.chat.database import Database, parse_url
from core.chat.images import ImageFolder
from core.chat.portable import export, read_portable
from core.chat.rows import new_id
from core.chat.store import ConversationStore
from core.chat.types import StoredTurn, stored_image
from core.errors import ConversationNotFound, DiskFull, NotReady
from core.images.reader import ImageReader
from core.images.reading import read_image
from tests.core.chat.turns import turn
from tests.core.images.pictures import picture, png, saved

SMALL, OTHER = read_image(png(8, 9)), read_image(saved(picture(20, 10), "JPEG"))


@pytest.fixture
def store(database, tmp_path):
    return ConversationStore(database, ImageFolder(tmp_path / "images"))


def shown(*images, question: str = "?") -> StoredTurn:
    made = turn(question)
    return replace(made, question=replace(made.question, images=tuple(map(stored_image, images))))


def files(tmp_path) -> set[str]:
    return {path.relative_to(tmp_path / "images").as_posix() for path in (tmp_path / "images").rglob("*.*")}


def named(conversation: str, *images) -> set[str]:
    return {f"{conversation}/{stored_image(image).file}" for image in images}


async def test_a_turn_with_images_is_read_back(store, tmp_path):
    identity, made = new_id(), shown(SMALL, OTHER)
    await store.add_turn("me", identity, made, is_new=True)
    found = (await store.get("me", identity)).messages
    assert found == (made.question, made.answer)
    first, second = found[0].images
    assert (first.kind, first.width, first.height, first.size, first.data) == ("png", 8, 9, len(SMALL["data"]), None)
    assert (second.kind, second.width, second.height) == ("jpeg", 20, 10)
    assert [await store.images.shown(identity, each) for each in found[0].images] == [SMALL, OTHER]
    assert files(tmp_path) == named(identity, SMALL, OTHER)
    assert stat.S_IMODE((tmp_path / "images" / identity).stat().st_mode) == 0o700
    assert (await store.image("me", identity, first.key)).data == SMALL["data"]
    for owner, key in (("you", first.key), ("me", "0" * 64), ("me", "../../berth.db")):
        with pytest.raises(ConversationNotFound):
            await store.image(owner, identity, key)


async def test_images_go_with_what_held_them(store, tmp_path):
    kept, identity = new_id(), new_id()
    await store.add_turn("me", kept, shown(SMALL), is_new=True)
    await store.add_turn("me", identity, first := shown(SMALL), is_new=True)
    await store.add_turn("me", identity, second := shown(SMALL, OTHER))
    await store.add_turn("me", identity, shown(), replaces=second.question.id)
    assert files(tmp_path) == named(kept, SMALL) | named(identity, SMALL)
    await store.add_turn("me", identity, shown(OTHER), replaces=first.question.id)
    assert files(tmp_path) == named(kept, SMALL) | named(identity, OTHER)
    assert len([image for message in (await store.get("me", identity)).messages for image in message.images]) == 1
    with pytest.raises(ConversationNotFound):
        await store.delete("you", identity)
    await store.delete("me", identity)
    assert files(tmp_path) == named(kept, SMALL)
    assert not (tmp_path / "images" / identity).exists()


async def test_a_turn_that_is_not_stored_leaves_no_file(store, tmp_path):
    await store.add_turn("me", identity := new_id(), shown(SMALL), is_new=True)
    with pytest.raises(ConversationNotFound):
        await store.add_turn("you", identity, shown(SMALL, OTHER))
    with pytest.raises(ConversationNotFound):
        await store.add_turn("me", new_id(), shown(OTHER))
    assert files(tmp_path) == named(identity, SMALL)


async def test_a_disk_that_takes_nothing(store, tmp_path):
    (tmp_path / "images").write_text("in the way")
    with pytest.raises(NotReady, match="BERTH_DATA_DIR/images"):
        await store.add_turn("me", identity := new_id(), shown(SMALL), is_new=True)
    with pytest.raises(ConversationNotFound):
        await store.get("me", identity)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
async def test_a_disk_that_is_full(store, tmp_path):
    directory = tmp_path / "images" / (identity := new_id())
    directory.mkdir(parents=True)
    (directory / f".{stored_image(SMALL).file}.{os.getpid()}").symlink_to("/dev/full")
    with pytest.raises(DiskFull):
        await store.add_turn("me", identity, shown(SMALL), is_new=True)
    assert files(tmp_path) == set()


async def test_a_file_that_somebody_removed(store, tmp_path):
    await store.add_turn("me", identity := new_id(), made := shown(SMALL, OTHER), is_new=True)
    (tmp_path / "images" / identity / stored_image(SMALL).file).unlink()
    assert await store.images.shown(identity, stored_image(SMALL)) is None
    with pytest.raises(ConversationNotFound):
        await store.image("me", identity, SMALL["key"])
    found = await store.get("me", identity)
    assert found.messages[0].images == made.question.images
    back = await read_portable(await export([found], store), ImageReader())
    assert [each.key for each in back[0].messages[0].images] == [OTHER["key"]]
    await store.delete("me", identity)
    assert files(tmp_path) == set()


async def test_taken_away_and_brought_back_with_images(store, tmp_path):
    await store.add_turn("me", identity := new_id(), shown(SMALL, OTHER, question="둘"), is_new=True)
    await store.add_turn("me", identity, shown())
    taken = await export([await store.get("me", identity)], store)
    assert taken["version"] == 2
    assert "images" not in taken["conversations"][0]["messages"][1]
    (made,) = await store.add("you", await read_portable(taken, ImageReader()))
    assert files(tmp_path) == named(identity, SMALL, OTHER) | named(made, SMALL, OTHER)
    found = (await store.get("you", made)).messages
    assert found[0].images == (await store.get("me", identity)).messages[0].images
    assert await store.images.shown(made, found[0].images[1]) == OTHER


async def test_what_a_crash_leaves_is_swept_away(store, database, tmp_path):
    await store.add_turn("me", kept := new_id(), shown(SMALL), is_new=True)
    await store.add_turn("me", gone := new_id(), shown(SMALL), is_new=True)
    await store.add_turn("me", new := new_id(), shown(SMALL), is_new=True)
    async with database.write() as connection:  # as a process that is killed before it removes the files
        await connection.execute(delete(schema.conversations).where(schema.conversations.c.id.in_([gone, new])))
    (tmp_path / "images" / kept / stored_image(OTHER).file).write_bytes(OTHER["data"])
    (tmp_path / "images" / "notes").mkdir()
    for name in (kept, gone, "notes"):
        os.utime(tmp_path / "images" / name, (time.time() - 100_000,) * 2)
    await store.images.sweep()
    assert files(tmp_path) == named(kept, SMALL) | named(new, SMALL)  # the new one may be of a turn under way
    assert (tmp_path / "images" / "notes").is_dir()


async def test_another_database_sweeps_nothing(store, tmp_path):
    for _ in range(3):
        await store.add_turn("me", identity := new_id(), shown(SMALL), is_new=True)
        os.utime(tmp_path / "images" / identity, (time.time() - 100_000,) * 2)
    other = Database(parse_url(f"sqlite:///{tmp_path}/other.db", tmp_path))
    await ConversationStore(other, ImageFolder(tmp_path / "images")).images.sweep()
    await other.close()
    assert len(files(tmp_path)) == 3


async def test_a_database_from_before_there_were_images(database_url, tmp_path, monkeypatch):
    monkeypatch.setattr(migrations, "MIGRATIONS", migrations.MIGRATIONS[:1])
    old = Database(parse_url(database_url, tmp_path))
    identity = new_id()
    async with old.write() as connection:
        await connection.execute(text("INSERT INTO conversations VALUES (:id, 'me', 't', '', 1, 1)"), {"id": identity})
        await connection.execute(
            text(
                "INSERT INTO messages VALUES "
                "('a', :id, 0, 'user', 'q', NULL, 'complete', NULL, NULL, NULL, NULL, NULL, 1),"
                "('b', :id, 1, 'assistant', 'a', NULL, 'complete', 'm', NULL, 3, 4, 'stop', 2)"
            ),
            {"id": identity},
        )
    await old.close()
    monkeypatch.undo()
    new = Database(parse_url(database_url, tmp_path))
    store = ConversationStore(new, ImageFolder(tmp_path / "images"))
    await store.add_turn("me", identity, shown(SMALL))
    found = (await store.get("me", identity)).messages
    assert [(each.content, len(each.images)) for each in found] == [("q", 0), ("a", 0), ("?", 1), ("네.", 0)]
    await new.close()


def test_the_first_migration_makes_the_tables_that_it_made(tmp_path):
    """As the release before images wrote them down in its database, in SQLite's own words."""
    from sqlalchemy import create_engine

    engine = create_engine(f"sqlite:///{tmp_path}/old.db")
    with engine.begin() as connection:
        migrations.MIGRATIONS[0](connection)
    with sqlite3.connect(tmp_path / "old.db") as connection:
        columns = connection.execute("PRAGMA table_info(messages)").fetchall()
        (foreign,) = connection.execute("PRAGMA foreign_key_list(messages)").fetchall()
    names = [(name, kind, needed) for _, name, kind, needed, _, _ in columns]
    assert names == [
        ("id", "TEXT", 1), ("conversation_id", "TEXT", 1), ("position", "INTEGER", 1), ("role", "TEXT", 1),
        ("content", "TEXT", 1), ("sent", "TEXT", 0), ("status", "TEXT", 1), ("model", "TEXT", 0),
        ("template", "TEXT", 0), ("prompt_tokens", "INTEGER", 0), ("completion_tokens", "INTEGER", 0),
        ("finish_reason", "TEXT", 0), ("created_at", "BIGINT", 1),
    ]  # fmt: skip
    assert foreign[2:7] == ("conversations", "conversation_id", "id", "NO ACTION", "CASCADE")
