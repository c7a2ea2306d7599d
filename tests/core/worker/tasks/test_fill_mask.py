"""Masks, held against transformers' own pipeline."""

from __future__ import annotations

import pytest
import transformers

from core.errors import InvalidRequest
from core.types import Task
from tests.core.worker.conftest import ask
from tests.fakes.models import ARCHITECTURES, CORPUS

FILL = Task.FILL_MASK


def masked(tokenizer, count: int = 1) -> list[str]:
    texts = []
    for text in CORPUS:
        words = text.split()
        for index in range(count):
            words[1 + index] = tokenizer.mask_token
        texts.append(" ".join(words))
    return texts


def same(left: list[dict], right: list[dict]) -> None:
    assert [each["token"] for each in left] == [each["token"] for each in right]
    assert [each["score"] for each in left] == pytest.approx([each["score"] for each in right], abs=1e-5)
    assert [each["token_str"] for each in left] == [each["token_str"] for each in right]
    assert [each["sequence"] for each in left] == [each["sequence"] for each in right]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_fills_are_those_of_the_pipeline(architecture, model_dir, loaded):
    runtime = loaded(architecture, FILL)
    pipeline = transformers.pipeline("fill-mask", model=str(model_dir(architecture, FILL)), device="cpu")
    texts = masked(runtime.tokenizer.backend)
    for text, fills in zip(texts, ask(runtime, FILL, texts, top_k=7), strict=True):
        same(fills, pipeline(text, top_k=7))


@pytest.mark.parametrize("architecture", ["bert", "roberta"])
def test_several_masks_give_a_list_for_each(architecture, model_dir, loaded):
    runtime = loaded(architecture, FILL)
    pipeline = transformers.pipeline("fill-mask", model=str(model_dir(architecture, FILL)), device="cpu")
    texts = masked(runtime.tokenizer.backend, 2)
    for text, fills in zip(texts, ask(runtime, FILL, texts), strict=True):
        expected = pipeline(text)
        assert len(fills) == len(expected) == 2
        for left, right in zip(fills, expected, strict=True):
            same(left, right)


@pytest.mark.filterwarnings("ignore")
def test_targets_are_weighed_among_all_words(model_dir, loaded):
    runtime = loaded("bert", FILL)
    pipeline = transformers.pipeline("fill-mask", model=str(model_dir("bert", FILL)), device="cpu")
    targets = ["서울에서", "the", "한양에서"]
    (fills,) = ask(runtime, FILL, ["그는 [MASK] 산다."], targets=targets)
    same(fills, pipeline("그는 [MASK] 산다.", targets=targets))


def test_a_text_without_a_mask_is_told_the_mask(loaded):
    with pytest.raises(InvalidRequest, match=r"`texts\[1\]` has no mask. Write <mask> where"):
        ask(loaded("roberta", FILL), FILL, ["a <mask>", "서울"])


def test_a_mask_beyond_the_window_is_refused(loaded):
    with pytest.raises(InvalidRequest, match="beyond what the model reads"):
        ask(loaded("bert", FILL), FILL, [" ".join(CORPUS) + " [MASK]"])


def test_only_the_masks_reach_the_vocabulary(loaded):
    """The last layer sees one vector a mask: never tokens × vocabulary numbers."""
    runtime = loaded("bert", FILL)
    seen = []
    layer = runtime._model.get_output_embeddings()
    handle = layer.register_forward_hook(lambda module, given, made: seen.append(tuple(made.shape)))
    ask(runtime, FILL, ["서울 [MASK] 산다.", "the [MASK] [MASK]"])
    handle.remove()
    assert seen == [(3, 500)]
