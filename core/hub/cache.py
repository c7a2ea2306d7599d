"""The Hub's cache on disk, in its documented layout: blobs, snapshots of links to them, refs from names to commits."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from core.hub.source import Source
from core.types import RepoFile

COMMIT = re.compile(r"[0-9a-f]{40}")


def repository_folder(cache_dir: Path, repo_id: str) -> Path:
    return cache_dir / f"models--{repo_id.replace('/', '--')}"


def cached_snapshot(cache_dir: Path, source: Source) -> Path | None:
    """The snapshot that `source` names, None when the cache has none."""
    folder = repository_folder(cache_dir, str(source.repo_id))
    commit = source.revision
    if not COMMIT.fullmatch(commit):
        try:
            commit = (folder / "refs" / source.revision).read_text().strip()
        except (OSError, ValueError):
            return None
    snapshot = folder / "snapshots" / commit
    return snapshot if COMMIT.fullmatch(commit) and snapshot.is_dir() else None


def has_files(snapshot: Path, files: Iterable[RepoFile]) -> bool:
    """Whether every one of `files` is in `snapshot`, at its full length."""
    try:
        return all((snapshot / file.path).stat().st_size == file.size for file in files)
    except OSError:
        return False


def write_ref(folder: Path, revision: str, commit: str) -> None:
    """Notes that `revision` is `commit`, so that it is found with no network too."""
    if revision == commit:
        return
    path = folder / "refs" / revision
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(commit)
    temporary.replace(path)
