"""Labels of texts, held against transformers' own pipeline."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers

from core.errors import InvalidRequest, TaskNotSupported
from core.params import parse_params
from core.types import Task
from core.worker import tasks
from tests.core.worker.conftest import ask
from tests.fakes.models import ARCHITECTURES, CORPUS

CLASSIFY = Task.TEXT_CLASSIFICATION
TEXTS = [*CORPUS, "", "서울", "👩‍👩‍👧", " ".join(CORPUS)]


def expected_scores(path, texts: list[str], length: int, function) -> list[dict[str, float]]:
    """Scores by label from plain transformers, one text at a time."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    answers = []
    for text in texts:
        inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=length)
        with torch.no_grad():
            scores = function(model(**inputs).logits[0]).tolist()
        answers.append({model.config.id2label[index]: score for index, score in enumerate(scores)})
    return answers


@pytest.mark.parametrize("rows", [1, 3, 100])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_scores_equal_plain_transformers_whatever_the_batch(architecture, rows, model_dir, loaded):
    runtime = loaded(architecture, CLASSIFY)
    expected = expected_scores(model_dir(architecture, CLASSIFY), TEXTS, 64, lambda logits: logits.softmax(-1))
    for answer, scores in zip(ask(runtime, CLASSIFY, TEXTS, rows=rows, top_k=3), expected, strict=True):
        assert {each["label"]: each["score"] for each in answer} == pytest.approx(scores, abs=1e-5)
        assert [each["score"] for each in answer] == sorted(scores.values(), reverse=True) or answer == sorted(
            answer, key=lambda each: -each["score"]
        )


@pytest.mark.parametrize(
    ("problem_type", "labels", "function"),
    [
        ("multi_label_classification", ("욕설", "광고", "혐오"), torch.sigmoid),
        (None, ("점수",), torch.sigmoid),
        ("regression", ("점수",), lambda logits: logits),
        ("single_label_classification", ("가", "나"), lambda logits: logits.softmax(-1)),
    ],
)
def test_the_configuration_chooses_the_function(problem_type, labels, function, model_dir, loaded):
    variant = {"labels": labels} | ({} if problem_type is None else {"problem_type": problem_type})
    runtime = loaded("bert", CLASSIFY, **variant)
    path = model_dir("bert", CLASSIFY, **variant)
    pipeline = transformers.pipeline("text-classification", model=str(path), device="cpu")
    expected = expected_scores(path, list(CORPUS), 64, function)
    for text, answer, scores in zip(CORPUS, ask(runtime, CLASSIFY, list(CORPUS), top_k=9), expected, strict=True):
        assert {each["label"]: each["score"] for each in answer} == pytest.approx(scores, abs=1e-5)
        assert [each["label"] for each in answer] == [each["label"] for each in pipeline(text, top_k=None)]


@pytest.mark.parametrize(
    ("function", "reference"),
    [("sigmoid", torch.sigmoid), ("none", lambda logits: logits), ("softmax", lambda logits: logits.softmax(-1))],
)
def test_a_request_may_choose_the_function(function, reference, model_dir, loaded):
    runtime = loaded("roberta", CLASSIFY)
    expected = expected_scores(model_dir("roberta", CLASSIFY), list(CORPUS), 64, reference)
    answers = ask(runtime, CLASSIFY, list(CORPUS), top_k=3, function_to_apply=function)
    for answer, scores in zip(answers, expected, strict=True):
        assert {each["label"]: each["score"] for each in answer} == pytest.approx(scores, abs=1e-5)


def test_top_k_is_one_when_not_said_and_never_more_than_there_are(loaded):
    runtime = loaded("bert", CLASSIFY)
    (best,), every = ask(runtime, CLASSIFY, ["서울"])[0], ask(runtime, CLASSIFY, ["서울"], top_k=99)[0]
    assert best == every[0]
    assert len(every) == 3


def test_the_end_of_a_long_text_is_not_read_and_that_is_said(model_dir, loaded):
    runtime = loaded("bert", CLASSIFY)
    texts = ["서울", " ".join(CORPUS)]
    prepared = tasks.prepare(CLASSIFY, runtime, texts, parse_params(CLASSIFY, {"top_k": 3, "max_length": 10}))
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_dir("bert", CLASSIFY))
    assert prepared.truncated == [False, True]
    assert prepared.input_tokens == [len(tokenizer(text)["input_ids"]) for text in texts]
    assert [row.length for row in prepared.rows] == [3, 10]
    (_, scores) = expected_scores(model_dir("bert", CLASSIFY), texts, 10, lambda logits: logits.softmax(-1))
    (_, answer) = prepared.finish(runtime.forward(prepared.rows))
    assert {each["label"]: each["score"] for each in answer} == pytest.approx(scores, abs=1e-5)


def test_a_length_with_no_room_for_text_is_refused(loaded):
    with pytest.raises(InvalidRequest, match="must be above 2"):
        ask(loaded("bert", CLASSIFY), CLASSIFY, ["서울"], max_length=2)


def test_what_the_model_cannot_do_is_refused_by_name(loaded):
    with pytest.raises(TaskNotSupported, match=r"org/tiny cannot do fill-mask; it can do: text-classification"):
        ask(loaded("bert", CLASSIFY), Task.FILL_MASK, ["서울 [MASK]"])


def test_extreme_logits_stay_numbers(loaded):
    prepared = tasks.prepare(
        CLASSIFY, loaded("bert", CLASSIFY), ["a", "b"], parse_params(CLASSIFY, {"function_to_apply": "sigmoid"})
    )
    low, high = prepared.finish([np.array([-1e4, -1e4, -1e4], np.float32), np.array([1e4, 0, 0], np.float32)])
    assert low[0]["score"] == 0.0
    assert high[0]["score"] == 1.0
