"""Loading by transformers: file layouts, heads, precisions, and files that must be refused."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import torch
import transformers

from core.errors import (
    CorruptModel,
    InsufficientMemory,
    InvalidRequest,
    LoadFailed,
    PickleRefused,
    RemoteCodeRefused,
)
from core.types import Quantization, Runtime, Task
from core.worker import runtimes
from core.worker.runtimes import LoadRequest
from tests.core.worker.conftest import ask, open_model
from tests.fakes.models import ARCHITECTURES, CORPUS, write_model

CLASSIFY = Task.TEXT_CLASSIFICATION
TEXTS = list(CORPUS)


def plain_logits(path, texts: list[str]) -> np.ndarray:
    model = transformers.AutoModelForSequenceClassification.from_pretrained(path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    with torch.no_grad():
        return np.stack([model(**tokenizer(text, return_tensors="pt")).logits[0].numpy() for text in texts])


def logits(runtime) -> np.ndarray:
    answers = ask(runtime, CLASSIFY, TEXTS, top_k=99, function_to_apply="none")
    return np.array([[each["score"] for each in sorted(answer, key=lambda each: each["label"])] for answer in answers])


def by_label(values: np.ndarray, runtime) -> np.ndarray:
    return values[:, np.argsort(runtime.info.labels)]


@pytest.fixture
def own(tmp_path):
    """`own(architecture, head, **variant)`: the directory of a model of this test alone, to be broken."""

    def get(architecture="bert", head=CLASSIFY, **variant):
        return write_model(tmp_path / "model", architecture, head, **variant)

    return get


@pytest.mark.parametrize("variant", [{"sharded": True}, {"pickle_only": True}, {"slow": True}], ids=str)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_file_layout_gives_the_same_scores(architecture, variant, model_dir):
    path = model_dir(architecture, CLASSIFY, **variant)
    runtime = open_model(path, CLASSIFY, allow_pickle=True)
    np.testing.assert_allclose(
        logits(runtime), by_label(plain_logits(model_dir(architecture, CLASSIFY), TEXTS), runtime), atol=1e-5
    )
    if variant.get("sharded"):
        assert len(list(path.glob("model-*.safetensors"))) > 1


def test_what_is_said_of_a_model(loaded, model_dir):
    info = open_model(model_dir("roberta", CLASSIFY), CLASSIFY, Task.FEATURE_EXTRACTION, device="cpu").info
    model = transformers.AutoModelForSequenceClassification.from_pretrained(model_dir("roberta", CLASSIFY))
    assert info.tasks == (CLASSIFY, Task.FEATURE_EXTRACTION)
    assert info.labels == ("부정", "긍정", "중립")
    assert (info.runtime, info.device, info.dtype, info.model_type) == (
        Runtime.TRANSFORMERS,
        "cpu",
        "float32",
        "roberta",
    )
    assert (info.context_length, info.dimension, info.pooling) == (64, 32, "mean")
    assert info.parameters == model.num_parameters()


def test_the_stages_of_a_load(model_dir):
    stages = []
    request = LoadRequest(str(model_dir("bert", CLASSIFY)), Runtime.TRANSFORMERS, (CLASSIFY,))
    runtimes.load(request, lambda stage, data: stages.append(stage))
    assert stages == ["loading", "warming"]


@pytest.mark.parametrize(("asked", "given"), [(None, 64), (20, 20), (500, 64)])
def test_a_context_length_only_ever_lowers_the_models_own(asked, given, model_dir):
    runtime = open_model(model_dir("roberta", CLASSIFY), CLASSIFY, context_length=asked)
    assert runtime.info.context_length == given
    assert len(ask(runtime, CLASSIFY, [" ".join(CORPUS)])) == 1


def test_a_context_length_with_no_room_is_refused(model_dir):
    with pytest.raises(InvalidRequest, match="at least 3"):
        open_model(model_dir("bert", CLASSIFY), CLASSIFY, context_length=2)


@pytest.mark.parametrize("quantization", list(Quantization))
@pytest.mark.filterwarnings("ignore")
def test_quantised_weights_answer_nearly_the_same(quantization, tmp_path):
    # bitsandbytes works on blocks of 64 weights: a hidden size of 32 would leave it little to do
    path = write_model(tmp_path, "bert", CLASSIFY, hidden_size=128, intermediate_size=256, initializer_range=0.05)
    runtime = open_model(path, CLASSIFY, quantization=quantization)
    kinds = {type(module).__name__ for module in runtime._model.modules()}
    assert ("Linear8bitLt" if quantization is Quantization.INT8 else "Linear4bit") in kinds
    expected = by_label(plain_logits(path, TEXTS), runtime)
    found = logits(runtime)
    assert 0 < np.abs(found - expected).max() < 0.5 * np.abs(expected).max()
    together, alone = ask(runtime, CLASSIFY, TEXTS, top_k=3), ask(runtime, CLASSIFY, TEXTS, top_k=3, rows=1)
    assert [each[0]["label"] for each in together] == [each[0]["label"] for each in alone]


def test_bfloat16_answers_nearly_the_same(model_dir):
    runtime = open_model(model_dir("bert", CLASSIFY), CLASSIFY, dtype="bfloat16")
    assert runtime.info.dtype == "bfloat16"
    expected = by_label(plain_logits(model_dir("bert", CLASSIFY), TEXTS), runtime)
    np.testing.assert_allclose(logits(runtime), expected, atol=0.1 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("head", "asked"),
    [
        (Task.FEATURE_EXTRACTION, CLASSIFY),
        (Task.FEATURE_EXTRACTION, Task.TOKEN_CLASSIFICATION),
        (Task.FEATURE_EXTRACTION, Task.QUESTION_ANSWERING),
        (Task.FEATURE_EXTRACTION, Task.FILL_MASK),
        (Task.TOKEN_CLASSIFICATION, CLASSIFY),
        (CLASSIFY, Task.TOKEN_CLASSIFICATION),
        (Task.TOKEN_CLASSIFICATION, Task.QUESTION_ANSWERING),
    ],
)
@pytest.mark.parametrize("architecture", ["bert", "roberta", "electra"])
def test_a_head_that_was_never_trained_is_not_made_up(architecture, head, asked, model_dir):
    with pytest.raises(LoadFailed, match=f"has no trained head for {asked}"):
        open_model(model_dir(architecture, head), asked)


@pytest.mark.parametrize("head", [CLASSIFY, Task.TOKEN_CLASSIFICATION, Task.FILL_MASK])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_encoder_embeds_even_without_its_pooler(architecture, head, model_dir):
    runtime = open_model(model_dir(architecture, head), Task.FEATURE_EXTRACTION)
    assert ask(runtime, Task.FEATURE_EXTRACTION, ["서울"]).shape == (1, 32)


@pytest.mark.parametrize("head", [CLASSIFY, Task.TOKEN_CLASSIFICATION])
def test_the_weights_tell_how_many_labels_there_are_when_nothing_else_does(head, own):
    path = own(head=head, labels=tuple("가나다라마바사"))
    config = json.loads((path / "config.json").read_text())
    del config["id2label"], config["label2id"]
    (path / "config.json").write_text(json.dumps(config))
    assert open_model(path, head).info.labels == tuple(f"LABEL_{index}" for index in range(7))


def test_labels_that_are_not_as_many_as_the_weights_say_are_refused(own):
    path = own(labels=("가", "나", "다", "라"))
    config = json.loads((path / "config.json").read_text())
    config["id2label"], config["label2id"] = {"0": "가", "1": "나"}, {"가": 0, "나": 1}
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CorruptModel, match="do not belong together"):
        open_model(path, CLASSIFY)


def test_a_tokenizer_with_more_tokens_than_the_model_has_rows_is_refused(own):
    path = own(vocab_size=499)
    with pytest.raises(CorruptModel, match="has 500 tokens and its weights 499"):
        open_model(path, CLASSIFY)


def test_pickled_weights_are_refused_unless_allowed(own):
    path = own(pickle_only=True)
    with pytest.raises(PickleRefused, match="only as a pickle"):
        open_model(path, CLASSIFY)
    assert open_model(path, CLASSIFY, allow_pickle=True).info.tasks == (CLASSIFY,)


def test_a_pickle_that_runs_code_runs_nothing(own, tmp_path):
    """The pickle of protocol 0 that calls os.system, written by hand."""
    path, canary = own(pickle_only=True), tmp_path / "canary"
    (path / "pytorch_model.bin").write_bytes(f"cposix\nsystem\n(S'touch {canary}'\ntR.".encode())
    with pytest.raises((CorruptModel, LoadFailed)):
        open_model(path, CLASSIFY, allow_pickle=True)
    assert not canary.exists()


def test_safetensors_are_taken_before_a_pickle(own, tmp_path):
    path = own()
    (path / "pytorch_model.bin").write_bytes(f"cposix\nsystem\n(S'touch {tmp_path / 'canary'}'\ntR.".encode())
    assert open_model(path, CLASSIFY, allow_pickle=True).info.tasks == (CLASSIFY,)
    assert not (tmp_path / "canary").exists()


def cut(path, keep: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: cut(path, 0.0),
        lambda path: cut(path, 0.01),
        lambda path: cut(path, 0.9),
        lambda path: path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:]),
        lambda path: path.write_bytes(path.read_bytes()[:20] + b"\x00" + path.read_bytes()[21:]),
    ],
    ids=["empty", "cut in the header", "cut in the data", "a header of 2^64 bytes", "a byte of the header"],
)
def test_damaged_weights_are_refused(damage, own):
    path = own()
    damage(path / "model.safetensors")
    with pytest.raises(CorruptModel, match="org/tiny") as caught:
        open_model(path, CLASSIFY)
    assert str(path) not in caught.value.message


def test_a_missing_shard_is_refused(own):
    path = own(sharded=True)
    sorted(path.glob("model-*.safetensors"))[-1].unlink()
    with pytest.raises(LoadFailed) as caught:
        open_model(path, CLASSIFY)
    assert str(path) not in caught.value.message


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", ["{", "[" * 100_000, '{"a": 1, "model_type"'])
def test_configuration_that_is_no_json_is_refused(name, content, own):
    path = own()
    (path / name).write_text(content)
    with pytest.raises(CorruptModel, match=f"`{name}` of org/tiny is not valid JSON"):
        open_model(path, CLASSIFY)


def test_no_weights_at_all(own):
    path = own()
    (path / "model.safetensors").unlink()
    with pytest.raises(LoadFailed, match="has no weights"):
        open_model(path, CLASSIFY)


def edit(path, name: str, **fields) -> None:
    said = json.loads((path / name).read_text())
    (path / name).write_text(json.dumps(said | fields))


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("config.json", {"trust_remote_code": True}),
        ("config.json", {"deep": [{"er": {"trust_remote_code": 1}}]}),
        ("tokenizer_config.json", {"trust_remote_code": True}),
    ],
)
def test_a_configuration_that_asks_for_trust_is_refused(name, fields, own):
    path = own()
    edit(path, name, **fields)
    with pytest.raises(RemoteCodeRefused, match="org/tiny"):
        open_model(path, CLASSIFY)


def test_code_of_a_repository_never_runs(own, tmp_path):
    path = own()
    (path / "evil.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')\nclass Model: pass\nclass Config: pass\n")
    auto_map = {
        "AutoConfig": "evil.Config",
        "AutoModelForSequenceClassification": "evil.Model",
        "AutoTokenizer": ["evil.Model", None],
    }
    edit(path, "config.json", auto_map=auto_map)
    edit(path, "tokenizer_config.json", auto_map=auto_map)
    assert open_model(path, CLASSIFY).info.model_type == "bert"  # transformers knows bert itself
    edit(path, "config.json", model_type="evil")
    with pytest.raises((RemoteCodeRefused, LoadFailed), match="org/tiny"):
        open_model(path, CLASSIFY)
    assert not (tmp_path / "canary").exists()


def test_an_architecture_that_nobody_knows(own):
    path = own()
    edit(path, "config.json", model_type="no_such_model")
    with pytest.raises(LoadFailed, match="org/tiny could not be loaded") as caught:
        open_model(path, CLASSIFY)
    assert str(path) not in caught.value.message


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "cuda:x", "cuda:-1"])
def test_a_device_that_is_not_there_is_refused(device, model_dir):
    with pytest.raises(LoadFailed, match="no device|is not there"):
        open_model(model_dir("bert", CLASSIFY), CLASSIFY, device=device)


def test_a_dtype_that_does_not_exist_is_refused(model_dir):
    with pytest.raises(LoadFailed, match="no dtype"):
        open_model(model_dir("bert", CLASSIFY), CLASSIFY, dtype="float3")


def test_threads_are_set(model_dir):
    before = torch.get_num_threads()
    open_model(model_dir("bert", CLASSIFY), CLASSIFY, threads=2)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def test_a_pass_that_does_not_fit_is_a_typed_error_and_the_model_stays_up(model_dir):
    runtime = open_model(model_dir("bert", CLASSIFY), CLASSIFY)
    healthy = runtime._model

    def full(**inputs):
        raise torch.OutOfMemoryError("Tried to allocate 9 GiB")

    runtime._model = full
    with pytest.raises(InsufficientMemory, match=r"org/tiny was reading 2 rows of up to \d+ tokens") as caught:
        ask(runtime, CLASSIFY, ["서울", "부산"])
    assert caught.value.__context__ is None  # nothing that holds the frames of the failed pass
    runtime._model = healthy
    assert len(ask(runtime, CLASSIFY, ["서울"])) == 1


def test_a_model_in_a_cache_of_links_loads(model_dir, tmp_path):
    """The Hub's cache: a snapshot of links into a folder of blobs."""
    source, snapshot, blobs = model_dir("bert", CLASSIFY), tmp_path / "snapshots" / "abc", tmp_path / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for index, file in enumerate(sorted(source.iterdir())):
        shutil.copy(file, blobs / str(index))
        os.symlink(f"../../blobs/{index}", snapshot / file.name)
    assert open_model(snapshot, CLASSIFY).info.tasks == (CLASSIFY,)
