"""Which model a request means, and what it is told; over real processes that run the obedient runtime."""

import shutil
from pathlib import Path

import psutil
import pytest

from core.core import Core
from core.errors import HubUnreachable, InvalidRequest, ModelNotFound, TaskNotSupported
from core.fleet.launcher import Launcher
from core.settings import Settings
from core.types import ModelSpec, State, Task
from tests.fakes.repositories import ENCODER, bert_config, write_repository

SENTIMENT, TAGS = Task.TEXT_CLASSIFICATION, Task.TOKEN_CLASSIFICATION


@pytest.fixture(scope="module")
def shelves(tmp_path_factory):
    """A models directory and a starter directory with small repositories."""
    root = tmp_path_factory.mktemp("shelves")
    for folder, architecture in (
        ("models/a", "BertForSequenceClassification"),
        ("models/b", "BertForSequenceClassification"),
        ("models/t", "BertForTokenClassification"),
        ("starter/sentiment", "BertForSequenceClassification"),
    ):
        write_repository(root / folder, bert_config(architecture), ENCODER)
    return root


@pytest.fixture
async def make_core(shelves, tmp_path):
    made = []
    before = psutil.Process().children(recursive=True)

    async def make(**given) -> Core:
        settings = Settings(
            _env_file=None,
            models_dir=shelves / "models",
            starter_dir=shelves / "starter",
            data_dir=tmp_path / "data",
            offline=True,
            **given,
        )
        core = Core(settings, Launcher("tests.fakes.runtime"))
        await core.start()
        made.append(core)
        return core

    yield make
    for core in made:
        await core.stop()
    assert [each for each in psutil.Process().children(recursive=True) if each not in before] == []


async def load(core: Core, *names: str) -> None:
    for name in names:
        await (await core.load(ModelSpec(name, name))).done


async def test_with_nothing_loaded_the_starter_answers(make_core):
    core = await make_core()
    reply = await core.run(SENTIMENT, ["four"], {})
    assert (reply.model, reply.outputs, reply.revision) == ("starter-sentiment", [4], "local")
    assert core.model("starter-sentiment").state is State.READY


async def test_the_name_of_a_starter_is_a_source_too(make_core):
    core = await make_core()
    await load(core, "starter-sentiment")
    assert core.model("starter-sentiment").source == "starter:sentiment"


async def test_the_only_loaded_model_that_can_do_it_answers(make_core):
    core = await make_core()
    await load(core, "a", "t")
    assert (await core.run(SENTIMENT, ["x"], {})).model == "a"
    assert (await core.run(TAGS, ["x"], {})).model == "t"


async def test_with_two_that_can_the_starter_answers_and_a_name_decides(make_core):
    core = await make_core()
    await load(core, "a", "b")
    assert (await core.run(SENTIMENT, ["x"], {})).model == "starter-sentiment"
    assert (await core.run(SENTIMENT, ["x"], {}, "b")).model == "b"


async def test_the_setting_beats_what_is_loaded_and_is_loaded_on_first_use(make_core):
    core = await make_core(classify_model="b")
    await load(core, "a")
    assert (await core.run(SENTIMENT, ["x"], {})).model == "b"


async def test_a_name_nobody_knows_loads_nothing(make_core):
    core = await make_core()
    with pytest.raises(ModelNotFound, match="`a`"):
        await core.run(SENTIMENT, ["x"], {}, "a")  # it lies in the models directory, but nobody loaded it
    assert core.models() == []


async def test_the_default_embedder_is_never_replaced_by_another_model(make_core):
    """Vectors of two models do not mix, so no default stands in for a missing one."""
    core = await make_core(embed_model="nowhere")
    await load(core, "a")
    with pytest.raises(HubUnreachable):
        await core.run(Task.FEATURE_EXTRACTION, ["x"], {})


async def test_a_task_that_the_model_cannot_do_names_those_it_can(make_core):
    core = await make_core()
    await load(core, "a")
    with pytest.raises(TaskNotSupported, match="text-classification"):
        await core.run(TAGS, ["x"], {}, "a")
    with pytest.raises(TaskNotSupported, match="text-classification"):
        await core.predict("a", ["x"], {}, TAGS)


async def test_predict_does_what_the_model_was_made_for(make_core):
    core = await make_core()
    await load(core, "t")
    assert (await core.predict("t", ["x"], {})).task is TAGS


async def test_bad_fields_start_nothing(make_core):
    core = await make_core()
    with pytest.raises(InvalidRequest):
        await core.run(SENTIMENT, ["x"], {"top_k": 0})
    assert core.models() == []


async def test_cleanup_forgets_what_failed_and_keeps_what_works(make_core):
    core = await make_core()
    await load(core, "a")
    broken = await core.load(ModelSpec("broken", "b"))
    await broken.done
    for _ in range(3):
        with pytest.raises(Exception, match="broken"):
            await core.run(SENTIMENT, ["die"], {}, "broken")
    assert core.model("broken").state is State.FAILED
    freed = await core.cleanup()
    assert set(freed) <= {"cpu"}
    assert [model.name for model in core.models()] == ["a"]
    assert (await core.run(SENTIMENT, ["x"], {}, "a")).outputs == [1]


async def test_what_a_model_holds_is_measured(make_core):
    core = await make_core()
    await load(core, "a")
    await core.measure()
    shown = core.model("a")
    assert shown.measured["cpu"] > 0
    assert shown.promised > 0
    assert shown.pid == psutil.Process(shown.pid).pid


async def test_readiness_tells_why_not(make_core, tmp_path):
    core = await make_core()
    assert await core.check_ready() is None
    shutil.rmtree(tmp_path / "data")
    Path(tmp_path / "data").write_text("a file is in the way")
    assert "data directory" in await core.check_ready()
