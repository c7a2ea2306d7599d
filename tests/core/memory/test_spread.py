"""A model over several GPUs: as many layers on each as fit, all of them somewhere, and the plan says so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as run
from hypothesis import strategies as st

from core.fleet.placement import over_several, placements
from core.memory.ledger import Ledger, Tenant
from core.memory.need import needs_of
from core.memory.plan import make_plan
from core.memory.spread import spread
from core.settings import Settings
from core.types import Fit, Inspection, Plan, Quantization, Runtime, Task
from tests.core.memory.test_plan import GIB, MIB, ONE_BILLION, SETTINGS, inspection

LARGE = replace(  # 13 billion numbers in 40 layers
    ONE_BILLION, tensor_bytes=26 * 10**9, floats=13 * 10**9, linear=127 * 10**8, linear_rows=2 * 10**6, layers=40,
    hidden=5120, intermediate=13824, heads=40, cache_numbers=2 * 40 * 40 * 128, plain_cache_numbers=2 * 40 * 40 * 128,
)  # fmt: skip


def large(**spec: Any) -> Inspection:
    return inspection(anatomy=LARGE, **spec)


def machine(*rooms: int) -> Ledger:
    return Ledger({"cpu": 64 * GIB, **{f"cuda:{index}": room for index, room in enumerate(rooms)}})


def gpus(ledger: Ledger) -> tuple[str, ...]:
    return tuple(device for device in ledger.limits if device != "cpu")


def plan(of: Inspection, where: Ledger, *tenants: Tenant) -> Plan:
    return make_plan(of, SETTINGS, where, tenants, gpus(where), disk_free=GIB)


@run(max_examples=200, deadline=None)
@given(
    rooms=st.lists(st.integers(0, 48 * GIB), min_size=1, max_size=6),
    quantization=st.sampled_from([None, *Quantization]),
    context=st.integers(64, 16_384),
    most=st.one_of(st.none(), st.integers(8, 100_000)),
)
def test_every_layer_is_somewhere_and_nothing_is_over_its_room(
    rooms: list[int], quantization: Quantization | None, context: int, most: int | None
) -> None:
    settings = Settings(_env_file=None, max_cached_tokens=most)
    of = large(quantization=quantization, context_length=context)
    room = {f"cuda:{index}": size for index, size in enumerate(rooms)}
    found = spread(of, settings, room)
    gpu, host = needs_of(of, settings, "cuda:0")
    if found is None:  # then it lacks room, but for what whole layers leave of each
        layer = (gpu.weights + gpu.cache) // LARGE.layers
        spare = [max(0, size - gpu.activations - gpu.overhead) for size in rooms]
        assert (
            len(rooms) < 2 or sum(spare) < gpu.weights + gpu.cache + (layer + 1) * len(rooms) or rooms_skew(spare, gpu)
        )
        return
    *needs, last = found.needs
    assert last == host
    assert [need.device for need in needs] == list(found.layers)
    assert sum(found.layers.values()) == LARGE.layers
    assert list(found.layers) == sorted(found.layers)  # the lowest number first: there the inputs are
    for need in needs:
        assert need.total <= room[need.device]
    assert sum(need.weights for need in needs) == pytest.approx(gpu.weights, abs=LARGE.layers)
    assert sum(need.cache for need in needs) == pytest.approx(gpu.cache, abs=LARGE.layers)
    assert found.device == "+".join(found.layers)


def rooms_skew(spare: list[int], gpu: Any) -> bool:
    """The first of the GPUs chosen has no room for the tables, which cannot be on two."""
    return min(spare) < gpu.weights // 4


@pytest.mark.parametrize(
    "of",
    [
        inspection(Runtime.LLAMA_CPP), inspection(Runtime.ONNXRUNTIME),
        inspection(task=Task.FEATURE_EXTRACTION), inspection(task=Task.SUMMARIZATION),
        large(device="cpu"), large(device="cuda:1"), inspection(anatomy=replace(LARGE, layers=1)),
    ],
)  # fmt: skip
def test_only_a_decoder_of_transformers_that_may_go_anywhere_is_split(of: Inspection) -> None:
    assert spread(of, SETTINGS, {"cuda:0": 80 * GIB, "cuda:1": 80 * GIB}) is None


def test_as_few_gpus_as_will_do_and_each_filled_alike() -> None:
    found = spread(large(), SETTINGS, {"cuda:0": 12 * GIB, "cuda:1": 24 * GIB, "cuda:2": 10 * GIB, "cuda:3": 24 * GIB})
    assert found is not None
    assert list(found.layers) == ["cuda:1", "cuda:3"]
    first, second, _ = found.needs
    assert first.total == pytest.approx(second.total, rel=0.06)  # a layer is 4 % of it


def test_one_gpu_is_enough_where_one_could_hold_it() -> None:
    """Whoever else has to go for that."""
    where = machine(24 * GIB, 48 * GIB)
    where.ask("other", {"cuda:1": 40 * GIB})
    where.force("other")
    found = plan(large(), where, Tenant("other", 1))
    assert (found.fit, found.device, found.unload) == (Fit.AFTER_UNLOADING, "cuda:1", ("other",))


def test_the_gpu_with_the_most_room_is_taken() -> None:
    where = machine(24 * GIB, 24 * GIB, 24 * GIB)
    for device, size in (("cuda:0", 6), ("cuda:1", 2), ("cuda:2", 4)):
        where.ask(device, {device: size * GIB})
        where.force(device)
    assert plan(inspection(), where).device == "cuda:1"


def test_a_model_that_no_gpu_holds_is_planned_over_several() -> None:
    where = machine(24 * GIB, 24 * GIB)
    found = plan(large(), where)
    assert (found.fit, found.device, found.unload) == (Fit.FITS, "cuda:0+cuda:1", ())
    assert [need.device for need in found.needs] == ["cuda:0", "cuda:1", "cpu"]
    assert [room.device for room in found.rooms] == ["cuda:0", "cuda:1", "cpu"]
    (place,) = over_several(large(), SETTINGS, gpus(where), where, ())
    assert place.need == {need.device: need.total for need in found.needs}
    assert (place.device, sum((place.layers or {}).values())) == ("cuda:0", LARGE.layers)
    assert place.cached_tokens == found.cached_tokens


def test_who_stands_in_the_way_on_any_of_them_goes() -> None:
    where = machine(24 * GIB, 24 * GIB)
    for name, device in (("one", "cuda:0"), ("two", "cuda:1")):
        where.ask(name, {device: 20 * GIB})
        where.force(name)
    found = plan(large(), where, Tenant("one", 1), Tenant("two", 2))
    assert (found.fit, found.device, set(found.unload)) == (Fit.AFTER_UNLOADING, "cuda:0+cuda:1", {"one", "two"})
    pinned = plan(large(), where, Tenant("one", 1, is_pinned=True), Tenant("two", 2))
    assert pinned.fit is not Fit.FITS
    assert pinned.device != "cuda:0+cuda:1"
    assert over_several(large(), SETTINGS, gpus(where), where, [Tenant("one", 1, is_pinned=True)]) == []


def test_promise_and_release_are_of_each_device() -> None:
    where = machine(24 * GIB, 24 * GIB)
    (place,) = over_several(large(), SETTINGS, gpus(where), where, ())
    where.ask("large", place.need)
    where.force("large")
    for device, size in place.need.items():
        assert where.held(device) == size
    where.measure("large", {"cuda:0": 23 * GIB, "cuda:1": 1 * GIB})
    assert where.held("cuda:0") == 23 * GIB
    assert where.held("cuda:1") == place.need["cuda:1"]
    where.release("large")
    assert all(where.held(device) == 0 for device in where.limits)


def test_a_placement_of_one_gpu_names_no_layers() -> None:
    assert [place.layers for place in placements(inspection(), SETTINGS, ("cuda:0", "cuda:1"))] == [None, None]
    assert plan(inspection(), machine(MIB, MIB)).fit is not Fit.FITS
