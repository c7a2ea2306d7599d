"""What the tests of models that see share: `directory` of each module says where a kind of model lies."""

import functools

import pytest
import transformers

from tests.fakes.vision import own_processor


@pytest.fixture(scope="module")
def own(directory):
    """The processor of a kind of model, by its name."""
    return functools.cache(lambda name: own_processor(directory(name)))


@pytest.fixture(scope="module")
def plain(directory):
    """The same model in plain transformers."""
    return functools.cache(
        lambda name: transformers.AutoModelForImageTextToText.from_pretrained(directory(name)).eval()
    )
