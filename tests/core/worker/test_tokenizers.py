"""Text to ids and back to characters, for fast and slow tokenizers."""

from __future__ import annotations

import json

import pytest
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.types import Task
from core.worker.alignment import align
from core.worker.tokenizers import Tokenizer, tidy
from tests.core.worker.conftest import ask, open_model
from tests.fakes.models import ARCHITECTURES, CORPUS, write_model, write_tokenizer

TEXTS = [*CORPUS, "", " ", "Cafe\u0301 👩‍👩‍👧 [SEP] </s> <mask> [MASK]", "ㄱㅏ\u1112\u1161\u11ab\n\ttab", "▁Ġ##x"]


@pytest.fixture(scope="session")
def tokenizers(tmp_path_factory):
    made = {}
    for architecture in ARCHITECTURES:
        path = tmp_path_factory.mktemp("tokenizer")
        write_tokenizer(path, architecture)
        made[architecture] = transformers.AutoTokenizer.from_pretrained(path)
    return made


@pytest.fixture
def slow_dir(tmp_path):
    """A BERT model whose tokenizer is written in Python: Japanese BERT's, split at white space."""
    path = write_model(tmp_path / "slow", "bert", Task.TOKEN_CLASSIFICATION, slow=True)
    said = {"tokenizer_class": "BertJapaneseTokenizer", "word_tokenizer_type": "basic", "do_lower_case": False}
    said |= {"subword_tokenizer_type": "wordpiece", "model_max_length": 64}
    (path / "tokenizer_config.json").write_text(json.dumps(said))
    return path


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_rows_are_those_that_the_tokenizer_makes(architecture, tokenizers):
    plain = tokenizers[architecture]
    ours = Tokenizer(transformers.AutoTokenizer.from_pretrained(plain.name_or_path))
    for text, ids in zip(TEXTS, ours.ids(TEXTS), strict=True):
        assert ours.inputs(ids) == dict(plain(text))
        assert ours.aligned(text).ids == ids
        for other in TEXTS[:3]:
            assert ours.inputs(ids, ours.ids([other])[0]) == dict(plain(text, other))
    assert ours.single_overhead == plain.num_special_tokens_to_add()
    assert ours.pair_overhead == plain.num_special_tokens_to_add(pair=True)


def test_a_slow_tokenizers_rows_are_its_own(slow_dir):
    plain = transformers.AutoTokenizer.from_pretrained(slow_dir)
    assert not plain.is_fast
    ours = Tokenizer(plain)
    for text, ids in zip(TEXTS, ours.ids(TEXTS), strict=True):
        assert ours.inputs(ids) == dict(plain(text))
        assert ours.inputs(ids, ids) == dict(plain(text, text))


def test_cutting_and_padding_in_the_files_are_switched_off(tmp_path):
    write_tokenizer(tmp_path, "bert")
    said = json.loads((tmp_path / "tokenizer.json").read_text())
    said["truncation"] = {"max_length": 8, "stride": 0, "strategy": "LongestFirst", "direction": "Right"}
    said["padding"] = {
        "strategy": {"Fixed": 8},
        "direction": "Right",
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    said["padding"]["pad_to_multiple_of"] = None
    (tmp_path / "tokenizer.json").write_text(json.dumps(said))
    ours = Tokenizer(transformers.AutoTokenizer.from_pretrained(tmp_path))
    (long, short) = ours.ids([" ".join(CORPUS), "서울"])
    assert len(long) > 100
    assert 0 not in short


def test_the_spans_of_a_slow_tokenizer_are_those_of_a_fast_one(slow_dir, tmp_path):
    """The same vocabulary read by a tokenizer that knows offsets."""
    slow = Tokenizer(transformers.AutoTokenizer.from_pretrained(slow_dir))
    write_tokenizer(tmp_path / "fast", "bert")
    fast = Tokenizer(transformers.AutoTokenizer.from_pretrained(tmp_path / "fast"))
    for text in [*CORPUS, "김민수는  서울에서 👩‍👩‍👧 unknownword 만났다.", "x" * 200 + " 서울", "", "  "]:
        left, right = slow.aligned(text), fast.aligned(text)
        assert left.ids == right.ids
        assert [text[start:end] for start, end in left.spans] == [text[start:end] for start, end in right.spans]
        assert left.spans == right.spans
        assert left.continues == right.continues


def test_a_model_with_a_slow_tokenizer_tags(slow_dir):
    runtime = open_model(slow_dir, Task.TOKEN_CLASSIFICATION)
    for strategy in ("none", "simple", "average"):
        for text, rows in zip(
            CORPUS, ask(runtime, Task.TOKEN_CLASSIFICATION, list(CORPUS), aggregation_strategy=strategy), strict=True
        ):
            assert rows
            assert all(text[row["start"] : row["end"]] == row["word"] != "" for row in rows)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=60))
def test_aligned_spans_lie_in_order_inside_the_text(text):
    tokens = [*text.split(), "[UNK]", "##x", *text]
    spans = align(text, tokens, "[UNK]")
    assert len(spans) == len(tokens)
    assert all(0 <= start <= end <= len(text) for start, end in spans)
    starts = [start for start, _ in spans]
    assert starts == sorted(starts)


@pytest.mark.parametrize(
    ("text", "tokens", "words"),
    [
        ("playing well", ["play", "##ing", "well"], ["play", "ing", "well"]),
        ("New York", ["▁New", "▁York"], ["New", "York"]),
        ("서울에서 왔다", ["서울", "@@에서", "왔다"], ["서울", "", "왔다"]),
        ("ÉCOLE ouverte", ["ecole", "ouverte"], ["ÉCOLE", "ouverte"]),
        ("a 👩‍👧 b", ["a", "[UNK]", "b"], ["a", "👩‍👧", "b"]),
        ("xyz서울", ["[UNK]", "서울"], ["xyz", "서울"]),
        ("xyz qqq b", ["[UNK]", "[UNK]", "b"], ["xyz", "qqq", "b"]),
        ("low er", ["low</w>", "er</w>"], ["low", "er"]),
        ("ﬁne", ["fine"], ["ﬁne"]),
    ],
)
def test_slow_tokens_are_found_in_the_text(text, tokens, words):
    assert [text[start:end] for start, end in align(text, tokens, "[UNK]")] == words


@pytest.mark.parametrize(
    ("text", "spans", "tidied"),
    [
        (" a b", [(0, 2), (2, 4)], [(1, 2), (3, 4)]),
        ("a  ", [(0, 3), (1, 3)], [(0, 1), (3, 3)]),
        ("Cafe\u0301 x", [(0, 4), (6, 7)], [(0, 5), (6, 7)]),
        ("ab", [(0, 9), (-3, 1), (5, 1)], [(0, 2), (0, 1), (2, 2)]),
        ("", [(0, 1)], [(0, 0)]),
    ],
)
def test_spans_are_put_in_order(text, spans, tidied):
    assert tidy(text, spans) == tidied


@pytest.mark.parametrize("architecture", ["bert", "roberta", "xlm-roberta", "deberta-v2"])
@pytest.mark.parametrize("unit", ["가나다 hello ", "a", " ", "👩‍👩‍👧", "!"])
def test_a_very_long_text_is_read_to_its_end(architecture, unit, tokenizers):
    text = (unit * 100_000)[:100_000]
    aligned = Tokenizer(transformers.AutoTokenizer.from_pretrained(tokenizers[architecture].name_or_path)).aligned(text)
    assert len(aligned.ids) == len(aligned.spans) == len(aligned.continues)
    if text.strip():
        assert max(end for start, end in aligned.spans if start < end) == len(text.rstrip())
