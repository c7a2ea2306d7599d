"""What was seen corrects what is reckoned, outlives the server, and no file of it, whatever it holds, does harm."""

from __future__ import annotations

import json
import logging
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.memory.calibration import KEPT, MAX_FILE, TIMES, Calibration, Seen, correct, corrected
from core.settings import MIB, Settings
from core.types import Anatomy, Inspection, ModelSpec, Need, Quantization, RepoFile, Runtime, Task

SETTINGS = Settings(_env_file=None)
SIZES = st.integers(1, 1 << 40)


def inspection(name: str = "m", revision: str = "local", **changes: Any) -> Inspection:
    spec = {field: changes[field] for field in changes if field in ModelSpec.__dataclass_fields__}
    changes = {field: value for field, value in changes.items() if field in Inspection.__dataclass_fields__}
    made = Inspection(
        spec=ModelSpec(name, f"org/{name}", **spec), revision=revision,
        local=f"/models/{name}" if revision == "local" else None, files=(RepoFile("model.safetensors", 1000),),
        runtime=Runtime.TRANSFORMERS, tasks=(Task.TEXT_GENERATION,), model_type="llama", architecture="Llama",
        labels=(), context_length=4096, parameters=1000, weight_bytes=1000, dtype="float32", license=None,
        warnings=(), anatomy=Anatomy(tensor_bytes=1000, floats=250, cache_numbers=64, layers=4),
    )  # fmt: skip
    return replace(made, **changes)


def noted(calibration: Calibration, of: Inspection, size: int = 100 * MIB, was_used: bool = True) -> Calibration:
    calibration.note(of, SETTINGS, "cpu", {"cpu": size}, was_used=was_used)
    return calibration


@given(
    reckoned=SIZES,
    growth=st.integers(0, 1 << 40),
    most=SIZES,
    was_used=st.booleans(),
    device=st.sampled_from(["cpu", "cuda:1"]),
)
def test_a_promise_is_never_less_than_was_seen(
    reckoned: int, growth: int, most: int, was_used: bool, device: str
) -> None:
    growth = min(growth, reckoned)
    promise = corrected(device, reckoned, growth, Seen({device.partition(":")[0]: most}, was_used))
    if most > reckoned * TIMES or most * TIMES < reckoned:
        assert promise == reckoned, "nobody believes that"
    else:
        assert promise >= most
        assert promise <= max(reckoned, most), "and no more than either says"
        if device == "cpu" or not was_used:
            assert promise == max(reckoned, most)


def test_a_gpu_that_showed_less_makes_the_promise_smaller_once_it_was_used() -> None:
    need = Need("cuda:0", weights=1000, cache=300, activations=200, overhead=500)
    for most, was_used, promise in (
        (600, False, 2000),  # it has yet to show what it takes
        (600, True, 600 + 500),  # all of the cache and the largest pass may be still to come
        (1600, True, 2000),
        (2500, True, 2500),
        (2500, False, 2500),
    ):
        [found] = correct([need], Seen({"cuda": most}, was_used))
        assert (found.total, found.reckoned) == (promise, 2000)


def test_the_most_of_all_lives_counts() -> None:
    of, calibration = inspection(), Calibration()
    for size in (100 * MIB, 300 * MIB, 1):
        noted(calibration, of, size)
    noted(calibration, of, 50 * MIB, was_used=False)
    assert calibration.seen(of, SETTINGS, "cpu") == Seen({"cpu": 300 * MIB}, True)


def test_gpus_are_of_one_kind() -> None:
    calibration = Calibration()
    calibration.note(inspection(), SETTINGS, "cuda:1", {"cpu": 5 * MIB, "cuda:1": 7 * MIB}, was_used=True)
    seen = calibration.seen(inspection(), SETTINGS, "cuda:0")
    assert seen is not None
    assert (seen.on("cuda:0"), seen.on("cpu")) == (7 * MIB, 5 * MIB)
    assert calibration.seen(inspection(), SETTINGS, "cpu") is None


def test_a_model_on_two_gpus_says_nothing_of_it_on_one() -> None:
    calibration = Calibration()
    calibration.note(inspection(), SETTINGS, "cuda:0+cuda:1", {"cuda:0": MIB, "cuda:1": MIB}, was_used=True)
    assert calibration.seen(inspection(), SETTINGS, "cuda:0") is None


@pytest.mark.parametrize(
    "other",
    [
        {"name": "other"}, {"revision": "c0ffee"}, {"files": (RepoFile("model.safetensors", 1001),)},
        {"file": "b.safetensors"}, {"runtime": Runtime.ONNXRUNTIME}, {"tasks": (Task.FEATURE_EXTRACTION,)},
        {"quantization": Quantization.NF4}, {"dtype": "bfloat16"}, {"context_length": 2048}, {"max_batch_tokens": 64},
        {"anatomy": Anatomy(tensor_bytes=1000, floats=250, cache_numbers=1 << 20)},
    ],
)  # fmt: skip
def test_another_model_or_setting_is_another_thing(other: dict[str, Any]) -> None:
    calibration = noted(Calibration(), inspection())
    assert calibration.seen(inspection(**other), SETTINGS, "cpu") is None
    assert calibration.seen(inspection(pinned=True, keep_alive=5.0), SETTINGS, "cpu") is not None


@pytest.mark.parametrize("name", ["max_sequences", "max_cached_tokens", "threads"])
def test_other_settings_of_the_server_too(name: str) -> None:
    calibration = noted(Calibration(), inspection())
    assert calibration.seen(inspection(), SETTINGS.model_copy(update={name: 100}), "cpu") is None


def test_layers_on_the_gpu_count() -> None:
    of = inspection(runtime=Runtime.LLAMA_CPP, gpu_layers=2)
    calibration = Calibration()
    calibration.note(of, SETTINGS, "cuda:0", {"cuda:0": MIB}, was_used=True)
    assert calibration.seen(of, SETTINGS, "cuda:0") is not None
    assert calibration.seen(inspection(runtime=Runtime.LLAMA_CPP, gpu_layers=3), SETTINGS, "cuda:0") is None


def read_again(path: Path, version: str = "1") -> Calibration:
    calibration = Calibration(path, version)
    calibration.read()
    return calibration


async def test_it_is_there_after_a_restart(tmp_path: Path) -> None:
    path, of = tmp_path / "c.json", inspection("\udcff한국어")
    await noted(Calibration(path, "1"), of).save()
    assert read_again(path).seen(of, SETTINGS, "cpu") == Seen({"cpu": 100 * MIB}, True)
    assert read_again(path, "2").seen(of, SETTINGS, "cpu") is None, "another version reckons and takes otherwise"
    assert os.listdir(tmp_path) == ["c.json"]


async def test_nothing_is_written_without_news(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    calibration = noted(Calibration(path, "1"), inspection())
    await calibration.save()
    path.unlink()
    await noted(calibration, inspection(), 99 * MIB + 1).save()
    assert not path.exists()


async def test_the_oldest_go(tmp_path: Path) -> None:
    calibration = Calibration(tmp_path / "c.json", "1")
    for number in range(KEPT + 3):
        noted(calibration, inspection(f"m{number}"))
        noted(calibration, inspection("m0"))  # used all the time
    await calibration.save()
    again = read_again(tmp_path / "c.json")
    for number in (0, 5, KEPT + 2):
        assert again.seen(inspection(f"m{number}"), SETTINGS, "cpu") is not None
    assert again.seen(inspection("m1"), SETTINGS, "cpu") is None
    assert (tmp_path / "c.json").stat().st_size < MAX_FILE / 2


DAMAGED = [
    b"", b"\xff\xfe", b"{", b"null", b"[]", b"7", b'{"version": "1"}', b'{"version": "1", "models": {}}',
    b'{"version": "1", "models": ' + b"[" * 100_000, b" " * (MAX_FILE + 1), b'{"models": [NaN], "version": "1"}',
]  # fmt: skip


@pytest.mark.parametrize("data", DAMAGED, ids=range(len(DAMAGED)))
async def test_a_damaged_file_is_begun_anew(tmp_path: Path, data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "c.json"
    path.write_bytes(data)
    calibration = read_again(path)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    await noted(calibration, inspection()).save()
    assert read_again(path).seen(inspection(), SETTINGS, "cpu") is not None


@pytest.mark.parametrize(
    "lie",
    [
        {"most": {"cpu": -1}}, {"most": {"cpu": 1 << 60}}, {"most": {"cpu": True}}, {"most": {"cpu": 1.5}},
        {"most": {"cpu": "1"}}, {"most": {"tpu": 1}}, {"most": []}, {"was_used": 1}, {"model": []}, {"model": None},
        {"model": {"source": "x" * 5000}}, {"model": {"source": ["x"]}},
    ],
)  # fmt: skip
async def test_a_lie_is_left_out_and_the_rest_is_kept(
    tmp_path: Path, lie: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "c.json"
    await noted(noted(Calibration(path, "1"), inspection("lies")), inspection("true")).save()
    document = json.loads(path.read_text())
    document["models"][0].update(lie)
    path.write_text(json.dumps(document))
    calibration = read_again(path)
    assert calibration.seen(inspection("lies"), SETTINGS, "cpu") is None
    assert calibration.seen(inspection("true"), SETTINGS, "cpu") is not None
    assert "1 entries" in caplog.text


async def test_five_hundred_damaged_files(tmp_path: Path) -> None:
    path, chance = tmp_path / "c.json", random.Random(5)
    calibration = Calibration(path, "1")
    for number in range(4):
        noted(calibration, inspection(f"m{number}"))
    await calibration.save()
    whole = path.read_bytes()
    for _ in range(500):
        at = chance.randrange(len(whole))
        path.write_bytes(whole[:at] + chance.randbytes(chance.choice([0, 1, 4])) + whole[at + chance.choice([1, 4]) :])
        seen = read_again(path).seen(inspection("m0"), SETTINGS, "cpu")
        assert seen is None or seen.most.keys() <= {"cpu", "cuda"}


async def test_a_place_that_cannot_be_written_costs_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    calibration = noted(Calibration(tmp_path / "gone" / "c.json", "1"), inspection())
    await calibration.save()
    assert "cannot be written" in caplog.text
    assert calibration.seen(inspection(), SETTINGS, "cpu") is not None
    (tmp_path / "c.json").mkdir()
    await noted(Calibration(tmp_path / "c.json", "1"), inspection()).save()
    assert [path.name for path in tmp_path.iterdir()] == ["c.json"], "nothing half-written is left"
    read_again(tmp_path / "c.json")
