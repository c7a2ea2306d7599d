"""The client of the guide and its check of a running server, and docs/generation.md as printed."""

import asyncio
import json
import re
import sys

import pytest

from core.core import Core
from core.fleet.launcher import Launcher
from core.settings import PROJECT, Settings
from scripts import api_client
from scripts.api_client import LLMClient, ServerError
from tests.serving import serve

ADDRESS = "localhost:7860"  # as printed


@pytest.fixture(scope="module")
async def served(fake_models, tmp_path_factory):
    """A server whose default model, `my-model`, writes."""
    settings = Settings(
        _env_file=None, models_dir=fake_models, data_dir=tmp_path_factory.mktemp("data"), offline=True,
        starter_dir=fake_models / "none",
    )  # fmt: skip
    link = fake_models / "my-model"
    link.symlink_to(fake_models / "writer")
    async with serve(Core(settings, Launcher("tests.fakes.runtime"))) as served:
        assert (await served.client.post("/load_model?model_path=my-model")).status_code == 200
        yield served
    link.unlink()


async def run(*command: str, given: str = "") -> tuple[int, str]:
    """Exit status, and all that it printed."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=PROJECT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    printed, _ = await process.communicate(given.encode())
    assert process.returncode is not None
    return process.returncode, printed.decode()


async def test_every_call(served):
    client = LLMClient(served.url + "/")

    def ask() -> None:
        assert client.health_check()["status"] == "healthy"
        assert client.model_info()["model_name"] == "my-model"
        assert client.generate("say:x", num_return_sequences=2)["generated_text"] == ["say:xx"] * 2
        assert client.chat("Repeat:", "say:그대로", temperature=0)["response"] == "그대로"
        assert list(client.chat_stream("say:하나둘")) == ["하", "나", "둘"]
        assert [answer["response"] for answer in client.chat_batch([f"say:{n}" for n in range(20)])] == [
            str(n) for n in range(20)
        ]
        assert client.load_model("my-model")["model_name"] == "my-model"

    await asyncio.to_thread(ask)


async def test_errors(served):
    client = LLMClient(served.url)

    def refused(call, *arguments, **options) -> ServerError:
        with pytest.raises(ServerError) as caught:
            call(*arguments, **options)
        return caught.value

    def ask() -> None:
        error = refused(client.generate, "x", surprise=1)
        assert (error.status, error.type) == (422, "invalid_request")
        assert "surprise" in str(error)
        assert refused(client.chat, "x", model="nobody").type == "model_not_found"
        assert refused(lambda: list(client.chat_stream("then:oom\ncount:9"))).type == "insufficient_memory"
        gone = refused(LLMClient("http://127.0.0.1:9").health_check)
        assert (gone.type, gone.status) == ("unreachable", None)
        assert refused(LLMClient(served.url + "/static/x").health_check).status == 404

    await asyncio.to_thread(ask)


async def test_a_key_is_sent(settings):
    core = Core(settings.model_copy(update={"api_keys": ("right",)}), Launcher("tests.fakes.runtime"))
    async with serve(core) as keyed:

        def ask() -> None:
            with pytest.raises(ServerError) as caught:
                LLMClient(keyed.url, "wrong").model_info()
            assert caught.value.status == 401
            with pytest.raises(ServerError) as caught:
                LLMClient(keyed.url, "right").model_info()
            assert caught.value.type == "model_not_found"

        await asyncio.to_thread(ask)


@pytest.mark.parametrize("example", [[], ["basic"], ["chat"], ["batch"]])
async def test_the_examples_run(served, example):
    status, printed = await run(sys.executable, "scripts/api_client.py", *example, "--url", served.url)
    assert status == 0, printed
    shown = re.findall(r"^— (\w+)", printed, re.MULTILINE)
    assert shown == (example or list(api_client.EXAMPLES))
    assert "ok" in printed  # what this model answers to all of them


async def test_the_check_of_a_server(served):
    status, printed = await run(sys.executable, "scripts/test_api.py", "--mode", "all", "--url", served.url)
    assert status == 0, printed
    assert [line.split()[0] for line in printed.splitlines()] == ["ok"] * 6
    for mode, count in (("health", 1), ("chat", 2)):
        status, printed = await run(sys.executable, "scripts/test_api.py", "--mode", mode, "--url", served.url)
        assert (status, len(printed.splitlines())) == (0, count)
    status, printed = await run(sys.executable, "scripts/test_api.py", "--url", "http://127.0.0.1:9")
    assert status == 1
    assert printed.count("FAILED") == 6


async def test_talking_to_a_server(served):
    command = (sys.executable, "scripts/test_api.py", "--mode", "interactive", "--url", served.url)
    status, printed = await run(*command, given="say:안녕\nsay:하나\n\nsay:never\n")
    assert status == 0
    assert printed == "> 안녕\n> 하나\n> "
    assert (await run(*command, given="say:x"))[1] == "> x\n> "


# docs/generation.md and docs/generation.ko.md


def blocks(language: str, page: str = "generation.md") -> list[str]:
    text = (PROJECT / "docs" / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("language", ["bash", "python", "sh"])
def test_both_languages_print_the_same_code(language):
    """But for the comments."""
    english, korean = ([re.sub(r"\s*# .*", "", block) for block in blocks(language, page)]
                       for page in ("generation.md", "generation.ko.md"))  # fmt: skip
    assert english == korean


def test_both_languages_have_the_same_parts_and_name_the_same_things():
    english, korean = ((PROJECT / "docs" / page).read_text() for page in ("generation.md", "generation.ko.md"))
    for mark in ("#", "|", "- "):
        count, other = (sum(line.startswith(mark) for line in page.split("\n")) for page in (english, korean))
        assert count == other, mark
    named, other = (set(re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", page, flags=re.S)))
                    for page in (english, korean))  # fmt: skip
    assert {"{name}"} ^ named == {"{이름}"} ^ other


async def test_every_curl_of_the_page_gets_its_answer(served):
    joined = "".join(blocks("bash")).replace("\\\n", "")
    commands = [line for line in joined.splitlines() if line.startswith("curl")]
    assert len(commands) > 8
    for command in commands:
        status, printed = await run("bash", "-c", command.replace(f"http://{ADDRESS}", served.url))
        assert status == 0
        if "curl -sN" in command:
            assert '"done":true' in printed
        else:
            assert "error" not in json.loads(printed), (command, printed)


async def test_the_python_of_the_page_runs(served):
    (code,) = blocks("python")
    status, printed = await run(sys.executable, "-c", code.replace(f"http://{ADDRESS}", served.url))
    assert status == 0, printed
    assert printed.splitlines()[-1].startswith("['my-model'")
