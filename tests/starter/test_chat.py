"""The chat starter: as good as its card says, apart from what it is measured on, and the same in its three formats."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from core.core import Core
from core.settings import Settings
from core.types import ModelSpec, Prompt, Sampling
from starter import evaluate
from starter.corpus import chat

DIRECTORY = Path(evaluate.__file__).parent / "chat"
LARGEST = 15_000_000  # bytes a file
QUESTIONS = (
    "How do I load a model?",
    "모델은 어떻게 불러와요?",
    "who are you?",
    "서버를 끄려면?",
    "what is the capital of peru?",
)


def test_no_held_out_question_is_in_the_corpus() -> None:
    known = {question.lower() for lang in chat.UNKNOWN for topic in chat.topics(lang) for question in topic.questions}
    asked = {row["text"].lower() for row in evaluate.held_out("chat")}
    assert len(asked) >= 120
    assert not asked & known


def test_both_languages_know_the_same_topics() -> None:
    names = {lang: [topic.name for topic in chat.topics(lang)] for lang in chat.UNKNOWN}
    assert names["en"] == names["ko"]
    assert len(names["en"]) == len(set(names["en"])) > 50


def test_the_card_says_what_evaluate_prints() -> None:
    torch.set_num_threads(2)
    figures = evaluate.chat(DIRECTORY)
    card = (DIRECTORY / "README.md").read_text("utf-8")
    assert [row for row in (f"| {name} | {value:.3f} |" for name, value in figures.items()) if row not in card] == []
    assert min(figures.values()) > 0.5


def test_files_are_small_and_hold_no_code() -> None:
    files = [path for path in DIRECTORY.rglob("*") if path.is_file()]
    assert {"model.safetensors", "chat-q8_0.gguf", "model.onnx"} <= {path.name for path in files}
    assert {path.suffix for path in files} <= {".json", ".md", ".safetensors", ".gguf", ".onnx", ".jinja"}
    assert max(path.stat().st_size for path in files) <= LARGEST
    assert "auto_map" not in json.loads((DIRECTORY / "config.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def expected() -> list[str]:
    """What plain transformers answers."""
    model = AutoModelForCausalLM.from_pretrained(DIRECTORY).eval()
    tokenizer = AutoTokenizer.from_pretrained(DIRECTORY)
    return [evaluate.answer(model, tokenizer, [{"role": "user", "content": question}]) for question in QUESTIONS]


@pytest.mark.parametrize("file", [None, "chat-q8_0.gguf", "onnx/model.onnx"])
async def test_each_format_answers_as_plain_transformers_does(file, expected, tmp_path) -> None:
    core = Core(Settings(_env_file=None, data_dir=tmp_path, models_dir=tmp_path, offline=True))
    await core.start()
    try:
        job = await core.load(ModelSpec("chat", "starter:chat", file=file), admin=True)
        await job.done
        answers = []
        for question in QUESTIONS:
            prompt = Prompt(messages=({"role": "user", "content": question},))
            answers.append((await core.complete(prompt, Sampling(temperature=0, max_tokens=160), "chat")).texts[0])
        assert answers == expected
    finally:
        await core.stop()
