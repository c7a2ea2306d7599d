"""The files of a model, wherever they lie: one way to list and to read them, and what may be read at all."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from core.errors import CorruptModel, HostError

MAX_FILES = 20_000  # in one repository
MAX_DEPTH = 6  # directories below the root
MAX_DOCUMENT = 8 * 1024 * 1024  # bytes of a JSON file that is read here; indexes of large models reach 2 MB


@dataclass(frozen=True, slots=True)
class Card:
    """What the model's card or the Hub says of it; nothing here decides what runs."""

    pipeline_tag: str | None = None
    license: str | None = None
    gated: bool = False


class Files(Protocol):
    """A repository that can be read in parts."""

    @property
    def name(self) -> str:
        """As the user wrote it, for messages."""
        ...

    @property
    def revision(self) -> str:
        """Commit hash; "local" for a directory."""
        ...

    @property
    def directory(self) -> Path | None:
        """Where the files lie, None when they have to be downloaded."""
        ...

    @property
    def sizes(self) -> Mapping[str, int]:
        """Relative path → bytes."""
        ...

    @property
    def card(self) -> Card: ...

    def read(self, path: str, start: int, length: int) -> bytes:
        """At most `length` bytes from `start`; fewer at the file's end. Raises typed errors."""
        ...


def safe_path(name: str, model: str) -> str:
    """`name`, a path out of a model's own files, when it stays inside the model. Raises CorruptModel."""
    path = PurePosixPath(name)
    if not name or len(name) > 1024 or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise CorruptModel(f"{model} names the file {name[:80]!r}, which lies outside of it; it was not opened.")
    return str(path)


def read_document(files: Files, path: str) -> Any:
    """The JSON file at `path`, or None when there is none. Raises CorruptModel."""
    size = files.sizes.get(path)
    if size is None:
        return None
    if size > MAX_DOCUMENT:
        raise CorruptModel(f"{path} of {files.name} has {size:,} bytes; at most {MAX_DOCUMENT:,} are read.")
    try:
        document = json.loads(files.read(path, 0, MAX_DOCUMENT).decode("utf-8-sig"))
        json.dumps(document, ensure_ascii=False).encode()  # half a surrogate pair could never be shown to anybody
        return document
    except (ValueError, RecursionError) as error:
        raise CorruptModel(f"{path} of {files.name} is not JSON ({type(error).__name__}). Fetch it again.") from None


def read_map(files: Files, path: str) -> dict[str, Any]:
    """The JSON object at `path`; empty when there is no such file. Raises CorruptModel."""
    document = read_document(files, path)
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise CorruptModel(f"{path} of {files.name} must hold a JSON object.")
    return document


@dataclass(frozen=True, slots=True)
class LocalFiles:
    """A directory of this machine. Only regular files count, and only those that lie in it."""

    name: str
    directory: Path
    sizes: Mapping[str, int]
    card: Card
    revision: str = "local"

    def read(self, path: str, start: int, length: int) -> bytes:
        try:
            # O_NONBLOCK: a pipe put in place of the file must not hold us up
            descriptor = os.open(self.directory / path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise CorruptModel(f"{path} of {self.name} is not a regular file.")
                return _read(descriptor, start, length)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise HostError(
                f"{path} of {self.name} cannot be read: {error.strerror}. Check its permissions."
            ) from error


def _read(descriptor: int, start: int, length: int) -> bytes:
    """As `Files.read`; the kernel gives at most 2 GiB at once."""
    parts: list[bytes] = []
    while length > 0 and (part := os.pread(descriptor, length, start)):
        parts.append(part)
        start, length = start + len(part), length - len(part)
    return b"".join(parts)  # of one part it is that part


def open_directory(name: str, directory: Path, *, revision: str = "local") -> LocalFiles:
    """The files under `directory`. Raises CorruptModel when there are too many to be a model."""
    root = _owner(directory)
    sizes: dict[str, int] = {}
    for count, (folder, folders, names) in enumerate(os.walk(directory, followlinks=False)):
        relative = Path(folder).relative_to(directory)
        folders[:] = sorted(each for each in folders if not each.startswith(".") and len(relative.parts) < MAX_DEPTH)
        for each in sorted(names):
            size = _regular_size(Path(folder) / each, root)
            if size is not None:
                sizes[(relative / each).as_posix()] = size
        if count + len(sizes) > MAX_FILES:
            raise CorruptModel(f"{name} has more than {MAX_FILES:,} files; that is not a model's directory.")
    files = LocalFiles(name, directory, sizes, Card(), revision)
    return LocalFiles(name, directory, sizes, _read_card(files), revision)


def open_file(name: str, directory: Path, endings: tuple[str, ...]) -> LocalFiles:
    """The files right in `directory` whose names end in one of `endings`: a model of one file, among others."""
    root = _owner(directory)
    paths = [each for each in sorted(directory.iterdir()) if each.name.endswith(endings)]
    found = {each.name: _regular_size(each, root) for each in paths}
    return LocalFiles(name, directory, {path: size for path, size in found.items() if size is not None}, Card())


def _owner(directory: Path) -> Path:
    """Where symlinks of `directory` may lead: itself, or the repository whose snapshot in the Hub's cache it is."""
    is_snapshot = directory.parent.name == "snapshots" and directory.parent.parent.name.startswith("models--")
    return directory.parent.parent if is_snapshot else directory


def _regular_size(path: Path, root: Path) -> int | None:
    """Bytes of `path` when it is a regular file whose real place is under `root`, else None."""
    try:
        if path.is_symlink() and not path.resolve(strict=True).is_relative_to(root):
            return None
        status = path.stat()
    except (OSError, RuntimeError):
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


_FRONT_MATTER = re.compile(r"\A---\r?\n(.*?)\r?\n---", re.DOTALL)
_SCALAR = re.compile(r"""^(license|pipeline_tag):[ ]*["']?([\w.+-]{1,64})["']?[ ]*\r?$""", re.MULTILINE)


def _read_card(files: LocalFiles) -> Card:
    """The two plain values of the model card's front matter that we show."""
    if "README.md" not in files.sizes:
        return Card()
    text = files.read("README.md", 0, 65_536).decode("utf-8", errors="replace")
    front = _FRONT_MATTER.match(text)
    values = dict(_SCALAR.findall(front.group(1))) if front else {}
    return Card(values.get("pipeline_tag"), values.get("license"))
