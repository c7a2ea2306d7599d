"""Turns to put into conversations; run as a program, one that puts them there until it is killed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from core.chat.database import Database, parse_url
from core.chat.rows import new_id, now
from core.chat.store import ConversationStore
from core.chat.types import INTERRUPTED, StoredMessage, StoredTurn


def turn(question: str, answer: str = "네.", *, is_whole: bool = True, system: str = "", **said: object) -> StoredTurn:
    return StoredTurn(
        StoredMessage(id=new_id(), role="user", content=question, created_at=now()),
        StoredMessage(
            id=new_id(), role="assistant", content=answer, created_at=now(),
            **({} if is_whole else {"status": INTERRUPTED}), **said,
        ),  # type: ignore[arg-type]
        system,
    )  # fmt: skip


async def write_for_ever(url: str | None, data_dir: Path) -> None:
    """Says "CONVERSATION NUMBER" of each turn once it is stored."""
    store = ConversationStore(Database(parse_url(url, data_dir)))

    async def write(conversation_id: str) -> None:
        number = 0
        while True:
            made = turn(f"{number}", "답" * (1 + number * 997 % 5000))
            await store.add_turn("owner", conversation_id, made, is_new=number == 0)
            print(conversation_id, number, flush=True)
            number += 1

    await asyncio.gather(*(write(new_id()) for _ in range(3)))


async def start_at_a_word(url: str | None, data_dir: Path) -> None:
    """Opens the database when told to, beside others that are told so at the same moment."""
    store = ConversationStore(Database(parse_url(url, data_dir)))
    print("ready", flush=True)
    sys.stdin.readline()
    await store.add_turn("owner", new_id(), turn("x"), is_new=True)


if __name__ == "__main__":
    what = {"write": write_for_ever, "start": start_at_a_word}[sys.argv[1]]
    asyncio.run(what(sys.argv[2] or None, Path(sys.argv[3])))
