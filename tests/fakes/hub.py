"""A Hub of one's own: a real HTTP server that answers as huggingface.co does on the routes its library calls.

Repositories are directories `root/org/name`; `hub.json` in one holds what is not a file (card, gating, tags). Large
files are redirected to a second server on another port, as the real one does with its content network.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = (".safetensors", ".gguf", ".bin", ".onnx", ".onnx_data", ".model", ".h5", ".pt")
_PIECE = 64 * 1024  # bytes written at once


class Fault(StrEnum):
    """What can be made to go wrong."""

    UNAUTHORIZED = "unauthorized"  # 401, as for repositories that do not exist when there is no token
    BAD_TOKEN = "bad_token"  # 401 with the message for a token that is not valid
    GATED = "gated"  # 403, licence not accepted
    FORBIDDEN = "forbidden"  # 403 without a code
    DISABLED = "disabled"  # 403 with the message for disabled repositories
    MISSING = "missing"  # 404
    BUSY = "busy"  # 429 with Retry-After
    UNAVAILABLE = "unavailable"  # 503
    STALL = "stall"  # half of the body, then nothing
    CUT = "cut"  # half of the body, then the connection is closed
    SHORT = "short"  # half of the body, announced as if it were all
    LONG = "long"  # more than there is
    DAMAGED = "damaged"  # the right length with a wrong byte
    NO_RANGES = "no_ranges"  # 200 with the whole file, whatever was asked for
    SLOW = "slow"  # a piece of 64 KiB every 50 ms
    NOT_JSON = "not_json"  # 200 with a page instead of an answer


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as it arrived."""

    host: str  # "hub" or "cdn"
    method: str
    path: str
    headers: dict[str, str]  # names in lower case

    @property
    def authorization(self) -> str | None:
        return self.headers.get("authorization")


@dataclass(slots=True)
class _Rule:
    repo: str
    path: str | None
    kind: Fault
    times: int | None
    retry_after: str
    after: int


@dataclass(slots=True)
class _File:
    data: bytes
    is_large: bool
    sha256: str = field(init=False)
    blob_id: str = field(init=False)

    def __post_init__(self) -> None:
        self.sha256 = hashlib.sha256(self.data).hexdigest()
        self.blob_id = hashlib.sha1(b"blob %d\0" % len(self.data) + self.data, usedforsecurity=False).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.is_large else self.blob_id


class FakeHub:
    """`with FakeHub(root) as hub:` serves `root` at `hub.endpoint` until the block ends."""

    def __init__(self, root: Path, token: str | None = None) -> None:
        self.root = root
        self.token = token  # what a private or gated repository asks for
        self.requests: list[Seen] = []
        self.stalled = threading.Event()  # set when a stall has begun
        self.moved = threading.Event()  # set when the first piece of a slow or stalled body is out
        self.stopping = threading.Event()
        self._rules: list[_Rule] = []
        self._files: dict[tuple[Path, int, int, int], _File] = {}
        self._lock = threading.Lock()  # guards _rules and requests
        self._servers = {host: _Server(partial(_Handler, self, host)) for host in ("hub", "cdn")}

    @property
    def endpoint(self) -> str:
        return self._servers["hub"].url

    @property
    def cdn(self) -> str:
        return self._servers["cdn"].url

    def fail(
        self,
        repo: str,
        path: str | None = None,
        *,
        kind: Fault,
        times: int | None = None,
        after: int = 0,
        retry_after: str = "0",
    ) -> None:
        """The next `times` requests (all, when None) for `path` of `repo` fail, once `after` of them have passed;
        with no path those of its listing."""
        with self._lock:
            self._rules.append(_Rule(repo, path, kind, times, retry_after, after))

    def heal(self) -> None:
        """Nothing fails any more."""
        with self._lock:
            self._rules.clear()

    def requests_for(self, part: str) -> list[Seen]:
        with self._lock:
            return [seen for seen in self.requests if part in seen.path]

    def __enter__(self) -> FakeHub:
        for server in self._servers.values():
            server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        for server in self._servers.values():
            server.stop()

    def note(self, seen: Seen) -> None:
        with self._lock:
            self.requests.append(seen)

    def fault(self, repo: str, path: str | None, *kinds: Fault) -> _Rule | None:
        """The rule that hits this request, of one of `kinds`; uses up one of its times."""
        with self._lock:
            for rule in self._rules:
                if rule.repo == repo and rule.path == path and rule.kind in kinds and rule.times != 0:
                    if rule.after:
                        rule.after -= 1
                        continue
                    if rule.times is not None:
                        rule.times -= 1
                    return rule
        return None

    def files(self, repo: str) -> dict[str, _File] | None:
        """The files of `repo`, None when there is no such repository."""
        folder = self.root / repo
        if not folder.is_dir() or not any(each.is_file() for each in folder.iterdir()):
            return None
        paths = sorted(each for each in folder.rglob("*") if each.is_file() and each.name != "hub.json")
        return {each.relative_to(folder).as_posix(): self._file(each) for each in paths}

    def _file(self, path: Path) -> _File:
        """Read and hashed once for as long as it stays the same."""
        status = path.stat()
        key = (path, status.st_mtime_ns, status.st_ino, status.st_size)
        if key not in self._files:
            self._files[key] = _File(path.read_bytes(), path.name.endswith(LARGE))
        return self._files[key]

    def notes(self, repo: str) -> dict[str, Any]:
        path = self.root / repo / "hub.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def commit(self, files: dict[str, _File]) -> str:
        listing = "".join(f"{path} {file.etag}\n" for path, file in files.items())
        return hashlib.sha1(listing.encode(), usedforsecurity=False).hexdigest()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, handler: Any) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that leave are the normal case here."""


_API = re.compile(r"/api/models/(?P<repo>[^/]+(?:/[^/]+)?)(?:/(?P<what>revision|tree)/(?P<revision>[^/]+)(?:/.*)?)?")
_RESOLVE = re.compile(r"/(?P<repo>[^/]+(?:/[^/]+)?)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
_CONTENT = re.compile(r"/content/(?P<repo>[^/]+(?:/[^/]+)?)/at/(?P<path>.+)")
_REFUSALS: dict[Fault, tuple[int, dict[str, str]]] = {
    Fault.UNAUTHORIZED: (401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}),
    Fault.BAD_TOKEN: (401, {"X-Error-Message": "Invalid credentials in Authorization header"}),
    Fault.GATED: (403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to this model is restricted"}),
    Fault.FORBIDDEN: (403, {"X-Error-Message": "Forbidden"}),
    Fault.DISABLED: (403, {"X-Error-Message": "Access to this resource is disabled."}),
    Fault.MISSING: (404, {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}),
    Fault.BUSY: (429, {}),
    Fault.UNAVAILABLE: (503, {}),
}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, hub: FakeHub, host: str, *args: Any) -> None:
        self.hub, self.host = hub, host
        super().__init__(*args)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: `hub.requests` is the log."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.hub.note(Seen(self.host, self.command, self.path, headers))
        url = urlsplit(self.path)
        if self.host == "cdn":
            match = _CONTENT.fullmatch(url.path)
            return self._content(match["repo"], unquote(match["path"])) if match else self._answer(404)
        if match := _API.fullmatch(url.path):
            blobs = "blobs" in parse_qs(url.query)
            return self._api(match["repo"], match["what"], unquote(match["revision"] or "main"), blobs=blobs)
        if match := _RESOLVE.fullmatch(url.path):
            return self._resolve(match["repo"], unquote(match["revision"]), unquote(match["path"]))
        return self._answer(404)

    def _answer(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refused(self, repo: str, path: str | None) -> bool:
        """Whether a rule, or the repository's own gate, answered instead."""
        rule = self.hub.fault(repo, path, *_REFUSALS)
        notes = self.hub.notes(repo)
        gated = notes.get("gated") and path is not None or notes.get("private")
        if rule is None and gated and self.headers.get("authorization") != f"Bearer {self.hub.token}":
            rule = _Rule(repo, path, Fault.GATED if notes.get("gated") else Fault.UNAUTHORIZED, None, "0", 0)
        if rule is None:
            return False
        status, headers = _REFUSALS[rule.kind]
        extra = {"Retry-After": rule.retry_after} if status in (429, 503) else {}
        self._answer(status, {**headers, **extra})
        return True

    def _found(self, repo: str, revision: str) -> tuple[dict[str, _File], str] | None:
        """The files and the commit, or None after an answer that says what is missing."""
        files = self.hub.files(repo)
        if files is None:
            self._answer(*_REFUSALS[Fault.UNAUTHORIZED])
            return None
        commit = self.hub.commit(files)
        if revision not in ("main", commit, *self.hub.notes(repo).get("refs", [])):
            self._answer(404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"})
            return None
        return files, commit

    def _api(self, repo: str, what: str | None, revision: str, *, blobs: bool) -> None:
        if self._refused(repo, None) or (found := self._found(repo, revision)) is None:
            return None
        if self.hub.fault(repo, None, Fault.NOT_JSON):
            return self._answer(200, {"Content-Type": "text/html"}, b"<html>maintenance</html>")
        files, commit = found
        notes = self.hub.notes(repo)
        answer: Any = {
            "id": repo,
            "sha": commit,
            "private": bool(notes.get("private")),
            "gated": notes.get("gated", False),
            "pipeline_tag": notes.get("pipeline_tag"),
            "tags": [],
            "cardData": {"license": notes["license"]} if "license" in notes else None,
            "siblings": [self._sibling(path, file, blobs=blobs) for path, file in files.items()],
        }
        if what == "tree":
            answer = [self._tree_entry(path, file) for path, file in files.items()]
        return self._answer(200, {"Content-Type": "application/json"}, json.dumps(answer).encode())

    def _sibling(self, path: str, file: _File, *, blobs: bool) -> dict[str, Any]:
        if not blobs:
            return {"rfilename": path}
        lfs = {"sha256": file.sha256, "size": len(file.data), "pointerSize": 130}
        entry = {"rfilename": path, "size": len(file.data), "blobId": file.blob_id}
        return {**entry, "lfs": lfs} if file.is_large else entry

    def _tree_entry(self, path: str, file: _File) -> dict[str, Any]:
        entry = {"type": "file", "path": path, "size": len(file.data), "oid": file.blob_id}
        lfs = {"oid": file.sha256, "size": len(file.data), "pointerSize": 130}
        return {**entry, "lfs": lfs} if file.is_large else entry

    def _resolve(self, repo: str, revision: str, path: str) -> None:
        if self._refused(repo, path) or (found := self._found(repo, revision)) is None:
            return None
        files, commit = found
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        file = files.get(path)
        if file is None:
            return self._answer(404, {**headers, "X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"})
        if not file.is_large:
            return self._content(repo, path, {**headers, "ETag": f'"{file.etag}"'})
        linked = {"X-Linked-Etag": f'"{file.etag}"', "X-Linked-Size": str(len(file.data))}
        return self._answer(302, {**headers, **linked, "Location": f"{self.hub.cdn}/content/{repo}/at/{path}"})

    def _content(self, repo: str, path: str, headers: dict[str, str] | None = None) -> None:
        data = (self.hub.files(repo) or {})[path].data
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", ""))
        if self.command == "HEAD":
            return self._answer(200, {**(headers or {}), "Content-Length": str(len(data))})
        if asked is None or self.hub.fault(repo, path, Fault.NO_RANGES):
            return self._body(repo, path, 200, data, headers or {})
        start, end = int(asked[1]), min(int(asked[2] or len(data)), len(data) - 1)
        if start >= len(data):
            return self._answer(416, {"Content-Range": f"bytes */{len(data)}"})
        ranged = {**(headers or {}), "Content-Range": f"bytes {start}-{end}/{len(data)}"}
        return self._body(repo, path, 206, data[start : end + 1], ranged)

    def _body(self, repo: str, path: str, status: int, data: bytes, headers: dict[str, str]) -> None:
        kinds = (Fault.STALL, Fault.CUT, Fault.SHORT, Fault.LONG, Fault.DAMAGED, Fault.SLOW)
        rule = self.hub.fault(repo, path, *kinds)
        kind = rule.kind if rule else None
        half = len(data) // 2
        changed = {
            Fault.SHORT: data[:half],
            Fault.LONG: data + b"\0" * 1000,
            Fault.DAMAGED: data[:half] + bytes([data[half] ^ 1]) + data[half + 1 :],
        }
        data = changed.get(kind, data) if kind else data
        if kind not in (Fault.STALL, Fault.CUT, Fault.SLOW):
            return self._answer(status, headers, data)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError):
            for piece in _pieces(data if kind is Fault.SLOW else data[:half]):
                self.wfile.write(piece)
                self.wfile.flush()
                self.hub.moved.set()
                if kind is Fault.SLOW and self.hub.stopping.wait(0.05):
                    break
            if kind is Fault.STALL:
                self.hub.stalled.set()
                self.hub.stopping.wait()
        self.close_connection = True
        return None


def _pieces(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), _PIECE):
        yield data[start : start + _PIECE]
