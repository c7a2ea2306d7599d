"""The reply pipeline over a real worker process: what the model is sent, what is stored, and what ends a turn."""

import asyncio
import contextlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from core.chat.chat import Chat
from core.chat.types import ChatBegun, ChatEnded, ChatTurn
from core.core import Core
from core.errors import (
    ContextOverflow,
    ConversationBusy,
    ConversationNotFound,
    InsufficientMemory,
    InvalidRequest,
    ModelNotFound,
    NotReady,
    ShuttingDown,
    TemplateNotFound,
    WorkerCrashed,
)
from core.fleet.launcher import Launcher
from core.types import Delta, ModelSpec, Sampling
from tests.core.chat.turns import turn as stored_turn

KEPT = ChatTurn("say:네", model="writer", is_kept=True)


@pytest.fixture(scope="module")
async def running(fake_models, tmp_path_factory):
    from core.settings import Settings

    data = tmp_path_factory.mktemp("data")
    made = Settings(
        _env_file=None, models_dir=fake_models, data_dir=data, starter_dir=fake_models / "none", offline=True
    )
    core = Core(made, Launcher("tests.fakes.runtime"))
    await core.start()
    await (await core.load(ModelSpec("writer", "writer"), admin=True)).done
    yield core
    await core.stop()


@pytest.fixture
async def chat(running, database_url, tmp_path):
    """With a database of its own; `chat.sent` holds the messages of every generation."""
    settings = running.settings.model_copy(
        update={"database_url": database_url, "data_dir": tmp_path, "max_history_length": 40}
    )
    sent = []

    def generate(prompt, sampling, model, task):
        sent.append(prompt.messages)
        return running.generate(prompt, sampling, model, task)

    made = Chat(settings, generate)
    made.sent = sent
    yield made
    await made.close()
    assert running.registry.get("writer").leases == 0


async def say(chat: Chat, turn: ChatTurn, owner: str = "me") -> tuple[str, ChatEnded]:
    begun, *deltas, ended = [item async for item in chat.reply(turn, owner)]
    assert isinstance(begun, ChatBegun)
    assert all(isinstance(delta, Delta) for delta in deltas)
    assert isinstance(ended, ChatEnded)
    assert begun.conversation_id == ended.conversation_id
    return "".join(delta.text for delta in deltas), ended


class Gate:
    """Holds the model after two bytes of an answer, until it is opened."""

    def __init__(self, directory: Path) -> None:
        self._fifo = directory / "fifo"
        os.mkfifo(self._fifo)
        self.message = f"then:wait:{self._fifo}\ncount:20"

    async def reached(self) -> None:
        self._end = await asyncio.to_thread(self._fifo.open, "wb")  # opens once the model reads at the other end

    def open(self) -> None:
        self._end.close()


async def begin(chat: Chat, turn: ChatTurn, owner: str = "me"):
    """A reply after its first delta, and its conversation."""
    items = chat.reply(turn, owner)
    begun = await anext(items)
    assert (await anext(items)).text == "a"
    return items, begun.conversation_id


async def test_a_conversation(chat):
    text, first = await say(chat, replace(KEPT, message="say:안녕하세요"))
    assert text == "안녕하세요"
    assert (first.model, first.finish_reason, first.usage.completion_tokens > 0) == ("writer", "stop", True)
    again = replace(KEPT, message="say:또 만나요", conversation_id=first.conversation_id)
    _, second = await say(chat, again)
    assert second.conversation_id == first.conversation_id
    assert [message["content"] for message in chat.sent[1]] == ["say:안녕하세요", "안녕하세요", "say:또 만나요"]
    found = await chat.conversations.get("me", first.conversation_id)
    assert found.title == "say:안녕하세요"
    assert [(m.role, m.content, m.status) for m in found.messages] == [
        ("user", "say:안녕하세요", "complete"), ("assistant", "안녕하세요", "complete"),
        ("user", "say:또 만나요", "complete"), ("assistant", "또 만나요", "complete"),
    ]  # fmt: skip
    assert [m.id for m in found.messages] == [first.question_id, first.answer_id, second.question_id, second.answer_id]
    answer = found.messages[3]
    assert (answer.model, answer.finish_reason) == ("writer", "stop")
    assert (answer.prompt_tokens, answer.completion_tokens) == (
        second.usage.prompt_tokens, second.usage.completion_tokens,
    )  # fmt: skip


async def test_a_turn_that_is_not_kept(chat):
    text, ended = await say(chat, ChatTurn("say:네"))
    assert (text, ended.conversation_id, ended.answer_id) == ("네", None, None)
    assert (await chat.conversations.page("me", 1, 20)).total == 0


async def test_a_template_stays_with_the_conversation(chat):
    made = {"name": "mine", "system": "You are {who}.", "user": "Q:\n{message}\n", "variables": {"who": {}}}
    await chat.templates.create("me", made)
    turn = replace(KEPT, message="say:{who}", template="mine", variables={"who": "{message}"})
    text, ended = await say(chat, turn)
    assert text == "{who}"
    assert chat.sent[0] == (
        {"role": "system", "content": "You are {message}."}, {"role": "user", "content": "Q:\nsay:{who}\n\n"[:-1]},
    )  # fmt: skip
    await say(chat, replace(KEPT, conversation_id=ended.conversation_id))
    assert [message["content"] for message in chat.sent[1]] == [
        "You are {message}.", "Q:\nsay:{who}\n", "{who}", "say:네",
    ]  # fmt: skip
    stored = (await chat.conversations.get("me", ended.conversation_id)).messages
    assert [(m.content, m.sent, m.template) for m in stored[::2]] == [
        ("say:{who}", "Q:\nsay:{who}\n", "mine"), ("say:네", None, None),
    ]  # fmt: skip
    own = replace(KEPT, conversation_id=ended.conversation_id, system="another")
    await say(chat, own)
    assert chat.sent[2][0] == {"role": "system", "content": "another"}
    await say(chat, replace(own, system=""))
    assert chat.sent[3][0]["role"] == "user"


@pytest.mark.parametrize(
    ("turn", "error", "words"),
    [
        (replace(KEPT, message=""), InvalidRequest, "`message`"),
        (replace(KEPT, message=" \n\t\u3000"), InvalidRequest, "`message`"),
        (replace(KEPT, message="\ud800"), InvalidRequest, "surrogate"),
        (replace(KEPT, message=5), InvalidRequest, "`message`"),
        (replace(KEPT, system="\ud800"), InvalidRequest, "surrogate"),
        (replace(KEPT, template="nothing"), TemplateNotFound, "nothing"),
        (replace(KEPT, template="../x"), TemplateNotFound, "template"),
        (replace(KEPT, template="default", language="fr"), InvalidRequest, "`language`"),
        (replace(KEPT, template="default", variables={"x": "y"}), InvalidRequest, "`x`"),
        (replace(KEPT, variables={"x": "y"}), InvalidRequest, "`template`"),
        (replace(KEPT, replaces="x"), InvalidRequest, "`conversation_id`"),
        (replace(KEPT, conversation_id="../x"), ConversationNotFound, "conversation"),
        (replace(KEPT, model="nobody"), ModelNotFound, "nobody"),
        (replace(KEPT, message="x" * 5000), ContextOverflow, "4,096"),
    ],
)
async def test_what_cannot_begin_leaves_nothing(chat, turn, error, words):
    with pytest.raises(error, match=words):
        await anext(chat.reply(turn, "me"))
    assert (await chat.conversations.page("me", 1, 20)).total == 0
    assert chat._claims == {}


async def test_an_answer_that_was_left_is_kept_as_far_as_it_went(chat):
    items, conversation_id = await begin(chat, replace(KEPT, message="count:4000"))
    assert (await anext(items)).text == "b"
    await items.aclose()
    question, answer = (await chat.conversations.get("me", conversation_id)).messages
    assert (question.content, answer.content, answer.status) == ("count:4000", "ab", "interrupted")
    assert (answer.finish_reason, answer.completion_tokens) == (None, 2)
    await say(chat, replace(KEPT, conversation_id=conversation_id))
    assert [message["content"] for message in chat.sent[1]] == ["count:4000", "ab", "say:네"]


async def test_a_client_that_leaves_at_any_moment(chat):
    """Whole or interrupted: never half a turn, never a conversation that stays busy."""
    for leave_after in range(9):
        items = chat.reply(replace(KEPT, message="count:6"), "me")
        begun = await anext(items)
        with contextlib.suppress(StopAsyncIteration):
            for _ in range(leave_after):
                await anext(items)
        await items.aclose()
        question, answer = (await chat.conversations.get("me", begun.conversation_id)).messages
        assert question.content == "count:6"
        assert "abcdef".startswith(answer.content)
        assert answer.status == ("complete" if answer.finish_reason else "interrupted")
        assert (answer.finish_reason is None) == (leave_after < 7)
        await say(chat, replace(KEPT, conversation_id=begun.conversation_id))


async def test_a_cancelled_caller_at_any_moment(chat):
    _, ended = await say(chat, KEPT)
    turn = replace(KEPT, message="count:3", conversation_id=ended.conversation_id)
    for steps in range(0, 400, 20):
        asking = asyncio.ensure_future(say(chat, turn))
        for _ in range(steps):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
        while claims := list(chat._claims.values()):
            await claims[0].ended.wait()
    messages = (await chat.conversations.get("me", ended.conversation_id)).messages
    assert len(messages) % 2 == 0
    assert [m.role for m in messages] == ["user", "assistant"] * (len(messages) // 2)


async def test_a_model_that_dies_in_the_middle(chat):
    items, conversation_id = await begin(chat, replace(KEPT, message="then:die\ncount:20"))
    with pytest.raises(WorkerCrashed):
        async for _ in items:
            pass
    stored = (await chat.conversations.get("me", conversation_id)).messages
    assert (stored[1].content, stored[1].status) == ("ab", "interrupted")
    before = (await chat.conversations.page("me", 1, 20)).total
    with pytest.raises(InsufficientMemory):
        await say(chat, replace(KEPT, message="oom"))  # before the first token: the client sends it again
    assert (await chat.conversations.page("me", 1, 20)).total == before
    edited = replace(KEPT, conversation_id=conversation_id, replaces=stored[0].id)
    assert (await say(chat, edited))[0] == "네"


async def test_two_turns_at_once(chat, tmp_path):
    gate = Gate(tmp_path)
    items, conversation_id = await begin(chat, replace(KEPT, message=gate.message))
    await gate.reached()
    second = replace(KEPT, conversation_id=conversation_id)
    with pytest.raises(ConversationBusy):
        await say(chat, second)
    with pytest.raises(ConversationBusy):
        await chat.delete("me", conversation_id)
    for attempt in (say(chat, second, "you"), chat.delete("you", conversation_id)):
        with pytest.raises(ConversationNotFound):
            await attempt
    begun = await anext(other := chat.reply(KEPT, "me"))  # another conversation is not in the way
    assert begun.conversation_id != conversation_id
    gate.open()
    assert isinstance([item async for item in other][-1], ChatEnded)
    rest = [item async for item in items]
    assert isinstance(rest[-1], ChatEnded)
    question = (await chat.conversations.get("me", conversation_id)).messages[0]
    assert (await say(chat, replace(second, replaces=question.id)))[0] == "네"
    await chat.delete("me", conversation_id)
    with pytest.raises(ConversationNotFound):
        await say(chat, second)


async def test_of_many_at_once_one_is_answered(chat):
    _, ended = await say(chat, KEPT)
    turn = replace(KEPT, conversation_id=ended.conversation_id)
    answers = await asyncio.gather(*(say(chat, turn) for _ in range(10)), return_exceptions=True)
    assert sum(isinstance(answer, tuple) for answer in answers) == 1
    assert sum(isinstance(answer, ConversationBusy) for answer in answers) == 9
    alone = await asyncio.gather(*(say(chat, replace(KEPT, message=f"say:{n}")) for n in range(20)))
    assert [text for text, _ in alone] == [str(n) for n in range(20)]
    assert len({ended.conversation_id for _, ended in alone}) == 20


async def test_edit_and_retry(chat):
    made = []
    conversation_id = None
    for number in range(3):
        _, ended = await say(chat, replace(KEPT, message=f"say:{number}", conversation_id=conversation_id))
        conversation_id = ended.conversation_id
        made.append(ended)
    edit = replace(KEPT, message="say:edited", conversation_id=conversation_id, replaces=made[1].question_id)
    await say(chat, edit)
    assert [message["content"] for message in chat.sent[-1]] == ["say:0", "0", "say:edited"]
    stored = (await chat.conversations.get("me", conversation_id)).messages
    assert [m.content for m in stored] == ["say:0", "0", "say:edited", "edited"]
    with pytest.raises(InvalidRequest, match="`replaces`"):
        await say(chat, edit)  # that message is gone
    with pytest.raises(InsufficientMemory):
        await say(chat, replace(edit, message="oom", replaces=stored[2].id))
    assert (await chat.conversations.get("me", conversation_id)).messages == stored  # nothing came in their place
    first = replace(KEPT, message="say:anew", conversation_id=conversation_id, replaces=stored[0].id)
    await say(chat, first)
    assert len((await chat.conversations.get("me", conversation_id)).messages) == 2


async def test_history_is_bounded_by_messages_and_by_the_context(chat):
    _, ended = await say(chat, replace(KEPT, system="always"))
    turn = replace(KEPT, conversation_id=ended.conversation_id)
    for number in range(25):
        await say(chat, replace(turn, message=f"say:{number}"))
    assert len(chat.sent[-1]) == 1 + 38 + 1  # system, 19 turns, the message
    assert chat.sent[-1][0] == {"role": "system", "content": "always"}
    assert [message["content"] for message in chat.sent[-1][1:3]] == ["say:5", "5"]
    chat.sent.clear()
    begun = await anext(items := chat.reply(replace(turn, message="say:" + "x" * 3500), "me"))
    async for _ in items:
        pass
    last = next(each for each in chat.sent if len(each) == 40 - begun.dropped_messages)
    assert last[0] == {"role": "system", "content": "always"}
    assert last[-2]["content"] == "24"
    assert 0 < begun.dropped_messages < 38
    assert begun.begun.prompt_tokens <= 4096 - 256


async def test_many_tokens_wanted_leave_room_for_them(chat):
    _, ended = await say(chat, KEPT)
    for _ in range(6):
        await chat.conversations.add_turn("me", ended.conversation_id, stored_turn("count:600", "x" * 600))
    turn = replace(KEPT, message="count:600", sampling=Sampling(temperature=0, max_tokens=600))
    text, again = await say(chat, replace(turn, conversation_id=ended.conversation_id))
    assert (len(text), again.finish_reason) == (600, "length")


async def test_a_database_that_is_away(running, tmp_path):
    settings = running.settings.model_copy(update={"data_dir": tmp_path / "nowhere"})
    chat = Chat(settings, running.generate)
    assert (await say(chat, ChatTurn("say:네", template="default")))[0].endswith("네")  # needs none
    items = chat.reply(KEPT, "me")
    await anext(items)
    with pytest.raises(NotReady, match="database"):
        async for _ in items:
            pass
    assert chat._claims == {}
    assert "database" in await chat.trouble()
    (tmp_path / "nowhere").mkdir()
    assert await chat.trouble() is None
    await say(chat, KEPT)
    await chat.close()


async def test_a_server_that_stops_keeps_what_was_said(fake_models, tmp_path):
    from core.settings import Settings

    made = Settings(
        _env_file=None, models_dir=fake_models, data_dir=tmp_path, starter_dir=fake_models / "none",
        offline=True, drain_s=0.1,
    )  # fmt: skip
    core = Core(made, Launcher("tests.fakes.runtime"))
    await core.start()
    await (await core.load(ModelSpec("writer", "writer"), admin=True)).done
    gate = Gate(tmp_path)
    items, conversation_id = await begin(core.chat, replace(KEPT, message=gate.message))
    await gate.reached()

    async def read() -> None:
        async for _ in items:
            pass

    reading = asyncio.ensure_future(read())
    await core.stop()
    with pytest.raises((ShuttingDown, WorkerCrashed)):
        await reading
    gate.open()
    after = Chat(made, core.generate)
    stored = (await after.conversations.get("me", conversation_id)).messages
    assert (stored[1].content, stored[1].status) == ("ab", "interrupted")
    await after.close()
