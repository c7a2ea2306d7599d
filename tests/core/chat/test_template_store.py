"""Templates of users' own beside the built-in ones, over both databases."""

import asyncio

import pytest

from core.chat.database import Database, parse_url
from core.chat.template_store import MAX_TEMPLATES, TemplateStore
from core.errors import InvalidRequest, NotReady, TemplateNotFound, WrongState
from tests.core.chat.test_templates import FIVE

MINE = {"name": "mine", "title": "내 것\0", "user": "{message} {tone}", "variables": {"tone": {"default": "부드럽게"}}}


@pytest.fixture
def templates(database) -> TemplateStore:
    return TemplateStore(database)


async def test_made_changed_and_deleted(templates):
    made = await templates.create("me", MINE)
    assert await templates.get("me", "mine") == made
    assert made.title == "내 것\0"
    assert {each.name for each in await templates.list("me")} == FIVE | {"mine"}
    changed = await templates.replace("me", "mine", {"system": "새로"})
    assert (await templates.get("me", "mine")).system == changed.system == "새로"
    await templates.delete("me", "mine")
    for attempt in (templates.get("me", "mine"), templates.delete("me", "mine"), templates.replace("me", "mine", {})):
        with pytest.raises(TemplateNotFound, match="mine"):
            await attempt


async def test_anothers_template_is_not_there(templates):
    await templates.create("me", MINE)
    assert {each.name for each in await templates.list("you")} == FIVE
    for attempt in (
        templates.get("you", "mine"),
        templates.replace("you", "mine", {}),
        templates.delete("you", "mine"),
    ):
        with pytest.raises(TemplateNotFound):
            await attempt
    await templates.create("you", {**MINE, "title": "yours"})
    assert (await templates.get("me", "mine")).title == "내 것\0"


async def test_a_name_is_taken_once(templates):
    def create() -> asyncio.Future:
        return asyncio.ensure_future(templates.create("me", MINE))

    answers = await asyncio.gather(*(create() for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(each, WrongState) for each in answers) == 4
    assert len(await templates.list("me")) == len(FIVE) + 1


@pytest.mark.parametrize("name", sorted(FIVE))
async def test_built_in_ones_stay(templates, name):
    for attempt in (
        templates.create("me", {"name": name}),
        templates.replace("me", name, {}),
        templates.delete("me", name),
    ):
        with pytest.raises(WrongState, match="comes with the server"):
            await attempt


@pytest.mark.parametrize(
    "name", ["../x", "..", "", "a\0b", "x" * 300, "A", "é", "/etc/passwd", "%2e%2e%2f", "default\n"]
)
async def test_names_that_are_none(templates, name):
    for attempt in (templates.get("me", name), templates.delete("me", name)):
        with pytest.raises(TemplateNotFound):
            await attempt
    with pytest.raises(InvalidRequest):
        await templates.create("me", {"name": name})
    with pytest.raises((InvalidRequest, TemplateNotFound)):
        await templates.replace("me", name, {})


async def test_another_name_or_language(templates):
    await templates.create("me", MINE)
    with pytest.raises(InvalidRequest, match="`name`"):
        await templates.replace("me", "mine", {"name": "other"})
    with pytest.raises(InvalidRequest, match="`language`"):
        await templates.get("me", "default", "fr")
    assert (await templates.get("me", "default")).language == "ko"
    assert (await templates.get("me", "default", "en")).language == "en"


async def test_there_may_be_so_many(tmp_path):
    database = Database(parse_url(None, tmp_path))
    templates = TemplateStore(database)
    for number in range(MAX_TEMPLATES):
        await templates.create("me", {"name": f"t{number}"})
    with pytest.raises(WrongState, match=str(MAX_TEMPLATES)):
        await templates.create("me", {"name": "more"})
    await templates.create("you", {"name": "more"})
    await database.close()


async def test_built_in_ones_need_no_database(tmp_path):
    templates = TemplateStore(Database(parse_url(None, tmp_path / "nowhere")))
    assert (await templates.get("me", "default", "en")).is_built_in
    with pytest.raises(NotReady):
        await templates.get("me", "mine")
