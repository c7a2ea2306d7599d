"""A GGUF file from the models directory to an answer, through a real process: as `Llama` writes it, also in company."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import llama_cpp
import pytest
from llama_cpp.llama_chat_format import MTMDChatHandler

from core.core import Core
from core.errors import CorruptModel
from core.settings import Settings
from core.types import IMAGE_MARK, Completion, Message, ModelSpec, Prompt, Runtime, Sampling, Task
from tests.fakes.gguf import CONTEXT, write_gguf
from tests.fakes.gguf_vision import write_seeing
from tests.fakes.images import picture

COUNT = 20  # tokens of an answer
GREEDY = Sampling(max_tokens=COUNT, temperature=0, ignore_eos=True)


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[Core]:
    models = tmp_path / "models"
    write_gguf(models / "tiny" / "m-Q8_0.gguf", quantized=True)
    write_gguf(models / "tiny" / "m-F32.gguf")
    settings = Settings(
        _env_file=None, models_dir=models, data_dir=tmp_path / "data", offline=True, threads=1, max_sequences=4
    )
    core = Core(settings)
    await core.start()
    yield core
    await core.stop()


async def load(core: Core, source: str) -> None:
    await (await core.load(ModelSpec("tiny", source))).done


async def test_answers_are_those_of_llama(core: Core) -> None:
    await load(core, "tiny:F32")
    info = core.registry.get("tiny").info
    assert info is not None
    assert (info.runtime, info.dtype, info.context_length) == (Runtime.LLAMA_CPP, "F32", CONTEXT)
    assert (info.max_sequences, info.has_chat_template) == (4, True)
    path = core.settings.models_dir / "tiny" / "m-F32.gguf"
    llama = llama_cpp.Llama(str(path), n_ctx=CONTEXT, n_threads=1, flash_attn=True, verbose=False)
    messages = ({"role": "user", "content": "안녕하세요"},)
    prompts = [Prompt(text=text) for text in ("the quick", "오늘 날씨가", "model 😀")] + [Prompt(messages=messages)]  # type: ignore[arg-type]
    alone = [await core.complete(prompt, GREEDY, "tiny") for prompt in prompts]
    together = await asyncio.gather(*(core.complete(prompt, GREEDY, "tiny") for prompt in prompts))
    written = "<s><|user|>안녕하세요<|end|><|assistant|>"
    for prompt, one, other in zip(prompts, alone, together, strict=True):
        text = prompt.text if prompt.text is not None else written.removeprefix("<s>")
        tokens = llama.tokenize(text.encode(), add_bos=True, special=prompt.text is None)
        assert one.begun.prompt_tokens == len(tokens)
        assert one.texts == other.texts == (_written(llama, tokens),)
    assert isinstance(alone[0], Completion)
    assert alone[0].generated.usage.completion_tokens == COUNT
    assert alone[-1].begun.has_chat_template is True


def _written(llama: llama_cpp.Llama, prompt: list[int]) -> str:
    llama.reset()
    data = b""
    for count, token in enumerate(llama.generate(prompt, temp=0.0, top_k=1, repeat_penalty=1.0), 1):
        data += llama.detokenize([token])
        if count == COUNT:
            break
    return data.decode("utf-8", errors="replace")


async def test_a_damaged_file_leaves_nothing_behind(core: Core) -> None:
    path = core.settings.models_dir / "tiny" / "m-Q8_0.gguf"
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(CorruptModel, match="cut"):
        await load(core, "tiny:Q8_0")
    assert core.registry.find("tiny") is None


async def test_a_model_looks_and_remembers_what_it_saw(core: Core) -> None:
    folder = core.settings.models_dir / "seeing"
    parts = (
        "{% if message.content is string %}{{ message.content }}"
        "{% else %}{% for part in message.content %}{{ part.text }}{% endfor %}{% endif %}"
    )
    template = "{% for message in messages %}<|{{ message.role }}|>" + parts + "<|end|>{% endfor %}<|assistant|>"
    file, projector = write_seeing(folder, vocabulary="bpe", template=template)
    await load(core, "seeing")
    record = core.registry.get("tiny")
    assert record.info is not None
    assert record.info.tasks == (Task.IMAGE_TEXT_TO_TEXT, Task.TEXT_GENERATION)
    image = picture(2)
    question: Message = {"role": "user", "content": f"{IMAGE_MARK}what is it?", "images": (image,)}
    sampling = Sampling(max_tokens=COUNT, temperature=0, logprobs=0)
    asked = core.complete(Prompt(messages=(question,)), sampling, "tiny")
    plain = Prompt(messages=({"role": "user", "content": "quick"},))
    answer, _ = await asyncio.gather(asked, core.complete(plain, sampling, "tiny"))
    handler = MTMDChatHandler(str(projector), verbose=False)
    llama = llama_cpp.Llama(str(file), n_ctx=CONTEXT, n_threads=1, flash_attn=True, verbose=False, chat_handler=handler)
    url = "data:image/png;base64," + base64.b64encode(image["data"]).decode()
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "what is it?"}]
    drawn: list[int] = []

    def note(_: Any, scores: Any) -> Any:
        drawn.append(int(scores.argmax()))
        return scores

    llama.create_chat_completion(
        [{"role": "user", "content": content}],  # type: ignore[list-item]
        temperature=0, max_tokens=COUNT, repeat_penalty=1.0, logits_processor=llama_cpp.LogitsProcessorList([note]),
    )  # fmt: skip
    theirs = [llama.detokenize([token], special=True).decode("utf-8", errors="replace") for token in drawn]
    ours = [score["token"] for score in answer.logprobs[0]]
    assert len(ours) > COUNT // 2
    assert ours == theirs[: len(ours)]
    turns: tuple[Message, ...] = (question, {"role": "assistant", "content": answer.texts[0]})
    again = await core.complete(Prompt(messages=(*turns, {"role": "user", "content": "over"})), sampling, "tiny")
    assert again.generated.usage.cached_tokens >= answer.begun.prompt_tokens - 2
