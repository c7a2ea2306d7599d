"""What a source may be, and that the wrong ones touch neither network nor disk."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InvalidRequest, NotAllowed, RepositoryNotFound
from core.hub import Hub
from core.hub.source import Source, parse_repo_id, parse_revision

REFUSED = (InvalidRequest, RepositoryNotFound)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Hub:
    root = tmp_path_factory.mktemp("sources")
    for name in ("models/sentiment", "models/감성-분석", "models/team/ner", "models-evil", "starter/sentiment", "out"):
        (root / name).mkdir(parents=True)
    (root / "models/leads-out").symlink_to(root / "out")
    (root / "models/loop").symlink_to(root / "models/loop")
    (root / "models/stays").symlink_to(root / "models/sentiment")
    (root / "models/file").write_text("x")
    os.mkfifo(root / "models/pipe")
    return Hub(models_dir=root / "models", starter_dir=root / "starter", cache_dir=root / "cache")


_recorder: list[tuple[str, str]] | None = None


def _record(event: str, arguments: tuple[Any, ...]) -> None:
    if _recorder is not None and event in ("open", "socket.connect", "socket.getaddrinfo", "subprocess.Popen"):
        _recorder.append((event, str(arguments[0])))


sys.addaudithook(_record)


@contextmanager
def recorded() -> Iterator[list[tuple[str, str]]]:
    """Files opened, connections and processes begun inside the block."""
    global _recorder
    _recorder = []
    try:
        yield _recorder
    finally:
        _recorder = None


def test_the_recorder_sees(tmp_path: Path) -> None:
    with recorded() as seen:
        (tmp_path / "file").touch()
        with socket.socket() as connection:
            connection.connect_ex(("127.0.0.1", 9))
    assert [event for event, _ in seen][-1] == "socket.connect"


@pytest.mark.parametrize(
    ("text", "repo_id", "revision"),
    [
        ("org/name", "org/name", "main"),
        ("BAAI/bge-m3", "BAAI/bge-m3", "main"),
        ("bert-base-uncased", "bert-base-uncased", "main"),
        ("org/name@v1.0", "org/name", "v1.0"),
        ("org/name@refs/pr/1", "org/name", "refs/pr/1"),
        ("org/name@" + "a" * 40, "org/name", "a" * 40),
        ("a/" + "b" * 94, "a/" + "b" * 94, "main"),
    ],
)
def test_ids_of_the_hub(hub: Hub, text: str, repo_id: str, revision: str) -> None:
    assert hub.parse_source(text, admin=False) == Source(text, repo_id, revision)


@pytest.mark.parametrize("name", ["sentiment", "감성-분석", "team/ner", "stays", "starter:sentiment"])
def test_directories_by_name(hub: Hub, name: str) -> None:
    source = hub.parse_source(name, admin=False)
    assert source.repo_id is None
    assert source.directory is not None
    assert source.directory.is_dir()


BAD = [
    *("", " ", ".", "..", "../x", "..\\x", "%2e%2e%2f", "..%252f", "....//", "a/../b", "a/..", "./a", "a/./b"),
    *("a\0b", "a\nb", "a\tb", "a" * 300, "x" * 1_000_000, "../models-evil", "models/../../out"),
    *("http://169.254.169.254/", "file:///etc/passwd", "hf://org/name", "user:pw@host", "https:x"),
    *("org/my name", "a/b/c", "a--b/c", "org/a..b", "o/" + "n" * 95, "org/name.git", "-org/name", "org/name-"),
    *("CON", "nul", "org/COM1", "org/aux.txt", "name.", "name ", " name", ".hidden", "name\n", "org/", "org//x"),
    *("caf\u00e9", "cafe\u0301", "org/na\u200bme", "org/\u202ename", "оrg/name", "org/name\uff0e", "ｏrg/name"),
    *("org/name@", "org/name@../x", "org/name@a b", "org/name@-x", "org/name@a//b", "org/name@" + "r" * 1_000_000),
    *("org/name@x\0", "org/name@a@b", "org/name@refs/../x", "org/name@x.lock", "org/name@/etc", "@main", "org@@x"),
    *("leads-out", "loop", "file", "pipe", "sentiment/..", "sentiment@main@x"),
    *("starter:", "starter:../models", "starter:none", "starter:a/b", "starter:/etc", "starter:sentiment@x"),
]


@pytest.mark.parametrize("admin", [False, True])
@pytest.mark.parametrize("text", BAD, ids=lambda text: ascii(text[:30]))
def test_everything_else_is_refused_untouched(hub: Hub, text: str, admin: bool) -> None:
    with recorded() as seen, pytest.raises(REFUSED) as caught:
        hub.parse_source(text, admin=admin)
    assert len(caught.value.message) < 400
    assert seen == []


@pytest.mark.parametrize(
    "text", ["/etc/passwd", "/proc/self/environ", "/dev/zero", "/dev", "/proc/self", "/sys", "//x/y"]
)
def test_paths_are_refused(hub: Hub, text: str) -> None:
    with pytest.raises(NotAllowed):
        hub.parse_source(text, admin=False)
    with recorded() as seen, pytest.raises(REFUSED):
        hub.parse_source(text, admin=True)
    assert seen == []


def test_an_admin_may_name_a_path(hub: Hub, tmp_path: Path) -> None:
    assert hub.parse_source(str(tmp_path), admin=True).directory == tmp_path.resolve()
    (tmp_path / "kernel").symlink_to("/proc")
    for text in (f"{tmp_path}/none", f"{tmp_path}/../x", f"{tmp_path}/kernel"):
        with pytest.raises(REFUSED):
            hub.parse_source(text, admin=True)


@given(st.text(max_size=120))
def test_any_text_is_a_source_or_refused(hub: Hub, text: str) -> None:
    try:
        source = hub.parse_source(text, admin=False)
    except (*REFUSED, NotAllowed):
        return
    if source.repo_id is not None:
        assert parse_repo_id(source.repo_id) == source.repo_id
        assert parse_revision(source.revision) == source.revision
    else:
        assert source.directory is not None


@given(st.from_regex(r"[A-Za-z0-9_.-]{1,60}(/[A-Za-z0-9_.-]{1,60})?", fullmatch=True))
def test_ids_follow_the_rules_of_huggingface_hub(text: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    if parse_repo_id(text) is None:
        return  # we may refuse more, such as names of devices; never less
    try:
        validate_repo_id(text)
    except HFValidationError as error:
        raise AssertionError(f"{text!r} was taken") from error
