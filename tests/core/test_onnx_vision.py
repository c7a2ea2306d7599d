"""An ONNX model that looks at images, from a Hub to an answer about a picture, through a real process."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from core.core import Core
from core.errors import TaskNotSupported
from core.settings import Settings
from core.types import Fit, Message, ModelSpec, Prompt, Runtime, Sampling, Task
from tests.fakes.decoders import CHAT_TEMPLATE
from tests.fakes.hub import FakeHub
from tests.fakes.onnx_decoders import write_data, write_onnx_decoder
from tests.fakes.onnx_vision import STEMS, write_onnx_vision
from tests.fakes.vision import generated, picture

COUNT = 12  # tokens of an answer
GREEDY = Sampling(max_tokens=COUNT, temperature=0, ignore_eos=True)
SHOWN = picture(1, 90, 60)
LOOKS = Task.IMAGE_TEXT_TO_TEXT
REPOSITORY = "onnx-community/tiny"


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """A model with its safetensors, for a reference, and a Hub where it lies without them, in two precisions."""
    root = tmp_path_factory.mktemp("sources")
    write_onnx_vision(root / "plain", "idefics3")
    repository = root / "hub" / REPOSITORY
    shutil.copytree(root / "plain", repository)
    (repository / "model.safetensors").unlink()
    for stem in STEMS:
        shutil.copy(repository / "onnx" / f"{stem}.onnx", repository / "onnx" / f"{stem}_q4.onnx")
    write_data(repository / "onnx" / "decoder_model_merged.onnx", "decoder_model_merged.onnx_data")
    write_onnx_decoder(root / "models" / "reads", "llama")
    (root / "models" / "reads" / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    return root


@pytest.fixture(scope="module")
async def core(sources: Path) -> AsyncIterator[Core]:
    with pytest.MonkeyPatch.context() as patched, FakeHub(sources / "hub") as hub:
        patched.setattr(constants, "HF_HUB_CACHE", str(sources / "cache"))
        settings = Settings(
            _env_file=None,
            models_dir=sources / "models",
            data_dir=sources / "data",
            hub_endpoint=hub.endpoint,
            threads=1,
        )
        core = Core(settings)
        await core.start()
        yield core
        await core.stop()


def asked(text: str) -> tuple[Message, ...]:
    return ({"role": "user", "content": f"\ufffc{text}", "images": (SHOWN,)},)


async def test_from_the_hub_to_an_answer_about_a_picture(core: Core, sources: Path) -> None:
    spec = ModelSpec("tiny", REPOSITORY)
    plan = await core.plan(spec)
    files = {file.path for file in plan.inspection.files}
    assert {f"onnx/{stem}.onnx" for stem in STEMS} | {"onnx/decoder_model_merged.onnx_data"} <= files
    assert not any("_q4" in file for file in files)
    assert {"config.json", "preprocessor_config.json", "chat_template.jinja", "tokenizer.json"} <= files
    assert (plan.fit, plan.inspection.runtime) == (Fit.FITS, Runtime.ONNXRUNTIME)
    assert plan.inspection.tasks == (LOOKS, Task.TEXT_GENERATION)
    info = await (await core.load(spec)).done
    assert (info.runtime, info.tasks) == (Runtime.ONNXRUNTIME, (LOOKS, Task.TEXT_GENERATION))
    theirs, length = generated(sources / "plain", SHOWN, "무엇이 보이나요?", COUNT)
    first = await core.complete(Prompt(messages=asked("무엇이 보이나요?")), GREEDY, "tiny", LOOKS)
    assert first.texts[0].replace("\ufffd", "") == theirs.replace("\ufffd", "")
    assert first.begun.prompt_tokens == length
    turn: tuple[Message, ...] = ({"role": "assistant", "content": "새"}, {"role": "user", "content": "확실해?"})
    second = await core.complete(Prompt(messages=(*asked("무엇이 보이나요?"), *turn)), GREEDY, "tiny", LOOKS)
    assert second.generated.usage.cached_tokens > first.begun.prompt_tokens // 2
    chats = [Prompt(messages=asked("what?")), Prompt(text="The quick brown"), Prompt(messages=asked("where?"))]
    alone = [await core.complete(each, GREEDY, "tiny") for each in chats]
    together = await asyncio.gather(*(core.complete(each, GREEDY, "tiny") for each in chats))
    assert [each.texts for each in together] == [each.texts for each in alone]


async def test_a_file_chooses_the_precision(core: Core) -> None:
    for stem in STEMS:
        plan = await core.plan(ModelSpec("q", REPOSITORY, file=f"onnx/{stem}_q4.onnx"))
        graphs = {file.path for file in plan.inspection.files if ".onnx" in file.path}
        assert graphs == {f"onnx/{each}_q4.onnx" for each in STEMS}
        assert plan.inspection.spec.file == "onnx/decoder_model_merged_q4.onnx"


async def test_a_decoder_that_reads_text_says_so(core: Core) -> None:
    await (await core.load(ModelSpec("reads", "reads", runtime=Runtime.ONNXRUNTIME), admin=True)).done
    with pytest.raises(TaskNotSupported, match="reads cannot"):
        await core.complete(Prompt(messages=asked("?")), GREEDY, "reads", LOOKS)
