"""What a request may ask, and the sentence it gets when it asks for something else."""

import math

import pytest

from core.errors import InvalidRequest, RequestTooLarge
from core.params import DEFAULTS, FIELD_NAMES, MAX_TEXTS, parse_params, parse_texts
from core.types import Task


@pytest.mark.parametrize("task", [task for task in Task if task is not Task.ZERO_SHOT_CLASSIFICATION])
def test_nothing_said_gives_the_defaults(task):
    assert parse_params(task, {}) == DEFAULTS[task]


def test_null_means_not_said():
    assert parse_params(Task.FILL_MASK, {"top_k": None}) == {"top_k": 5, "targets": None}


def test_a_field_of_another_task_is_checked_and_left_aside():
    assert "temperature" not in parse_params(Task.TEXT_CLASSIFICATION, {"temperature": 0.7})
    with pytest.raises(InvalidRequest, match="temperature"):
        parse_params(Task.TEXT_CLASSIFICATION, {"temperature": -1})


def test_an_unknown_field_is_named():
    with pytest.raises(InvalidRequest, match="`topk`"):
        parse_params(Task.TEXT_CLASSIFICATION, {"topk": 1})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("temperature", 1e308),
        ("temperature", "0.7"),
        ("temperature", True),
        ("top_p", 1.0001),
        ("top_p", -0.1),
        ("top_k", 0),
        ("top_k", -1),
        ("top_k", 2**40),
        ("top_k", 1.5),
        ("top_k", True),
        ("max_length", 0),
        ("max_new_tokens", 2**31),
        ("repetition_penalty", 0),
        ("seed", -1),
        ("seed", 2**64),
        ("stride", -1),
        ("do_sample", 1),
        ("normalize", "true"),
        ("aggregation_strategy", "best"),
        ("aggregation_strategy", ["simple"]),
        ("candidate_labels", []),
        ("candidate_labels", "a,b"),
        ("candidate_labels", [1]),
        ("candidate_labels", ["a"] * 257),
        ("hypothesis_template", "no place"),
        ("hypothesis_template", "{} and {}"),
        ("prompt_name", "\ud800"),
    ],
)
def test_out_of_range_is_refused_by_name(field, value):
    assert field in FIELD_NAMES
    with pytest.raises(InvalidRequest, match=f"`{field}"):
        parse_params(Task.ZERO_SHOT_CLASSIFICATION, {"candidate_labels": ["a"], field: value})


def test_zero_shot_needs_labels():
    with pytest.raises(InvalidRequest, match="candidate_labels"):
        parse_params(Task.ZERO_SHOT_CLASSIFICATION, {})


def test_texts_are_kept_as_they_are():
    texts = ["", "  ", "가나다", "👩‍👩‍👧", "e\u0301", "\x00\u202e"]
    assert parse_texts(texts) == texts


@pytest.mark.parametrize("texts", [None, "one", [], [1], ["\ud83d"], ["a"] * (MAX_TEXTS + 1), ["x" * 2_000_001]])
def test_what_is_no_list_of_texts_is_refused(texts):
    with pytest.raises((InvalidRequest, RequestTooLarge), match="texts"):
        parse_texts(texts)


def test_texts_that_are_too_long_together_are_refused():
    with pytest.raises(RequestTooLarge, match="2,000,002"):
        parse_texts(["x" * 1_000_001] * 2)
