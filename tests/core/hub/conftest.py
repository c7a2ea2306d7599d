"""A Hub to ask, and a client of it with a cache of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core.hub import Hub
from tests.fakes.hub import FakeHub


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeHub]:
    root = tmp_path / "repositories"
    root.mkdir()
    with FakeHub(root, token="hf_right") as hub:
        yield hub


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def make_hub(fake: FakeHub, cache: Path, tmp_path: Path) -> Callable[..., Hub]:
    """Hub(**options) that asks the fake one, with short waits."""

    def make(**options: Any) -> Hub:
        given = {
            "models_dir": tmp_path / "models",
            "starter_dir": tmp_path / "starter",
            "endpoint": fake.endpoint,
            "cache_dir": cache,
            "timeout_s": 5.0,
            "retry_wait_s": 0.01,
            **options,
        }
        return Hub(**given)

    return make


@pytest.fixture
def hub(make_hub: Callable[..., Hub]) -> Hub:
    return make_hub()
