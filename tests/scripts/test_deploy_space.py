"""deploy_space.py against a Hub over real HTTP, through the real huggingface_hub."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi, SpaceHardware

from scripts.deploy_space import DeployError, Deployment, deploy, tracked_files
from tests.scripts.space_hub import LFS_FROM, SpaceHub

ROOT = Path(__file__).parent.parent.parent
# huggingface_hub's own upload of an LFS object
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

TOKEN = "hf_test_token"
README = "---\ntitle: Berth\nsdk: docker\napp_port: 7860\n---\n# Berth\n"


@pytest.fixture(autouse=True)
def _plain_lfs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)


@pytest.fixture
def hub() -> Iterator[SpaceHub]:
    with SpaceHub(TOKEN) as hub:
        yield hub


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A git checkout with tracked, untracked, ignored and large files."""
    root = tmp_path / "project"
    written = {
        "README.md": README.encode(),
        "Dockerfile": b"FROM scratch\n",
        "app.py": b"print()\n",
        "core/이름 with space.py": "x = '한국어'\n".encode(),
        "starter/model.safetensors": os.urandom(LFS_FROM + 1),
        "empty": b"",
        ".gitattributes": b"* text=auto\n",
        ".gitignore": b".env\ndata/\n",
    }
    for path, data in written.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    subprocess.run(["git", "add", "."], cwd=root, check=True)
    (root / ".env").write_text("BERTH_ADMIN_KEY=secret")
    (root / "data").mkdir()
    (root / "data" / "conversation.json").write_text("private")
    (root / "notes.txt").write_text("not added")
    return root


def sent(root: Path) -> set[str]:
    return set(tracked_files(root))


def test_tracked_files_leave_out_what_git_does_not_track(project: Path) -> None:
    expected = {"README.md", "Dockerfile", "app.py", "core/이름 with space.py", "starter/model.safetensors", "empty"}
    assert sent(project) == expected | {".gitignore"}


def test_a_space_is_made_and_holds_the_same_bytes(hub: SpaceHub, project: Path) -> None:
    page = deploy(HfApi(hub.url, token=TOKEN), Deployment("ann/berth", root=project, private=True))
    space = hub.spaces["ann/berth"]
    assert page.endswith("/spaces/ann/berth")
    assert (space.sdk, space.visibility) == ("docker", "private")
    own = {".gitattributes": b"*.bin filter=lfs\n"}
    assert space.files == own | {path: (project / path).read_bytes() for path in sent(project)}
    assert len(hub.objects) == 1  # the large file went as an LFS object


def test_keys_and_hardware_are_set_before_the_upload_starts_a_build(hub: SpaceHub, project: Path) -> None:
    wanted = Deployment("ann/berth", root=project, hardware=SpaceHardware.T4_SMALL, secrets=(("BERTH_ADMIN_KEY", "k"),))
    deploy(HfApi(hub.url, token=TOKEN), wanted)
    space = hub.spaces["ann/berth"]
    assert space.log == ["create", "secret", "hardware", "commit"]
    assert (space.secrets, space.hardware) == ({"BERTH_ADMIN_KEY": "k"}, "t4-small")


def test_deploying_again_updates_and_removes(hub: SpaceHub, project: Path) -> None:
    api, wanted = HfApi(hub.url, token=TOKEN), Deployment("ann/berth", root=project)
    deploy(api, wanted)
    (project / "app.py").write_bytes(b"print(2)\n")
    (project / "empty").unlink()
    deploy(api, wanted)
    files = hub.spaces["ann/berth"].files
    assert files["app.py"] == b"print(2)\n"
    assert "empty" not in files
    assert files[".gitattributes"] == b"*.bin filter=lfs\n"


@pytest.mark.parametrize(
    ("part", "status", "said", "next_step"),
    [
        ("/repos/create", 401, "Invalid token", "write access"),
        ("/repos/create", 402, "Docker Spaces need a plan", "payment"),
        ("/secrets", 403, "no write role", "write access"),
        ("/commit", 429, "too fast", "Wait"),
        ("/commit", 500, "oops", "again"),
        ("/commit", 400, "file too large", "refused"),
    ],
)
def test_a_refusal_is_a_sentence_with_a_next_step(
    hub: SpaceHub, project: Path, part: str, status: int, said: str, next_step: str
) -> None:
    hub.refuse[part] = (status, said)
    wanted = Deployment("ann/berth", root=project, secrets=(("BERTH_ADMIN_KEY", "very-secret"),))
    with pytest.raises(DeployError) as caught:
        deploy(HfApi(hub.url, token=TOKEN), wanted)
    assert said in str(caught.value)
    assert next_step in str(caught.value)
    assert TOKEN not in str(caught.value)
    assert "very-secret" not in str(caught.value)


def test_no_connection_names_the_host(project: Path) -> None:
    with SpaceHub(TOKEN) as gone:
        url = gone.url
    with pytest.raises(DeployError, match="No connection to http://127"):
        deploy(HfApi(url, token=TOKEN), Deployment("ann/berth", root=project))


def test_front_matter_is_needed(hub: SpaceHub, project: Path) -> None:
    (project / "README.md").write_text("# Berth\n\n---\nsdk: docker\n---\n")
    with pytest.raises(DeployError, match="sdk: docker"):
        deploy(HfApi(hub.url, token=TOKEN), Deployment("ann/berth", root=project))
    assert hub.spaces == {}


def test_outside_a_checkout(hub: SpaceHub, tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="not a git checkout"):
        deploy(HfApi(hub.url, token=TOKEN), Deployment("ann/berth", root=tmp_path))


@pytest.mark.parametrize(
    ("repo", "url"),
    [("ann/berth", "https://ann-berth.hf.space"), ("Ann/my_Berth.2", "https://ann-my-berth-2.hf.space")],
)
def test_the_address_of_the_running_space(repo: str, url: str) -> None:
    assert Deployment(repo).url == url


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    return subprocess.run(
        [sys.executable, "scripts/deploy_space.py", *arguments],
        cwd=ROOT,
        env=inherited | {"HF_HOME": "/nonexistent", **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_command_without_a_token_says_where_to_get_one() -> None:
    ran = command("--repo", "ann/berth")
    assert ran.returncode == 1
    assert "HF_TOKEN" in ran.stderr or "front matter" in ran.stderr or "not tracked" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("repo", ["berth", "ann/berth/x", "ann/bérth", "../x"])
def test_the_command_refuses_a_bad_name(repo: str) -> None:
    ran = command("--repo", repo)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert f"--repo {repo}" in ran.stderr
    assert "Traceback" not in ran.stderr
