"""Downloads over HTTP: whole and verified, or undone, or resumed; never half and called ready."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from huggingface_hub import try_to_load_from_cache

from core.errors import (
    BerthError,
    CorruptModel,
    DiskFull,
    HubBusy,
    HubUnreachable,
    RepositoryGated,
    RepositoryNotFound,
)
from core.hub import Hub
from core.hub.client import HubClient
from core.hub.download import Download, Progress
from core.types import FileProgress, Inspection, ModelSpec, RepoFile
from tests.core.hub.test_graph import hidden_places, write_graph
from tests.fakes.hub import FakeHub, Fault
from tests.fakes.repositories import CLASSIFIER, bert_config, write_repository

NAME = "org/classifier"
WEIGHTS = "model.safetensors"
SPEC = ModelSpec("mine", NAME)
PROJECT = Path(__file__).parent.parent.parent.parent


@pytest.fixture(autouse=True)
def repository(fake: FakeHub) -> Path:
    """4 MB of weights and a script that nobody wants."""
    shapes = {**CLASSIFIER, "bert.big.weight": (1000, 1000)}
    return write_repository(fake.root / NAME, bert_config(), shapes, {"modeling.py": "raise SystemExit"})


def left(cache: Path) -> set[str]:
    """Files of a cache that are more than marks and locks."""
    names = (path for path in cache.rglob("*") if path.is_file() or path.is_symlink())
    return {path.relative_to(cache).as_posix() for path in names if path.suffix not in (".lock", ".TAG")}


def whole_requests(fake: FakeHub) -> list[str | None]:
    """The ranges asked of the weights by downloads; an inspection asks for the header only."""
    asked = [seen.headers.get("range") for seen in fake.requests if seen.host == "cdn"]
    return [each for each in asked if each != "bytes=0-99999"]


class Watcher:
    """Keeps the progress of a download."""

    def __init__(self) -> None:
        self.seen: list[FileProgress] = []

    def __call__(self, progress: FileProgress) -> None:
        self.seen.append(progress)


async def test_what_arrives_is_what_was_there(hub: Hub, fake: FakeHub, repository: Path, cache: Path) -> None:
    inspection, watcher = await hub.inspect(SPEC), Watcher()
    path = await hub.fetch(inspection, watcher)
    assert {each.relative_to(path).as_posix() for each in path.rglob("*")} == {file.path for file in inspection.files}
    for file in inspection.files:
        assert (path / file.path).read_bytes() == (repository / file.path).read_bytes()
    assert {progress.total for progress in watcher.seen} == {inspection.download_bytes}
    amounts = [progress.done for progress in watcher.seen]
    assert amounts == sorted(amounts)
    assert amounts[-1] == inspection.download_bytes
    assert not any(name.endswith(".incomplete") for name in left(cache))
    assert try_to_load_from_cache(NAME, WEIGHTS, cache_dir=cache) == str(path / WEIGHTS), "other tools find it too"


async def test_nothing_else_is_asked_for(hub: Hub, fake: FakeHub) -> None:
    await hub.fetch(await hub.inspect(SPEC), Watcher())
    known = (f"/api/models/{NAME}/revision/", f"/{NAME}/resolve/", f"/content/{NAME}/at/")
    assert [seen.path for seen in fake.requests if not seen.path.startswith(known)] == []
    assert fake.requests_for(".py") == []


async def test_a_cut_is_resumed_within_a_download(hub: Hub, fake: FakeHub, repository: Path) -> None:
    inspection, size = await hub.inspect(SPEC), (repository / WEIGHTS).stat().st_size
    fake.fail(NAME, WEIGHTS, kind=Fault.CUT, times=2)
    path = await hub.fetch(inspection, Watcher())
    assert (path / WEIGHTS).read_bytes() == (repository / WEIGHTS).read_bytes()
    assert whole_requests(fake) == [None, f"bytes={size // 2}-", f"bytes={size // 2 + (size - size // 2) // 2}-"]


async def test_a_download_that_failed_goes_on_next_time(hub: Hub, fake: FakeHub, repository: Path, cache: Path) -> None:
    inspection, size = await hub.inspect(SPEC), (repository / WEIGHTS).stat().st_size
    fake.fail(NAME, WEIGHTS, kind=Fault.CUT, times=1)
    fake.fail(NAME, WEIGHTS, kind=Fault.UNAVAILABLE, after=1)
    with pytest.raises(HubBusy):
        await hub.fetch(inspection, Watcher())
    assert any(name.endswith(".incomplete") for name in left(cache))
    assert not (cache / "models--org--classifier/snapshots").exists(), "what is not whole is no snapshot"
    fake.heal()
    fake.requests.clear()
    watcher = Watcher()
    path = await hub.fetch(inspection, watcher)
    assert (path / WEIGHTS).read_bytes() == (repository / WEIGHTS).read_bytes()
    assert whole_requests(fake) == [f"bytes={size // 2}-"]
    assert watcher.seen[-1].done == inspection.download_bytes


async def test_a_server_without_ranges_starts_over(hub: Hub, fake: FakeHub, repository: Path) -> None:
    inspection, watcher = await hub.inspect(SPEC), Watcher()
    fake.fail(NAME, WEIGHTS, kind=Fault.CUT, times=1)
    fake.fail(NAME, WEIGHTS, kind=Fault.NO_RANGES)
    path = await hub.fetch(inspection, watcher)
    assert (path / WEIGHTS).read_bytes() == (repository / WEIGHTS).read_bytes()
    assert watcher.seen[-1].done == inspection.download_bytes


@pytest.mark.parametrize(("fault", "path"), [(Fault.BUSY, None), (Fault.UNAVAILABLE, WEIGHTS), (Fault.BUSY, WEIGHTS)])
async def test_a_busy_hub_is_waited_for(hub: Hub, fake: FakeHub, fault: Fault, path: str | None) -> None:
    inspection = await hub.inspect(SPEC)
    fake.fail(NAME, path, kind=fault, times=3)
    assert (await hub.fetch(inspection, Watcher()) / WEIGHTS).exists()


@pytest.mark.parametrize(
    ("fault", "path", "kind"),
    [
        (Fault.DAMAGED, WEIGHTS, CorruptModel),
        (Fault.DAMAGED, "config.json", CorruptModel),
        (Fault.LONG, WEIGHTS, CorruptModel),
        (Fault.CUT, "config.json", HubUnreachable),
        (Fault.UNAVAILABLE, "config.json", HubBusy),
        (Fault.MISSING, "config.json", RepositoryNotFound),
        (Fault.GATED, WEIGHTS, RepositoryGated),
    ],
)
async def test_what_is_not_whole_is_never_ready(
    make_hub: Callable[..., Hub], fake: FakeHub, cache: Path, fault: Fault, path: str, kind: type[BerthError]
) -> None:
    hub = make_hub(timeout_s=0.5)
    inspection = await hub.inspect(SPEC)
    fake.fail(NAME, path, kind=fault)
    with pytest.raises(kind, match=NAME):
        await hub.fetch(inspection, Watcher())
    assert not (cache / "models--org--classifier/snapshots").exists()
    fake.heal()
    assert (await hub.fetch(inspection, Watcher()) / path).exists(), "the next one succeeds"


async def test_a_short_answer_is_asked_for_the_rest(hub: Hub, fake: FakeHub, repository: Path) -> None:
    inspection = await hub.inspect(SPEC)
    fake.fail(NAME, WEIGHTS, kind=Fault.SHORT, times=1)
    path = await hub.fetch(inspection, Watcher())
    assert (path / WEIGHTS).read_bytes() == (repository / WEIGHTS).read_bytes()


async def test_a_file_that_changed_under_its_name_is_refused(hub: Hub, fake: FakeHub, repository: Path) -> None:
    inspection = await hub.inspect(SPEC)
    (repository / "config.json").write_text(json.dumps(bert_config("GPT2LMHeadModel")))
    with pytest.raises(BerthError, match="revision"):
        await hub.fetch(inspection, Watcher())


async def cancelled(task: asyncio.Task[Path]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def children() -> list[psutil.Process]:
    return [each for each in psutil.Process().children() if "core.hub.child" in " ".join(each.cmdline())]


@pytest.mark.parametrize(
    ("fault", "file"), [(Fault.STALL, WEIGHTS), (Fault.SLOW, WEIGHTS), (Fault.STALL, "config.json")]
)
async def test_a_cancel_leaves_nothing(
    make_hub: Callable[..., Hub], fake: FakeHub, cache: Path, fault: Fault, file: str
) -> None:
    hub = make_hub(timeout_s=600)  # longer than the test may take: only the cancel ends it
    inspection = await hub.inspect(SPEC)
    fake.fail(NAME, file, kind=fault)
    task = asyncio.create_task(hub.fetch(inspection, Watcher()))
    await asyncio.to_thread(fake.moved.wait)
    await cancelled(task)
    assert children() == []
    assert left(cache) == set()
    fake.heal()
    assert (await hub.fetch(inspection, Watcher()) / file).exists()


async def test_a_cancel_keeps_what_was_there_before(make_hub: Callable[..., Hub], fake: FakeHub, cache: Path) -> None:
    hub = make_hub(timeout_s=600)
    path = await hub.fetch(await hub.inspect(SPEC), Watcher())
    (path / WEIGHTS).resolve().unlink()
    (path / WEIGHTS).unlink()
    before = left(cache)
    fake.fail(NAME, WEIGHTS, kind=Fault.SLOW)
    task = asyncio.create_task(hub.fetch(await hub.inspect(SPEC), Watcher()))
    await asyncio.to_thread(fake.moved.wait)
    await cancelled(task)
    assert left(cache) == before


async def test_an_inspection_can_be_cancelled(make_hub: Callable[..., Hub], fake: FakeHub, cache: Path) -> None:
    hub = make_hub(timeout_s=600)
    fake.fail(NAME, "config.json", kind=Fault.STALL)
    task = asyncio.create_task(hub.inspect(SPEC))
    await asyncio.to_thread(fake.stalled.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert children() == []
    assert not cache.exists()


async def test_a_cancel_before_the_process_is_up(hub: Hub, cache: Path) -> None:
    inspection = await hub.inspect(SPEC)
    task = asyncio.create_task(hub.fetch(inspection, Watcher()))
    await asyncio.sleep(0)
    await cancelled(task)
    assert children() == []
    assert left(cache) == set()


async def test_two_at_once_fetch_the_weights_once(hub: Hub, fake: FakeHub) -> None:
    inspection = await hub.inspect(SPEC)
    fake.fail(NAME, WEIGHTS, kind=Fault.SLOW)
    paths = await asyncio.gather(*(hub.fetch(inspection, Watcher()) for _ in range(3)))
    assert len(set(paths)) == 1
    assert len(whole_requests(fake)) == 1


async def test_one_of_two_is_cancelled(hub: Hub, fake: FakeHub) -> None:
    inspection = await hub.inspect(SPEC)
    fake.fail(NAME, WEIGHTS, kind=Fault.SLOW)
    first = asyncio.create_task(hub.fetch(inspection, Watcher()))
    await asyncio.to_thread(fake.moved.wait)
    listed = len(fake.requests_for("/api/models/"))
    second = asyncio.create_task(hub.fetch(inspection, Watcher()))
    while len(fake.requests_for("/api/models/")) == listed:
        await asyncio.sleep(0.01)
    await cancelled(second)
    assert (await first / WEIGHTS).exists()


async def test_the_token_is_on_no_command_line(make_hub: Callable[..., Hub], fake: FakeHub) -> None:
    hub = make_hub(token="hf_secret_of_the_test", timeout_s=600)
    inspection = await hub.inspect(SPEC)
    fake.fail(NAME, WEIGHTS, kind=Fault.STALL)
    task = asyncio.create_task(hub.fetch(inspection, Watcher()))
    await asyncio.to_thread(fake.stalled.wait)
    (child,) = children()
    assert "hf_secret" not in " ".join(child.cmdline())
    assert not any("hf_secret" in value for value in child.environ().values())
    await cancelled(task)


_FRONT = """
import asyncio, json, sys
from pathlib import Path
from core.hub import Hub
from core.types import ModelSpec
endpoint, cache = sys.argv[1:]
hub = Hub(models_dir=Path("none"), starter_dir=Path("none"), endpoint=endpoint, cache_dir=Path(cache), timeout_s=600)
async def main():
    await hub.fetch(await hub.inspect(ModelSpec("m", "org/classifier")), print)
asyncio.run(main())
"""


async def test_the_process_ends_with_the_server(fake: FakeHub, cache: Path) -> None:
    fake.fail(NAME, WEIGHTS, kind=Fault.SLOW)  # the header's read is slow too, and ends
    command = [sys.executable, "-c", _FRONT, fake.endpoint, str(cache)]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.DEVNULL) as front:
        await asyncio.to_thread(_wait_for_download, fake)
        (child,) = psutil.Process(front.pid).children()
        front.send_signal(signal.SIGKILL)
    gone, alive = await asyncio.to_thread(psutil.wait_procs, [child], 30)
    assert alive == []
    assert not (cache / "models--org--classifier/snapshots").exists()


def _wait_for_download(fake: FakeHub) -> None:
    while len([seen for seen in fake.requests if seen.host == "cdn"]) < 2:
        fake.stopping.wait(0.02)


class TestDisk:
    def download(self, fake: FakeHub, cache: Path, inspection: Inspection) -> Download:
        client = HubClient(NAME, fake.endpoint, None, timeout_s=5.0, retry_wait_s=0.01)
        return Download(client, cache, inspection.revision, list(inspection.files), Watcher())

    async def test_a_full_disk_is_told_before_the_first_byte(
        self, hub: Hub, fake: FakeHub, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        inspection = await hub.inspect(SPEC)
        usage = namedtuple("usage", "total used free")(10**9, 10**9, 3_000_000)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
        with pytest.raises(DiskFull, match=r"needs 0\.00 GB and the cache's disk has 0\.00 GB free"):
            self.download(fake, cache, inspection).run("main")
        assert whole_requests(fake) == []
        assert left(cache) == set()

    async def test_a_disk_that_becomes_full_gives_its_room_back(self, hub: Hub, repository: Path, cache: Path) -> None:
        inspection = await hub.inspect(SPEC)
        blobs = cache / "models--org--classifier/blobs"
        blobs.mkdir(parents=True)
        etag = hashlib.sha256((repository / WEIGHTS).read_bytes()).hexdigest()
        (blobs / f"{etag}.berth.incomplete").symlink_to("/dev/full")  # every write to it is ENOSPC
        with pytest.raises(DiskFull, match=NAME):
            await hub.fetch(inspection, Watcher())
        assert not any(name.endswith(".incomplete") for name in left(cache))
        assert (await hub.fetch(inspection, Watcher()) / WEIGHTS).exists()

    async def test_a_cache_that_cannot_be_written_is_named(self, make_hub: Callable[..., Hub]) -> None:
        hub = make_hub(cache_dir=Path("/proc/none"))
        with pytest.raises(BerthError, match="HF_HOME"):
            await hub.fetch(await hub.inspect(SPEC), Watcher())


async def test_a_graph_is_checked_when_it_is_here(hub: Hub, fake: FakeHub) -> None:
    folder = fake.root / "org/graph"
    write_repository(folder, bert_config())
    write_graph(folder / "onnx/model.onnx", "model.onnx_data")
    (folder / "onnx/model.onnx_data").write_bytes(b"\0" * 1_200_000)
    spec = ModelSpec("graph", "org/graph")
    path = await hub.fetch(await hub.inspect(spec), Watcher())
    assert (path / "onnx/model.onnx_data").stat().st_size == 1_200_000
    write_graph(folder / "onnx/model.onnx", "../config.json")
    with pytest.raises(CorruptModel, match="outside"):
        await hub.inspect(spec)
    write_graph(folder / "onnx/model.onnx", tensors=8)  # 9.6 MB: too much to read before it is fetched
    with (folder / "onnx/model.onnx").open("ab") as file:  # a second graph, merged with the first by protobuf
        file.write(hidden_places()["constant"].SerializeToString())
    inspection = await hub.inspect(spec)
    with pytest.raises(CorruptModel, match="hidden"):
        await hub.fetch(inspection, Watcher())


def test_progress_counts_and_foretells() -> None:
    seen: list[FileProgress] = []
    progress = Progress(100, seen.append)
    progress.add("a", 40, is_transfer=False)
    progress.add("b", 60)
    assert [(each.file, each.done, each.total) for each in seen] == [("a", 40, 100), ("b", 100, 100)]
    assert seen[0].eta_s is None
    assert seen[1].eta_s == 0.0


def test_files_of_no_size_need_no_download(fake: FakeHub, cache: Path) -> None:
    write_repository(fake.root / NAME, None, None, {"vocab.txt": b""})
    client = HubClient(NAME, fake.endpoint, None, timeout_s=5.0, retry_wait_s=0.01)
    commit = client.info("main").sha or ""
    path = Download(client, cache, commit, [RepoFile("vocab.txt", 0)], Watcher()).run("main")
    assert (path / "vocab.txt").read_bytes() == b""
