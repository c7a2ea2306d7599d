"""The default embedder, when the setting names it otherwise than it is called here."""

import pytest

from core.core import Core
from core.fleet.launcher import Launcher
from core.settings import Settings
from core.types import Task
from tests.fakes.repositories import ENCODER, bert_config, write_repository
from tests.serving import serve


@pytest.fixture
async def served(tmp_path):
    write_repository(tmp_path / "starter" / "embed", bert_config("BertModel"), ENCODER)
    settings = Settings(
        _env_file=None,
        models_dir=tmp_path / "models",
        starter_dir=tmp_path / "starter",
        data_dir=tmp_path / "data",
        offline=True,
        embed_model="starter:embed",  # the source of the catalogue's `starter-embed`
    )
    async with serve(Core(settings, Launcher("tests.fakes.runtime"))) as served:
        yield served


async def test_model_info_finds_a_default_that_is_named_by_its_source(served):
    info = (await served.client.get("/api/v1/model-info")).json()
    assert (info["name"], info["state"]) == ("starter-embed", "absent")
    assert served.core.resolve(None, Task.FEATURE_EXTRACTION) == "starter-embed"  # as a request does, which starts it
    await served.core.registry.get("starter-embed").job.done
    for query in ("", "?model=starter:embed", "?model=starter-embed"):
        info = (await served.client.get(f"/api/v1/model-info{query}")).json()
        assert (info["name"], info["state"], info["device"]) == ("starter-embed", "loaded", "cpu")
    assert len(served.core.registry.records()) == 1


async def test_model_info_of_a_name_that_is_nowhere(served):
    info = (await served.client.get("/api/v1/model-info?model=org/nowhere")).json()
    assert (info["name"], info["state"]) == ("org/nowhere", "absent")
