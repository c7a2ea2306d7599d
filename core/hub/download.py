"""Downloads into the Hub's cache: resumed where a connection was cut, verified by hash, undone when cancelled."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import WeakFileLock, hf_raise_for_status  # type: ignore[attr-defined]

from core.errors import CorruptModel, DiskFull
from core.hub.cache import has_files, repository_folder, write_ref
from core.hub.client import DROPPED, HubClient, Patience
from core.hub.interrupts import Cancelled
from core.types import FileProgress, RepoFile

DISK_MARGIN = 64 * 1024 * 1024  # bytes that a download leaves free
_REPORT_S = 0.2  # seconds between two reports
_RATE_WINDOW = 50  # reports that the rate is taken over


class Progress:
    """Bytes over all files, reported a few times a second."""

    def __init__(self, total: int, report: Callable[[FileProgress], None]) -> None:
        self._total, self._report = total, report
        self._done = 0
        self._samples: deque[tuple[float, int]] = deque(maxlen=_RATE_WINDOW)

    def add(self, file: str, count: int, *, is_transfer: bool = True) -> None:
        """`count` more bytes are here (fewer, when negative); those not transferred do not count for the rate."""
        self._done += count
        now = time.monotonic()
        if not is_transfer:
            self._samples.clear()
        if self._done < self._total and self._samples and now - self._samples[-1][0] < _REPORT_S:
            return
        self._samples.append((now, self._done))
        (first, begun), (last, done) = self._samples[0], self._samples[-1]
        rate = (done - begun) / (last - first) if last > first else 0.0
        eta_s = (self._total - self._done) / rate if rate > 0 else None
        self._report(FileProgress(file, self._done, self._total, eta_s))


@dataclass(frozen=True, slots=True)
class Blob:
    """One file's content as the cache keeps it: under its hash, SHA-256 for large files, git's SHA-1 for others."""

    path: str
    etag: str
    size: int

    def hasher(self) -> Any:
        if len(self.etag) == 64:
            return hashlib.sha256()
        return hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)


class Download:
    """All files of one model, one after the other."""

    def __init__(
        self,
        client: HubClient,
        cache_dir: Path,
        commit: str,
        files: list[RepoFile],
        report: Callable[[FileProgress], None],
    ) -> None:
        self._client, self._commit, self._files = client, commit, files
        self._cache_dir = cache_dir
        self._folder = repository_folder(cache_dir, client.repo_id)
        self._progress = Progress(sum(file.size for file in files), report)
        self._written: list[Path] = []  # blobs that this download put in place

    def run(self, revision: str) -> Path:
        """The snapshot with every file in place. Raises Cancelled, typed errors, or those of huggingface_hub."""
        snapshot = self._folder / "snapshots" / self._commit
        try:
            if not has_files(snapshot, self._files):
                blobs = self._blobs()
                self._check_disk(blobs)
                for blob in blobs:
                    self._fetch(blob)
                for blob in blobs:
                    self._link(blob)
            write_ref(self._folder, revision, self._commit)
        except Cancelled:
            self._undo(snapshot)
            raise
        return snapshot

    def _blobs(self) -> list[Blob]:
        listed = {each.rfilename: each for each in self._client.info(self._commit).siblings or []}
        blobs = []
        for file in self._files:
            entry = listed.get(file.path)
            etag = (entry.lfs.sha256 if entry.lfs else entry.blob_id) if entry else None
            if not etag or not etag.isalnum() or len(etag) not in (40, 64):
                raise CorruptModel(f"The Hub gives no hash for {file.path} of {self._client.repo_id}. Try again later.")
            blobs.append(Blob(file.path, etag, file.size))
        return blobs

    def _check_disk(self, blobs: list[Blob]) -> None:
        """Raises DiskFull, with the numbers, before the first byte moves."""
        here = sum(_size(path) for blob in blobs for path in (self._blob_path(blob), self._partial_path(blob)))
        need = sum(blob.size for blob in blobs) - here
        parent = next(path for path in (self._cache_dir, *self._cache_dir.parents) if path.exists())
        free = shutil.disk_usage(parent).free
        if need > 0 and need + DISK_MARGIN > free:
            raise DiskFull(
                f"{self._client.repo_id} needs {need / 1e9:.2f} GB and the cache's disk has {free / 1e9:.2f} GB free. "
                "Free some space or set HF_HOME to a larger disk, then load it again."
            )

    def _blob_path(self, blob: Blob) -> Path:
        return self._folder / "blobs" / blob.etag

    def _partial_path(self, blob: Blob) -> Path:
        return self._folder / "blobs" / f"{blob.etag}.berth.incomplete"

    def _fetch(self, blob: Blob) -> None:
        """The blob in its place, under the lock that huggingface_hub takes for it too."""
        target, partial = self._blob_path(blob), self._partial_path(blob)
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = self._cache_dir / ".locks" / self._folder.name / f"{blob.etag}.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(lock):
            if target.exists():
                self._progress.add(blob.path, blob.size, is_transfer=False)
                return
            try:
                self._transfer(blob, partial)
                partial.replace(target)
                self._written.append(target)
            except Cancelled:
                partial.unlink(missing_ok=True)
                raise
            except OSError as error:
                if not isinstance(error, HfHubHTTPError):  # the disk's fault: its bytes are of no use to a next try
                    partial.unlink(missing_ok=True)
                raise

    def _transfer(self, blob: Blob, partial: Path) -> None:
        """Fills `partial` to the blob's length, from where an earlier try ended, and checks its hash."""
        patience = Patience(self._client.retry_wait_s)
        hasher = blob.hasher()
        with partial.open("a+b") as file:
            self._resume(blob, file, hasher)
            while (have := file.tell()) < blob.size:
                try:
                    hasher = self._receive(blob, file, hasher)
                    if file.tell() == have:
                        raise CorruptModel(_length_message(self._client.repo_id, blob, have))
                except (HfHubHTTPError, *DROPPED) as error:
                    if file.tell() > have:
                        patience.reset()
                    file.flush()
                    patience.wait(error)
        if hasher.hexdigest() != blob.etag:
            partial.unlink(missing_ok=True)
            raise CorruptModel(f"{blob.path} of {self._client.repo_id} arrived damaged. Load the model again.")

    def _resume(self, blob: Blob, file: Any, hasher: Any) -> None:
        """Counts and hashes what an earlier try left in `file`; starts over when that cannot be right."""
        left = os.fstat(file.fileno()).st_size
        if left > blob.size:
            file.truncate(0)
            left = 0
        file.seek(0)
        while left and (chunk := file.read(min(left, 1 << 20))):
            hasher.update(chunk)
            left -= len(chunk)
        self._progress.add(blob.path, file.tell(), is_transfer=False)

    def _receive(self, blob: Blob, file: Any, hasher: Any) -> Any:
        """Appends what one request brings. Returns the hash of all that is in `file` now."""
        start = file.tell()
        with self._client.stream(blob.path, self._commit, start) as response:
            hf_raise_for_status(response)
            if start and response.status_code != 206:  # the server knows no ranges and sends it all
                self._progress.add(blob.path, -start, is_transfer=False)
                file.truncate(0)
                file.seek(0)
                hasher = blob.hasher()
            for chunk in response.iter_bytes():
                if file.tell() + len(chunk) > blob.size:
                    file.truncate(0)
                    raise CorruptModel(_length_message(self._client.repo_id, blob, file.tell() + len(chunk)))
                file.write(chunk)
                hasher.update(chunk)
                self._progress.add(blob.path, len(chunk))
        return hasher

    def _link(self, blob: Blob) -> None:
        """The snapshot's entry for a blob that is here, made as huggingface_hub makes it on this file system."""
        client = self._client
        hf_hub_download(
            client.repo_id,
            blob.path,
            revision=self._commit,
            cache_dir=self._cache_dir,
            endpoint=client.endpoint,
            token=client.token,
            etag_timeout=client.timeout_s,
        )

    def _undo(self, snapshot: Path) -> None:
        """Takes away what this download wrote, and the folders that are empty then. Others' files stay."""
        written = {os.path.realpath(path) for path in self._written}
        for link in list(_links(snapshot)):
            if os.path.realpath(link) in written:
                link.unlink(missing_ok=True)
        for path in self._written:
            path.unlink(missing_ok=True)
        _remove_empty(self._folder)


def _length_message(repo: str, blob: Blob, got: int) -> str:
    return f"{blob.path} of {repo} came with {got:,} bytes where the Hub lists {blob.size:,}. Load the model again."


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _links(snapshot: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(snapshot):
        yield from (Path(folder) / name for name in names)


def _remove_empty(folder: Path) -> None:
    """`folder` and those in it that hold nothing."""
    for parent, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):
            Path(parent).rmdir()
