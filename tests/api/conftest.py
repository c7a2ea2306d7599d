"""Servers that several tests share, and what must hold after each of them."""

import os

import psutil
import pytest
from openai import AsyncOpenAI

from core.core import Core
from core.fleet.launcher import Launcher
from core.settings import Settings
from core.types import Task
from tests.serving import serve

TINY = {  # name → head of a tiny random BERT
    "classify": Task.TEXT_CLASSIFICATION,
    "tag": Task.TOKEN_CLASSIFICATION,
    "embed": Task.FEATURE_EXTRACTION,
    "answer": Task.QUESTION_ANSWERING,
    "entail": Task.ZERO_SHOT_CLASSIFICATION,
    "fill": Task.FILL_MASK,
}

WRITERS = {"write": "llama", "rewrite": "t5"}  # name → architecture of a tiny random model that writes


@pytest.fixture(scope="session")
async def shared_server(fake_models, tmp_path_factory):
    """Obedient models behind one server for many tests; `shared` cleans up after each."""
    data = tmp_path_factory.mktemp("data")
    settings = Settings(
        _env_file=None,
        models_dir=fake_models,
        data_dir=data,
        starter_dir=fake_models / "none",
        offline=True,
        max_queue=64,
        max_body_mb=1,
        drain_s=30,
    )
    async with serve(Core(settings, Launcher("tests.fakes.runtime"))) as served:
        yield served


@pytest.fixture
async def shared(shared_server):
    """The shared server, with nothing loaded. Afterwards it is whole: alive, nothing in flight, no bug logged."""
    served, pid = shared_server, os.getpid()
    served.log.clear()
    yield served
    health = await served.client.get("/health")
    assert health.status_code == 200
    assert os.getpid() == pid
    assert 500 not in served.statuses
    for record in served.core.registry.records():
        assert record.leases == 0
        await served.core.registry.unload(record.name)


@pytest.fixture(scope="module")
async def real_server(tmp_path_factory):
    """Tiny random models in the real runtimes, one for each task, all loaded."""
    from tests.fakes.decoders import write_decoder
    from tests.fakes.models import write_model

    root = tmp_path_factory.mktemp("tiny")
    for name, head in TINY.items():
        write_model(root / name, "bert", head)
    for name, architecture in WRITERS.items():
        write_decoder(root / name, architecture)
    settings = Settings(
        _env_file=None,
        models_dir=root,
        data_dir=root / "data",
        offline=True,
        embed_model="embed",
        classify_model="classify",
    )
    async with serve(Core(settings)) as served:
        await served.load(*TINY, *WRITERS)
        yield served


@pytest.fixture(scope="module")
async def writing_server(fake_models, tmp_path_factory):
    """A model that writes what it is told to, and stays loaded."""
    settings = Settings(
        _env_file=None,
        models_dir=fake_models,
        data_dir=tmp_path_factory.mktemp("data"),
        starter_dir=fake_models / "none",
        offline=True,
        max_body_mb=1,
    )
    async with serve(Core(settings, Launcher("tests.fakes.runtime"))) as served:
        await served.load("writer")
        yield served


@pytest.fixture
async def writer(writing_server):
    """The same; afterwards nothing is in flight, and no bug was met."""
    writing_server.log.clear()
    yield writing_server
    record = writing_server.core.registry.get("writer")
    assert record.leases == 0
    assert 500 not in writing_server.statuses


@pytest.fixture
async def ai(writer):
    """The official client of OpenAI's API."""
    async with AsyncOpenAI(base_url=f"{writer.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
async def seeing_server(fake_models, tmp_path_factory):
    """A model that says what it is shown, and one that reads text alone."""
    settings = Settings(
        _env_file=None,
        models_dir=fake_models,
        data_dir=tmp_path_factory.mktemp("data"),
        starter_dir=fake_models / "none",
        offline=True,
        max_images=3,
        max_conversation_images=4,
    )
    async with serve(Core(settings, Launcher("tests.fakes.runtime"))) as served:
        await served.load("seer", "writer")
        yield served


@pytest.fixture
async def seer(seeing_server):
    """The same; afterwards nothing is in flight, and no bug was met."""
    seeing_server.log.clear()
    yield seeing_server
    assert all(record.leases == 0 for record in seeing_server.core.registry.records())
    assert 500 not in seeing_server.statuses


@pytest.fixture
async def leaves_nothing(shared, fake_models):
    """No model, no file and no process more than before."""
    files = sorted(fake_models.rglob("*"))
    yield
    assert {record.name for record in shared.core.registry.records()} <= {"a"}
    assert sorted(fake_models.rglob("*")) == files
    children = psutil.Process(shared.core.launcher._server.pid).children()
    assert len(children) == len(shared.core.registry.records())
