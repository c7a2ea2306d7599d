"""Labels of tokens and entities, held against transformers' own pipeline and an own reading in windows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import InvalidRequest
from core.params import parse_params
from core.types import Task
from core.worker import tasks
from core.worker.tasks.labels import Tag, tags_of
from core.worker.tasks.token_classification import merged
from tests.core.worker.conftest import ask
from tests.fakes.models import ARCHITECTURES, CORPUS

NER = Task.TOKEN_CLASSIFICATION
TEXTS = [*CORPUS, "김민수는 São Paulo에서 왔다.", "New York", "서울", "A  B   C", "(Anna) Smith's “letter”…"]
STRATEGIES = ("simple", "first", "average", "max")


def pipeline_of(path):
    return transformers.pipeline("token-classification", model=str(path), device="cpu")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_each_token_has_the_label_that_the_pipeline_gives(architecture, model_dir, loaded):
    runtime, pipeline = loaded(architecture, NER), pipeline_of(model_dir(architecture, NER))
    for text, rows in zip(TEXTS, ask(runtime, NER, TEXTS), strict=True):
        expected = pipeline(text, aggregation_strategy="none", ignore_labels=[])
        assert [row["label"] for row in rows] == [row["entity"] for row in expected]
        assert [row["score"] for row in rows] == pytest.approx([row["score"] for row in expected], abs=1e-5)
        assert all(text[row["start"] : row["end"]] == row["word"] for row in rows)


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_entities_are_those_of_the_pipeline(architecture, strategy, model_dir, loaded):
    runtime, pipeline = loaded(architecture, NER), pipeline_of(model_dir(architecture, NER))
    for text, entities in zip(TEXTS, ask(runtime, NER, TEXTS, aggregation_strategy=strategy), strict=True):
        expected = [
            each
            for each in pipeline(text, aggregation_strategy=strategy)
            # SentencePiece's mark of a space alone shows no character of the text
            if text[each["start"] : each["end"]].strip() and each["word"].strip()
        ]
        assert [each["entity_group"] for each in entities] == [each["entity_group"] for each in expected]
        assert [each["score"] for each in entities] == pytest.approx([each["score"] for each in expected], abs=1e-5)
        if architecture not in ("xlm-roberta", "deberta-v2"):  # there the pipeline counts a space as the next character
            assert [each["end"] for each in entities] == [each["end"] for each in expected]
        assert all(text[each["start"] : each["end"]] == each["word"] == each["word"].strip() for each in entities)


def reference_labels(runtime, path, text: str, size: int, overlap: int) -> tuple[list[str], list[float]]:
    """Labels and scores of a long text: every window through plain transformers, each token from its best window."""
    model = transformers.AutoModelForTokenClassification.from_pretrained(path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    starts = []
    at = 0
    while at + size < len(ids):
        starts.append(at)
        at += size - overlap
    starts.append(max(len(ids) - size, 0))
    best: dict[int, tuple[float, np.ndarray]] = {}
    for start in starts:
        window = ids[start : start + size]
        row = [tokenizer.cls_token_id, *window, tokenizer.sep_token_id]
        with torch.no_grad():
            scores = model(input_ids=torch.tensor([row])).logits[0].softmax(-1)[1:-1].numpy()
        for index in range(len(window)):
            left = index if start else float("inf")
            right = len(window) - 1 - index if start + len(window) < len(ids) else float("inf")
            if start + index not in best or min(left, right) > best[start + index][0]:
                best[start + index] = (min(left, right), scores[index])
    rows = [best[index][1] for index in range(len(ids))]
    return [model.config.id2label[int(row.argmax())] for row in rows], [float(row.max()) for row in rows]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("stride", [None, 0, 45])
def test_a_text_of_five_windows_is_read_whole(architecture, stride, model_dir, loaded):
    runtime = loaded(architecture, NER)
    text = " ".join(CORPUS * 4)
    size = runtime.info.context_length - 2
    fields = {} if stride is None else {"stride": stride}
    prepared = tasks.prepare(NER, runtime, [text], parse_params(NER, fields))
    (rows,) = prepared.finish(runtime.forward(prepared.rows))
    labels, scores = reference_labels(
        runtime, model_dir(architecture, NER), text, size, size // 4 if stride is None else stride
    )
    assert prepared.input_tokens[0] > 5 * size
    assert prepared.windows[0] == len(prepared.rows) >= 5
    assert prepared.truncated == [False]
    assert len(rows) == prepared.input_tokens[0] - 2
    assert [row["label"] for row in rows] == labels
    assert [row["score"] for row in rows] == pytest.approx(scores, abs=1e-5)
    starts = [row["start"] for row in rows]
    assert starts == sorted(starts)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_entity_is_lost_or_doubled_at_a_seam(strategy, loaded):
    """Entities over a long text are those of its merged tokens: they never overlap, and cover all labelled tokens."""
    runtime = loaded("bert", NER)
    text = " ".join(CORPUS * 3)
    (tokens,) = ask(runtime, NER, [text])
    (entities,) = ask(runtime, NER, [text], aggregation_strategy=strategy)
    assert all(before["end"] <= after["start"] for before, after in zip(entities, entities[1:], strict=False))
    if strategy == "simple":
        inside = [any(e["start"] <= t["start"] and t["end"] <= e["end"] for e in entities) for t in tokens]
        assert inside == [token["label"] != "O" for token in tokens]


@given(total=st.integers(1, 200), size=st.integers(2, 40), share=st.floats(0, 0.99), seed=st.integers(0, 100))
def test_merging_gives_each_token_once_from_its_best_window(total, size, share, seed):
    overlap = int(size * share)
    spans = tasks.base.windows(total, size, overlap)
    # window w says w of each of its tokens
    logits = [np.full((end - start, 1), float(index), np.float32) for index, (start, end) in enumerate(spans)]
    chosen = merged(logits, spans, 1)[:, 0].astype(int).tolist()

    def context(window: int, token: int) -> float:
        start, end = spans[window]
        if not start <= token < end:
            return -1.0
        left = token - start if start else float("inf")
        return min(left, end - 1 - token if end < total else float("inf"))

    assert len(chosen) == total
    for token, window in enumerate(chosen):
        assert context(window, token) == max(context(other, token) for other in range(len(spans)))


TEXT = st.text(
    alphabet=st.one_of(
        st.characters(codec="utf-8"),
        st.sampled_from(
            list("가각힣ㄱㅏ한국어서울")
            + ["\u0301", "\u200d", "\ufe0f", "👩", "👧", "🏽", "é", "e", " ", "\n", "▁", "#"]
        ),
        st.sampled_from(["\u1112", "\u1161", "\u11ab"]),  # jamo, as in decomposed Korean
    ),
    max_size=60,
)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_word_is_a_part_of_the_text(architecture, loaded):
    runtime = loaded(architecture, NER)

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(text=TEXT)
    def check(text):
        (rows,) = ask(runtime, NER, [text])
        for strategy in STRATEGIES:
            (entities,) = ask(runtime, NER, [text], aggregation_strategy=strategy)
            rows = rows + entities
        for row in rows:
            assert text[row["start"] : row["end"]] == row["word"]
            assert row["word"] == row["word"].strip()
            assert 0.0 < row["score"] <= 1.0

    check()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_words_of_a_text_are_all_there(architecture, loaded):
    text = "김민수는 1545년 한양에서 👩‍👩‍👧 만났다, Cafe\u0301 in São Paulo!"
    (rows,) = ask(loaded(architecture, NER), NER, [text])
    covered = {index for row in rows for index in range(row["start"], row["end"])}
    assert [text[index] for index in range(len(text)) if index not in covered and not text[index].isspace()] == []


def test_an_empty_text_has_no_tokens(loaded):
    assert ask(loaded("bert", NER), NER, ["", "   ", "서울"])[:2] == [[], []]


def test_a_stride_of_the_window_is_refused(loaded):
    with pytest.raises(InvalidRequest, match="`stride` must be below 62"):
        ask(loaded("bert", NER), NER, ["서울"], stride=62)


def test_the_answer_is_the_same_whatever_the_batch(loaded):
    runtime = loaded("roberta", NER)
    texts = [*CORPUS, " ".join(CORPUS)]
    together, alone = ask(runtime, NER, texts), ask(runtime, NER, texts, rows=1)
    for left, right in zip(together, alone, strict=True):
        assert [row["label"] for row in left] == [row["label"] for row in right]
        assert [row["score"] for row in left] == pytest.approx([row["score"] for row in right], abs=1e-5)


@pytest.mark.parametrize(
    ("labels", "tags"),
    [
        (("O", "B-PER", "I-PER"), [("O", False, False), ("PER", True, False), ("PER", False, False)]),
        (("O", "I-PER"), [("O", False, False), ("PER", False, False)]),
        (("O", "B-X", "I-X", "E-X", "S-X"), [("O", 0, 0), ("X", 1, 0), ("X", 0, 0), ("X", 0, 1), ("X", 1, 1)]),
        (("O", "B-X", "I-X", "L-X", "U-X"), [("O", 0, 0), ("X", 1, 0), ("X", 0, 0), ("X", 0, 1), ("X", 1, 1)]),
        (("O", "PER-B", "PER-I"), [("O", 0, 0), ("PER", 1, 0), ("PER", 0, 0)]),
        (("NOUN", "VERB"), [("NOUN", 0, 0), ("VERB", 0, 0)]),
        (("B-MAIL", "E-MAIL"), [("MAIL", 1, 0), ("E-MAIL", 0, 0)]),
    ],
)
def test_tags_of_each_scheme(labels, tags):
    assert tags_of(labels) == [Tag(*each) for each in tags]


def test_entities_of_begin_inside_end_and_single(model_dir, loaded):
    """A chain of tokens with known labels, through a model whose head is rewritten to say them."""
    labels = ("O", "B-PER", "I-PER", "E-PER", "S-PER")
    runtime = loaded("bert", NER, labels=labels)
    text = "Anna Smith Tokyo Berlin"
    prepared = tasks.prepare(NER, runtime, [text], parse_params(NER, {"aggregation_strategy": "simple"}))
    length = prepared.rows[0].length
    logits = np.zeros((length, len(labels)), np.float32)
    tokens = runtime.tokenizer.aligned(text)
    wanted = ["B-PER", *["I-PER"] * (len(tokens.ids) - 3), "E-PER", "S-PER"]
    for index, label in enumerate(wanted, start=1):
        logits[index, labels.index(label)] = 20.0
    (entities,) = prepared.finish([logits])
    assert [(each["entity_group"], each["word"]) for each in entities] == [
        ("PER", text[: tokens.spans[-2][1]]),
        ("PER", text[tokens.spans[-1][0] :]),
    ]
