"""Models of transformers that see, from a directory to an answer about a picture, through a real process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from core.core import Core
from core.errors import ContextOverflow, InvalidRequest, TaskNotSupported
from core.settings import Settings
from core.types import Begun, Message, ModelSpec, Prompt, Sampling, Task
from core.worker.architectures import hyperclovax_vlm
from tests.fakes.decoders import CHAT_TEMPLATE, write_decoder
from tests.fakes.vision import generated, picture, write_vision

COUNT = 16  # tokens of an answer
GREEDY = Sampling(max_tokens=COUNT, temperature=0, ignore_eos=True)
SHOWN = picture(1, 90, 60)
LOOKS = Task.IMAGE_TEXT_TO_TEXT


@pytest.fixture(scope="module")
async def core(tmp_path_factory) -> AsyncIterator[Core]:
    root = tmp_path_factory.mktemp("seeing")
    write_vision(root / "sees", "qwen2_vl")
    write_vision(root / "clova", "hyperclovax_vlm")
    write_decoder(root / "reads", "llama", chat_template=CHAT_TEMPLATE)
    settings = Settings(_env_file=None, models_dir=root, data_dir=root / "data", offline=True, threads=1)
    core = Core(settings)
    await core.start()
    for name in ("sees", "clova", "reads"):
        await (await core.load(ModelSpec(name, name))).done
    yield core
    await core.stop()


def asked(text: str) -> tuple[Message, ...]:
    return ({"role": "user", "content": f"\ufffc{text}", "images": (SHOWN,)},)


@pytest.mark.parametrize("name", ["sees", "clova"])
async def test_an_answer_about_a_picture_is_that_of_generate(name: str, core: Core) -> None:
    path = core.settings.models_dir / name
    hyperclovax_vlm.register()
    theirs, length = generated(path, SHOWN, "무엇이 보이나요?", COUNT)
    first = await core.complete(Prompt(messages=asked("무엇이 보이나요?")), GREEDY, name, LOOKS)
    assert first.texts[0].replace("\ufffd", "") == theirs.replace("\ufffd", "")
    assert first.begun.prompt_tokens == length
    turn: tuple[Message, ...] = ({"role": "assistant", "content": "새"}, {"role": "user", "content": "확실해?"})
    second = await core.complete(Prompt(messages=(*asked("무엇이 보이나요?"), *turn)), GREEDY, name, LOOKS)
    assert second.generated.usage.cached_tokens > first.begun.prompt_tokens // 2


async def test_pictures_and_texts_are_answered_side_by_side(core: Core) -> None:
    chats = [Prompt(messages=asked("what?")), Prompt(text="The quick brown"), Prompt(messages=asked("where?"))]
    alone = [await core.complete(each, GREEDY, "sees") for each in chats]
    together = await asyncio.gather(*(core.complete(each, GREEDY, "sees") for each in chats))
    assert [each.texts for each in together] == [each.texts for each in alone]
    info = core.registry.get("sees").info
    assert info is not None
    assert info.tasks == (LOOKS, Task.TEXT_GENERATION)


async def test_a_model_that_reads_text_says_so(core: Core) -> None:
    with pytest.raises(TaskNotSupported, match="reads cannot"):
        await core.complete(Prompt(messages=asked("?")), GREEDY, "reads", LOOKS)


async def test_what_is_wrong_with_a_picture_is_said(core: Core) -> None:
    broken: Message = {"role": "user", "content": "?", "images": ({"data": b"\x89PNG\r\n", "key": "ab" * 32},)}
    with pytest.raises(InvalidRequest, match="no sound PNG or JPEG"):
        await core.complete(Prompt(messages=(broken,)), GREEDY, "sees", LOOKS)
    many: Message = {"role": "user", "content": "?", "images": tuple(picture(each, 96, 96) for each in range(20))}
    with pytest.raises(ContextOverflow, match="of them for 20 images"):
        await core.complete(Prompt(messages=(many,)), GREEDY, "sees", LOOKS)


async def test_a_question_that_is_withdrawn_leaves_the_model_free(core: Core) -> None:
    endless = Sampling(max_tokens=400, temperature=0, ignore_eos=True)
    async with contextlib.aclosing(core.generate(Prompt(messages=asked("tell")), endless, "sees", LOOKS)) as items:
        begun = await anext(items)
        assert isinstance(begun, Begun)
        await anext(items)
    again = await core.complete(Prompt(messages=asked("tell")), GREEDY, "sees", LOOKS)
    assert again.generated.usage.completion_tokens == COUNT
