"""Candidate labels, held against transformers' own pipeline."""

from __future__ import annotations

import pytest
import transformers

from core.errors import InvalidRequest, LoadFailed
from core.params import parse_params
from core.types import Task
from core.worker import tasks
from tests.core.worker.conftest import ask, open_model
from tests.fakes.models import ARCHITECTURES, CORPUS

ZERO_SHOT = Task.ZERO_SHOT_CLASSIFICATION
CANDIDATES = ["여행", "음식", "technology and business"]


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_scores_are_those_of_the_pipeline(architecture, multi_label, model_dir, loaded):
    runtime = loaded(architecture, ZERO_SHOT)
    pipeline = transformers.pipeline(
        "zero-shot-classification", model=str(model_dir(architecture, ZERO_SHOT)), device="cpu"
    )
    fields = {"candidate_labels": CANDIDATES, "multi_label": multi_label, "hypothesis_template": "이 글은 {} 이야기다."}
    for text, answer in zip(CORPUS, ask(runtime, ZERO_SHOT, list(CORPUS), **fields), strict=True):
        expected = pipeline(text, **fields)
        assert [each["label"] for each in answer] == expected["labels"]
        assert [each["score"] for each in answer] == pytest.approx(expected["scores"], abs=1e-5)


def test_one_label_is_weighed_against_its_contradiction(model_dir, loaded):
    pipeline = transformers.pipeline("zero-shot-classification", model=str(model_dir("bert", ZERO_SHOT)), device="cpu")
    (answer,) = ask(loaded("bert", ZERO_SHOT), ZERO_SHOT, ["서울"], candidate_labels=["여행"])
    expected = pipeline("서울", candidate_labels=["여행"])
    assert answer[0]["score"] == pytest.approx(expected["scores"][0], abs=1e-5)


def test_entailment_is_found_by_its_name(model_dir):
    labels = ("ENTAILMENT", "neutral", "contradiction")
    path = model_dir("bert", ZERO_SHOT, labels=labels)
    pipeline = transformers.pipeline("zero-shot-classification", model=str(path), device="cpu")
    runtime = open_model(path, ZERO_SHOT)
    for multi_label in (False, True):
        fields = {"candidate_labels": CANDIDATES, "multi_label": multi_label}
        (answer,) = ask(runtime, ZERO_SHOT, ["서울 여행"], **fields)
        assert [each["score"] for each in answer] == pytest.approx(pipeline("서울 여행", **fields)["scores"], abs=1e-5)


def test_a_long_text_is_cut_and_its_labels_are_not(loaded):
    runtime = loaded("bert", ZERO_SHOT)
    params = parse_params(ZERO_SHOT, {"candidate_labels": CANDIDATES})
    prepared = tasks.prepare(ZERO_SHOT, runtime, [" ".join(CORPUS), "서울"], params)
    assert prepared.truncated == [True, False]
    assert len(prepared.rows) == 2 * len(CANDIDATES)
    assert [row.length for row in prepared.rows[:3]] == [runtime.info.context_length] * 3
    for row, label in zip(prepared.rows, CANDIDATES, strict=False):
        hypothesis = runtime.tokenizer.ids([f"This example is {label}."])[0]
        assert row.inputs["input_ids"][-1 - len(hypothesis) : -1] == hypothesis


def test_a_label_longer_than_the_model_reads_is_refused(loaded):
    with pytest.raises(InvalidRequest, match="reads 64 in all"):
        ask(loaded("bert", ZERO_SHOT), ZERO_SHOT, ["서울"], candidate_labels=[" ".join(CORPUS)])


def test_labels_that_are_not_those_of_inference_offer_no_zero_shot(model_dir):
    runtime = open_model(model_dir("bert", Task.TEXT_CLASSIFICATION), Task.TEXT_CLASSIFICATION, ZERO_SHOT)
    assert runtime.info.tasks == (Task.TEXT_CLASSIFICATION,)
    with pytest.raises(LoadFailed, match="Its labels name no entailment"):
        open_model(model_dir("bert", Task.TEXT_CLASSIFICATION), ZERO_SHOT)


def test_an_inference_model_classifies_too(model_dir):
    runtime = open_model(model_dir("bert", ZERO_SHOT), Task.TEXT_CLASSIFICATION, ZERO_SHOT, Task.FEATURE_EXTRACTION)
    assert runtime.info.tasks == (Task.TEXT_CLASSIFICATION, ZERO_SHOT, Task.FEATURE_EXTRACTION)
    assert len(ask(runtime, Task.TEXT_CLASSIFICATION, ["서울"], top_k=3)[0]) == 3
    assert ask(runtime, Task.FEATURE_EXTRACTION, ["서울", "부산"]).shape == (2, 32)
