"""What the tests on a GPU share: whether there is one, models large enough to be seen on it, and ways to fill it.

Everything here but `ballast` works on `DEVICE` alone, so that it can be tried on a CPU by changing that.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from core.core import Core
from core.memory.probe import Probe
from core.settings import MIB, Settings
from core.types import ModelSpec, Prompt, Quantization, Runtime, Sampling, Task
from tests.fakes.decoders import write_decoder
from tests.fakes.gguf import write_gguf
from tests.fakes.models import read_model, write_graph, write_model

DEVICE = "cuda:0"
PROBE = Probe(visible_gpus=Settings(_env_file=None).visible_gpus)
GPUS = len(PROBE.gpus()) if torch.cuda.is_available() else 0
NEEDS_GPU = [pytest.mark.gpu, pytest.mark.skipif(not GPUS, reason="needs an NVIDIA GPU and torch with CUDA")]
NEEDS_TWO = [pytest.mark.gpu, pytest.mark.skipif(GPUS < 2, reason="needs two NVIDIA GPUs and torch with CUDA")]
NEAR = 64 * MIB  # what NVML may show more than before
CONTEXT = 1024  # tokens
COUNT = 32  # tokens of an answer
TEXTS = [("서울에서 the quick brown fox jumps " * 3)[cut:] for cut in range(32)]
LARGE = {  # 150 million numbers: 300 MB in 16 bits
    "hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 12, "num_attention_heads": 16,
    "num_key_value_heads": 16, "max_position_embeddings": CONTEXT, "initializer_range": 0.02,
}  # fmt: skip
WIDE = {"intermediate_size": 65536, "num_hidden_layers": 4, "hidden_size": 256}  # 540 MB in 32 bits
KINDS: dict[str, dict[str, Any]] = {  # name → what its load says
    "llama": {},
    "llama-8bit": {"quantization": Quantization.INT8},
    "llama-4bit": {"quantization": Quantization.NF4},
    "bert": {"dtype": "float32", "max_batch_tokens": 4096},  # 1 GiB inside of a layer
    "graph": {"runtime": Runtime.ONNXRUNTIME, "max_batch_tokens": 4096},
    "gguf": {},
    "gguf-half": {"gpu_layers": 1},
}


def write_models(root: Path) -> None:
    """A decoder, the same once more under another name, an encoder, its graph, and a GGUF file."""
    write_decoder(root / "llama", "llama", **LARGE)
    shutil.copytree(root / "llama", root / "other")
    write_model(root / "bert", "bert", Task.ZERO_SHOT_CLASSIFICATION, type_vocab_size=1, **WIDE)
    shutil.copytree(root / "bert", root / "graph")
    write_graph(root / "graph" / "onnx" / "model.onnx", read_model(root / "bert", Task.ZERO_SHOT_CLASSIFICATION))
    (root / "graph" / "model.safetensors").unlink()
    (root / "gguf").mkdir()
    write_gguf(root / "gguf" / "m.gguf")


def settings_of(root: Path, data: Path, **more: Any) -> Settings:
    return Settings(_env_file=None, models_dir=root, data_dir=data, offline=True, **more)


@contextlib.asynccontextmanager
async def started(settings: Settings) -> AsyncIterator[Core]:
    core = Core(settings)
    await core.start()
    try:
        yield core
    finally:
        await core.stop()


def spec_of(kind: str, name: str | None = None) -> ModelSpec:
    source = kind.partition("-")[0]
    return ModelSpec(**{"name": name or kind, "source": source, "device": DEVICE, **KINDS.get(kind, {})})


def skip_without_library(kind: str) -> None:
    if kind.startswith("gguf"):
        llama_cpp = pytest.importorskip("llama_cpp")
        if DEVICE != "cpu" and not llama_cpp.llama_supports_gpu_offload():
            pytest.skip("llama-cpp-python was built without CUDA")
    elif kind == "graph":
        onnxruntime = pytest.importorskip("onnxruntime")
        if DEVICE != "cpu" and "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            pytest.skip("onnxruntime was built without CUDA")
    elif "bit" in kind:
        pytest.importorskip("bitsandbytes")


def used(device: str = DEVICE) -> int:
    """Bytes in use there at all, by NVML."""
    return next(each.used for each in (PROBE.host(), *PROBE.gpus()) if each.device == device)


def free(device: str = DEVICE) -> int:
    return next(each.free for each in (PROBE.host(), *PROBE.gpus()) if each.device == device)


async def settled(before: int, device: str = DEVICE) -> int:
    """What NVML shows once it is near `before`, or after five seconds."""
    for _ in range(100):
        if used(device) <= before + NEAR:
            break
        await asyncio.sleep(0.05)
    return used(device)


async def loaded(core: Core, spec: ModelSpec, *, force: bool = False) -> None:
    await (await core.load(spec, admin=True, force=force)).done


def greedy(count: int = COUNT) -> Sampling:
    return Sampling(max_tokens=count, temperature=0, ignore_eos=True)


async def use(core: Core, name: str) -> Any:
    """What it answers: labels of all texts at once, or a few tokens."""
    info = core.registry.get(name).info
    assert info is not None
    if info.tasks[0].generates:
        return (await core.complete(Prompt(text="서울에서"), greedy(), name)).texts
    return (await core.run(Task.TEXT_CLASSIFICATION, TEXTS, {}, name)).outputs


async def fill(core: Core, name: str) -> None:
    """The largest pass, or as many answers at once as it writes, as long as its context."""
    info = core.registry.get(name).info
    assert info is not None
    length = info.context_length or 64
    if not info.tasks[0].generates:
        await core.run(Task.TEXT_CLASSIFICATION, TEXTS * 64, {}, name)
        return
    prompts = [Prompt(ids=tuple(3 + (index * (row + 2)) % 300 for index in range(length - 20))) for row in range(8)]
    await asyncio.gather(*(core.complete(prompt, greedy(16), name) for prompt in prompts))


@contextlib.contextmanager
def ballast(leave: int, device: str = DEVICE) -> Iterator[None]:
    """All of the GPU but `leave` bytes is taken by this process."""
    held = []
    with contextlib.suppress(torch.OutOfMemoryError):  # NVML counts some that nobody is given
        while (size := free(device) - leave) > 4 * MIB:
            held.append(torch.empty(min(size, 4096 * MIB), dtype=torch.uint8, device=device))
    try:
        yield
    finally:
        del held
        torch.cuda.empty_cache()
