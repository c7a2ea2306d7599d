"""Calls that this project does without: each has been a hole or a hang in a server like this one."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("core", "api", "ui", "scripts", "starter", "bench", "tests", "deploy")

PICKLES = ("pickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle")
PICKLING_PIPES = ("multiprocessing.connection", "multiprocessing.managers", "multiprocessing.queues")

# where a ban does not hold, and why
MAY_UNPICKLE = (
    "scripts/import_kobert.py",  # reads pickles with an interpreter that runs nothing
    "scripts/kobert/",
    "tests/scripts/",  # makes the pickles that it must read or refuse
)
MAY_READ_ENVIRONMENT = (
    "app.py",  # the composition root
    "core/settings.py",  # the one reader
    "core/fleet/launcher.py",  # hands a worker its environment, less the secrets
    "core/hub/child.py",  # sets huggingface_hub's own switches before it is imported
    "core/worker/forkserver.py",  # sets the libraries' own switches before they are imported
)
SERVER = ("core/", "api/", "ui/", "app.py")


def _dotted(node: ast.AST) -> str:
    """`a.b.c` for a chain of attributes of a name, else ""."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = _dotted(node.value)
        return f"{base}.{node.attr}" if base else ""
    return ""


def _modules(node: ast.AST) -> list[str]:
    """What an import statement names: `from a import b` gives `a` and `a.b`."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []


def _is_true(node: ast.AST) -> bool:
    return not (isinstance(node, ast.Constant) and not node.value)


def _pickles(node: ast.AST) -> bool:
    pipes = any(name.startswith(PICKLING_PIPES) for name in _modules(node))
    return pipes or any(name.split(".")[0] in PICKLES for name in _modules(node))


def _loads_with_torch_unguarded(node: ast.AST) -> bool:
    if not (isinstance(node, ast.Call) and _dotted(node.func) == "torch.load"):
        return False
    guards = [keyword.value for keyword in node.keywords if keyword.arg == "weights_only"]
    return not (guards and isinstance(guards[0], ast.Constant) and guards[0].value is True)


def _evaluates(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom) and node.module == "ast":
        return any(alias.name == "literal_eval" for alias in node.names)
    return isinstance(node, ast.Call) and _dotted(node.func) in ("eval", "exec", "builtins.eval", "ast.literal_eval")


def _renders_unsandboxed(node: ast.AST) -> bool:
    names = ("jinja2.Environment", "jinja2.Template", "jinja2.environment.Environment")
    return any(name in names for name in _modules(node)) or _dotted(node) in names


def _trusts_remote_code(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return any(keyword.arg == "trust_remote_code" and _is_true(keyword.value) for keyword in node.keywords)
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return any(
            isinstance(key, ast.Constant) and key.value == "trust_remote_code" and _is_true(v) for key, v in pairs
        )
    return False


def _runs_a_shell(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    shell = any(keyword.arg == "shell" and _is_true(keyword.value) for keyword in node.keywords)
    return shell or _dotted(node.func) in ("os.system", "os.popen", "asyncio.create_subprocess_shell")


def _sleeps(node: ast.AST) -> bool:
    return _dotted(node) == "time.sleep" or "time.sleep" in _modules(node)


def _reads_environment(node: ast.AST) -> bool:
    names = ("os.environ", "os.getenv", "os.environb")
    return _dotted(node) in names or any(name in names for name in _modules(node))


# what -> (is it, where it is banned, where it is not)
BANS: dict[str, tuple[Callable[[ast.AST], bool], tuple[str, ...], tuple[str, ...]]] = {
    "pickle": (_pickles, ("",), MAY_UNPICKLE),
    "torch.load without weights_only=True": (_loads_with_torch_unguarded, ("",), ("tests/",)),
    "eval, exec or literal_eval": (_evaluates, ("",), ()),
    "jinja2 outside its sandbox": (_renders_unsandboxed, ("",), ()),
    "the code of a repository": (_trusts_remote_code, ("",), ("tests/",)),  # tests ask for it, and are refused
    "a shell": (_runs_a_shell, ("",), ("tests/scripts/",)),
    "time.sleep": (_sleeps, SERVER, ()),
    "the environment": (_reads_environment, SERVER, MAY_READ_ENVIRONMENT),
}


def offences(path: str, source: str) -> Iterator[str]:
    nodes = list(ast.walk(ast.parse(source, path)))
    for what, (is_it, banned, allowed) in BANS.items():
        if path.startswith(banned) and not (allowed and path.startswith(allowed)):
            yield from (f"{path}:{getattr(node, 'lineno', 0)} uses {what}" for node in nodes if is_it(node))


def _sources() -> list[str]:
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")] + [ROOT / "app.py"]
    return sorted(path.relative_to(ROOT).as_posix() for path in found if path.exists())


@pytest.mark.parametrize("path", _sources())
def test_nothing_banned_is_used(path: str) -> None:
    assert list(offences(path, (ROOT / path).read_text("utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "from multiprocessing import connection",
        "import torch\ntorch.load('weights.bin')",
        "import torch\ntorch.load('weights.bin', weights_only=False)",
        "eval('1')",
        "import ast\nast.literal_eval('1')",
        "from ast import literal_eval",
        "from jinja2 import Environment",
        "import jinja2\njinja2.Environment()",
        "load(trust_remote_code=True)",
        "options = {'trust_remote_code': wanted}",
        "import subprocess\nsubprocess.run('ls', shell=True)",
        "import os\nos.system('ls')",
        "import time\ntime.sleep(1)",
        "from time import sleep",
        "import os\nos.environ['HOME']",
        "from os import getenv",
    ],
)
def test_an_offence_is_seen(source: str) -> None:
    assert list(offences("core/example.py", source)) != []


@pytest.mark.parametrize(
    "source",
    [
        "model.eval()",
        "import torch\ntorch.load('weights.bin', weights_only=True, map_location='cpu')",
        "load(trust_remote_code=False)",
        "from jinja2.sandbox import ImmutableSandboxedEnvironment",
        "import asyncio\nasync def wait():\n    await asyncio.sleep(0)",
    ],
)
def test_what_is_allowed_is_no_offence(source: str) -> None:
    assert list(offences("core/example.py", source)) == []
