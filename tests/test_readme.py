"""Every command and call that the README prints, run as printed against a server started as it says."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from core.settings import PROJECT

PAGES = ("README.md", "README.ko.md")
ADDRESS = "localhost:7860"  # as printed; a test takes a free port in its place


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", (PROJECT / page).read_text(), re.MULTILINE | re.DOTALL)


def curls(page: str) -> list[str]:
    """Each curl command, its lines joined."""
    text = "".join(blocks(page, "bash")).replace("\\\n", "")
    return [line for line in text.splitlines() if line.startswith("curl")]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """`python app.py`, as `make run` does it: its address."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    data = tmp_path_factory.mktemp("data")
    environment = {**os.environ, "HOST": "127.0.0.1", "PORT": str(port), "BERTH_DATA_DIR": str(data)}
    child = subprocess.Popen(
        [sys.executable, "app.py"], cwd=PROJECT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    address = f"localhost:{port}"
    try:
        with httpx.Client(transport=httpx.HTTPTransport(retries=10)) as client:
            while client.get(f"http://{address}/ready", timeout=60).status_code != 200:
                assert child.poll() is None
        yield address
    finally:
        child.terminate()
        child.communicate(timeout=60)


def test_both_languages_print_the_same_commands():
    english, korean = ([re.sub(r"^#.*\n", "", "".join(blocks(page, kind)), flags=re.M) for kind in ("bash", "python")]
                       for page in PAGES)  # fmt: skip
    assert english == korean
    assert curls("README.md") == curls("README.ko.md")


@pytest.fixture(scope="module")
def answers(server):
    """What each curl printed, in the order of the page."""
    found = []
    for command in curls("README.md"):
        ran = subprocess.run(
            ["bash", "-c", command.replace(ADDRESS, server)], capture_output=True, text=True, timeout=100, check=True
        )
        found.append((command, ran.stdout))
    return found


def test_every_curl_gets_its_answer(answers):
    assert len(answers) > 15
    for command, answer in answers:
        if "/metrics" in command:
            assert "# HELP" in answer
        elif "/events" in command:
            assert "event: ready" in answer
        else:
            assert "error" not in json.loads(answer), command


def test_the_answers_are_those_a_reader_expects(answers):
    said = {command.split("-d '")[-1]: json.loads(answer) for command, answer in answers if "-d '" in command}
    sentiment = next(answer for asked, answer in said.items() if "정말 재미있었다" in asked)
    assert sentiment["result"][0]["label"] == "positive"
    entities = next(answer for asked, answer in said.items() if "이영희" in asked)
    found = {(row["word"], row["entity_group"]) for row in entities["result"]}
    assert {("이영희", "PER"), ("2024년 3월 5일", "DAT"), ("부산", "LOC"), ("삼성전자", "ORG")} <= found
    batch = next(answer for asked, answer in said.items() if "된장찌개" in asked)
    assert (batch["count"], len(batch["embeddings"][0])) == (3, batch["dim"])


def test_the_python_call_runs(server):
    (code,) = blocks("README.md", "python")
    ran = subprocess.run(
        [sys.executable, "-c", code.replace(ADDRESS, server)], capture_output=True, text=True, timeout=100, check=True
    )
    assert "김철수" in ran.stdout


def test_every_route_of_the_contract_is_shown(server):
    """A route that no curl shows, and that the text does not name either, is one nobody finds."""
    page = (PROJECT / "README.md").read_text()
    paths = httpx.get(f"http://{server}/openapi.json").json()["paths"]
    hidden = [path for path in paths if path.replace("{name}", "my-ner") not in page and path not in page]
    assert [path for path in hidden if path not in ("/session", "/docs", "/redoc")] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_link_to_a_file_has_one(page):
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", (PROJECT / page).read_text()):
        assert Path(PROJECT / target).exists(), target


@pytest.mark.parametrize("page", PAGES)
def test_every_make_target_and_script_that_is_named_exists(page):
    text = (PROJECT / page).read_text()
    targets = set(re.findall(r"^(\w+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^make (\w+)", text, re.MULTILINE)) <= targets
    for script in re.findall(r"scripts/\w+\.py", text):
        assert (PROJECT / script).exists()
