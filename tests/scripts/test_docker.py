"""The Dockerfile and compose files, read as a builder reads them: what a Space demands and what would break in one."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent


def instructions() -> list[tuple[str, str]]:
    """(keyword, arguments) in order: comments dropped, continued lines joined."""
    lines = [line for line in (ROOT / "Dockerfile").read_text("utf-8").splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]  # type: ignore[misc]


def all_of(keyword: str) -> list[str]:
    return [arguments for name, arguments in instructions() if name == keyword]


def environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for line in all_of("ENV") for pair in shlex.split(line))


def ignored(path: str) -> bool:
    """Whether `.dockerignore` keeps `path` out of the build."""
    patterns = [line for line in (ROOT / ".dockerignore").read_text("utf-8").split("\n") if line and line[0] != "#"]
    parents = ["/".join(path.split("/")[: depth + 1]) for depth in range(path.count("/") + 1)]
    return any(
        fnmatch(part, pattern.removeprefix("**/")) or fnmatch(part, pattern) for pattern in patterns for part in parents
    )


def test_it_ends_as_user_1000_on_port_7860() -> None:
    assert all_of("USER")[-1] == "1000"
    assert any("--uid 1000" in run for run in all_of("RUN"))
    assert all_of("EXPOSE") == ["7860"]
    assert (environment()["HOST"], environment()["PORT"]) == ("0.0.0.0", "7860")


def test_every_copied_source_is_there_and_owned_by_the_user() -> None:
    copies = all_of("COPY")
    assert copies
    for copy in copies:
        assert "--chown=1000:1000" in copy
        if "--from=" in copy:
            continue
        *sources, _ = (part for part in copy.split() if not part.startswith("--"))
        for source in sources:
            assert (ROOT / source).exists(), source
            assert not ignored(source), source


def test_no_layer_is_doubled_by_a_recursive_chown_and_no_cache_is_kept() -> None:
    runs = " ".join(all_of("RUN"))
    assert "chown -R" not in runs
    assert "chmod -R" not in runs
    assert runs.count("pip install") + runs.count("pip wheel") == runs.count("--no-cache-dir")


def test_the_command_and_health_check_are_in_exec_form() -> None:
    assert json.loads(all_of("CMD")[-1]) == ["python", "app.py"]
    check = json.loads(all_of("HEALTHCHECK")[0].partition("CMD ")[2])
    assert check[:2] == ["python", "-c"]
    compile(check[2], "healthcheck", "exec")
    assert "/health" in check[2]


def test_whatever_is_written_at_run_time_is_on_the_volume_or_in_tmp() -> None:
    places = ("BERTH_DATA_DIR", "BERTH_MODELS_DIR", "HF_HOME", "GRADIO_TEMP_DIR", "XDG_CACHE_HOME")
    assert all(environment()[name].startswith(("/home/user/data", "/tmp/")) for name in places)
    service = compose("compose.yaml")["services"]["berth"]
    assert service["volumes"] == ["data:/home/user/data"]
    assert service["tmpfs"] == ["/tmp"]
    assert service["read_only"] is True


def test_the_requirements_are_installed_before_the_code_is_copied() -> None:
    order = [(name, arguments) for name, arguments in instructions() if name in ("COPY", "RUN")]
    install = next(index for index, (_, arguments) in enumerate(order) if "-r requirements.txt" in arguments)
    everything = next(
        index for index, (name, arguments) in enumerate(order) if name == "COPY" and arguments.endswith(". .")
    )
    assert install < everything


def test_torch_is_pinned_by_the_one_line_the_build_reads() -> None:
    lines = [line for line in (ROOT / "requirements.txt").read_text("utf-8").splitlines() if line.startswith("torch==")]
    assert lines == ["torch==2.13.0"]


@pytest.mark.parametrize(
    "path", [".env", ".env.local", ".git/config", "data/x", "models/a/b", ".venv/bin/python", "a/__pycache__/b.pyc"]
)
def test_secrets_and_data_stay_out_of_the_build(path: str) -> None:
    assert ignored(path)


def test_what_the_app_needs_is_in_the_build() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    needed = [path for path in listed if path.startswith(("core/", "api/", "ui/", "starter/")) or path == "app.py"]
    assert needed
    assert [path for path in needed if ignored(path)] == []


def compose(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / "deploy" / name).read_text("utf-8"))


def test_compose_builds_this_project_and_passes_no_secret_into_the_image() -> None:
    service = compose("compose.yaml")["services"]["berth"]
    assert (ROOT / "deploy" / service["build"]["context"] / "Dockerfile").exists()
    assert list(service["build"]["args"]) == all_args()
    assert service["ports"][0].endswith(":7860")
    assert compose("compose.gpu.yaml")["services"].keys() == {"berth"}


def all_args() -> list[str]:
    return [arguments.split("=")[0] for arguments in all_of("ARG")]
