"""Draws against transformers' own processors and against probabilities computed by hand."""

import numpy as np
import pytest
import torch
from transformers.generation import logits_process

from core.errors import CorruptModel
from core.types import Sampling
from core.worker.generation.sampler import Sampler, probabilities

SCORES = np.random.default_rng(5).normal(0, 3, 3000).astype(np.float32)


def warped(scores: np.ndarray, sampling: Sampling) -> np.ndarray:
    """Probabilities over the whole vocabulary by transformers' own warpers, in its order."""
    warpers = [logits_process.TemperatureLogitsWarper(sampling.temperature)]
    if sampling.top_k:
        warpers.append(logits_process.TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        warpers.append(logits_process.TopPLogitsWarper(sampling.top_p))
    if sampling.min_p:
        warpers.append(logits_process.MinPLogitsWarper(sampling.min_p))
    tensor = torch.tensor(scores)[None].double()
    for warper in warpers:
        tensor = warper(None, tensor)
    return tensor.softmax(-1)[0].numpy()


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0.7),
        Sampling(temperature=1.3, top_k=40),
        Sampling(temperature=1.0, top_p=0.9),
        Sampling(temperature=5.0, top_p=0.99),
        Sampling(temperature=0.8, top_k=50, top_p=0.95),
        Sampling(temperature=1.0, min_p=0.05),
        Sampling(temperature=1.1, top_k=200, top_p=0.8, min_p=0.01),
        Sampling(temperature=1.0, top_p=1e-9),
    ],
    ids=str,
)
def test_probabilities_are_those_of_transformers(sampling):
    tokens, weights = probabilities(SCORES, sampling)
    found = np.zeros(len(SCORES))
    found[slice(None) if tokens is None else tokens] = weights / weights.sum()
    np.testing.assert_allclose(found, warped(SCORES, sampling), atol=1e-9)


def test_ten_thousand_draws_follow_the_probabilities():
    scores = np.log(np.array([0.5, 0.25, 0.15, 0.1], np.float32))
    sampler = Sampler(Sampling(seed=3), 0, [], "m")
    counts = np.bincount([sampler.draw(scores).token for _ in range(10_000)], minlength=4)
    expected = np.array([5000, 2500, 1500, 1000])
    assert ((counts - expected) ** 2 / expected).sum() < 16.27  # chi-squared, 3 degrees of freedom, p = 0.001


def test_a_seed_gives_the_same_tokens_again_and_answers_differ():
    def tokens(index: int) -> list[int]:
        sampler = Sampler(Sampling(seed=11), index, [], "m")
        return [sampler.draw(SCORES).token for _ in range(20)]

    assert tokens(0) == tokens(0)
    assert tokens(0) != tokens(1)


def test_temperature_zero_takes_the_likeliest():
    assert Sampler(Sampling(temperature=0), 0, [], "m").draw(SCORES).token == SCORES.argmax()


def test_repetition_penalty_is_that_of_transformers():
    context = [int(SCORES.argmax()), 5, 9]
    processor = logits_process.RepetitionPenaltyLogitsProcessor(1.7)
    expected = processor(torch.tensor([context]), torch.tensor(SCORES)[None].clone())[0]
    sampler = Sampler(Sampling(temperature=0, repetition_penalty=1.7), 0, context, "m")
    np.testing.assert_array_equal(sampler._penalised(SCORES), expected.numpy())


def test_presence_and_frequency_count_what_was_drawn():
    scores = np.array([3.0, 2.9, 2.7, 0.0], np.float32)
    sampler = Sampler(Sampling(temperature=0, presence_penalty=0.25, frequency_penalty=0.1), 0, [1], "m")
    # 0 falls to 2.65 behind 1 at 2.9; 1 to 2.55; then 2 leads at 2.7, then 0 at 2.65, which falls to 2.55
    assert [sampler.draw(scores).token for _ in range(4)] == [0, 1, 2, 0]


def test_logprobs_are_of_the_model_before_any_parameter():
    drawn = Sampler(Sampling(temperature=0, top_k=1, logprobs=3), 0, [], "m").draw(SCORES)
    expected = torch.tensor(SCORES).double().log_softmax(-1)
    best = expected.topk(3)
    assert drawn.logprob == pytest.approx(best.values[0].item())
    assert [token for token, _ in drawn.top] == best.indices.tolist()
    assert [logprob for _, logprob in drawn.top] == pytest.approx(best.values.tolist())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_said(value):
    scores = SCORES.copy()
    scores[7] = value
    with pytest.raises(CorruptModel, match="weights are damaged"):
        Sampler(Sampling(), 0, [], "m").draw(scores)
