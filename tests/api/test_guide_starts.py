"""The forms in which the guides start a server: options, environment and `.env`, `python app.py` and `uvicorn app:app`.

Each in the directory of a training run that is not this project's, with the chat starter as the trained model.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import psutil
import pytest

from core.settings import PROJECT

MODEL = "outputs/checkpoints/final_model"
PROGRAM = (str(PROJECT / "app.py"),)
UVICORN = ("-m", "uvicorn", "--app-dir", str(PROJECT), "app:app", "--host", "127.0.0.1")
ADDRESS = re.compile(rb"(?:is at|running on) (http://[\d.:]+)")
OURS = re.compile(r"BERTH_|HF_|MODEL_PATH|SLLM_|LOAD_IN_|USE_GPU|GPU_LAYERS|PORT|HOST$")


@pytest.fixture
def folder(tmp_path) -> Path:
    shutil.copytree(PROJECT / "starter" / "chat", tmp_path / MODEL)
    return tmp_path


@contextlib.asynccontextmanager
async def started(folder: Path, *command: str, **environment: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server that was started in `folder`. SIGTERM ends it, and then nothing of it is left."""
    kept = {name: value for name, value in os.environ.items() if not OURS.match(name)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, "--port", "0", cwd=folder,
        env={**kept, "HF_HUB_OFFLINE": "1", "BERTH_DATA_DIR": str(folder / "data"), **environment},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    printed = b""
    while not (found := ADDRESS.search(printed)) or b"startup complete" not in printed:
        line = await process.stdout.readline()
        assert line, f"it ended: {printed.decode()}"
        printed += line
    drain = asyncio.create_task(process.stdout.read())  # a full pipe would stop it
    children: list[psutil.Process] = []
    try:
        retrying = httpx.AsyncHTTPTransport(retries=10)  # with `--reload` the address is printed too early
        async with httpx.AsyncClient(base_url=found[1].decode(), timeout=60, transport=retrying) as client:
            yield client
        children = psutil.Process(process.pid).children(recursive=True)
        assert children  # the fork server and the model
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), 30)
        assert psutil.wait_procs(children, 10)[1] == []
    finally:
        if process.returncode is None:
            children = psutil.Process(process.pid).children(recursive=True)
            process.kill()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        await process.wait()
        print((printed + await drain).decode())  # what it said, where the test fails


async def check_answers(client: httpx.AsyncClient, quantization: str | None = None) -> None:
    """The model answers who names none, as it was to be loaded."""
    body = {"instruction": "How do I load a model?", "max_new_tokens": 20}
    answer = await client.post("/chat", json=body)  # waits until it is loaded
    assert (answer.status_code, answer.json().get("model_name")) == (200, "final_model"), answer.text
    assert answer.json()["response"]
    assert (await client.get("/models/final_model")).json()["quantization"] == quantization
    info = (await client.get("/model_info")).json()
    assert info["model_path"].endswith(MODEL)


@pytest.mark.parametrize(
    ("options", "quantization"),
    [([], None), (["--load_in_8bit"], "8bit"), (["--load_in_4bit"], "4bit"), (["--reload"], None)],
    ids=["plain", "8bit", "4bit", "reload"],
)
async def test_a_command(folder, options, quantization):
    async with started(folder, *PROGRAM, "--model_path", MODEL, "--host", "127.0.0.1", *options) as client:
        await check_answers(client, quantization)


async def test_uvicorn_with_the_environment(folder):
    async with started(folder, *UVICORN, MODEL_PATH=MODEL) as client:
        await check_answers(client)


async def test_uvicorn_with_a_file(folder):
    (folder / ".env").write_text(f"MODEL_PATH={MODEL}\nLOAD_IN_8BIT=false\nLOAD_IN_4BIT=true\n")
    async with started(folder, *UVICORN) as client:
        await check_answers(client, "4bit")
