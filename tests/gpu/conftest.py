"""Models on an NVIDIA GPU, made in the test run. Where there is none, every test here is skipped."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import torch

from core.core import Core
from tests.gpu.machine import DEVICE, settings_of, started, write_models


@pytest.fixture(scope="session")
def gpu_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.zeros(1, device=DEVICE)  # the context of this process, which is then there before and after
    root = tmp_path_factory.mktemp("on_gpu")
    write_models(root)
    return root


@pytest.fixture(scope="session")
async def gpu_core(gpu_models: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Core]:
    async with started(settings_of(gpu_models, tmp_path_factory.mktemp("data"))) as core:
        yield core
