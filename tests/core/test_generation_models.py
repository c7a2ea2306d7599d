"""Models of transformers from a directory to an answer, through a real process, as plain transformers writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import transformers

from core.core import Core
from core.errors import ContextOverflow, TemplateFailed
from core.settings import Settings
from core.types import Message, ModelSpec, Prompt, Quantization, Sampling, Task
from tests.core.worker.runtimes.writing import reference
from tests.fakes.decoders import CHAT_TEMPLATE, write_decoder

COUNT = 20  # tokens of an answer
GREEDY = Sampling(max_tokens=COUNT, temperature=0, ignore_eos=True)
CHAT: tuple[Message, ...] = ({"role": "user", "content": "안녕하세요"},)
LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


@pytest.fixture(scope="module")
async def core(tmp_path_factory) -> AsyncIterator[Core]:
    root = tmp_path_factory.mktemp("generating")
    write_decoder(root / "llama", "llama", chat_template=CHAT_TEMPLATE)
    write_decoder(root / "gpt2", "gpt2", chat_template=LOOP)
    write_decoder(root / "t5", "t5")
    settings = Settings(_env_file=None, models_dir=root, data_dir=root / "data", offline=True, threads=1)
    core = Core(settings)
    await core.start()
    for name in ("llama", "gpt2", "t5"):
        await (await core.load(ModelSpec(name, name))).done
    yield core
    await core.stop()


def shown(text: str) -> str:
    """Without what random bytes are shown as, of which there may be more or fewer."""
    return text.replace("\ufffd", "")


def tokenizer_of(path: Path) -> transformers.PreTrainedTokenizerBase:
    return transformers.AutoTokenizer.from_pretrained(path)


async def test_answers_are_those_of_generate_alone_and_in_company(core: Core) -> None:
    path = core.settings.models_dir / "llama"
    tokenizer = tokenizer_of(path)
    model = transformers.AutoModelForCausalLM.from_pretrained(path).eval()
    prompts = [Prompt(text=text) for text in ("서울에서", "The quick brown fox jumps", "😀")] + [Prompt(messages=CHAT)]
    alone = [await core.complete(prompt, GREEDY, "llama") for prompt in prompts]
    together = await asyncio.gather(*(core.complete(prompt, GREEDY, "llama") for prompt in prompts))
    for prompt, one, other in zip(prompts, alone, together, strict=True):
        if prompt.messages:
            ids = tokenizer.apply_chat_template(list(CHAT), add_generation_prompt=True).input_ids
        else:
            ids = tokenizer(prompt.text).input_ids
        assert one.begun.prompt_tokens == len(ids)
        assert one.texts == other.texts
        assert shown(one.texts[0]) == shown(tokenizer.decode(reference(model, ids, COUNT), skip_special_tokens=True))
    assert [one.begun.has_chat_template for one in alone] == [None, None, None, True]


async def test_a_second_turn_reads_only_what_is_new(core: Core) -> None:
    ids = tuple(range(10, 60))
    first = await core.complete(Prompt(ids=ids), GREEDY, "llama")
    second = await core.complete(Prompt(ids=(*ids, 61, 62, 63)), GREEDY, "llama")
    assert first.generated.usage.cached_tokens == 0
    assert second.generated.usage.cached_tokens >= len(ids)
    await core.unload("llama")
    await (await core.load(ModelSpec("llama", "llama"))).done
    fresh = await core.complete(Prompt(ids=(*ids, 61, 62, 63)), GREEDY, "llama")
    assert fresh.texts == second.texts
    assert fresh.generated.usage.cached_tokens == 0


async def test_an_encoder_decoder_answers_as_generate(core: Core) -> None:
    path = core.settings.models_dir / "t5"
    tokenizer = tokenizer_of(path)
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(path).eval()
    model.generation_config.eos_token_id = None
    texts = ("김민수는 서울에서 일한다.", "The quick brown fox")
    answers = await asyncio.gather(
        *(core.complete(Prompt(text=text), GREEDY, "t5", Task.TEXT2TEXT_GENERATION) for text in texts)
    )
    for text, answer in zip(texts, answers, strict=True):
        written = model.generate(**tokenizer(text, return_tensors="pt"), do_sample=False, max_new_tokens=COUNT)
        assert shown(answer.texts[0]) == shown(tokenizer.decode(written[0, 1:], skip_special_tokens=True))
        assert answer.generated.usage.prompt_tokens == len(tokenizer(text).input_ids)


async def test_a_template_that_loops_is_stopped_and_the_model_goes_on(core: Core) -> None:
    with pytest.raises(TemplateFailed, match="gpt2"):
        await core.complete(Prompt(messages=CHAT), GREEDY, "gpt2")
    assert (await core.complete(Prompt(text="Hi"), GREEDY, "gpt2")).generated.usage.completion_tokens == COUNT
    with pytest.raises(ContextOverflow, match="256"):
        await core.complete(Prompt(text="word " * 400), GREEDY, "gpt2")


async def test_a_model_in_four_bits_answers(core: Core) -> None:
    await core.unload("gpt2")
    await (await core.load(ModelSpec("gpt2", "gpt2", quantization=Quantization.NF4, context_length=64))).done
    answer = await core.complete(Prompt(text="Hi"), GREEDY, "gpt2")
    assert answer.generated.usage.completion_tokens == COUNT
    assert answer.begun.context_length == 64
