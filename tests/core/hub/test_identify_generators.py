"""Models that generate: told from their files as transformers saves them, and from what stands around them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core.errors import InvalidRequest, NoSupportedTask, TaskNotSupported
from core.hub.files import open_directory
from core.hub.identify import identify
from core.types import Inspection, ModelSpec, Runtime, Task
from tests.fakes.decoders import CHAT_TEMPLATE, DECODERS, ENCODER_DECODERS, write_decoder
from tests.fakes.repositories import write_repository

GENERATION, TEXT, SUMMARY, TRANSLATION = (
    Task.TEXT_GENERATION,
    Task.TEXT2TEXT_GENERATION,
    Task.SUMMARIZATION,
    Task.TRANSLATION,
)
TENSORS = {"model.embed_tokens.weight": (100, 16)}


def inspect(folder: Path, **spec: Any) -> Inspection:
    return identify(open_directory("m", folder), ModelSpec("m", "m", **spec), pickle_allowed=False)


def repository(folder: Path, architecture: str | None, model_type: str, **more: Any) -> Path:
    files = more.pop("files", {})
    config = {"model_type": model_type, **more}
    if architecture:
        config["architectures"] = [architecture]
    return write_repository(folder, config, TENSORS, files)


@pytest.mark.parametrize("name", DECODERS)
def test_causal_models_as_transformers_saves_them(tmp_path: Path, name: str) -> None:
    found = inspect(write_decoder(tmp_path / "plain", name))
    assert (found.runtime, found.tasks, found.model_type) == (Runtime.TRANSFORMERS, (GENERATION,), name)
    assert found.context_length == 256
    assert found.labels == ()
    assert any("no chat template" in warning for warning in found.warnings)
    names = {file.path for file in found.files}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= names
    found = inspect(write_decoder(tmp_path / "chat", name, chat_template=CHAT_TEMPLATE))
    assert found.warnings == ()
    assert "chat_template.jinja" in {file.path for file in found.files}


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_encoder_decoders_as_transformers_saves_them(tmp_path: Path, name: str) -> None:
    found = inspect(write_decoder(tmp_path / "m", name))
    first = {"marian": TRANSLATION, "pegasus": SUMMARY}.get(name, TEXT)
    assert (found.runtime, found.tasks[0]) == (Runtime.TRANSFORMERS, first)
    assert TEXT in found.tasks
    assert found.warnings == ()
    needed = {"marian": {"source.spm", "target.spm", "vocab.json"}, "t5": {"spiece.model"}}.get(name, set())
    assert needed <= {file.path for file in found.files}


@pytest.mark.parametrize(
    ("card", "own", "first"),
    [
        ("", {}, TEXT),
        ("translation", {}, TRANSLATION),
        ("", {"summarization": {"prefix": "x"}}, SUMMARY),
        ("translation", {"summarization": {}}, TRANSLATION),
        ("", {"summarization": {}, "translation_en_to_de": {}}, TEXT),
        ("text-generation", {}, TEXT),
    ],
)
def test_what_an_encoder_decoder_is_for_comes_from_its_card_or_its_settings(
    tmp_path: Path, card: str, own: dict[str, Any], first: Task
) -> None:
    readme = f"---\npipeline_tag: {card}\n---\n" if card else ""
    folder = repository(
        tmp_path / "m", "BartForConditionalGeneration", "bart", task_specific_params=own, files={"README.md": readme}
    )
    assert inspect(folder).tasks[0] == first
    assert set(inspect(folder).tasks) == {TEXT, SUMMARY, TRANSLATION}
    assert inspect(folder, task=SUMMARY).tasks[0] == SUMMARY


def test_a_chat_template_in_the_tokenizers_settings_counts(tmp_path: Path) -> None:
    files = {"tokenizer_config.json": {"chat_template": CHAT_TEMPLATE}}
    assert inspect(repository(tmp_path / "m", "LlamaForCausalLM", "llama", files=files)).warnings == ()


@pytest.mark.parametrize(
    ("model_type", "task"), [("gpt2", GENERATION), ("llama", GENERATION), ("t5", TEXT), ("marian", TEXT)]
)
def test_a_head_that_is_not_named_is_told_from_the_type(tmp_path: Path, model_type: str, task: Task) -> None:
    found = inspect(repository(tmp_path / "m", None, model_type))
    assert found.tasks[0] == task
    assert any("names no architecture" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"n_positions": 1024, "n_ctx": 512}, 1024),
        ({"max_position_embeddings": 8192}, 8192),
        ({}, 512),  # of the tokenizer
    ],
)
def test_the_context_is_that_of_the_model(tmp_path: Path, fields: dict[str, int], expected: int) -> None:
    files = {"tokenizer_config.json": {"model_max_length": 512}}
    folder = repository(tmp_path / "m", "GPT2LMHeadModel", "gpt2", files=files, **fields)
    assert inspect(folder).context_length == expected
    assert inspect(folder, context_length=100).context_length == 100
    with pytest.raises(InvalidRequest, match="context_length"):
        inspect(folder, context_length=expected + 1)


def test_a_causal_model_gives_no_embeddings_and_labels_nothing(tmp_path: Path) -> None:
    folder = repository(tmp_path / "m", "LlamaForCausalLM", "llama")
    for task in (Task.FEATURE_EXTRACTION, Task.TEXT_CLASSIFICATION, SUMMARY):
        with pytest.raises(TaskNotSupported, match="text-generation"):
            inspect(folder, task=task)
    classifier = repository(tmp_path / "c", "LlamaForSequenceClassification", "llama")
    assert inspect(classifier).tasks == (Task.TEXT_CLASSIFICATION,)


@pytest.mark.parametrize(
    ("architecture", "model_type"),
    [("WhisperForConditionalGeneration", "whisper"), ("VideoLlavaForConditionalGeneration", "video_llava")],
)
def test_models_that_read_more_than_text_are_refused(tmp_path: Path, architecture: str, model_type: str) -> None:
    with pytest.raises(NoSupportedTask, match=architecture):
        inspect(repository(tmp_path / "m", architecture, model_type))
