"""Put this project on a Hugging Face Space: create it, set its keys, upload what git tracks.

    HF_TOKEN=hf_… python scripts/deploy_space.py --repo user/berth --private --admin-key

Safe to run again: the Space is updated to what is tracked here, and files that are no longer tracked leave it. Never
sent: `.env`, `.venv`, `data`, `models` and whatever else git does not track. `.gitattributes` stays the Space's own,
because the Hub keeps large files by the rules in it; a plain `git push` of this repository would be refused for its
binary files, huggingface_hub uploads them the way the Hub wants.
"""

from __future__ import annotations

import argparse
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2  # what huggingface_hub speaks HTTP with
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, SpaceHardware, get_token
from huggingface_hub.errors import (
    BadRequestError,
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils._validators import validate_repo_id

ROOT = Path(__file__).resolve().parent.parent
KEPT_BY_THE_SPACE = (".gitattributes",)


class DeployError(Exception):
    """What stopped the deployment, and what to do about it."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """What to put where."""

    repo: str  # user/space
    root: Path = ROOT
    private: bool = False
    hardware: SpaceHardware | None = None  # None leaves it as it is
    secrets: tuple[tuple[str, str], ...] = ()  # environment name, value

    @property
    def url(self) -> str:
        """Where the running Space answers REST calls."""
        return f"https://{re.sub('[^a-z0-9]+', '-', self.repo.lower())}.hf.space"


def tracked_files(root: Path) -> list[str]:
    """Paths relative to `root` of what git tracks and the disk has, without the files the Space keeps as its own."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True)
    except FileNotFoundError as error:
        raise DeployError("git is not installed; it says which files belong to the project.") from error
    except subprocess.CalledProcessError as error:
        raise DeployError(f"{root} is not a git checkout; clone the project and run this from the clone.") from error
    paths = listed.stdout.decode().split("\0")
    return sorted(path for path in paths if path and path not in KEPT_BY_THE_SPACE and (root / path).is_file())


def check_project(root: Path, files: Sequence[str]) -> None:
    """Raises DeployError unless `files` make a Docker Space."""
    for needed in ("README.md", "Dockerfile", "app.py"):
        if needed not in files:
            raise DeployError(f"{needed} is not tracked by git in {root}; a Docker Space needs it.")
    parts = (root / "README.md").read_text("utf-8").split("---\n", 2)
    front_matter = parts[1].splitlines() if len(parts) == 3 and not parts[0].strip() else []
    if "sdk: docker" not in front_matter:
        raise DeployError("README.md has to begin with the Space's front matter and its line `sdk: docker`.")


def deploy(api: HfApi, wanted: Deployment) -> str:
    """Create or update the Space. Returns the address of its page on the Hub. Raises DeployError."""
    files = tracked_files(wanted.root)
    check_project(wanted.root, files)
    with hub_errors(wanted.repo, api.endpoint):
        page = api.create_repo(
            wanted.repo, repo_type="space", space_sdk="docker", private=wanted.private or None, exist_ok=True
        )
        # keys first: the upload starts a build, and what it starts must already be closed to strangers
        for name, value in wanted.secrets:
            api.add_space_secret(wanted.repo, name, value)
        if wanted.hardware:
            api.request_space_hardware(wanted.repo, wanted.hardware)
        there = api.list_repo_files(wanted.repo, repo_type="space")
        gone = sorted(set(there) - set(files) - set(KEPT_BY_THE_SPACE))
        api.create_commit(
            wanted.repo,
            [
                *(CommitOperationAdd(path_in_repo=path, path_or_fileobj=wanted.root / path) for path in files),
                *(CommitOperationDelete(path_in_repo=path, is_folder=False) for path in gone),
            ],
            commit_message=f"Deploy {_commit(wanted.root)}",
            repo_type="space",
        )
    return str(page)


def _commit(root: Path) -> str:
    """Short hash of what is checked out, "+" where files differ from it."""
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--abbrev=12"], cwd=root, capture_output=True, text=True
    )
    return said.stdout.strip() or "working copy"


@contextmanager
def hub_errors(repo: str, endpoint: str) -> Iterator[None]:
    """Turns what huggingface_hub raises into a sentence with a next step."""
    try:
        yield
    except RepositoryNotFoundError as error:
        raise DeployError(
            f"The Hub does not show {repo} to this token. Check the name and the token's user."
        ) from error
    except BadRequestError as error:
        raise DeployError(f"The Hub refused the request for {repo}: {error.server_message or error}") from error
    except HfHubHTTPError as error:
        raise DeployError(_http_sentence(repo, error)) from error
    except httpx2.HTTPError as error:
        raise DeployError(f"No connection to {endpoint}: {error}. Run this again when it is back.") from error
    except RuntimeError as error:  # one large file's upload failed
        raise DeployError(f"{error} Run this again; what has arrived is not sent twice.") from error
    except ValueError as error:  # huggingface_hub checks the front matter before it uploads
        raise DeployError(f"The Hub does not accept what would be uploaded: {error}") from error


def _http_sentence(repo: str, error: HfHubHTTPError) -> str:
    status = error.response.status_code
    said = error.server_message or f"HTTP {status}"
    if status == 401:
        return f"The Hub does not know this token ({said}). Make one with write access and set HF_TOKEN."
    if status == 402:
        return f"The Hub asks for payment for {repo}: {said}"
    if status == 403:
        return f"This token may not write to {repo} ({said}). It needs write access to that user or organisation."
    if status == 429:
        return f"The Hub asks to slow down ({said}). Wait a few minutes and run this again."
    return f"The Hub answered {status} for {repo}: {said}. Run this again later."


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        validate_repo_id(options.repo)
        if options.repo.count("/") != 1:
            raise DeployError(f"--repo {options.repo}: write it as user/space.")
        return _run(options)
    except HFValidationError as error:
        print(f"deploy: --repo {options.repo}: {error}", file=sys.stderr)
    except DeployError as error:
        print(f"deploy: {error}", file=sys.stderr)
    return 1


def _run(options: argparse.Namespace) -> int:
    wanted = Deployment(
        options.repo, private=options.private, hardware=options.hardware, secrets=tuple(_secrets(options))
    )
    if options.dry_run:
        files = tracked_files(wanted.root)
        check_project(wanted.root, files)
        for path in files:
            print(f"{(wanted.root / path).stat().st_size:>12,} {path}")
        names = ", ".join(name for name, _ in wanted.secrets) or "none"
        print(f"{len(files)} files would go to the Space {wanted.repo}; secrets: {names}. Nothing was sent.")
        return 0
    try:
        token = get_token()
    except LocalTokenNotFoundError:
        token = None
    if not token:
        raise DeployError("No token. Make one with write access on the Hub's settings page and set HF_TOKEN.")
    page = deploy(HfApi(token=token), wanted)
    print(f"{page}\nIt builds now. REST will answer at {wanted.url}")
    return 0


def _secrets(options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    if options.key:
        yield "BERTH_API_KEYS", ",".join(options.key)
    if options.admin_key is not None:
        key = options.admin_key or secrets.token_urlsafe(32)
        if not options.admin_key and not options.dry_run:
            print(f"Admin key, shown this once: {key}")
        yield "BERTH_ADMIN_KEY", key


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Put this project on a Hugging Face Space.")
    parser.add_argument("--repo", required=True, metavar="USER/SPACE")
    parser.add_argument("--private", action="store_true", help="when the Space is made: seen by its owner alone")
    parser.add_argument(
        "--hardware",
        type=SpaceHardware,
        metavar="NAME",
        help="for example t4-small; paid by the hour, never chosen for you",
    )
    parser.add_argument("--key", action="append", metavar="KEY", help="a key callers need; may be given several times")
    parser.add_argument(
        "--admin-key", nargs="?", const="", metavar="KEY", help="the key for loading models; with no value one is made"
    )
    parser.add_argument("--dry-run", action="store_true", help="list what would be uploaded and stop")
    return parser


if __name__ == "__main__":
    sys.exit(main())
