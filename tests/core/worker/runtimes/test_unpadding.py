"""Rows without padding between them give the numbers that rows with padding give, and those that one alone gives."""

import numpy as np
import pytest
import torch

from core.types import Task
from core.worker.runtimes.base import Row, padded
from core.worker.runtimes.unpadding import MODEL_TYPES, unpadding_of
from tests.fakes.models import make_model

LENGTHS = [3, 17, 9, 30, 9]


def rows_of(vocabulary: int, want: str = "logits") -> list[Row]:
    rng = np.random.default_rng(5)
    return [
        Row({"input_ids": rng.integers(5, vocabulary, length).tolist(), "attention_mask": [1] * length}, want)
        for length in LENGTHS
    ]


@pytest.mark.parametrize("architecture", ["bert", "roberta", "xlm-roberta", "electra"])
@pytest.mark.parametrize(
    "head", [Task.TEXT_CLASSIFICATION, Task.TOKEN_CLASSIFICATION, Task.QUESTION_ANSWERING, Task.FEATURE_EXTRACTION]
)
def test_the_numbers_are_those_of_plain_transformers(architecture, head):
    plain, unpadded = (make_model(architecture, head).eval() for _ in range(2))
    assert plain.config.model_type in MODEL_TYPES
    hooks = unpadding_of(unpadded, "cpu")
    rows = rows_of(plain.config.vocab_size)
    batch = {key: torch.from_numpy(value) for key, value in padded(rows, plain.config.pad_token_id).items()}
    with torch.inference_mode(), hooks.rows(LENGTHS):
        found = unpadded(**batch)
    for index, row in enumerate(rows):
        alone = {key: torch.tensor([value]) for key, value in row.inputs.items()}
        with torch.inference_mode():
            expected = plain(**alone)
        for name in ("logits", "start_logits", "end_logits", "last_hidden_state"):
            if name in expected:
                wanted = expected[name][0]
                got = found[name][index]
                if name != "logits" or head is Task.TOKEN_CLASSIFICATION:
                    got = got[: row.length]
                torch.testing.assert_close(got, wanted, atol=1e-5, rtol=0)


def test_outside_of_its_block_the_model_is_the_plain_one():
    plain, unpadded = (make_model("bert", Task.TEXT_CLASSIFICATION).eval() for _ in range(2))
    hooks = unpadding_of(unpadded, "cpu")
    rows = rows_of(plain.config.vocab_size)
    batch = {key: torch.from_numpy(value) for key, value in padded(rows, 0).items()}
    with torch.inference_mode():
        with hooks.rows(LENGTHS):
            unpadded(**batch)
        torch.testing.assert_close(unpadded(**batch).logits, plain(**batch).logits, atol=1e-5, rtol=0)


def test_the_layers_see_the_tokens_and_no_padding():
    model = make_model("bert", Task.FEATURE_EXTRACTION).eval()
    hooks = unpadding_of(model, "cpu")
    seen = []
    model.base_model.encoder.layer[0].register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape)))
    batch = {key: torch.from_numpy(value) for key, value in padded(rows_of(50), 0).items()}
    with torch.inference_mode(), hooks.rows(LENGTHS):
        model(**batch)
    assert seen == [(1, sum(LENGTHS), model.config.hidden_size)]


@pytest.mark.parametrize("architecture", ["distilbert", "deberta-v2"])
def test_models_that_mix_tokens_elsewhere_are_padded(architecture):
    assert unpadding_of(make_model(architecture, Task.FEATURE_EXTRACTION), "cpu") is None


def test_a_gpu_pads():
    assert unpadding_of(make_model("bert", Task.FEATURE_EXTRACTION), "cuda:0") is None
