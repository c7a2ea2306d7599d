"""A request of a few bytes must not become rows or answers that fill the memory."""

import pytest

from core.errors import RequestTooLarge
from core.params import parse_params
from core.types import Task
from core.worker import tasks
from core.worker.tasks.base import MAX_ROWS, windows


def prepare(model, task, items, **fields):
    return tasks.prepare(task, model, items, parse_params(task, fields))


def test_windows_that_hardly_move_are_counted_before_they_are_made():
    with pytest.raises(RequestTooLarge, match="stride"):
        windows(10**9, 510, 509)
    assert len(windows(10_000, 510, 127)) == 26


def test_a_stride_just_below_the_window(loaded):
    model = loaded("bert", Task.TOKEN_CLASSIFICATION)
    stride = model.info.context_length - 3
    with pytest.raises(RequestTooLarge, match="pieces"):
        prepare(model, Task.TOKEN_CLASSIFICATION, ["가 " * MAX_ROWS * 2], stride=stride)
    with pytest.raises(RequestTooLarge, match="pieces"):
        prepare(model, Task.TOKEN_CLASSIFICATION, ["가 " * 600] * 20, stride=stride)


def test_more_tokens_than_an_answer_can_have_lines(loaded):
    with pytest.raises(RequestTooLarge, match="tokens"):
        prepare(loaded("bert", Task.TOKEN_CLASSIFICATION), Task.TOKEN_CLASSIFICATION, ["a " * 300_000])


def test_texts_times_labels():
    with pytest.raises(RequestTooLarge, match="labels"):
        tasks.base.check_rows(2048 * 256)


def test_masks_of_a_whole_request(loaded):
    model = loaded("bert", Task.FILL_MASK)
    mask = model.tokenizer.backend.mask_token
    assert len(prepare(model, Task.FILL_MASK, [f"{mask} a"] * 256).rows) == 256
    with pytest.raises(RequestTooLarge, match="masks"):
        prepare(model, Task.FILL_MASK, [f"{mask} a"] * 257)
