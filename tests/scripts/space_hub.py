"""The part of the Hub that makes and fills Spaces, over real HTTP, as huggingface_hub calls it."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

LFS_FROM = 64 * 1024  # bytes; the Hub's own rule is 10 MB, or a pattern in .gitattributes


@dataclass(slots=True)
class Space:
    sdk: str
    visibility: str | None
    hardware: str | None = None
    secrets: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=lambda: {".gitattributes": b"*.bin filter=lfs\n"})
    log: list[str] = field(default_factory=list)  # what was done to it, in order


class SpaceHub:
    """`spaces` is what was stored; `refuse[path part] = (status, message)` makes it fail."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.spaces: dict[str, Space] = {}
        self.objects: dict[str, bytes] = {}  # LFS objects by sha256
        self.refuse: dict[str, tuple[int, str]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: SpaceHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self._body())

    def do_PUT(self) -> None:
        self._answer(self._body())

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, body: bytes) -> None:
        path = urlsplit(self.path).path
        status, answer = self._checked(path) or self._route(path, body)
        raw = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        if status >= 400:
            self.send_header("X-Error-Message", answer["error"])
            if status == 404:
                self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()
        self.wfile.write(raw)

    def _checked(self, path: str) -> tuple[int, Any] | None:
        for part, (status, message) in self.hub.refuse.items():
            if part in path:
                return status, {"error": message}
        if self.headers.get("Authorization") != f"Bearer {self.hub.token}" and not path.startswith("/upload/"):
            return 401, {"error": "Invalid username or password."}
        return None

    def _route(self, path: str, body: bytes) -> tuple[int, Any]:
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path.startswith("/upload/"):
            self.hub.objects[path.removeprefix("/upload/")] = body
            return 200, {}
        if path.startswith("/spaces/"):
            return 200, self._lfs_batch(json.loads(body))
        user, name, *action = path.removeprefix("/api/spaces/").split("/")
        space = self.hub.spaces.get(f"{user}/{name}")
        if space is None or not action:
            return 404, {"error": "Repository not found"}
        return getattr(self, f"_{action[0]}")(space, body)

    def _create(self, wanted: dict[str, Any]) -> tuple[int, Any]:
        repo = f"{wanted['organization']}/{wanted['name']}"
        url = f"{self.hub.url}/spaces/{repo}"
        if repo in self.hub.spaces:
            return 409, {"error": "You already created this space repo", "url": url}
        assert wanted["type"] == "space"
        self.hub.spaces[repo] = Space(wanted["sdk"], wanted.get("visibility"), log=["create"])
        return 200, {"url": url}

    def _lfs_batch(self, wanted: dict[str, Any]) -> Any:
        return {
            "transfer": "basic",
            "objects": [
                {**item, "actions": {"upload": {"href": f"{self.hub.url}/upload/{item['oid']}"}}}
                for item in wanted["objects"]
            ],
        }

    def _secrets(self, space: Space, body: bytes) -> tuple[int, Any]:
        wanted = json.loads(body)
        space.secrets[wanted["key"]] = wanted["value"]
        space.log.append("secret")
        return 200, {}

    def _hardware(self, space: Space, body: bytes) -> tuple[int, Any]:
        space.hardware = json.loads(body)["flavor"]
        space.log.append("hardware")
        return 200, {"stage": "BUILDING", "hardware": {"current": None, "requested": space.hardware}, "gcTimeout": None}

    def _tree(self, space: Space, _: bytes) -> tuple[int, Any]:
        rows = [{"type": "file", "path": p, "size": len(data), "oid": "0" * 40} for p, data in space.files.items()]
        return 200, rows

    def _preupload(self, _: Space, body: bytes) -> tuple[int, Any]:
        rows = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["size"] >= LFS_FROM else "regular",
                "shouldIgnore": False,
                "oid": None,
            }
            for file in json.loads(body)["files"]
        ]
        return 200, {"files": rows}

    def _commit(self, space: Space, body: bytes) -> tuple[int, Any]:
        for line in body.splitlines():
            row = json.loads(line)
            value = row["value"]
            if row["key"] == "file":
                space.files[value["path"]] = base64.b64decode(value["content"])
            elif row["key"] == "lfsFile":
                space.files[value["path"]] = self.hub.objects[value["oid"]]
            elif row["key"] == "deletedFile":
                del space.files[value["path"]]
        space.log.append("commit")
        commit = hashlib.sha1(body).hexdigest()
        repo = "/".join(urlsplit(self.path).path.split("/")[3:5])
        return 200, {"commitUrl": f"{self.hub.url}/spaces/{repo}/commit/{commit}", "commitOid": commit}
