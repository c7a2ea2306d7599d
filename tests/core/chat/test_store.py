"""Conversations over both databases: what is stored is read back, in order, by its owner alone."""

import asyncio
import base64
import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.chat.portable import export, read_portable
from core.chat.rows import new_id
from core.chat.titles import MAX_TITLE, title_of
from core.errors import BerthError, ConversationNotFound, InvalidRequest, RequestTooLarge
from core.images.reader import ImageReader
from tests.core.chat.turns import turn
from tests.core.images.pictures import png

NASTY = [
    "", "   ", "안녕하세요 👋🏽 👨‍👩‍👧‍👦", "a\0b", "\0", "\x10", "\x100\0\x101", "e" + "\u0301" * 10_000,
    "\u202e뒤집힘", "\x1b[31m\a",
    "a\r\nb", "'; DROP TABLE messages; --", "\\x00 \\0 %s :name ?", "\U0010ffff\ufeff\uffff", "x" * 1_000_000,
]  # fmt: skip


async def test_a_turn_is_read_back(store):
    made = turn("질문", "답", system="너는 …", model="org/m", template="default", prompt_tokens=5, finish_reason="stop")
    made = replace(made, question=replace(made.question, sent="<질문>"))
    identity = new_id()
    await store.add_turn("me", identity, made, is_new=True)
    found = await store.get("me", identity)
    assert (found.id, found.title, found.system) == (identity, "질문", "너는 …")
    assert found.messages == (made.question, made.answer)
    assert found.created_at == found.updated_at == made.answer.created_at


@pytest.mark.parametrize("text", NASTY, ids=lambda text: ascii(text[:12]))
async def test_any_text_reads_back_equal(store, text):
    identity = new_id()
    await store.add_turn("me", identity, turn(text, text, system=text, model=text[:50]), is_new=True)
    found = await store.get("me", identity)
    assert (found.messages[0].content, found.messages[1].content, found.system) == (text, text, text)
    back = await read_portable(json.loads(json.dumps(await export([found], store))), ImageReader())
    assert [message.content for message in back[0].messages] == [text, text]


async def test_any_text_there_is(store):
    identity = new_id()
    await store.add_turn("me", identity, turn("x"), is_new=True)

    async def round_trip(text: str) -> str:
        made = turn(text)
        await store.add_turn("me", identity, made)
        _, newest = await store.history("me", identity, 2)
        return newest[0].content

    texts: list[str] = []

    @settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.text(alphabet=st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from("\0\x1001"))))
    def collect(text: str) -> None:
        texts.append(text)

    collect()
    for text in texts:
        assert await round_trip(text) == text


async def test_pages_newest_first(store):
    made = [new_id() for _ in range(7)]
    for index, identity in enumerate(made):
        await store.add_turn("me", identity, turn(f"제목 {index}"), is_new=True)
    await store.add_turn("you", new_id(), turn("not mine"), is_new=True)
    await store.add_turn("me", made[2], turn("again"))
    expected = [made[2], *reversed([each for each in made if each != made[2]])]
    pages = [await store.page("me", number, 3) for number in (1, 2, 3, 4)]
    assert [item.id for page in pages for item in page.items] == expected
    assert [page.total for page in pages] == [7] * 4
    assert (pages[0].items[0].message_count, pages[0].items[1].message_count) == (4, 2)
    assert pages[0].items[0].title == "제목 2"
    empty = await store.page("nobody", 1, 20)
    assert (empty.items, empty.total) == ((), 0)


@pytest.mark.parametrize(("page", "size"), [(0, 20), (-1, 20), (1, 0), (1, 101), (10**9, 20), (2**70, 20)])
async def test_pages_that_are_none(store, page, size):
    with pytest.raises(InvalidRequest, match="whole number from 1"):
        await store.page("me", page, size)


@pytest.mark.parametrize(
    "identity",
    ["", "../x", "x", "a\0b", "x" * 300, "%2e%2e%2f", "{}", "1", "ﬀ", str(new_id()).upper(), f"{new_id()}\n"],
)
async def test_ids_that_are_none(store, identity):
    with pytest.raises(ConversationNotFound):
        await store.get("me", identity)
    with pytest.raises(ConversationNotFound):
        await store.delete("me", identity)


async def test_b55_anothers_conversation_is_not_there(store):
    identity = new_id()
    made = turn("비밀")
    await store.add_turn("me", identity, made, is_new=True)
    for attempt in (
        store.get("you", identity),
        store.history("you", identity, 10),
        store.rename("you", identity, "x"),
        store.delete("you", identity),
        store.add_turn("you", identity, turn("x")),
        store.add_turn("you", identity, turn("x"), replaces=made.question.id),
        store.get("me", identity.upper()),
    ):
        with pytest.raises(ConversationNotFound) as raised:
            await attempt
        assert "비밀" not in raised.value.message
    assert (await store.page("you", 1, 20)).items == ()
    assert len((await store.get("me", identity)).messages) == 2


async def test_rename_and_delete(store):
    identity, other = new_id(), new_id()
    for each in (identity, other):
        await store.add_turn("me", each, turn("x"), is_new=True)
    before = await store.get("me", identity)
    await store.rename("me", identity, "  새 이름 👍  ")
    renamed = await store.get("me", identity)
    assert renamed == replace(before, title="새 이름 👍")
    for title in ("", "  ", "x" * (MAX_TITLE + 1), "a\nb", "a\0b", "\ud800"):
        with pytest.raises(InvalidRequest):
            await store.rename("me", identity, title)
    await store.delete("me", identity)
    with pytest.raises(ConversationNotFound):
        await store.get("me", identity)
    with pytest.raises(ConversationNotFound):
        await store.add_turn("me", identity, turn("too late"))
    assert len((await store.get("me", other)).messages) == 2  # only its own messages went with it


async def test_history_is_the_newest(store):
    identity, made = new_id(), [turn(f"q{i}", f"a{i}", system=f"s{i}") for i in range(4)]
    for index, each in enumerate(made):
        await store.add_turn("me", identity, each, is_new=index == 0)
    system, newest = await store.history("me", identity, 3)
    assert (system, [m.content for m in newest]) == ("s3", ["a2", "q3", "a3"])
    _, before = await store.history("me", identity, 100, before=made[2].question.id)
    assert [m.content for m in before] == ["q0", "a0", "q1", "a1"]
    for wrong in (made[2].answer.id, new_id(), "x"):
        with pytest.raises(InvalidRequest, match="`replaces`"):
            await store.history("me", identity, 100, before=wrong)


async def test_an_edit_takes_the_place_of_what_followed(store):
    identity, made = new_id(), [turn(f"q{i}") for i in range(3)]
    for index, each in enumerate(made):
        await store.add_turn("me", identity, each, is_new=index == 0)
    edited = turn("better")
    await store.add_turn("me", identity, edited, replaces=made[1].question.id)
    found = await store.get("me", identity)
    assert [m.id for m in found.messages] == [
        made[0].question.id, made[0].answer.id, edited.question.id, edited.answer.id,
    ]  # fmt: skip
    foreign = new_id()
    await store.add_turn("me", foreign, turn("x"), is_new=True)
    with pytest.raises(InvalidRequest, match="`replaces`"):
        await store.add_turn("me", foreign, turn("y"), replaces=made[0].question.id)
    assert len((await store.get("me", identity)).messages) == 4


async def test_l8_many_writers(store):
    shared, writers, appends = new_id(), 8, 30
    await store.add_turn("me", shared, turn("first"), is_new=True)
    own = {writer: new_id() for writer in range(writers)}

    async def write(writer: int) -> None:
        for number in range(appends):
            await store.add_turn("me", shared, turn(f"{writer} {number}"))
            await store.add_turn("me", own[writer], turn(f"{number}"), is_new=number == 0)
            if number % 10 == 0:
                await store.page("me", 1, 20)

    await asyncio.gather(*(write(writer) for writer in range(writers)))
    asked = [m.content for m in (await store.get("me", shared)).messages if m.role == "user"][1:]
    assert len(asked) == writers * appends
    for writer in range(writers):
        mine = [text.split()[1] for text in asked if text.split()[0] == str(writer)]
        assert mine == [str(number) for number in range(appends)]
        alone = (await store.get("me", own[writer])).messages
        assert [m.content for m in alone if m.role == "user"] == mine
    assert (await store.page("me", 1, 1)).total == writers + 1


async def test_taken_away_and_brought_back(store):
    identities = [new_id(), new_id()]
    for identity in identities:
        await store.add_turn(
            "me", identity, turn("안녕", "반가워요", system="s", model="m", prompt_tokens=3), is_new=True
        )
        await store.add_turn("me", identity, turn("또", "", is_whole=False, finish_reason="length"))
    await store.rename("me", identities[0], "이름")
    before = [await store.get("me", identity) for identity in identities]
    back = await read_portable(json.loads(json.dumps(await export(before, store))), ImageReader())
    made = await store.add("you", back)
    assert not {*made} & {*identities}
    for identity, original in zip(made, before, strict=True):
        found = await store.get("you", identity)
        assert not {m.id for m in found.messages} & {m.id for m in original.messages}
        assert [replace(m, id="") for m in found.messages] == [replace(m, id="") for m in original.messages]
        assert replace(found, id="", messages=()) == replace(original, id="", messages=())


PICTURE = f"data:image/png;base64,{base64.b64encode(png(8, 8)).decode()}"


def a_file(**changed) -> dict:
    at = "2026-11-21T09:00:00+09:00"
    messages = [
        {"role": "user", "content": "q", "created_at": at},
        {"role": "assistant", "content": "a", "created_at": at},
    ]
    conversation = {"title": "t", "created_at": at, "updated_at": at, "messages": messages, **changed}
    return {"format": "berth.conversations", "version": 1, "conversations": [conversation]}


def message(**changed) -> list[dict]:
    question, answer = a_file()["conversations"][0]["messages"]
    return [{**question, **changed}, answer]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "the file"),
        (None, "the file"),
        ({}, "format"),
        ({**a_file(), "version": 3}, "version"),
        ({**a_file(), "version": True}, "version"),
        ({**a_file(), "format": "else"}, "format"),
        ({**a_file(), "surprise": 1}, "surprise"),
        ({**a_file(), "conversations": []}, "conversations"),
        ({**a_file(), "conversations": a_file()["conversations"] * 1001}, "conversations"),
        (a_file(id=new_id()), "conversations.0.id"),
        (a_file(title=""), "title"),
        (a_file(title=5), "conversations.0.title"),
        (a_file(title="\ud800"), "title"),
        (a_file(created_at="yesterday"), "created_at"),
        (a_file(created_at="2026-11-21T09:00:00"), "created_at"),
        (a_file(created_at="0001-01-01T00:00:00+14:00"), "created_at"),
        (a_file(updated_at="9999-12-31T23:59:59-14:00"), "updated_at"),
        (a_file(created_at=float("nan")), "created_at"),
        (a_file(messages=message()[:1]), "in turn"),
        (a_file(messages=message()[::-1]), "in turn"),
        (a_file(messages=message() * 10_001), "messages"),
        (a_file(messages=message(role="system")), "messages.0.role"),
        (a_file(messages=message(content=None)), "messages.0.content"),
        (a_file(messages=message(content=["x"])), "messages.0.content"),
        (a_file(messages=message(content="\ud800")), "surrogate"),
        (a_file(messages=message(status="half")), "messages.0.status"),
        (a_file(messages=message(prompt_tokens=-1)), "prompt_tokens"),
        (a_file(messages=message(prompt_tokens=2**31)), "prompt_tokens"),
        (a_file(messages=message(template="../x")), "template"),
        (a_file(messages=message(owner="root")), "messages.0.owner"),
        (a_file(messages=message(images="x")), "messages.0.images"),
        (a_file(messages=message(images=["file:///etc/passwd"])), "fetches nothing"),
        (a_file(messages=message(images=["?"])), "messages.0.images"),
        (a_file(messages=message(images=[PICTURE] * 9)), "takes 8"),
        (a_file(messages=message(images=[PICTURE] * 8) * 5), "more images"),
        (a_file(messages=[*message()[:1], {**message()[1], "images": [PICTURE]}]), "of the user"),
    ],
)
async def test_a_file_that_is_none(given, words):
    with pytest.raises(BerthError, match=words):
        await read_portable(given, ImageReader())


async def test_a_file_that_is_too_large():
    with pytest.raises((InvalidRequest, RequestTooLarge), match="2,000,000"):
        await read_portable(a_file(messages=message(content="x" * 2_000_001)), ImageReader())


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("짧은 질문", "짧은 질문"),
        ("  a\n\n b\t c  ", "a b c"),
        ("가" * 61, "가" * 59 + "…"),
        ("가" * 60, "가" * 60),
        ("", "…"),
        ("\0\x1b[31m\u202eevil\u2028", "[31mevil"),
        ("👨‍👩‍👧 가족", "👨‍👩‍👧 가족"),
        ("x" * 5_000_000, "x" * 59 + "…"),
    ],
)
def test_titles(text, title):
    assert title_of(text) == title


async def test_times_are_kept_to_the_microsecond(store):
    identity, at = new_id(), datetime(2026, 11, 21, 9, 0, 0, 123457, tzinfo=UTC)
    made = turn("x")
    await store.add_turn("me", identity, replace(made, answer=replace(made.answer, created_at=at)), is_new=True)
    assert (await store.get("me", identity)).messages[1].created_at == at
