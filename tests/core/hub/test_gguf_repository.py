"""Repositories of GGUF files, on disk and on a Hub: which file is taken, what it is said to be, what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from core.errors import (
    CorruptModel,
    InvalidRequest,
    NoSupportedTask,
    NotAllowed,
    RepositoryNotFound,
    TaskNotSupported,
)
from core.hub import Hub
from core.hub.files import open_directory
from core.hub.identify import identify
from core.types import FileProgress, Inspection, ModelSpec, Quantization, Runtime, Task
from tests.fakes.gguf import CONTEXT, write_gguf
from tests.fakes.gguf_vision import write_mmproj
from tests.fakes.hub import FakeHub
from tests.fakes.repositories import CLASSIFIER, bert_config, write_repository, write_tensors


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("one") / "model.gguf", quantized=True)


def spread(model: Path, folder: Path, *names: str) -> Path:
    """Copies of `model` under other names; what sees where a name says so."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_mmproj(folder / name) if "mmproj" in name else shutil.copy(model, folder / name)
    return folder


def inspect(folder: Path, source: str = "org/model", **fields: Any) -> Inspection:
    spec = ModelSpec("mine", source, **fields)
    return identify(open_directory("org/model", folder), spec, pickle_allowed=False)


def test_what_a_file_is(model: Path, tmp_path: Path) -> None:
    found = inspect(spread(model, tmp_path, "tiny-q8_0.gguf"))
    assert (found.runtime, found.tasks) == (Runtime.LLAMA_CPP, (Task.TEXT_GENERATION,))
    assert (found.model_type, found.architecture, found.dtype) == ("llama", "llama", "Q8_0")
    assert found.context_length == CONTEXT
    assert found.parameters == 120_384
    assert found.weight_bytes == model.stat().st_size
    assert 0 < found.weight_bytes - found.anatomy.tensor_bytes < 20_000, "the header"
    assert found.spec.file == "tiny-q8_0.gguf"
    assert [file.path for file in found.files] == ["tiny-q8_0.gguf"]
    assert found.warnings == ()


def test_no_chat_template_is_said(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", template=None)
    [warning] = inspect(tmp_path).warnings
    assert "no chat template" in warning


MANY = ("m-Q2_K.gguf", "m-Q4_K_M.gguf", "m-Q8_0.gguf", "m.f16.gguf", "mmproj-Q4_K_M.gguf", "m.imatrix.gguf")


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (MANY, "m-Q4_K_M.gguf"),
        (("m-Q2_K.gguf", "m-Q8_0.gguf", "m-f16.gguf"), "m-Q8_0.gguf"),
        (("m-IQ1_S.gguf", "m-fp16.gguf"), "m-fp16.gguf"),
        (("b.gguf", "a.gguf"), "a.gguf"),
        (("Q2_K/m.gguf", "Q4_K_M/m.gguf"), "Q4_K_M/m.gguf"),
    ],
)
def test_one_of_several_is_taken_and_the_others_are_named(
    model: Path, tmp_path: Path, names: tuple[str, ...], chosen: str
) -> None:
    found = inspect(spread(model, tmp_path, *names))
    assert found.spec.file == chosen
    [warning] = found.warnings
    for name in names:
        assert (name in warning) == (not name.startswith("mmproj") and "imatrix" not in name)


class TestProjectors:
    def test_one_beside_a_model_sees_for_it(self, model: Path, tmp_path: Path) -> None:
        folder = spread(model, tmp_path, "mmproj-f16.gguf", "model.gguf")
        found = inspect(folder)
        assert (found.spec.file, found.projector, found.warnings) == ("model.gguf", "mmproj-f16.gguf", ())
        assert found.tasks == (Task.IMAGE_TEXT_TO_TEXT, Task.TEXT_GENERATION)
        assert [file.path for file in found.files] == ["model.gguf", "mmproj-f16.gguf"]
        sizes = [file.size for file in found.files]
        assert found.weight_bytes == sum(sizes)
        assert 0 < sizes[1] - found.anatomy.image_bytes < 4000, "the header"
        assert (found.anatomy.image_patches, found.anatomy.image_hidden, found.anatomy.image_merge) == (16, 32, 1)
        assert inspect(folder, task=Task.IMAGE_TEXT_TO_TEXT).projector == "mmproj-f16.gguf"

    def test_text_alone_takes_none(self, model: Path, tmp_path: Path) -> None:
        found = inspect(spread(model, tmp_path, "mmproj-f16.gguf", "model.gguf"), task=Task.TEXT_GENERATION)
        assert (found.projector, found.tasks) == (None, (Task.TEXT_GENERATION,))
        assert [file.path for file in found.files] == ["model.gguf"]

    def test_to_see_takes_one(self, model: Path, tmp_path: Path) -> None:
        with pytest.raises(TaskNotSupported, match="no mmproj file"):
            inspect(spread(model, tmp_path, "model.gguf"), task=Task.IMAGE_TEXT_TO_TEXT)

    def test_it_is_never_the_model(self, model: Path, tmp_path: Path) -> None:
        folder = spread(model, tmp_path, "mmproj-f16.gguf")
        with pytest.raises(CorruptModel):
            inspect(folder)
        with pytest.raises(NoSupportedTask, match="mmproj"):
            inspect(folder, file="mmproj-f16.gguf")

    @pytest.mark.parametrize(
        ("names", "file", "chosen"),
        [
            (("m.gguf", "mmproj-Q8_0.gguf", "mmproj-F16.gguf", "mmproj-BF16.gguf"), "m.gguf", "mmproj-F16.gguf"),
            (("m-Q8_0.gguf", "mmproj-F32.gguf", "mmproj-Q8_0.gguf"), "m-Q8_0.gguf", "mmproj-Q8_0.gguf"),
            (("a.gguf", "b.gguf", "mmproj-model-f16.gguf"), "a.gguf", None),
            (("a-Q2_K.gguf", "a-Q4_0.gguf", "mmproj-model-f16.gguf"), "a-Q2_K.gguf", "mmproj-model-f16.gguf"),
            (("Smol-Q8_0.gguf", "mmproj-Smol-f16.gguf", "other.gguf"), "Smol-Q8_0.gguf", "mmproj-Smol-f16.gguf"),
            (("Smol-Q8_0.gguf", "mmproj-Smol-f16.gguf", "other.gguf"), "other.gguf", None),
            (("gemma-4b-q4_0.gguf", "mmproj-model-f16-4B.gguf"), "gemma-4b-q4_0.gguf", "mmproj-model-f16-4B.gguf"),
            (("x/m.gguf", "x/mmproj.gguf", "mmproj.gguf"), "x/m.gguf", "x/mmproj.gguf"),
            (("x/m.gguf", "y/m.gguf", "mmproj.gguf"), "x/m.gguf", "mmproj.gguf"),
            (("x/m.gguf", "y/mmproj.gguf"), "x/m.gguf", None),
        ],
    )  # fmt: skip
    def test_which_of_several(
        self, model: Path, tmp_path: Path, names: tuple[str, ...], file: str, chosen: str | None
    ) -> None:
        assert inspect(spread(model, tmp_path, *names), file=file).projector == chosen

    def test_what_does_not_see_is_left_aside(self, model: Path, tmp_path: Path) -> None:
        folder = spread(model, tmp_path, "m.gguf")
        for metadata, says in (
            ({"clip.has_vision_encoder": 0}, "sees no images"),
            ({"clip.projector_type": "hunyuanvl"}, "is a hunyuanvl, which cannot be run here"),
            ({"general.architecture": "llama"}, "is no image encoder"),
        ):
            write_mmproj(folder / "mmproj.gguf", metadata=metadata)
            found = inspect(folder)
            assert (found.projector, found.tasks) == (None, (Task.TEXT_GENERATION,))
            [warning] = found.warnings
            assert warning.startswith(f"mmproj.gguf {says}")

    def test_a_damaged_one_is_told(self, model: Path, tmp_path: Path) -> None:
        folder = spread(model, tmp_path, "m.gguf", "mmproj.gguf")
        data = (folder / "mmproj.gguf").read_bytes()
        for damaged in (b"", data[:-500], b"PK" + data):
            (folder / "mmproj.gguf").write_bytes(damaged)
            with pytest.raises(CorruptModel, match=r"mmproj\.gguf of org/model"):
                inspect(folder)
        assert inspect(folder, task=Task.TEXT_GENERATION).spec.file == "m.gguf"


@pytest.mark.parametrize(
    ("source", "file", "chosen"),
    [
        ("org/model:Q8_0", None, "m-Q8_0.gguf"),
        ("org/model:q2_k", None, "m-Q2_K.gguf"),
        ("org/model@main:F16", None, "m.f16.gguf"),
        ("org/model", "m-Q2_K.gguf", "m-Q2_K.gguf"),
    ],
)
def test_the_file_that_is_asked_for(model: Path, tmp_path: Path, source: str, file: str | None, chosen: str) -> None:
    found = inspect(spread(model, tmp_path, *MANY), source, file=file)
    assert (found.spec.file, found.warnings) == (chosen, ())


@pytest.mark.parametrize(
    ("source", "fields", "says"),
    [
        ("org/model:Q5_K_M", {}, "Q4_K_M"),
        ("org/model", {"file": "none.gguf"}, "m-Q4_K_M.gguf"),
        ("org/model", {"file": "../m.gguf"}, "inside"),
        ("org/model", {"file": "m-Q8_0.gguf", "runtime": Runtime.TRANSFORMERS}, "llama.cpp"),
        ("org/model", {"quantization": Quantization.INT8}, "quantised"),
        ("org/model", {"context_length": CONTEXT + 1}, "256"),
        ("org/model", {"context_length": 7}, "8 to"),
    ],
)
def test_requests_that_do_not_fit(model: Path, tmp_path: Path, source: str, fields: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        inspect(spread(model, tmp_path, *MANY), source, **fields)


def test_other_tasks_and_no_file_at_all(model: Path, tmp_path: Path) -> None:
    with pytest.raises(TaskNotSupported):
        inspect(spread(model, tmp_path / "a", "m.gguf"), task=Task.TEXT_CLASSIFICATION)
    write_repository(tmp_path / "b", bert_config(), CLASSIFIER)
    with pytest.raises(InvalidRequest, match="no GGUF"):
        inspect(tmp_path / "b", runtime=Runtime.LLAMA_CPP)
    with pytest.raises(InvalidRequest, match="no GGUF"):
        inspect(tmp_path / "b", "org/model:Q8_0")


def test_a_shorter_context_may_be_asked_for(model: Path, tmp_path: Path) -> None:
    assert inspect(spread(model, tmp_path, "m.gguf"), context_length=64).context_length == 64


def test_safetensors_come_before_gguf(model: Path, tmp_path: Path) -> None:
    folder = spread(model, write_repository(tmp_path / "m", bert_config(), CLASSIFIER), "m.gguf")
    assert inspect(folder).runtime is Runtime.TRANSFORMERS
    assert inspect(folder, runtime=Runtime.LLAMA_CPP).runtime is Runtime.LLAMA_CPP
    assert inspect(folder, file="m.gguf").runtime is Runtime.LLAMA_CPP
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert inspect(folder).runtime is Runtime.LLAMA_CPP, "rather than a pickle"


@pytest.mark.parametrize(
    ("architecture", "says"),
    [("bert", r"encoder \(bert\)"), ("nomic-bert", "nomic-bert"), ("t5", "encoder-decoder"), ("clip", "image")],
)
def test_what_writes_no_text_is_refused_by_name(tmp_path: Path, architecture: str, says: str) -> None:
    data = write_gguf(tmp_path / "m.gguf", metadata={"some.name": "x" * len(architecture)}).read_bytes()
    value = (len(b"llama")).to_bytes(8, "little") + b"llama"
    named = data.replace(value, len(architecture).to_bytes(8, "little") + architecture.encode(), 1)
    padding = -(len(named) - len(data)) % 32  # what follows the header stays where it is, up to the alignment
    (tmp_path / "m.gguf").write_bytes(named + b"\0" * (padding + 32))
    with pytest.raises(NoSupportedTask, match=says):
        inspect(tmp_path)


@pytest.mark.parametrize("kind", ["adapter", "mmproj", "vocab"])
def test_what_is_no_model_is_refused(tmp_path: Path, kind: str) -> None:
    write_gguf(tmp_path / "m.gguf", metadata={"general.type": kind})
    with pytest.raises(NoSupportedTask, match=kind):
        inspect(tmp_path)


class TestParts:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        write_gguf(tmp_path / "m.gguf", parts=2)
        return tmp_path

    def test_are_one_model(self, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
        whole = write_gguf(tmp_path_factory.mktemp("whole") / "m.gguf")
        found, one = inspect(folder), inspect(whole.parent)
        assert len(found.files) > 2
        assert found.spec.file == "m-00001-of-00006.gguf"
        assert found.parameters == one.parameters
        assert found.warnings == ()
        assert inspect(folder, file="m-00003-of-00006.gguf") == found

    def test_one_missing_or_of_another_model(self, folder: Path) -> None:
        (folder / "m-00002-of-00006.gguf").rename(folder / "kept")
        with pytest.raises(CorruptModel, match="00002-of-00006"):
            inspect(folder)
        shutil.copy(folder / "m-00003-of-00006.gguf", folder / "m-00002-of-00006.gguf")
        with pytest.raises(CorruptModel, match="not of one model"):
            inspect(folder)

    def test_each_header_is_checked(self, folder: Path) -> None:
        part = folder / "m-00004-of-00006.gguf"
        part.write_bytes(part.read_bytes()[:-1])
        with pytest.raises(CorruptModel, match="00004"):
            inspect(folder)


class TestOnTheHub:
    async def test_only_headers_are_read(self, fake: FakeHub, hub: Hub) -> None:
        path = write_gguf(fake.root / "org/gguf/m-Q8_0.gguf", quantized=True, feed_forward=4096)
        spread(path, path.parent, "m-Q4_0.gguf")
        assert path.stat().st_size > 1_500_000
        found = await hub.inspect(ModelSpec("mine", "org/gguf:Q8_0"))
        assert (found.runtime, found.spec.file, found.local) == (Runtime.LLAMA_CPP, "m-Q8_0.gguf", None)
        assert found.download_bytes == path.stat().st_size
        assert {seen.headers["range"] for seen in fake.requests_for("m-Q8_0.gguf")} == {"bytes=0-262143"}
        assert fake.requests_for("m-Q4_0.gguf") == []

    async def test_one_of_several_is_fetched(self, fake: FakeHub, hub: Hub, model: Path) -> None:
        spread(model, fake.root / "org/gguf", "m-Q8_0.gguf", "m-Q2_K.gguf", "mmproj.gguf", "README.md")
        found = await hub.inspect(ModelSpec("mine", "org/gguf:Q2_K"))

        def ignore(progress: FileProgress) -> None:
            pass

        folder = await hub.fetch(found, ignore)
        assert sorted(path.name for path in folder.iterdir()) == ["m-Q2_K.gguf", "mmproj.gguf"]
        assert (folder / "m-Q2_K.gguf").read_bytes() == model.read_bytes()
        again = await hub.inspect(ModelSpec("mine", "org/gguf:Q2_K"))
        assert again.local == str(folder)

    async def test_a_lying_file_is_told_before_it_is_fetched(self, fake: FakeHub, hub: Hub, model: Path) -> None:
        folder = spread(model, fake.root / "org/gguf", "m.gguf")
        data = model.read_bytes()
        (folder / "m.gguf").write_bytes(data[:-100])
        with pytest.raises(CorruptModel, match="cut"):
            await hub.inspect(ModelSpec("mine", "org/gguf"))


class TestFilesOfThisMachine:
    async def test_a_file_under_the_models_directory(self, hub: Hub, tmp_path: Path, model: Path) -> None:
        spread(model, tmp_path / "models", "m.gguf", "team/n-Q8_0.gguf", "team/n-Q2_K.gguf")
        write_tensors(tmp_path / "models/other/model.safetensors", CLASSIFIER)
        for source, folder, file in (
            ("m.gguf", "models", "m.gguf"),
            ("team/n-Q2_K.gguf", "models/team", "n-Q2_K.gguf"),
        ):
            found = await hub.inspect(ModelSpec("mine", source))
            assert (found.local, found.spec.file) == (str(tmp_path / folder), file)
            assert [each.path for each in found.files] == [file]
            assert found.warnings == ()
        found = await hub.inspect(ModelSpec("mine", "team:Q2_K"))
        assert found.spec.file == "n-Q2_K.gguf"

    async def test_the_parts_beside_it_come_along(self, hub: Hub, tmp_path: Path) -> None:
        write_gguf(tmp_path / "models/m.gguf", parts=2)
        found = await hub.inspect(ModelSpec("mine", "m-00001-of-00006.gguf"))
        assert len(found.files) == 6

    async def test_a_path_is_for_admins(self, hub: Hub, tmp_path: Path, model: Path) -> None:
        path = spread(model, tmp_path / "far", "m.gguf") / "m.gguf"
        with pytest.raises(NotAllowed):
            await hub.inspect(ModelSpec("mine", str(path)))
        found = await hub.inspect(ModelSpec("mine", str(path)), admin=True)
        assert found.spec.file == "m.gguf"
        with pytest.raises(InvalidRequest, match="two files"):
            await hub.inspect(ModelSpec("mine", str(path), file="n.gguf"), admin=True)

    async def test_what_leads_outside_or_is_not_there(self, hub: Hub, tmp_path: Path, model: Path) -> None:
        spread(model, tmp_path / "out", "m.gguf")
        (tmp_path / "models").mkdir()
        (tmp_path / "models/out.gguf").symlink_to(tmp_path / "out/m.gguf")
        (tmp_path / "models/dangling.gguf").symlink_to(tmp_path / "none")
        (tmp_path / "models/away").symlink_to(tmp_path / "out")
        for source in ("out.gguf", "dangling.gguf", "away/m.gguf", "team/none/m.gguf"):
            with pytest.raises((RepositoryNotFound, InvalidRequest)):
                await hub.inspect(ModelSpec("mine", source))
