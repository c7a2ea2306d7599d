"""A repository of the Hub as Files: its listing by one call, its small files and headers by ranged reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.hf_api import ModelInfo

from core.errors import CorruptModel
from core.hub.cache import COMMIT, repository_folder
from core.hub.client import HubClient
from core.hub.files import MAX_FILES, Card, LocalFiles, open_directory


@dataclass(frozen=True, slots=True)
class RemoteFiles:
    name: str
    revision: str
    sizes: Mapping[str, int]
    card: Card
    client: HubClient
    cached: LocalFiles | None  # the same commit in the cache, whole or in part
    directory: Path | None = None

    def read(self, path: str, start: int, length: int) -> bytes:
        if self.cached is not None and self.cached.sizes.get(path) == self.sizes[path]:
            return self.cached.read(path, start, length)
        wanted = min(length, max(0, self.sizes[path] - start))
        return self.client.read(path, self.revision, start, wanted) if wanted else b""


def open_repository(name: str, client: HubClient, revision: str, cache_dir: Path) -> RemoteFiles:
    """The files of `client`'s repository at `revision`. Raises errors of huggingface_hub."""
    info = client.info(revision)
    commit = info.sha or ""
    siblings = info.siblings or []
    if not COMMIT.fullmatch(commit):
        raise CorruptModel(f"The Hub's answer about {name} names no commit. Check HF_ENDPOINT.")
    if len(siblings) > MAX_FILES:
        raise CorruptModel(f"{name} has {len(siblings):,} files; that is not a model.")
    sizes = {each.rfilename: each.size for each in siblings if each.size is not None and _is_plain(each.rfilename)}
    snapshot = repository_folder(cache_dir, client.repo_id) / "snapshots" / commit
    cached = open_directory(name, snapshot, revision=commit) if snapshot.is_dir() else None
    return RemoteFiles(name, commit, sizes, _card(info), client, cached)


def _is_plain(path: str) -> bool:
    """Whether a path of the listing may be used at all; others are as if they were not there."""
    return bool(path) and path.isprintable() and "\\" not in path and not {"", ".", ".."} & set(path.split("/"))


def _card(info: ModelInfo) -> Card:
    data: Any = info.card_data
    license_name = data.get("license") if data is not None else None
    return Card(
        pipeline_tag=info.pipeline_tag if isinstance(info.pipeline_tag, str) else None,
        license=license_name[:64] if isinstance(license_name, str) else None,
        gated=bool(info.gated),
    )
