"""docs/vision.md and docs/vision.ko.md: both print the same code, and it runs against a server that sees."""

import asyncio
import json
import re
import sys

import pytest

from core.settings import PROJECT
from tests.core.images.pictures import picture, saved

ADDRESS = "localhost:7860"


def blocks(language: str, page: str = "vision.md") -> list[str]:
    text = (PROJECT / "docs" / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_both_languages_print_the_same_code():
    for language in ("bash", "python"):
        english, korean = ([re.sub(r"^#.*\n", "", block, flags=re.M) for block in blocks(language, page)]
                           for page in ("vision.md", "vision.ko.md"))  # fmt: skip
        assert english == korean != []


def test_both_languages_name_the_same_things():
    english, korean = ((PROJECT / "docs" / page).read_text() for page in ("vision.md", "vision.ko.md"))
    english = english.split("\n## Asking\n")[1].split("\n## ")[0]
    korean = korean.split("\n## 물어보기\n")[1]
    named, other = (set(re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.S)))
                    for text in (english, korean))  # fmt: skip
    assert named == other
    assert english.count("\n- **") == korean.count("\n- **")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(saved(picture(), "JPEG"))
    (tmp_path / "photo.png").write_bytes(saved(picture()))
    return tmp_path


async def run(*command: str, cwd) -> str:
    process = await asyncio.create_subprocess_exec(*command, cwd=cwd, stdout=asyncio.subprocess.PIPE)
    printed, _ = await process.communicate()
    assert process.returncode == 0
    return printed.decode()


async def test_every_call_of_the_page_gets_its_answer(server, folder):
    await server.load("my-model", model_path="seer")
    joined = "".join(blocks("bash")).replace("\\\n", "")
    commands = [line for line in joined.splitlines() if line.startswith("curl")]
    assert len(commands) == 6
    for command in commands:
        printed = await run("bash", "-c", command.replace(ADDRESS, server.url.removeprefix("http://")), cwd=folder)
        if "curl -sN" in command:
            assert '"done":true' in printed
        else:
            assert "error" not in json.loads(printed), (command, printed)
    (code,) = blocks("python")
    assert (
        await run(sys.executable, "-c", code.replace(ADDRESS, server.url.removeprefix("http://")), cwd=folder)
    ).strip()
