"""Tiny models, made and loaded once a session, and a way to ask them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what libraries say of themselves while they are imported
    import sentencepiece  # noqa: F401
    import torch
    import transformers

from core.params import parse_params
from core.types import Runtime, Task
from core.worker import runtimes, tasks
from core.worker.runtimes import LoadRequest
from tests.fakes.models import write_model

torch.set_num_threads(1)
transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`model_dir(architecture, head, **variant)`: the directory of a tiny model. Read only."""
    made: dict[str, Path] = {}

    def get(architecture: str, head: Task, **variant: Any) -> Path:
        key = f"{architecture} {head} {sorted(variant.items())}"
        if key not in made:
            made[key] = write_model(tmp_path_factory.mktemp("model"), architecture, head, **variant)
        return made[key]

    return get


def open_model(path: Path, *served: Task, runtime: Runtime = Runtime.TRANSFORMERS, **options: Any) -> Any:
    """The model in `path`, loaded for the tasks `served`."""
    request = LoadRequest(str(path), runtime, served, **{"name": "org/tiny", **options})
    return runtimes.load(request, lambda stage, data: None)


@pytest.fixture(scope="session")
def loaded(model_dir: Callable[..., Path]) -> Callable[..., Any]:
    """`loaded(architecture, head, **variant)`: a tiny model with that head, loaded by transformers."""
    opened: dict[Path, Any] = {}

    def get(architecture: str, head: Task, **variant: Any) -> Any:
        path = model_dir(architecture, head, **variant)
        if path not in opened:
            opened[path] = open_model(path, head, allow_pickle=True)
        return opened[path]

    return get


def ask(runtime: Any, task: Task, items: list[Any], *, rows: int = 10**6, **fields: Any) -> Any:
    """The outputs of `task` for `items`, the model given `rows` rows at a time."""
    prepared = tasks.prepare(task, runtime, items, parse_params(task, fields))
    arrays: list[Any] = []
    for at in range(0, len(prepared.rows), rows):
        arrays += runtime.forward(prepared.rows[at : at + rows])
    return prepared.finish(arrays)
