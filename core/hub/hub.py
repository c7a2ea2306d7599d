"""The Hub as the fleet sees it: what is this model, and bring it here."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from core.errors import BerthError, CorruptModel, HubBusy, HubUnreachable, InvalidRequest
from core.graphs import graphs_of
from core.hub.cache import cached_snapshot, has_files, repository_folder
from core.hub.files import open_directory, open_file
from core.hub.gguf_repository import identify_gguf
from core.hub.graph import external_data
from core.hub.identify import identify
from core.hub.process import ask
from core.hub.source import DEFAULT_REVISION, STARTER_PREFIX, Source, parse_hub_id, parse_revision, parse_source
from core.hub.tensors import read_tensors
from core.types import Anatomy, FileProgress, Inspection, ModelSpec, RepoFile, Runtime, Task

_BESIDE_GRAPH = (".onnx", ".onnx_data", ".onnx.data", ".json", ".txt", ".model", ".jinja")  # files of one such model
_MAX_INSPECTIONS = 4  # processes at once that ask the Hub what a repository is


class Hub:
    """Finds models in the Hub, its cache and the directories of this machine.

    `timeout_s` bounds each wait on a socket; `retry_wait_s` is the first pause before a busy Hub is asked again.
    """

    def __init__(
        self,
        *,
        models_dir: Path,
        starter_dir: Path,
        endpoint: str | None = None,
        token: str | None = None,
        offline: bool = False,
        allow_pickle: bool = True,
        cache_dir: Path | None = None,
        timeout_s: float = 20.0,
        retry_wait_s: float = 1.0,
    ) -> None:
        self._models_dir, self._starter_dir = models_dir, starter_dir
        self._offline, self._allow_pickle = offline, allow_pickle
        self._cache_dir = (cache_dir or _default_cache()).absolute()
        self._inspections = asyncio.Semaphore(_MAX_INSPECTIONS)
        self._client: dict[str, Any] = {
            "endpoint": endpoint.rstrip("/") if endpoint else None,
            "token": token,
            "timeout_s": timeout_s,
            "retry_wait_s": retry_wait_s,
        }

    def parse_source(self, source: str, *, admin: bool) -> Source:
        """`source` as a Source, with no call of the network. Raises InvalidRequest, NotAllowed, RepositoryNotFound."""
        return parse_source(source, models_dir=self._models_dir, starter_dir=self._starter_dir, admin=admin)

    def has_starter(self, source: str) -> bool:
        """Whether the starter model of the catalogue's `source` came with this installation."""
        return (self._starter_dir / source.removeprefix(STARTER_PREFIX)).is_dir()

    def disk_free(self) -> int:
        """Bytes that a download may take."""
        return shutil.disk_usage(
            next(each for each in (self._cache_dir, *self._cache_dir.parents) if each.exists())
        ).free

    async def inspect(self, spec: ModelSpec, *, admin: bool = False) -> Inspection:
        """What `spec` names and what loading it takes, before any weights move.

        `spec.file` of the result is the ONNX or GGUF file to load, where there is one. Raises typed errors.
        """
        source = self._source(spec, admin=admin)
        pickle_allowed = admin and self._allow_pickle
        if source.directory is not None and source.file is not None:
            return await asyncio.to_thread(_inspect_file, spec, source.directory, source.file)
        if source.directory is not None:
            return await self._inspect_directory(spec, source.directory, pickle_allowed, "local")
        if self._offline:
            return await self._inspect_cache(spec, source, pickle_allowed)
        try:
            inspection = await self._inspect_hub(spec, source, pickle_allowed)
        except (HubUnreachable, HubBusy) as error:
            return await self._fall_back(spec, source, pickle_allowed, error)
        snapshot = repository_folder(self._cache_dir, str(source.repo_id)) / "snapshots" / inspection.revision
        return replace(inspection, local=str(snapshot)) if has_files(snapshot, inspection.files) else inspection

    async def fetch(self, inspection: Inspection, on_progress: Callable[[FileProgress], None]) -> Path:
        """The directory of the model with all its files in place. Raises typed errors.

        Cancelling the task stops the download at once and takes away what it wrote; a download that fails keeps
        its bytes, and the next one goes on from there.
        """
        spec = inspection.spec
        if inspection.local is not None:
            return Path(inspection.local)
        source = _with_revision(spec, parse_hub_id(spec.source))
        request = {
            "op": "download",
            "name": _shown_name(source),
            "client": {"repo_id": source.repo_id, **self._client},
            "cache_dir": str(self._cache_dir),
            "commit": inspection.revision,
            "revision": source.revision,
            "files": [asdict(file) for file in inspection.files],
        }
        path = Path(await ask(request, on_progress))
        if inspection.runtime is Runtime.ONNXRUNTIME:
            await asyncio.to_thread(_check_graph, _shown_name(source), path, str(spec.file))
        else:
            await asyncio.to_thread(_check_headers, _shown_name(source), path, inspection)
        return path

    def _source(self, spec: ModelSpec, *, admin: bool) -> Source:
        return _with_revision(spec, self.parse_source(spec.source, admin=admin))

    async def _inspect_directory(
        self, spec: ModelSpec, directory: Path, pickle_allowed: bool, revision: str
    ) -> Inspection:
        def read() -> Inspection:
            files = open_directory(spec.name, directory, revision=revision)
            return identify(files, spec, pickle_allowed=pickle_allowed)

        return await asyncio.to_thread(read)

    async def _inspect_hub(self, spec: ModelSpec, source: Source, pickle_allowed: bool) -> Inspection:
        request = {
            "op": "inspect",
            "name": _shown_name(source),
            "client": {"repo_id": source.repo_id, **self._client},
            "cache_dir": str(self._cache_dir),
            "revision": source.revision,
            "spec": asdict(spec),
            "pickle_allowed": pickle_allowed,
        }
        async with self._inspections:
            return _decode_inspection(spec, await ask(request))

    async def _inspect_cache(self, spec: ModelSpec, source: Source, pickle_allowed: bool) -> Inspection:
        """The model as the cache has it. Raises HubUnreachable that says what is missing."""
        snapshot = cached_snapshot(self._cache_dir, source)
        if snapshot is None:
            raise HubUnreachable(
                f"Offline mode is on and {_shown_name(source)} is not in the cache. Unset HF_HUB_OFFLINE to fetch it."
            )
        try:
            return await self._inspect_directory(spec, snapshot, pickle_allowed, snapshot.name)
        except CorruptModel as error:
            raise HubUnreachable(f"{error.message} Offline mode is on: unset HF_HUB_OFFLINE to fetch it.") from error

    async def _fall_back(self, spec: ModelSpec, source: Source, pickle_allowed: bool, error: BerthError) -> Inspection:
        """The cached copy of a model while the Hub is out of reach; `error` when there is none that is whole."""
        if cached_snapshot(self._cache_dir, source) is None:
            raise error
        try:
            inspection = await self._inspect_cache(spec, source, pickle_allowed)
        except HubUnreachable:
            raise error from None
        note = "The Hub could not be asked; the copy in the cache is used."
        return replace(inspection, warnings=(*inspection.warnings, note))


def _with_revision(spec: ModelSpec, source: Source | None) -> Source:
    """`source` at the revision that `spec` gives beside it. Raises InvalidRequest when the two do not fit."""
    if source is None:
        raise InvalidRequest(f"{spec.name} is no repository of the Hub, so there is nothing to download.")
    if spec.revision is None:
        return source
    revision = parse_revision(spec.revision)
    if source.repo_id is None:
        raise InvalidRequest(f"{spec.name} is a directory of this machine and has no revisions. Leave it out.")
    if "@" in source.text and source.revision != revision:
        raise InvalidRequest(f"{spec.name}: `revision` and the source name two revisions. Give one of them.")
    return replace(source, revision=revision)


def _default_cache() -> Path:
    from huggingface_hub import constants  # knows HF_HOME and its kin; imported late, it costs start-up time

    return Path(constants.HF_HUB_CACHE)


def _shown_name(source: Source) -> str:
    return str(source.repo_id) if source.revision == DEFAULT_REVISION else f"{source.repo_id}@{source.revision}"


def _inspect_file(spec: ModelSpec, directory: Path, file: str) -> Inspection:
    """A model that is one file, or the first of several parts."""
    if spec.file not in (None, file):
        raise InvalidRequest(f"{spec.name}: `file` and the source name two files. Give one of them.")
    endings = (".gguf",) if file.endswith(".gguf") else _BESIDE_GRAPH
    return identify(open_file(spec.name, directory, endings), replace(spec, file=file), pickle_allowed=False)


def _check_graph(name: str, directory: Path, file: str) -> None:
    """Reads where a graph that was downloaded keeps its tensors. Raises CorruptModel."""
    files = open_directory(name, directory)
    for each in graphs_of(file, files.sizes):
        external_data(files, each)


def _check_headers(name: str, directory: Path, inspection: Inspection) -> None:
    """Reads the headers of all parts, of which only the first were before they were here. Raises CorruptModel."""
    files = open_directory(name, directory)
    if inspection.runtime is Runtime.LLAMA_CPP:
        identify_gguf(files, inspection.spec)
    else:
        read_tensors(files, [file.path for file in inspection.files if file.path.endswith(".safetensors")])


def _decode_inspection(spec: ModelSpec, raw: dict[str, Any]) -> Inspection:
    """An Inspection as it crossed the pipe; the spec is the caller's own, with the file that was chosen."""
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in raw.items()}
    values["spec"] = replace(spec, file=raw["spec"]["file"])
    values["files"] = tuple(RepoFile(**each) for each in raw["files"])
    values["runtime"] = Runtime(raw["runtime"])
    values["anatomy"] = Anatomy(**raw["anatomy"])
    values["tasks"] = tuple(Task(each) for each in raw["tasks"])
    return Inspection(**values)
