"""A PostgreSQL server of the tests' own, where the programs are installed (Debian's package `postgresql`)."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path


def find_programs() -> Path | None:
    """The newest version's folder with `initdb` and `postgres` in it."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("postgres")
    return Path(on_path).parent if on_path and shutil.which("initdb") else None


class Postgres:
    """In a temporary directory, on a free port. It refuses to run as root, so then it runs as somebody else."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._directory = Path(tempfile.mkdtemp(prefix="berth-postgres-"))
        self._user = _somebody()
        if self._user is not None:
            os.chown(self._directory, (somebody := pwd.getpwnam(self._user)).pw_uid, somebody.pw_gid)
        self._process: subprocess.Popen[str] | None = None
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = found.getsockname()[1]
        initdb = [programs / "initdb", "-D", self._data, "-U", "berth", "-A", "trust", "-E", "UTF8", "--no-sync"]
        self._run(*initdb, "--locale=C", "--no-instructions")

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    def start(self) -> None:
        """Returns once it takes connections."""
        options = ["-D", self._data, "-h", "127.0.0.1", "-p", self.port, "-k", self._directory, "-c", "fsync=off"]
        self._process = subprocess.Popen(
            [str(part) for part in (self._programs / "postgres", *options, "-c", "max_connections=60")],
            stderr=subprocess.PIPE, text=True, cwd=self._directory, **self._as_somebody(),
        )  # fmt: skip
        assert self._process.stderr is not None
        log = []
        for line in self._process.stderr:
            log.append(line)
            if "ready to accept connections" in line:
                return
        raise AssertionError("".join(log))

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.communicate(timeout=30)
            self._process = None

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._directory)

    def new_database(self) -> str:
        """The URL of an empty one, as a hosting service would write it. What was in it before is gone."""
        empty = "DROP SCHEMA public CASCADE; CREATE SCHEMA public"
        self._run(self._programs / "psql", *self._at, "-q", "-d", "postgres", "-c", empty)
        return f"postgres://berth:secret-of-the-test@127.0.0.1:{self.port}/postgres?sslmode=disable"

    @property
    def _at(self) -> tuple[object, ...]:
        return "-h", "127.0.0.1", "-p", self.port, "-U", "berth"

    def _run(self, *command: object) -> None:
        made = [str(part) for part in command]
        ran = subprocess.run(made, capture_output=True, text=True, cwd=self._directory, **self._as_somebody())
        assert ran.returncode == 0, ran.stderr

    def _as_somebody(self) -> dict:
        if self._user is None:
            return {}
        return {"user": self._user, "group": pwd.getpwnam(self._user).pw_gid, "extra_groups": []}


def _somebody() -> str | None:
    """Who it runs as, when not as who we are."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            pwd.getpwnam(name)
            return name
    raise AssertionError("PostgreSQL does not run as root, and there is nobody else here.")
