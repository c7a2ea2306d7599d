"""import_kobert.py: the converted model says what the original says, and no pickle runs."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import unicodedata
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from scripts.import_kobert import Sources, convert, main
from scripts.kobert.errors import ImportRefused
from scripts.kobert.labels import read_labels
from scripts.kobert.pickles import read_pickle
from scripts.kobert.tokenizer import read_vocabulary
from scripts.kobert.weights import read_state
from tests.scripts import kobert_files as files

ROOT = Path(__file__).parent.parent.parent
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*", "ignore:torch.quantize:UserWarning")


@pytest.fixture(scope="module")
def spiece(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return files.train_spiece(tmp_path_factory.mktemp("spiece"))


@pytest.fixture
def space(tmp_path: Path, spiece: Path) -> Path:
    """A folder as the owner of such a Space has it; its float model is on disk, the class is not."""
    tokens = files.gluon_order(spiece)
    folder = tmp_path / "space"
    folder.mkdir()
    files.save_state(files.tiny_classifier(len(tokens)), folder / "textClassifierModel.pt")
    (folder / "category.pkl").write_bytes(pickle.dumps(files.LABELS))
    (folder / "vocab.pkl").write_bytes(files.pickled_vocab(tokens, protocol=4))
    return folder


def sources(folder: Path, **options: Any) -> Sources:
    return Sources(folder / "textClassifierModel.pt", folder / "vocab.pkl", folder / "category.pkl", **options)


def gluon_tokens(text: str, spiece: Path) -> list[str]:
    """What gluonnlp's BERTSPTokenizer(lower=False) gives: words and single punctuation marks, each to SentencePiece."""
    processor = sentencepiece.SentencePieceProcessor(model_file=str(spiece))
    spaced = ""
    for char in text:
        code, category = ord(char), unicodedata.category(char)
        if char in "\t\n\r" or category == "Zs":
            spaced += " "
        elif category[0] == "C":
            continue
        elif category[0] == "P" or (code < 128 and category[0] == "S") or 0x4E00 <= code <= 0x9FFF:
            spaced += f" {char} "
        else:
            spaced += char
    return [piece for word in spaced.split() for piece in processor.encode(word, out_type=str)]


def gluon_ids(text: str, spiece: Path) -> list[int]:
    index = {token: number for number, token in enumerate(files.gluon_order(spiece))}
    return [index["[CLS]"], *(index.get(token, 0) for token in gluon_tokens(text, spiece)), index["[SEP]"]]


def logits(folder: Path, texts: list[str]) -> torch.Tensor:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.inference_mode():
        return model(**tokenizer(texts, padding=True, return_tensors="pt")).logits


def original_logits(model: torch.nn.Module, texts: list[str], spiece: Path) -> torch.Tensor:
    """One text at a time, with no padding: shape (texts, classes)."""
    rows = []
    with torch.inference_mode():
        for text in texts:
            ids = torch.tensor([gluon_ids(text, spiece)])
            rows.append(model(ids, torch.ones_like(ids))[0])
    return torch.stack(rows)


def test_the_converted_model_says_what_the_original_says(space: Path, spiece: Path, tmp_path: Path) -> None:
    labels = convert(sources(space, spiece=spiece), tmp_path / "model")
    assert labels == list(files.LABELS)
    original = files.tiny_classifier(len(files.gluon_order(spiece)))
    expected = original_logits(original, files.TEXTS, spiece)
    assert expected.std(dim=0).min() > 0.01  # the texts are told apart, so agreement means something
    torch.testing.assert_close(logits(tmp_path / "model", files.TEXTS), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("legacy", [False, True])
def test_int8_weights_come_back_as_the_numbers_they_stand_for(space: Path, tmp_path: Path, legacy: bool) -> None:
    packed = files.quantized(files.tiny_classifier(50))
    files.save_state(packed, tmp_path / "int8.pt", _use_new_zipfile_serialization=not legacy)
    state = read_state(tmp_path / "int8.pt")
    layers = [(name, layer) for name, layer in packed.named_modules() if hasattr(layer, "in_features")]
    assert len(layers) == 2 * 6 + 2  # six in each of two blocks, the pooler and the classifier
    for name, layer in layers:
        assert torch.equal(state[f"{name}.weight"], layer.weight().dequantize())
        assert torch.equal(state[f"{name}.bias"], layer.bias())
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}


def test_a_quantised_model_converts_close_to_itself(space: Path, spiece: Path, tmp_path: Path) -> None:
    packed = files.quantized(files.tiny_classifier(len(files.gluon_order(spiece))))
    files.save_state(packed, space / "textClassifierModel.pt")
    convert(sources(space, spiece=spiece), tmp_path / "model")
    expected = original_logits(packed, files.TEXTS, spiece)
    # the original also rounds its activations to int8, the converted model does not
    torch.testing.assert_close(logits(tmp_path / "model", files.TEXTS), expected, atol=0.1, rtol=0.05)


@pytest.mark.parametrize("text", files.TEXTS)
def test_tokens_and_ids_are_gluonnlps(space: Path, spiece: Path, tmp_path: Path, text: str) -> None:
    convert(sources(space, spiece=spiece), tmp_path / "model")
    assert AutoTokenizer.from_pretrained(tmp_path / "model")(text)["input_ids"] == gluon_ids(text, spiece)


def test_words_may_be_sentencepieces_own(space: Path, spiece: Path, tmp_path: Path) -> None:
    convert(sources(space, spiece=spiece, sets_punctuation_apart=False), tmp_path / "model")
    processor = sentencepiece.SentencePieceProcessor(model_file=str(spiece))
    text = "영화이 정말 재미있었어요! (하)하 좋습니다, 그렇죠?"
    assert AutoTokenizer.from_pretrained(tmp_path / "model").tokenize(text) == processor.encode(text, out_type=str)


def test_without_the_spiece_ids_are_the_vocabularys_and_the_card_says_so(space: Path, tmp_path: Path) -> None:
    convert(sources(space), tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    vocabulary = read_vocabulary(space / "vocab.pkl")
    assert [tokenizer.convert_tokens_to_ids(token) for token in vocabulary.tokens] == list(
        range(len(vocabulary.tokens))
    )
    assert tokenizer.unk_token_id not in tokenizer("영화이 정말")["input_ids"]
    card = (tmp_path / "model" / "README.md").read_text("utf-8")
    assert "예측이 원본과 다를 수 있습니다" in card
    assert "predictions can" in card


def test_the_directory_is_a_normal_one(space: Path, spiece: Path, tmp_path: Path) -> None:
    convert(sources(space, spiece=spiece, max_length=40), tmp_path / "model")
    written = {path.name for path in (tmp_path / "model").iterdir()}
    assert written >= {"model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "README.md"}
    assert not [name for name in written if name.endswith((".bin", ".pt", ".pkl", ".py"))]
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    assert model.config.id2label == {0: "clean", 1: "욕설", 2: "혐오"}
    assert (model.config.num_attention_heads, model.config.num_hidden_layers) == (2, 2)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer.model_max_length == 40
    assert len(tokenizer("영화 " * 99, truncation=True)["input_ids"]) == 40
    assert (model.config.pad_token_id, tokenizer.pad_token_id) == (1, 1)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_pickle_protocol_reads_the_same(tmp_path: Path, protocol: int) -> None:
    tokens = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]", "▁가", "나"]
    (tmp_path / "vocab.pkl").write_bytes(files.pickled_vocab(tokens, protocol))
    vocabulary = read_vocabulary(tmp_path / "vocab.pkl")
    assert vocabulary.tokens == tuple(tokens)
    assert vocabulary.special == {"unk": "[UNK]", "pad": "[PAD]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}


@pytest.mark.parametrize(
    "labels",
    [
        {"a": 0, "b": 1},
        {0: "a", 1: "b"},
        {1: "b", 0: "a"},
        ["a", "b"],
        ("a", "b"),
        OrderedDict([("b", 1), ("a", 0)]),
        {"a": np.int64(0), "b": np.int64(1)},
        {np.int32(0): np.str_("a"), np.int32(1): np.str_("b")},
    ],
    ids=repr,
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_label_maps_of_every_kind(tmp_path: Path, labels: Any, protocol: int) -> None:
    (tmp_path / "category.pkl").write_bytes(pickle.dumps(labels, protocol))
    assert read_labels(tmp_path / "category.pkl", 2) == ["a", "b"]


@pytest.mark.parametrize(
    "labels", [{"a": 0, "b": 2}, {"a": 1, "b": 2}, {"a": 0}, 7, {"a": "b"}, "ab", {"a": 0, "b": 0}]
)
def test_labels_of_another_model_are_refused(tmp_path: Path, labels: Any) -> None:
    (tmp_path / "category.pkl").write_bytes(pickle.dumps(labels))
    with pytest.raises(ImportRefused, match=r"category\.pkl"):
        read_labels(tmp_path / "category.pkl", 2)


class Attack:
    """Pickles to a call of os.system, which would make the file `canary`."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.canary}",)


def attacks(canary: Path) -> dict[str, bytes]:
    touch = f"touch {canary}".encode()
    text = touch.decode()
    inner = Attack(canary)
    return {
        "REDUCE": pickle.dumps(inner, 2),
        "STACK_GLOBAL": pickle.dumps(inner, 4),
        "GLOBAL, protocol 0": pickle.dumps(inner, 0),
        "INST": b"(S'" + touch + b"'\nios\nsystem\n.",
        "OBJ": b"(cos\nsystem\nS'" + touch + b"'\no.",
        "NEWOBJ": b"\x80\x02csubprocess\nPopen\n(]X" + len(text).to_bytes(4, "little") + touch + b"at\x81.",
        "BUILD": b"\x80\x02cos\nsystem\nX" + len(text).to_bytes(4, "little") + touch + b"b.",
        "nested in a dictionary": pickle.dumps({"clean": 0, "hidden": [1, {"deep": inner}]}, 4),
        "as a key's neighbour": pickle.dumps([("a", 0), inner], 2),
        "after the data": pickle.dumps({"clean": 0})[:-1] + pickle.dumps(inner, 2)[2:],
        "builtins.eval": b'cbuiltins\neval\n(S\'__import__("os").system("' + touch + b"\")'\ntR.",
        "builtins.getattr": b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93.",
        "a dotted name below an allowed module": b"\x80\x04\x8c\x0bcollections\x8c\x10abc.sys.modules\x93.",
        "an allowed stand-in called as a function": b"\x80\x04\x8c\x0bcollections\x8c\x0bOrderedDict\x93"
        + b"\x8c\x02os\x8c\x06system\x93R.",
        "an extension code": b"\x80\x02\x82\x01.",
        "a persistent id": b"Pos.system\n.",
    }


@pytest.mark.parametrize("name", attacks(Path("canary")))
def test_a_pickle_that_would_run_something_is_refused_and_runs_nothing(tmp_path: Path, name: str) -> None:
    canary = tmp_path / "canary"
    (tmp_path / "evil.pkl").write_bytes(attacks(canary)[name])
    with pytest.raises(ImportRefused, match=r"evil\.pkl"):
        read_pickle(tmp_path / "evil.pkl")
    assert not canary.exists()


@pytest.mark.parametrize("name", ["REDUCE", "STACK_GLOBAL", "INST", "OBJ"])
def test_the_attacks_are_real(tmp_path: Path, name: str) -> None:
    """Read by the standard pickle module, in a process of its own, they do make the canary."""
    canary = tmp_path / "canary"
    (tmp_path / "evil.pkl").write_bytes(attacks(canary)[name])
    program = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))"
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "evil.pkl")], check=True, timeout=30)
    assert canary.exists()


def test_calling_what_stands_for_gluonnlp_runs_nothing(tmp_path: Path) -> None:
    """Any name below gluonnlp is only a record, even one that is a real function elsewhere."""
    (tmp_path / "v.pkl").write_bytes(b"cgluonnlp.os\nsystem\n(S'false'\ntR.")
    assert read_pickle(tmp_path / "v.pkl").arguments == ("false",)


def test_weights_that_would_run_something_are_refused(space: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    torch.save({"bert.x": torch.zeros(1), "evil": Attack(canary)}, space / "textClassifierModel.pt")
    with pytest.raises(ImportRefused, match="more than tensors"):
        convert(sources(space), tmp_path / "model")
    assert not canary.exists()
    assert not (tmp_path / "model").exists()


def test_a_whole_pickled_module_is_refused_with_what_to_do(space: Path, tmp_path: Path) -> None:
    torch.save(files.tiny_classifier(20), space / "textClassifierModel.pt")
    with pytest.raises(ImportRefused, match=r"torch\.save\(model\.state_dict\(\)"):
        convert(sources(space), tmp_path / "model")


@pytest.mark.parametrize("raw", [b"", b"not a model", b"PK\x03\x04" + b"\0" * 40, pickle.dumps([1, 2])])
@pytest.mark.parametrize("name", ["textClassifierModel.pt", "vocab.pkl", "category.pkl"])
def test_nonsense_is_a_sentence_and_leaves_nothing(space: Path, tmp_path: Path, name: str, raw: bytes) -> None:
    (space / name).write_bytes(raw)
    with pytest.raises(ImportRefused) as caught:
        convert(sources(space), tmp_path / "model")
    assert name.split(".")[0] in str(caught.value) or "weights" in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["space"]


def test_a_missing_weight_is_refused(space: Path, tmp_path: Path) -> None:
    state = torch.load(space / "textClassifierModel.pt", weights_only=True)
    del state["bert.pooler.dense.weight"]
    torch.save(state, space / "textClassifierModel.pt")
    with pytest.raises(ImportRefused, match=r"missing \['bert\.pooler\.dense\.weight'\]"):
        convert(sources(space), tmp_path / "model")


def test_a_vocabulary_of_another_model_is_refused(space: Path, tmp_path: Path) -> None:
    (space / "vocab.pkl").write_bytes(
        files.pickled_vocab(
            ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]", *"가나다"] + [f"t{n}" for n in range(500)], 4
        )
    )
    with pytest.raises(ImportRefused, match="508 tokens"):
        convert(sources(space), tmp_path / "model")


def test_data_parallel_names_and_wrappings_are_taken_off(space: Path, spiece: Path, tmp_path: Path) -> None:
    state = torch.load(space / "textClassifierModel.pt", weights_only=True)
    wrapped = {"epoch": 3, "model_state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}
    torch.save(wrapped, space / "wrapped.pt")
    assert read_state(space / "wrapped.pt").keys() == read_state(space / "textClassifierModel.pt").keys()


def test_the_command(space: Path, spiece: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(space), str(tmp_path / "model"), "--spiece", str(spiece)]
    assert main(arguments) == 0
    assert "3 labels (clean, 욕설, 혐오)" in capsys.readouterr().out
    assert main(arguments) == 1
    assert "is there already" in capsys.readouterr().err


def test_the_script_runs_as_the_readme_prints_it(space: Path, tmp_path: Path) -> None:
    command = [sys.executable, "scripts/import_kobert.py", str(space), str(tmp_path / "model")]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stderr
    assert "Without --spiece" in ran.stdout
