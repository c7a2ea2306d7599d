"""Models in processes of their own that the kernel refuses memory: what torch and onnxruntime really raise then."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import resource
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import transformers

from core.core import Core
from core.errors import InsufficientMemory
from core.settings import MIB, Settings
from core.types import ModelSpec, Prompt, Sampling, Task
from tests.core.worker.runtimes.writing import reference
from tests.fakes.decoders import write_decoder
from tests.fakes.models import read_model, write_graph, write_model

TOKENS = 512  # of a long text
# Inside of a layer a token takes 256 KiB, so that what is left when a batch has failed is enough for everything else.
WIDTH = 65536
WIDE = {"intermediate_size": WIDTH, "num_hidden_layers": 1, "max_position_embeddings": TOKENS}
TEXTS = [("서울에서 the quick brown fox " * 3)[cut:] for cut in range(24)]
LEFT = 100 * MIB
LONG = "서울에서 the quick brown fox jumps over the lazy dog. " * 60
COUNT = 16  # tokens of an answer
GREEDY = Sampling(max_tokens=COUNT, temperature=0, ignore_eos=True)


@pytest.fixture(scope="module")
async def core(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Core]:
    root = tmp_path_factory.mktemp("full")
    write_model(root / "torch", "bert", Task.FEATURE_EXTRACTION, **WIDE)
    path = root / "torch" / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_max_length": TOKENS}))
    shutil.copytree(root / "torch", root / "graph")
    write_graph(root / "graph" / "onnx" / "model.onnx", read_model(root / "torch", Task.FEATURE_EXTRACTION))
    (root / "graph" / "model.safetensors").unlink()
    # 16 KiB of keys and values a token
    write_decoder(
        root / "llama", "llama", hidden_size=1024, num_attention_heads=4, num_key_value_heads=4, intermediate_size=64,
        max_position_embeddings=1024,
    )  # fmt: skip
    settings = Settings(_env_file=None, models_dir=root, data_dir=root / "data", offline=True, threads=1)
    core = Core(settings)
    await core.start()
    yield core
    await core.stop()


async def pid_of(core: Core, name: str) -> int:
    await (await core.load(ModelSpec(name, name))).done
    return core.model(name).pid or 0


@contextlib.contextmanager
def left(pid: int, size: int) -> Iterator[None]:
    """The process may take `size` bytes more than it has, and not one beyond."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    data = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData"))
    process = psutil.Process(pid)
    process.rlimit(resource.RLIMIT_DATA, (data + size, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        process.rlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


async def vectors(core: Core, name: str, texts: list[str]) -> np.ndarray:
    return np.asarray((await core.run(Task.FEATURE_EXTRACTION, texts, {}, name)).outputs)


@pytest.mark.parametrize("name", ["torch", "graph"])
async def test_a_batch_that_there_is_no_memory_for_is_run_in_parts(
    core: Core, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    pid = await pid_of(core, name)
    alone = np.concatenate([await vectors(core, name, [text]) for text in TEXTS])
    await core.cleanup()  # what it has freed is not its own any more
    caplog.set_level(logging.INFO, "core.fleet.launcher")
    with left(pid, LEFT):
        together = await vectors(core, name, TEXTS)
    np.testing.assert_allclose(together, alone, atol=1e-5)
    async with asyncio.timeout(20):
        while "run in halves" not in caplog.text:  # the worker's log comes by a pipe of its own
            await asyncio.sleep(0.01)
    np.testing.assert_allclose(await vectors(core, name, TEXTS), alone, atol=1e-5)
    assert core.model(name).pid == pid


@pytest.mark.parametrize("name", ["torch", "graph"])
async def test_a_text_that_there_is_no_memory_for_fails_alone(core: Core, name: str) -> None:
    pid = await pid_of(core, name)
    short = [text[:12] for text in TEXTS[:8]]
    alone = [await vectors(core, name, [text]) for text in short]
    await core.cleanup()  # what it has freed is not its own any more
    with left(pid, LEFT):
        asked = [vectors(core, name, [text]) for text in (*short[:4], LONG, *short[4:])]
        found = await asyncio.gather(*asked, return_exceptions=True)
    error = found.pop(4)
    assert isinstance(error, InsufficientMemory)
    assert "Out of memory" in error.message
    assert name in error.message
    for one, other in zip(found, alone, strict=True):
        assert not isinstance(one, BaseException)
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert (await vectors(core, name, [LONG])).shape == (1, 32)
    assert core.model(name).pid == pid


async def test_answers_that_there_is_no_memory_for_leave_it_to_the_others(core: Core) -> None:
    pid = await pid_of(core, "llama")
    path = core.settings.models_dir / "llama"
    model = transformers.AutoModelForCausalLM.from_pretrained(path).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    chance = random.Random(7)
    prompts = [[chance.randrange(10, 400) for _ in range(1000)] for _ in range(8)]  # 125 MiB
    expected = [tokenizer.decode(reference(model, ids, COUNT), skip_special_tokens=True) for ids in prompts]
    with left(pid, 72 * MIB):
        asked = [core.complete(Prompt(ids=tuple(ids)), GREEDY, "llama") for ids in prompts]
        found = await asyncio.gather(*asked, return_exceptions=True)
        kinds = [type(each) for each in found if isinstance(each, BaseException)]
        assert set(kinds) == {InsufficientMemory}
        assert 0 < len(kinds) < len(prompts)
        for each, text in zip(found, expected, strict=True):
            assert isinstance(each, InsufficientMemory) or each.texts[0].replace("\ufffd", "") == text.replace(
                "\ufffd", ""
            )
        # what the others kept for a next turn goes as well, where there is no memory without it
        for ids, text in zip(prompts, expected, strict=True):
            completion = await core.complete(Prompt(ids=tuple(ids)), GREEDY, "llama")
            assert completion.texts[0].replace("\ufffd", "") == text.replace("\ufffd", "")
    assert core.model("llama").pid == pid
