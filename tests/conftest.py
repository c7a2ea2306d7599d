"""What any test may ask for: settings that touch nothing outside the test, and a server over real processes."""

from pathlib import Path

import pytest

from core.core import Core
from core.fleet.launcher import Launcher
from core.settings import Settings
from tests.fakes.repositories import ENCODER, bert_config, write_repository
from tests.fakes.seeing import SEES
from tests.serving import serve

FAKE_MODELS = {
    "a": "BertForSequenceClassification",
    "b": "BertForSequenceClassification",
    "org/c": "BertForSequenceClassification",
    "tags": "BertForTokenClassification",
    "writer": "LlamaForCausalLM",
    "seer": "LlamaForCausalLM",
}


@pytest.fixture(scope="session")
def fake_models(tmp_path_factory) -> Path:
    """A models directory for the obedient runtime, which looks at the header of the weights alone."""
    root = tmp_path_factory.mktemp("models")
    for name, architecture in FAKE_MODELS.items():
        config = bert_config(architecture)
        if architecture == "LlamaForCausalLM":
            config["model_type"] = "llama"
        write_repository(root / name, config, ENCODER, {SEES: "yes"} if name == "seer" else None)
    return root


@pytest.fixture
def settings(fake_models, tmp_path) -> Settings:
    return Settings(
        _env_file=None,
        models_dir=fake_models,
        data_dir=tmp_path / "data",
        starter_dir=fake_models / "none",
        offline=True,
    )


@pytest.fixture
def core(settings) -> Core:
    """Not started; its models are obedient (`tests/fakes/runtime.py`)."""
    return Core(settings, Launcher("tests.fakes.runtime"))


@pytest.fixture
async def server(core):
    """`core` over HTTP, for one test."""
    async with serve(core) as served:
        yield served


@pytest.fixture
def client(server):
    return server.client
