"""Repositories over HTTP, through the real huggingface_hub: what they are told to be, and every way it can fail."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import (
    BerthError,
    CorruptModel,
    HubBusy,
    HubUnreachable,
    InvalidRequest,
    NotAllowed,
    PickleRefused,
    RemoteCodeRefused,
    RepositoryGated,
    RepositoryNotFound,
)
from core.hub import Hub
from core.types import FileProgress, ModelSpec, Runtime, Task
from tests.fakes.hub import FakeHub, Fault
from tests.fakes.repositories import CLASSIFIER, bert_config, write_header, write_repository, write_sentence_model

NAME = "org/classifier"


def spec(source: str = NAME, **fields: object) -> ModelSpec:
    return ModelSpec("mine", source, **fields)  # type: ignore[arg-type]


def ignore(progress: FileProgress) -> None:
    pass


@pytest.fixture(autouse=True)
def repository(fake: FakeHub) -> Path:
    notes = {"license": "mit", "pipeline_tag": "text-classification", "refs": ["v1", "refs/pr/1"]}
    files = {"hub.json": notes, "modeling.py": "raise SystemExit", "pytorch_model.bin": b"x" * 100}
    return write_repository(fake.root / NAME, bert_config(), CLASSIFIER, files)


async def test_what_a_repository_is(hub: Hub, fake: FakeHub, cache: Path) -> None:
    inspection = await hub.inspect(spec())
    assert (inspection.runtime, inspection.tasks) == (Runtime.TRANSFORMERS, (Task.TEXT_CLASSIFICATION,))
    assert (inspection.license, inspection.labels) == ("mit", ("negative", "neutral", "positive"))
    assert inspection.local is None
    assert len(inspection.revision) == 40
    assert inspection.download_bytes == sum((fake.root / NAME / file.path).stat().st_size for file in inspection.files)
    assert not cache.exists(), "an inspection writes nothing"


async def test_only_the_header_of_the_weights_is_read(hub: Hub, fake: FakeHub) -> None:
    write_repository(fake.root / NAME, bert_config(), {**CLASSIFIER, "bert.big.weight": (1000, 1000)})
    inspection = await hub.inspect(spec())
    assert inspection.weight_bytes > 4_000_000
    assert [seen.headers["range"] for seen in fake.requests_for("model.safetensors")] == ["bytes=0-99999"] * 2


@pytest.mark.parametrize("revision", ["v1", "refs/pr/1"])
async def test_a_revision_in_the_source_or_beside_it(hub: Hub, fake: FakeHub, revision: str) -> None:
    one = await hub.inspect(spec(f"{NAME}@{revision}"))
    two = await hub.inspect(spec(revision=revision))
    assert one.revision == two.revision
    assert (await hub.inspect(spec(revision=one.revision))).revision == one.revision
    with pytest.raises(InvalidRequest, match="two revisions"):
        await hub.inspect(spec(f"{NAME}@{revision}", revision="main"))
    with pytest.raises(RepositoryNotFound, match="no such revision"):
        await hub.inspect(spec(revision="v2"))


async def test_the_token_stays_with_the_hub(make_hub: Callable[..., Hub], fake: FakeHub) -> None:
    hub = make_hub(token="hf_right")
    await hub.fetch(await hub.inspect(spec()), ignore)
    told = {
        seen.host: {each.authorization for each in fake.requests if each.host == seen.host} for seen in fake.requests
    }
    assert told == {"hub": {"Bearer hf_right"}, "cdn": {None}}


async def test_a_gated_repository_opens_to_its_token(make_hub: Callable[..., Hub], fake: FakeHub) -> None:
    (fake.root / NAME / "hub.json").write_text(json.dumps({"gated": "auto"}))
    with pytest.raises(RepositoryGated, match=f"huggingface.co/{NAME}.*HF_TOKEN"):
        await make_hub().inspect(spec())
    with pytest.raises(RepositoryGated):
        await make_hub(token="hf_wrong").inspect(spec())
    inspection = await make_hub(token="hf_right").inspect(spec())
    assert any("licence" in warning for warning in inspection.warnings)


async def test_a_private_repository_is_as_if_missing(make_hub: Callable[..., Hub], fake: FakeHub) -> None:
    (fake.root / NAME / "hub.json").write_text(json.dumps({"private": True}))
    with pytest.raises(RepositoryNotFound, match="private"):
        await make_hub().inspect(spec())
    assert (await make_hub(token="hf_right").inspect(spec())).tasks


REFUSALS: list[tuple[Fault, str | None, type[BerthError]]] = [
    (Fault.UNAUTHORIZED, None, RepositoryNotFound),
    (Fault.BAD_TOKEN, None, RepositoryGated),
    (Fault.GATED, None, RepositoryGated),
    (Fault.GATED, "config.json", RepositoryGated),
    (Fault.FORBIDDEN, "model.safetensors", RepositoryGated),
    (Fault.DISABLED, None, RepositoryNotFound),
    (Fault.MISSING, "config.json", RepositoryNotFound),
    (Fault.BUSY, None, HubBusy),
    (Fault.BUSY, "config.json", HubBusy),
    (Fault.UNAVAILABLE, None, HubBusy),
    (Fault.UNAVAILABLE, "model.safetensors", HubBusy),
    (Fault.NOT_JSON, None, CorruptModel),
    (Fault.CUT, "config.json", HubUnreachable),
    (Fault.SHORT, "config.json", CorruptModel),
]


@pytest.mark.parametrize(("fault", "path", "kind"), REFUSALS)
async def test_each_refusal_has_its_error(
    hub: Hub, fake: FakeHub, cache: Path, fault: Fault, path: str | None, kind: type[BerthError]
) -> None:
    fake.fail(NAME, path, kind=fault)
    with pytest.raises(kind) as caught:
        await hub.inspect(spec())
    assert type(caught.value) is kind
    assert NAME in caught.value.message
    assert not cache.exists()


async def test_the_next_one_succeeds(hub: Hub, fake: FakeHub) -> None:
    fake.fail(NAME, "config.json", kind=Fault.GATED, times=1)
    with pytest.raises(RepositoryGated):
        await hub.inspect(spec())
    assert (await hub.inspect(spec())).tasks


async def test_a_repository_that_is_not_there(hub: Hub) -> None:
    with pytest.raises(RepositoryNotFound, match="no repository org/none"):
        await hub.inspect(spec("org/none"))


@pytest.mark.parametrize(
    ("fault", "path"), [(Fault.BUSY, None), (Fault.UNAVAILABLE, "config.json"), (Fault.BUSY, "model.safetensors")]
)
async def test_a_hub_that_is_busy_for_a_while_is_waited_for(
    hub: Hub, fake: FakeHub, fault: Fault, path: str | None
) -> None:
    fake.fail(NAME, path, kind=fault, times=2)
    assert (await hub.inspect(spec())).tasks


async def test_a_hub_that_is_busy_for_long_says_how_long(hub: Hub, fake: FakeHub) -> None:
    fake.fail(NAME, kind=Fault.BUSY, retry_after="3600")
    with pytest.raises(HubBusy) as caught:
        await hub.inspect(spec())
    assert caught.value.retry_after == 3600
    assert len(fake.requests) == 1


async def test_a_hub_that_stalls_is_unreachable(make_hub: Callable[..., Hub], fake: FakeHub) -> None:
    fake.fail(NAME, "config.json", kind=Fault.STALL)
    with pytest.raises(HubUnreachable, match="ReadTimeout"):
        await make_hub(timeout_s=0.2).inspect(spec())


async def test_no_one_listens(make_hub: Callable[..., Hub]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        hub = make_hub(endpoint=f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(HubUnreachable, match=f"{NAME}.*ConnectError"):
            await hub.inspect(spec())
    with pytest.raises(HubUnreachable):
        await make_hub(endpoint="http://no-such-host.invalid").inspect(spec())


async def test_code_is_refused_before_weights_move(hub: Hub, fake: FakeHub, cache: Path) -> None:
    config = bert_config(model_type="mine", auto_map={"AutoModel": "modeling.Mine"})
    write_repository(fake.root / NAME, config, CLASSIFIER)
    with pytest.raises(RemoteCodeRefused, match=NAME):
        await hub.inspect(spec())
    assert fake.requests_for("safetensors") == []
    assert not cache.exists()


async def test_pickles_are_for_admins_where_they_are_allowed(make_hub: Callable[..., Hub], repository: Path) -> None:
    (repository / "model.safetensors").unlink()
    with pytest.raises(PickleRefused):
        await make_hub().inspect(spec())
    with pytest.raises(PickleRefused):
        await make_hub(allow_pickle=False).inspect(spec(), admin=True)
    inspection = await make_hub().inspect(spec(), admin=True)
    assert "pickled" in inspection.warnings[0]


async def test_a_lying_header_is_refused_before_the_download(hub: Hub, repository: Path, cache: Path) -> None:
    write_header(repository / "model.safetensors", {"x": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}})
    with pytest.raises(CorruptModel, match=NAME):
        await hub.inspect(spec())
    assert not cache.exists()


class TestOffline:
    async def fetched(self, make_hub: Callable[..., Hub], fake: FakeHub, **fields: object) -> Path:
        hub = make_hub()
        path = await hub.fetch(await hub.inspect(spec(**fields)), ignore)  # type: ignore[arg-type]
        fake.requests.clear()
        return path

    async def test_the_cache_is_enough(self, make_hub: Callable[..., Hub], fake: FakeHub) -> None:
        path = await self.fetched(make_hub, fake)
        offline = make_hub(offline=True)
        inspection = await offline.inspect(spec())
        assert inspection.local == str(path)
        assert inspection.revision == path.name
        assert inspection.download_bytes == 0
        assert await offline.fetch(inspection, ignore) == path
        assert (await offline.inspect(spec(revision=path.name))).local == str(path)
        assert fake.requests == [], "not one socket is opened"

    async def test_a_revision_is_found_by_its_name(self, make_hub: Callable[..., Hub], fake: FakeHub) -> None:
        path = await self.fetched(make_hub, fake, revision="refs/pr/1")
        assert (await make_hub(offline=True).inspect(spec(f"{NAME}@refs/pr/1"))).local == str(path)
        with pytest.raises(HubUnreachable, match=NAME):
            await make_hub(offline=True).inspect(spec())

    async def test_what_is_missing_is_named(self, make_hub: Callable[..., Hub], fake: FakeHub) -> None:
        with pytest.raises(HubUnreachable, match=f"Offline mode is on and {NAME} is not in the cache"):
            await make_hub(offline=True).inspect(spec())
        path = await self.fetched(make_hub, fake)
        (path / "model.safetensors").unlink()
        with pytest.raises(HubUnreachable, match=r"no weights.*HF_HUB_OFFLINE"):
            await make_hub(offline=True).inspect(spec())
        assert fake.requests == []

    async def test_the_cache_stands_in_for_a_hub_that_is_down(
        self, make_hub: Callable[..., Hub], fake: FakeHub
    ) -> None:
        path = await self.fetched(make_hub, fake)
        fake.fail(NAME, kind=Fault.UNAVAILABLE)
        inspection = await make_hub().inspect(spec())
        assert inspection.local == str(path)
        assert any("cache" in warning for warning in inspection.warnings)

    async def test_half_a_cache_stands_in_for_nothing(self, make_hub: Callable[..., Hub], fake: FakeHub) -> None:
        path = await self.fetched(make_hub, fake)
        (path / "model.safetensors").unlink()
        fake.fail(NAME, kind=Fault.UNAVAILABLE)
        with pytest.raises(HubBusy):
            await make_hub().inspect(spec())

    async def test_local_models_need_no_network(
        self, make_hub: Callable[..., Hub], fake: FakeHub, tmp_path: Path
    ) -> None:
        write_repository(tmp_path / "models/own", bert_config(), CLASSIFIER)
        write_sentence_model(tmp_path / "starter/embed")
        hub = make_hub(offline=True)
        for source, task in (("own", Task.TEXT_CLASSIFICATION), ("starter:embed", Task.FEATURE_EXTRACTION)):
            inspection = await hub.inspect(spec(source))
            assert (inspection.revision, inspection.tasks) == ("local", (task,))
            assert await hub.fetch(inspection, ignore) == Path(str(inspection.local))
        assert fake.requests == []


async def test_what_is_cached_is_not_fetched_again(hub: Hub, fake: FakeHub) -> None:
    path = await hub.fetch(await hub.inspect(spec()), ignore)
    fake.requests.clear()
    inspection = await hub.inspect(spec())
    assert inspection.local == str(path)
    assert [seen.path.partition("?")[0] for seen in fake.requests] == [f"/api/models/{NAME}/revision/main"]
    shutil.rmtree(path)
    assert (await hub.inspect(spec())).local is None


async def test_a_new_commit_is_seen(hub: Hub, repository: Path) -> None:
    first = await hub.fetch(await hub.inspect(spec()), ignore)
    (repository / "config.json").write_text(json.dumps(bert_config("BertForTokenClassification")))
    inspection = await hub.inspect(spec())
    assert (inspection.local, inspection.tasks) == (None, (Task.TOKEN_CLASSIFICATION,))
    assert await hub.fetch(inspection, ignore) != first


async def test_paths_are_for_admins(hub: Hub, tmp_path: Path) -> None:
    folder = write_repository(tmp_path / "elsewhere", bert_config(), CLASSIFIER)
    with pytest.raises(NotAllowed):
        await hub.inspect(spec(str(folder)))
    assert (await hub.inspect(spec(str(folder)), admin=True)).local == str(folder)
    with pytest.raises(InvalidRequest, match="no revisions"):
        await hub.inspect(spec(str(folder), revision="main"), admin=True)
