"""The calls of the guides whose users this server takes over, kept as data in `guides/` and compared field by field.

What an answer must have is written as kinds. A table has at least these fields; a list of one kind has one item or
more, each of that kind. A text is a kind, or several with `|` between them:

    text, words     any text; one that is not empty
    count, number   a whole number from 0; any finite number
    flag, null      true or false; null
    time, size      ISO 8601; such as 3.45 GB
    page            HTML, in place of a whole answer
    = X             the text X
    same as F       what the request said in its field F; likewise `starts with F`, `in F`
    length of F     the number of items in the answer's field F

Anything else (a number, true) stands for itself. Streams have `event`, of each but the last, and `last`.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import tomllib
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from core.core import Core
from core.settings import PROJECT, Settings
from core.types import Task
from tests.fakes.repositories import ENCODER, write_repository
from tests.serving import Served, serve

GUIDES = Path(__file__).parent / "guides"
ENCODERS = {  # as the guides call them → architecture, head
    "cardiffnlp/twitter-roberta-base-sentiment-latest": ("roberta", Task.TEXT_CLASSIFICATION),
    "upskyy/kf-deberta-multitask": ("deberta-v2", Task.TEXT_CLASSIFICATION),
    "hiddenFront/TextClassifier": ("bert", Task.TEXT_CLASSIFICATION),
    "skimb22/koelectra-ner-klue-test1": ("electra", Task.TOKEN_CLASSIFICATION),
    "BAAI/bge-m3": ("xlm-roberta", Task.FEATURE_EXTRACTION),
    "deepset/roberta-base-squad2": ("roberta", Task.QUESTION_ANSWERING),
}
SENTENCES = "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2"


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A models directory with tiny random models under the names that the guides load."""
    from tests.fakes.decoders import write_decoder
    from tests.fakes.models import write_model

    root = tmp_path_factory.mktemp("guides")
    for name, (architecture, head) in ENCODERS.items():
        labels = ("clean", "curse") if head is Task.TEXT_CLASSIFICATION else None
        write_model(root / name, architecture, head, labels=labels)
    write_model(root / SENTENCES, "bert", Task.FEATURE_EXTRACTION, hidden_size=384)
    write_decoder(root / "microsoft/DialoGPT-medium", "gpt2")
    write_decoder(root / "google/flan-t5-base", "t5")
    write_repository(root / "pictures", {"architectures": ["ViTModel"], "model_type": "vit"}, ENCODER)
    return root


@pytest.mark.parametrize("guide", ["models", "services"])
async def test_the_model_server_the_embedding_service_and_the_space(models, tmp_path, guide):
    settings = Settings(
        _env_file=None, models_dir=models, data_dir=tmp_path, offline=True, classify_model="hiddenFront/TextClassifier"
    )
    async with serve(Core(settings)) as served:
        await follow(served, guide)


async def test_the_generation_service(tmp_path, monkeypatch):
    """Started by the guide's `.env`, in the directory of a training run."""
    for name in ("checkpoints/final_model", "new_model"):
        shutil.copytree(PROJECT / "starter" / "chat", tmp_path / "outputs" / name)
    (tmp_path / ".env").write_text(
        "MODEL_PATH=outputs/checkpoints/final_model\nLOAD_IN_8BIT=false\nLOAD_IN_4BIT=false\n"
    )
    async with serve(core_in(tmp_path, monkeypatch)) as served:
        await follow(served, "generation")


async def test_the_chat_service(tmp_path, monkeypatch):
    """Started by the guide's `.env`, with a GGUF file; layers for a GPU do no harm where there is none."""
    (tmp_path / "models").mkdir()
    shutil.copy(PROJECT / "starter" / "chat" / "chat-q8_0.gguf", tmp_path / "models" / "qwen-1.5-0.5b.gguf")
    (tmp_path / ".env").write_text(
        "# model\nSLLM_MODEL_PATH=models/qwen-1.5-0.5b.gguf\nVISION_MODEL_PATH=models/vision-model.onnx\nUSE_GPU=true\n"
        "GPU_LAYERS=24\n\n# server\nMAX_HISTORY_LENGTH=100\nPAGE_SIZE=20\nLOG_LEVEL=INFO\n"
    )
    async with serve(core_in(tmp_path, monkeypatch)) as served:
        await follow(served, "chat")


async def test_the_vision_service(tmp_path, monkeypatch):
    """Started by the guide's `.env`, with the model of its list, tiny and random."""
    from tests.fakes.vision import write_vision

    write_vision(tmp_path / "models" / "vision-model", "hyperclovax_vlm")
    (tmp_path / ".env").write_text("VISION_MODEL_PATH=models/vision-model\nUSE_GPU=true\n")
    async with serve(core_in(tmp_path, monkeypatch)) as served:
        await follow(served, "vision")
        assert not any((tmp_path / "data" / "images").iterdir())


def core_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Core:
    """A core set up by the `.env` of `folder`, as if it had been started there."""
    monkeypatch.chdir(folder)
    names = ("MODEL_PATH", "SLLM_MODEL_PATH", "VISION_MODEL_PATH", "LOAD_IN_8BIT", "LOAD_IN_4BIT", "USE_GPU")
    for name in (*names, "GPU_LAYERS", "PAGE_SIZE"):
        monkeypatch.delenv(name, raising=False)
    return Core(Settings(data_dir=folder / "data", offline=True))


async def follow(served: Served, guide: str) -> None:
    """Sends the guide's calls, and holds each answer against what the guide shows."""
    kept: dict[str, str] = {}
    for call in tomllib.loads((GUIDES / f"{guide}.toml").read_text())["call"]:
        body, wanted = filled(call.get("body"), kept), filled(call.get("answer"), kept)
        answer = await served.client.request(call.get("method", "GET"), call["path"].format_map(kept), json=body)
        where = f"{guide}, {call['name']}"
        assert answer.status_code == call.get("status", 200), f"{where}: {answer.text}"
        if "event" in call:
            assert answer.headers["content-type"].startswith("text/event-stream")
            check_stream(answer.text, filled(call["event"], kept), filled(call["last"], kept), body, where)
        elif wanted == "page":
            assert answer.headers["content-type"].startswith("text/html"), where
        else:
            check(answer.json(), wanted, body or {}, answer.json(), where)
            kept |= {name: answer.json()[name] for name in call.get("keep", ())}


def filled(value: Any, kept: dict[str, str]) -> Any:
    """`value` with `{field}` replaced by what an earlier answer said in that field."""
    if isinstance(value, dict):
        return {name: filled(each, kept) for name, each in value.items()}
    if isinstance(value, list):
        return [filled(each, kept) for each in value]
    if isinstance(value, str) and value.rpartition(" ")[2].strip("{}") in kept:
        return value.format_map(kept)
    return value


def check_stream(text: str, event: Any, last: Any, body: dict[str, Any], where: str) -> None:
    """At least one event before the last, all of them nameless, and nothing after."""
    blocks = text.split("\n\n")
    assert blocks.pop() == "", where
    assert len(blocks) > 1, where
    for index, block in enumerate(blocks):
        field, _, data = block.partition(": ")
        assert field == "data", f"{where}: {block}"
        assert "\n" not in data, where
        said = json.loads(data)
        check(said, last if index == len(blocks) - 1 else event, body, said, f"{where}, event {index}")


def check(found: Any, wanted: Any, asked: dict[str, Any], answer: dict[str, Any], where: str) -> None:
    """Holds `found`, which is or lies in `answer`, against the kinds `wanted`."""
    if isinstance(wanted, dict):
        assert isinstance(found, dict), where
        assert wanted.keys() <= found.keys(), where
        for name, kind in wanted.items():
            check(found[name], kind, asked, answer, f"{where}: {name}")
    elif isinstance(wanted, list):
        assert isinstance(found, list), where
        assert found or wanted[0] == "any number of", where
        for index, each in enumerate(found):
            check(each, wanted[-1], asked, answer, f"{where}[{index}]")
    elif isinstance(wanted, str):
        assert any(is_kind(found, kind, asked, answer) for kind in wanted.split("|")), f"{where}: {found!r}"
    else:
        assert (type(found), found) == (type(wanted), wanted), where


def is_kind(found: Any, kind: str, asked: dict[str, Any], answer: dict[str, Any]) -> bool:
    is_text, is_number = isinstance(found, str), isinstance(found, int | float) and not isinstance(found, bool)
    simple = {
        "text": is_text,
        "words": is_text and found != "",
        "count": isinstance(found, int) and is_number and found >= 0,
        "number": is_number and math.isfinite(found),
        "flag": isinstance(found, bool),
        "null": found is None,
        "time": is_text and is_time(found),
        "size": is_text and re.fullmatch(r"\d+\.\d\d GB", found) is not None,
    }
    if kind in simple:
        return simple[kind]
    relation, _, of = kind.rpartition(" ")
    match relation:
        case "same as":
            return bool(found == asked[of])
        case "starts with":
            return is_text and found.startswith(asked[of])
        case "in":
            return is_text and found in asked[of]
        case "length of":
            return bool(found == len(answer[of]))
    assert kind.startswith("= "), f"no such kind: {kind!r}"
    return bool(found == kind[2:])


def is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    ("found", "kind"),
    [({}, {"a": "text"}), ({"a": 1}, {"a": "text"}), ([], ["text"]), (["x", 1], ["text"]), (True, "count"),
     (-1, "count"), (1.0, "count"), (math.nan, "number"), ("1", "number"), (1, "flag"), ("", "null"), (1, True),
     ("yesterday", "time"), ("3 GB", "size"), ("b", "= a"), ("ab", "same as q"), ("ba", "starts with q"),
     ("c", "in q"), (2, "length of list"), ("c", "= a|= b"), ([["x"]], [["number"]])],
)  # fmt: skip
def test_what_is_not_of_a_kind_is_told(found, kind):
    with pytest.raises(AssertionError):
        check(found, kind, {"q": "a"}, {"list": [1]}, "here")
