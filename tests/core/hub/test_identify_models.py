"""Models as transformers itself saves them, of every architecture and head: told right, named or not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from core.hub import Hub
from core.hub.files import open_directory
from core.hub.identify import identify
from core.types import Inspection, ModelSpec, Runtime, Task
from tests.fakes.hub import FakeHub
from tests.fakes.models import ARCHITECTURES, LABELS, POSITIONS, make_model, read_model, write_model

TASKS: dict[Task, tuple[Task, ...]] = {
    Task.TEXT_CLASSIFICATION: (Task.TEXT_CLASSIFICATION,),
    Task.ZERO_SHOT_CLASSIFICATION: (Task.TEXT_CLASSIFICATION, Task.ZERO_SHOT_CLASSIFICATION),
    Task.TOKEN_CLASSIFICATION: (Task.TOKEN_CLASSIFICATION,),
    Task.QUESTION_ANSWERING: (Task.QUESTION_ANSWERING,),
    Task.FILL_MASK: (Task.FILL_MASK, Task.FEATURE_EXTRACTION),
    Task.FEATURE_EXTRACTION: (Task.FEATURE_EXTRACTION,),
}


def inspect(folder: Path, *, admin: bool = False) -> Inspection:
    return identify(open_directory("model", folder), ModelSpec("model", "model"), pickle_allowed=admin)


@pytest.mark.parametrize("head", TASKS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_and_head(tmp_path: Path, architecture: str, head: Task) -> None:
    inspection = inspect(write_model(tmp_path, architecture, head))
    model = make_model(architecture, head)
    assert inspection.tasks == TASKS[head]
    assert (inspection.runtime, inspection.model_type) == (Runtime.TRANSFORMERS, architecture)
    assert inspection.labels == LABELS.get(head, ())
    assert inspection.context_length == POSITIONS
    # tied weights are saved once, and buffers may be saved too
    assert inspection.parameters == pytest.approx(sum(each.numel() for each in model.parameters()), rel=0.02)
    assert inspection.warnings == ()


@pytest.mark.parametrize("head", TASKS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_head_is_guessed_from_the_weights(tmp_path: Path, architecture: str, head: Task) -> None:
    write_model(tmp_path, architecture, head)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["architectures"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    inspection = inspect(tmp_path)
    assert inspection.tasks == TASKS[head]
    assert "taken for" in inspection.warnings[0]


@pytest.mark.parametrize("layout", ["sharded", "pickle_only", "slow"])
async def test_the_files_that_are_fetched_are_enough(fake: FakeHub, hub: Hub, layout: str) -> None:
    head = Task.TEXT_CLASSIFICATION
    folder = write_model(fake.root / "org/model", "xlm-roberta", head, **{layout: True})  # type: ignore[arg-type]
    path = await hub.fetch(await hub.inspect(ModelSpec("mine", "org/model"), admin=True), lambda progress: None)
    ours, theirs = read_model(path, head).state_dict(), read_model(folder, head).state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    names = {each.name for each in folder.iterdir() if each.suffix != ".bin" or layout == "pickle_only"}
    assert {each.name for each in path.iterdir()} == names - {"generation_config.json"}
