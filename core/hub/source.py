"""Where a model comes from, told from what the user wrote. Reads no network and opens no file."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from core.errors import InvalidRequest, NotAllowed, RepositoryNotFound

MAX_SOURCE = 512  # characters; longer is never a name
STARTER_PREFIX = "starter:"
DEFAULT_REVISION = "main"

# The Hub's own rules: 96 characters in all and in each part, word characters, dots and dashes, none at an end.
_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
_REPO_ID = re.compile(rf"{_PART}(?:/{_PART})?")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+/-]{0,254}")
# Names of local directories: the same, and precomposed Hangul, whose spelling in Unicode is one alone.
_LOCAL_PART = r"[A-Za-z0-9_가-힣](?:[A-Za-z0-9_.가-힣-]{0,94}[A-Za-z0-9_가-힣])?"
_LOCAL_NAME = re.compile(rf"{_LOCAL_PART}(?:/{_LOCAL_PART}){{0,3}}")
# Names that mean a device on some systems, whatever their extension.
_DEVICE_NAME = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)
# How a GGUF file is quantised, as its name says it and as it may stand behind a source: `org/name:Q4_K_M`.
QUANTIZATION = r"(?:UD-)?(?:I?Q\d|TQ\d|MXFP4|NVFP4|BF16|FP?16|FP?32)[A-Za-z0-9_]{0,16}"
_VARIANT = re.compile(rf"(.+):({QUANTIZATION})", re.IGNORECASE | re.DOTALL)
_FILES = (".gguf", ".onnx")  # a model may be one such file
_KERNEL_ROOTS = (Path("/dev"), Path("/proc"), Path("/sys"))
_HOW = (
    "Write a Hub id such as `org/name` or `org/name@revision`, or the name of a directory or a .gguf or .onnx file "
    "under the models directory."
)


@dataclass(frozen=True, slots=True)
class Source:
    """Either a repository of the Hub (`repo_id`, `revision`) or a `directory` of this machine."""

    text: str  # as the user wrote it
    repo_id: str | None = None
    revision: str = DEFAULT_REVISION
    directory: Path | None = None  # resolved
    file: str | None = None  # the one file of `directory` that was named


def split_variant(text: str) -> tuple[str, str | None]:
    """A source without the quantisation behind it, and that quantisation."""
    found = _VARIANT.fullmatch(text)
    return (found[1], found[2]) if found else (text, None)


def parse_revision(text: str) -> str:
    """A branch, tag, commit or `refs/pr/N`. Raises InvalidRequest."""
    broken = "..", "//", "/.", "./", "@{"
    if (
        len(text) > 255
        or not _REVISION.fullmatch(text)
        or any(part in text for part in broken)
        or text.endswith((".", "/", ".lock"))
    ):
        raise InvalidRequest(f"{_shown(text)} is not a revision. Give a branch, a tag, a commit or refs/pr/N.")
    return text


def parse_repo_id(text: str) -> str | None:
    """`text` when the Hub would take it as a repository's id, else None."""
    if len(text) > 96 or not _REPO_ID.fullmatch(text) or "--" in text or ".." in text or text.endswith(".git"):
        return None
    if any(_DEVICE_NAME.fullmatch(part) for part in text.split("/")):
        return None
    return text


def _shown(text: str) -> str:
    """`text` short and printable, fit for a message."""
    return repr(text if len(text) <= 80 else text[:77] + "…")


def _inside(root: Path, name: str) -> tuple[Path, str | None] | None:
    """The directory `name` under `root`, symlinks followed, or that of the file `name` and its name in it.

    None when there is neither, or when it leads outside.
    """
    try:
        base = root.resolve()
        place, file = _place(base / name)
    except (OSError, RuntimeError, ValueError):  # RuntimeError: a symlink loop
        return None
    is_inside = place.is_relative_to(base) and (file is not None or place != base)
    return (place, file) if is_inside and place.is_dir() else None


def _place(path: Path) -> tuple[Path, str | None]:
    """`path` resolved; for a file its directory, resolved, and its name. Raises OSError or RuntimeError."""
    if path.name.endswith(_FILES) and not path.is_dir():
        path.stat()
        return path.parent.resolve(strict=True), path.name
    return path.resolve(strict=True), None


def _absolute(text: str, *, admin: bool) -> Source:
    if not admin:
        raise NotAllowed(f"Loading by an absolute path needs the admin key. {_HOW}")
    path = Path(text)
    if ".." in path.parts or text.startswith("//") or any(path.is_relative_to(root) for root in _KERNEL_ROOTS):
        raise InvalidRequest(f"{_shown(text)} cannot be a model's directory. Give the absolute path of one.")
    try:
        found, file = _place(path)
    except (OSError, RuntimeError):
        raise _no_directory(text) from None
    if not found.is_dir() or any(found.is_relative_to(root) for root in _KERNEL_ROOTS):
        raise _no_directory(text)
    return Source(text, directory=found, file=file)


def _no_directory(text: str) -> RepositoryNotFound:
    return RepositoryNotFound(f"There is no directory {_shown(text)} on the server. Check the path.")


def parse_source(text: str, *, models_dir: Path, starter_dir: Path, admin: bool) -> Source:
    """`text` as a Source, a quantisation behind it left aside: `split_variant`.

    A directory or file under `models_dir` comes before a repository of the same name.

    Raises InvalidRequest for what is neither, NotAllowed for a path without `admin`, RepositoryNotFound
    for a directory that does not exist.
    """
    if not isinstance(text, str) or not text:
        raise InvalidRequest(f"The model's source is missing. {_HOW}")
    if len(text) > MAX_SOURCE or not text.isprintable():
        raise InvalidRequest(f"{_shown(text)} is not a model's source. {_HOW}")
    plain, _ = split_variant(text)
    if text.startswith("/"):
        return replace(_absolute(plain, admin=admin), text=text)
    if text.startswith(STARTER_PREFIX):
        name = plain.removeprefix(STARTER_PREFIX)
        place = _inside(starter_dir, name) if _LOCAL_NAME.fullmatch(name) and "/" not in name else None
        if place is None:
            raise RepositoryNotFound(f"There is no starter model {_shown(name)}. See the catalogue for their names.")
        return Source(text, directory=place[0], file=place[1])
    name, at, _ = plain.partition("@")
    if not at and _LOCAL_NAME.fullmatch(name) and ".." not in name and os.path.lexists(models_dir / name):
        place = _inside(models_dir, name)
        if place is None:
            raise RepositoryNotFound(f"{_shown(name)} in the models directory is no directory, or leads out of it.")
        return Source(text, directory=place[0], file=place[1])
    found_on_hub = parse_hub_id(text)
    if found_on_hub is not None:
        return found_on_hub
    if not at and _LOCAL_NAME.fullmatch(name) and ".." not in name and "--" not in name:
        raise RepositoryNotFound(f"There is no directory {_shown(name)} under the models directory. {_HOW}")
    raise InvalidRequest(f"{_shown(text)} is not a model's source. {_HOW}")


def parse_hub_id(text: str) -> Source | None:
    """`org/name[@revision]` as a Source, None when the id is none. Raises InvalidRequest for a wrong revision."""
    name, at, revision = split_variant(text)[0].partition("@")
    repo_id = parse_repo_id(name)
    if repo_id is None:
        return None
    return Source(text, repo_id=repo_id, revision=parse_revision(revision) if at else DEFAULT_REVISION)
