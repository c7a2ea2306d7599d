"""Vectors of texts from plain encoders, held against plain transformers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers

from core.errors import InvalidRequest
from core.params import parse_params
from core.types import Task
from core.worker import tasks
from tests.core.worker.conftest import ask
from tests.fakes.models import ARCHITECTURES, CORPUS

EMBED = Task.FEATURE_EXTRACTION
TEXTS = [*CORPUS, "", "서울", " ".join(CORPUS)]


def expected_vectors(path, texts: list[str]) -> np.ndarray:
    """The mean of the last hidden state, one text at a time."""
    model, tokenizer = transformers.AutoModel.from_pretrained(path), transformers.AutoTokenizer.from_pretrained(path)
    vectors = []
    for text in texts:
        inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=64)
        with torch.no_grad():
            vectors.append(model(**inputs).last_hidden_state[0].mean(0).numpy())
    return np.stack(vectors)


@pytest.mark.parametrize("rows", [1, 5, 100])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_vectors_are_the_mean_of_the_tokens_whatever_the_batch(architecture, rows, model_dir, loaded):
    runtime = loaded(architecture, EMBED)
    vectors = ask(runtime, EMBED, TEXTS, rows=rows)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected_vectors(model_dir(architecture, EMBED), TEXTS), atol=1e-5)


def test_normalised_and_shortened_on_request(model_dir, loaded):
    runtime = loaded("bert", EMBED)
    expected = expected_vectors(model_dir("bert", EMBED), TEXTS)
    unit = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(ask(runtime, EMBED, TEXTS, normalize=True), unit, atol=1e-5)
    short = expected[:, :8]
    np.testing.assert_allclose(ask(runtime, EMBED, TEXTS, dimensions=8), short, atol=1e-5)
    short = short / np.linalg.norm(short, axis=1, keepdims=True)
    np.testing.assert_allclose(ask(runtime, EMBED, TEXTS, dimensions=8, normalize=True), short, atol=1e-5)


def test_what_was_not_read_is_said(loaded):
    prepared = tasks.prepare(EMBED, loaded("bert", EMBED), ["서울", " ".join(CORPUS)], parse_params(EMBED, {}))
    assert prepared.truncated == [False, True]
    assert prepared.windows == [1, 1]


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"dimensions": 33}, "at most 32"), ({"prompt_name": "query"}, "has no prompt `query`. Its prompts: none")],
)
def test_what_the_model_does_not_have_is_refused(fields, message, loaded):
    with pytest.raises(InvalidRequest, match=message):
        ask(loaded("bert", EMBED), EMBED, ["서울"], **fields)
