"""Who may import whom. Walks every import, those inside functions too; `docs/architecture.md` says why."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = (
    "torch",
    "transformers",
    "sentence_transformers",
    "llama_cpp",
    "onnxruntime",
    "bitsandbytes",
    "accelerate",
    "tokenizers",
    "safetensors",
    "sentencepiece",
)
HTTP = ("fastapi", "starlette", "uvicorn")
PAGE = ("gradio", "gradio_client")
LAUNCHER = "core/fleet/launcher.py"

# folder or file -> what nothing in it may import; the first row that a path starts with is the one that holds
WALLS: dict[str, tuple[str, ...]] = {
    "core/worker/": ("app", "api", "ui", "core.fleet", "core.hub", "core.settings", *HTTP, *PAGE),
    "core/": ("app", "api", "ui", *HEAVY, *HTTP, *PAGE),
    "api/": ("app", "ui", "core.worker", *HEAVY, *PAGE),
    "ui/": ("app", "api", "core.worker", *HEAVY, *HTTP),
    "app.py": ("core.worker", *HEAVY),
}


def sources() -> list[str]:
    """Paths relative to the project of every module that a wall stands around."""
    found = [*ROOT.glob("core/**/*.py"), *ROOT.glob("api/**/*.py"), *ROOT.glob("ui/**/*.py"), ROOT / "app.py"]
    return sorted(path.relative_to(ROOT).as_posix() for path in found if path.exists())


def imported(tree: ast.AST, path: str) -> Iterator[tuple[int, str]]:
    """(line, full module name) of every import, relative ones resolved; `from a import b` gives both `a` and `a.b`."""
    package = path.removesuffix(".py").removesuffix("/__init__").split("/")
    if not path.endswith("__init__.py"):
        package = package[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield node.lineno, module
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "import_module"):
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield node.lineno, first.value


def breaches(path: str, source: str) -> list[str]:
    """A line for each import in `source` that goes through a wall, and each naming of the worker where none is due."""
    tree = ast.parse(source, path)
    walls = next((banned for room, banned in WALLS.items() if path.startswith(room)), ())
    found = {
        f"{path}:{line} imports {wall}"
        for line, module in imported(tree, path)
        for wall in walls
        if module == wall or module.startswith(f"{wall}.")
    }
    if not path.startswith("core/worker/") and path != LAUNCHER:
        found |= {f"{path}:{line} names core.worker" for line in _names_the_worker(tree, path)}
    return sorted(found)


def _names_the_worker(tree: ast.AST, path: str) -> Iterator[int]:
    """Lines that import the worker, or hold its name as a string for others to import."""
    yield from (line for line, module in imported(tree, path) if f"{module}.".startswith("core.worker."))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("core.worker"):
            yield node.lineno


@pytest.mark.parametrize("path", sources())
def test_no_import_goes_through_a_wall(path: str) -> None:
    assert breaches(path, (ROOT / path).read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("core/chat/reply.py", "def late():\n    import torch.cuda"),
        ("core/hub/inspect.py", "from transformers import AutoConfig"),
        ("core/fleet/registry.py", "from ..worker import main"),
        ("core/fleet/registry.py", "from core import worker"),
        ("core/fleet/registry.py", "WORKER = 'core.worker.main'"),
        ("core/core.py", "import importlib\nimportlib.import_module('gradio')"),
        ("core/worker/main.py", "from fastapi import FastAPI"),
        ("core/worker/main.py", "from core.settings import Settings"),
        ("api/models.py", "import ui.page"),
        ("ui/classify.py", "from api.errors import respond"),
        ("ui/classify.py", "import fastapi"),
        ("app.py", "from core.worker.main import serve"),
    ],
)
def test_a_breach_is_seen(path: str, source: str) -> None:
    assert breaches(path, source) != []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("core/worker/runtimes/encoder.py", "import torch\nfrom core.types import Task\nfrom .base import Row"),
        (LAUNCHER, "SERVER = 'core.worker.forkserver'"),
        ("core/hub/fetch.py", "import huggingface_hub\nfrom . import inspect"),
        ("api/models.py", "from fastapi import APIRouter\nfrom core.core import Core"),
        ("app.py", "import uvicorn\nfrom ui.page import page\nfrom api.app import create_api"),
    ],
)
def test_what_is_allowed_is_not_a_breach(path: str, source: str) -> None:
    assert breaches(path, source) == []


def test_the_front_process_loads_no_heavy_library() -> None:
    """Not even through a library in between: what is imported at start is start-up time and memory for good."""
    modules = [
        path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for path in sources()
        if not path.startswith("core/worker/")
    ]
    banned = [name for name in HEAVY if name not in ("tokenizers", "safetensors")]
    program = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"print([name for name in {banned!r} if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip().splitlines()[-1] == "[]"
