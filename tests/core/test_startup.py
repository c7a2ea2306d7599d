"""The model that the command line or the environment names."""

from __future__ import annotations

import shutil

import pytest

from core.core import Core
from core.errors import InvalidRequest, RepositoryNotFound
from core.fleet.launcher import Launcher
from core.hub.catalog import Catalog
from core.images.reading import read_image
from core.settings import Settings
from core.startup import spec_at_start, spec_of
from core.types import VISION_TASKS, Prompt, Quantization, Sampling, State, Task
from tests.core.images.pictures import png

CATALOG = Catalog()


@pytest.fixture
async def begun(settings):
    """Starts a core with these settings."""
    cores: list[Core] = []

    async def begin(**changed) -> Core:
        core = Core(settings.model_copy(update=changed), Launcher("tests.fakes.runtime"))
        cores.append(core)
        await core.start()
        return core

    yield begin
    for core in cores:
        await core.stop()


async def test_it_is_loaded_at_the_start_and_is_the_default(begun):
    core = await begun(model_path="writer")
    completion = await core.complete(Prompt(text="say:hello"), Sampling(temperature=0))  # waits for it
    assert (completion.begun.model, completion.texts) == ("writer", ("hello",))
    assert core.registry.get("writer").state is State.READY


async def test_a_classifier_is_the_default_of_what_it_does(begun):
    core = await begun(sllm_model_path="a")
    await core.registry.get("a").job.done
    assert core.default_model(Task.TEXT_CLASSIFICATION) == "a"
    assert core.default_model(Task.TEXT_GENERATION) is None


async def test_a_path_that_leads_nowhere_is_told_and_stops_nothing(begun, caplog):
    core = await begun(model_path="/no/where")
    with pytest.raises(RepositoryNotFound, match="/no/where"):
        await core.complete(Prompt(text="x"), Sampling())
    with pytest.raises(RepositoryNotFound):  # and again: it may be there by then
        await core.complete(Prompt(text="x"), Sampling())
    assert "where is not loaded: There is no directory '/no/where'" in caplog.text
    assert await core.check_ready() is None


async def test_what_a_load_makes_the_default_comes_back_from_its_path(begun, fake_models, tmp_path):
    core = await begun()
    shutil.copytree(fake_models / "writer", tmp_path / "final_model")
    name = await core.load_default(spec_of(str(tmp_path / "final_model"), core.settings, CATALOG))
    assert name == "final_model"
    await core.unload(name)
    assert (await core.complete(Prompt(text="say:x"), Sampling(temperature=0))).texts == ("x",)


def test_what_a_path_is_called(tmp_path, monkeypatch):
    models = tmp_path / "models"
    (models / "mine").mkdir(parents=True)
    (tmp_path / "outputs" / "final model").mkdir(parents=True)
    (tmp_path / "outputs" / "q.Q4_K_M.gguf").touch()
    monkeypatch.chdir(tmp_path)
    settings = Settings(_env_file=None, models_dir=models)

    def named(path: str) -> tuple[str, str]:
        spec = spec_of(path, settings, CATALOG)
        return spec.name, spec.source

    assert named("mine") == ("mine", "mine")
    assert named("models/mine/") == ("mine", str(models / "mine"))
    assert named("outputs/final model") == ("final-model", str(tmp_path / "outputs/final model"))
    assert named("outputs/q.Q4_K_M.gguf") == ("q.Q4_K_M", str(tmp_path / "outputs/q.Q4_K_M.gguf"))
    assert named("org/name@v1") == ("org/name", "org/name@v1")
    assert named("starter:sentiment") == ("starter-sentiment", "starter:sentiment")
    for nonsense in ("..", "/", "a\0b", "x y", "../../../../nothing", "@main", "a/predict"):
        with pytest.raises(InvalidRequest, match="model_path"):
            named(nonsense)


def test_names_and_precisions_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "SLLM_MODEL_PATH": "org/q",
        "LOAD_IN_4BIT": "true",
        "USE_GPU": "false",
        "GPU_LAYERS": "",
    }.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.chosen_device == "cpu"
    assert settings.gpu_layers is None
    spec = spec_at_start(settings, CATALOG)
    assert (spec.source, spec.quantization) == ("org/q", Quantization.NF4)
    monkeypatch.setenv("MODEL_PATH", "org/first")
    assert spec_at_start(Settings(), CATALOG).source == "org/first"
    monkeypatch.setenv("MODEL_PATH", "")
    monkeypatch.setenv("SLLM_MODEL_PATH", "")
    assert spec_at_start(Settings(), CATALOG) is None
    with pytest.raises(ValueError, match="choose one"):
        Settings(load_in_8bit=True)


async def test_a_model_for_images_beside_the_one_that_writes(begun):
    core = await begun(model_path="writer", vision_model_path="seer")
    prompt = Prompt(messages=({"role": "user", "content": "look", "images": (read_image(png(8, 8)),)},))
    looked = await core.complete(prompt, Sampling(temperature=0))
    assert (looked.begun.model, looked.texts) == ("seer", ("8x8 #ff0000",))
    assert (await core.complete(Prompt(text="say:hi"), Sampling(temperature=0))).begun.model == "writer"


async def test_a_model_for_images_that_sees_none_is_the_default_for_nothing(begun, caplog):
    core = await begun(vision_model_path="tags")
    await core.registry.get("tags").job.done
    assert [core._defaults.get(task) for task in VISION_TASKS] == [None, None]
    assert "tags is the default for nothing: it does token-classification" in caplog.text
