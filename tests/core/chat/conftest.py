"""Each database that there is, fresh for each test."""

import pytest

from core.chat.database import Database, parse_url
from core.chat.store import ConversationStore
from tests.fakes.postgres import Postgres, find_programs


@pytest.fixture(scope="session")
def postgres():
    programs = find_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt install postgresql)")
    server = Postgres(programs)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request, tmp_path) -> str | None:
    """What `DATABASE_URL` says; None is the file in the data directory."""
    return None if request.param == "sqlite" else request.getfixturevalue("postgres").new_database()


@pytest.fixture
async def database(database_url, tmp_path):
    made = Database(parse_url(database_url, tmp_path))
    yield made
    await made.close()


@pytest.fixture
def store(database) -> ConversationStore:
    return ConversationStore(database)
