"""What the tests of generation say to a writer (`tests/fakes/generator.py`)."""

from collections.abc import AsyncIterator
from typing import Any

SAY = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "say:안녕 🙂"}]


def user(text: str) -> list[dict[str, str]]:
    """A chat of one message."""
    return [{"role": "user", "content": text}]


async def words(stream: AsyncIterator[Any], said: list[str] | None = None) -> str:
    """What a streamed chat says; `said` keeps what came before an error."""
    said = [] if said is None else said
    async for chunk in stream:
        said.append(chunk.choices[0].delta.content or "")
    return "".join(said)
