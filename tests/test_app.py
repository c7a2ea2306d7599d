"""The program as it is started: what it prints, how fast it answers, what it holds, how it ends."""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

ROOT = Path(__file__).parent.parent
MIB = 1024 * 1024
PROGRAM = (str(ROOT / "app.py"),)
OBEDIENT = ("-m", "tests.fakes.program")
PRINTED = re.compile(r"Berth \S+ is at (http://\S+)")


@dataclass
class Started:
    process: asyncio.subprocess.Process
    url: str
    client: httpx.AsyncClient
    printed: str  # up to the address

    async def whole(self) -> None:
        """Waits for the page too."""
        while (await self.client.get("/ready")).status_code != 200:
            await asyncio.sleep(0.1)

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


@contextlib.asynccontextmanager
async def start(
    tmp_path: Path, models: Path, *arguments: str, program: tuple[str, ...] = PROGRAM, **environment: str
) -> AsyncIterator[Started]:
    """`python app.py` on a free port, with nothing of the caller's environment that starts with BERTH_ or HF_."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BERTH_", "HF_"))}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *program,
        "--port",
        "0",
        *arguments,
        cwd=ROOT,
        env={
            **kept,
            "BERTH_MODELS_DIR": str(models),
            "BERTH_DATA_DIR": str(tmp_path / "data"),
            "HF_HUB_OFFLINE": "1",
            **environment,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    printed = ""
    while not (found := PRINTED.search(printed)):
        line = await process.stdout.readline()
        assert line, f"it ended: {printed}"
        printed += line.decode()
    drain = asyncio.create_task(process.stdout.read())  # a full pipe would stop it
    url = found.group(1).replace("0.0.0.0", "127.0.0.1")
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        try:
            yield Started(process, url, client, printed)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            await drain


async def test_it_serves_the_api_and_the_page_without_torch_and_ends_with_0(tmp_path, fake_models):
    async with start(tmp_path, fake_models) as app:
        # the API does not wait for the page
        assert (await app.client.get("/health")).json()["status"] == "healthy"
        await app.whole()
        page = await app.client.get("/", headers={"Accept": "text/html"})
        assert page.status_code == 200
        assert "gradio" in page.text
        assert (await app.client.get("/")).json()["docs"] == "/docs"
        assert (await app.client.get("/config")).status_code == 200
        front = psutil.Process(app.process.pid)
        assert front.memory_info().rss < 250 * MIB
        assert "libtorch" not in Path(f"/proc/{app.process.pid}/maps").read_text()
        workers = app.children()
        assert workers  # the fork server
        async with app.client.stream("GET", "/gradio_api/heartbeat/some-session") as heartbeat:
            assert heartbeat.status_code == 200
            await anext(heartbeat.aiter_bytes())
            app.process.send_signal(signal.SIGTERM)  # an open page does not hold it up
            assert await asyncio.wait_for(app.process.wait(), 20) == 0
        assert psutil.wait_procs(workers, 5)[1] == []


@pytest.fixture
async def busy(tmp_path, fake_models):
    """A program with one request in its model, and the FIFO that lets it end."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    async with start(tmp_path, fake_models, program=OBEDIENT, BERTH_DRAIN="600") as app:
        loaded = await app.client.post("/models/load?wait=true", json={"model_name": "a", "model_path": "a"})
        assert loaded.status_code == 200
        request = asyncio.create_task(app.client.post("/models/a/predict", json={"text": f"wait:{fifo}"}))
        hold = await asyncio.to_thread(os.open, fifo, os.O_WRONLY)
        yield app, request, hold
        await asyncio.wait([request])


async def test_told_to_end_it_finishes_what_it_began_and_takes_nothing_new(busy):
    app, request, hold = busy
    workers = app.children()
    app.process.send_signal(signal.SIGTERM)
    while (ready := await app.client.get("/ready")).json().get("error", {}).get("type") != "server_shutting_down":
        await asyncio.sleep(0.05)
    assert ready.status_code == 503
    refused = await app.client.post("/models/load", json={"model_name": "b", "model_path": "b"})
    assert refused.json()["error"]["type"] == "server_shutting_down"
    assert not request.done()
    os.close(hold)
    assert (await request).status_code == 200
    assert await asyncio.wait_for(app.process.wait(), 20) == 0
    assert psutil.wait_procs(workers, 5)[1] == []


async def test_told_twice_it_ends_at_once(busy):
    app, _, hold = busy
    workers = app.children()
    app.process.send_signal(signal.SIGTERM)
    while (await app.client.get("/ready")).json().get("error", {}).get("type") != "server_shutting_down":
        await asyncio.sleep(0.05)
    app.process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(app.process.wait(), 5) == 1
    assert psutil.wait_procs(workers, 5)[1] == []
    os.close(hold)


async def test_killed_outright_it_takes_its_workers_along(busy):
    app, _, hold = busy
    workers = app.children()
    assert len(workers) >= 2  # the fork server and the model
    os.kill(app.process.pid, signal.SIGKILL)
    await app.process.wait()
    assert psutil.wait_procs(workers, 5)[1] == []
    os.close(hold)


async def test_bound_wider_it_prints_the_admin_key_once(tmp_path, fake_models):
    async with start(tmp_path, fake_models, "--host", "0.0.0.0", "--log_level", "warning") as app:
        keys = re.findall(r"Admin key.*: (\S+)", app.printed)
        assert len(keys) == 1
        assert (await app.client.get("/session")).json() == {"role": "user"}
        headers = {"X-API-Key": keys[0]}
        assert (await app.client.get("/session", headers=headers)).json() == {"role": "admin"}


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--model_path", "writer", "--load_in_8bit"], {}),
        (["--model-path", "writer", "--load-in-8bit"], {"MODEL_PATH": "nothing", "LOAD_IN_8BIT": "false"}),
        ([], {"SLLM_MODEL_PATH": "writer", "LOAD_IN_8BIT": "true", "USE_GPU": "false", "GPU_LAYERS": "24"}),
    ],
    ids=["underscores", "dashes", "environment"],
)
async def test_a_model_named_at_the_start_answers_who_names_none(tmp_path, fake_models, arguments, environment):
    async with start(tmp_path, fake_models, *arguments, program=OBEDIENT, **environment) as app:
        answer = await app.client.post("/generate", json={"prompt": "say:hi"})  # waits until it is loaded
        assert answer.json()["generated_text"] == ["say:hihi"]
        assert (await app.client.get("/models/writer")).json()["quantization"] == "8bit"
        health = (await app.client.get("/health")).json()
        assert (health["model_loaded"], health["model_name"]) == (True, "writer")


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (["--port", "99999"], {}, "port"),
        (["--log-level", "LOUD"], {}, "log_level"),
        ([], {"BERTH_DRAIN": "soon"}, "BERTH_DRAIN"),
        (["--load_in_8bit", "--load_in_4bit"], {}, "choose one"),
    ],
)
async def test_settings_that_cannot_be_read_are_named(arguments, environment, words):
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(ROOT / "app.py"), *arguments, cwd=ROOT, env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, stderr = await process.communicate()
    assert process.returncode == 2
    assert words in stderr.decode()
    assert "Traceback" not in stderr.decode()


def test_a_data_directory_that_cannot_be_made_is_told_as_a_sentence(tmp_path):
    (tmp_path / "file").touch()
    environment = {**os.environ, "BERTH_DATA_DIR": str(tmp_path / "file" / "data")}
    ran = subprocess.run(
        [sys.executable, *PROGRAM], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 2
    assert re.fullmatch(r"The data directory `.+/file/data` cannot be made: .+ Set BERTH_DATA_DIR .+\n", ran.stderr)


def test_uvicorn_finds_the_application(monkeypatch, tmp_path):
    import app

    monkeypatch.setenv("BERTH_DATA_DIR", str(tmp_path))
    assert app.app.title == "Berth"
    with pytest.raises(AttributeError):
        _ = app.nothing
