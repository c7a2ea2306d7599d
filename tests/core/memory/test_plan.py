"""Verdicts: what fits, what would make it fit, and that no plan changes what it looks at."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as run
from hypothesis import strategies as st

from core.memory.ledger import Ledger, Tenant
from core.memory.need import needs_of, promised_bytes
from core.memory.plan import make_plan
from core.settings import Settings
from core.types import Anatomy, Fit, Inspection, ModelSpec, Plan, Quantization, RepoFile, Runtime, Task

MIB, GIB = 1 << 20, 1 << 30
SETTINGS = Settings(_env_file=None)
SIZES: dict[str, Any] = {"layers": 32, "hidden": 4096, "intermediate": 11008, "heads": 32, "vocabulary": 32000,
                         "cache_numbers": 2 * 32 * 8 * 128, "plain_cache_numbers": 2 * 32 * 8 * 128}  # fmt: skip
ONE_BILLION = Anatomy(
    tensor_bytes=2 * 10**9, floats=10**9, linear=9 * 10**8, linear_rows=200_000, layer_bytes=18 * 10**8, **SIZES
)


def inspection(
    runtime: Runtime = Runtime.TRANSFORMERS,
    task: Task = Task.TEXT_GENERATION,
    anatomy: Anatomy = ONE_BILLION,
    context: int | None = 4096,
    **spec: Any,
) -> Inspection:
    return Inspection(
        spec=ModelSpec("m", "m", **spec), revision="local", local="/m", files=(RepoFile("tokenizer.json", 2 * MIB),),
        runtime=runtime, tasks=(task,), model_type="llama", architecture="LlamaForCausalLM", labels=(),
        context_length=spec.get("context_length") or context, parameters=10**9, weight_bytes=2 * 10**9,
        dtype="bfloat16", license=None, warnings=(), anatomy=anatomy,
    )  # fmt: skip


def ledger(limit: int = 64 * GIB, **held: int) -> Ledger:
    made = Ledger({"cpu": limit})
    for name, size in held.items():
        made.ask(name, {"cpu": size})
        made.force(name)
    return made


def plan(of: Inspection, where: Ledger, *tenants: Tenant, gpus: tuple[str, ...] = ()) -> Plan:
    return make_plan(of, SETTINGS, where, tenants, gpus, disk_free=GIB)


def test_it_fits_where_there_is_room() -> None:
    found = plan(inspection(), ledger())
    assert found.fit is Fit.FITS
    assert (found.unload, found.quantizations, found.gpu_layers, found.shorter_context) == ((), (), None, None)
    assert found.total == promised_bytes(inspection(), SETTINGS)
    assert found.rooms[0].free == 64 * GIB


def test_a_byte_too_few_is_too_few() -> None:
    need = promised_bytes(inspection(), SETTINGS)
    assert plan(inspection(), ledger(need)).fit is Fit.FITS
    assert plan(inspection(), ledger(need - 1)).fit is not Fit.FITS


def test_the_coldest_that_makes_room_goes() -> None:
    need = promised_bytes(inspection(), SETTINGS)
    where = ledger(need + 210, warm=200, cold=200, small=10)
    found = plan(inspection(), where, Tenant("warm", 9), Tenant("cold", 1), Tenant("small", 0))
    assert (found.fit, found.unload) == (Fit.AFTER_UNLOADING, ("cold",))


def test_a_busy_model_is_named_when_no_idle_one_makes_room() -> None:
    need = promised_bytes(inspection(), SETTINGS)
    where = ledger(need + 100, busy=200, idle=10)
    found = plan(inspection(), where, Tenant("busy", 9, is_busy=True), Tenant("idle", 1))
    assert (found.fit, found.unload) == (Fit.AFTER_UNLOADING, ("busy",))


def test_a_pinned_model_never_goes() -> None:
    need = promised_bytes(inspection(), SETTINGS)
    found = plan(inspection(), ledger(need + 100, pinned=200), Tenant("pinned", 1, is_pinned=True))
    assert found.unload == ()
    assert found.fit is Fit.QUANTIZED


def test_it_fits_as_what_is_smaller() -> None:
    eight, four = (
        promised_bytes(inspection(quantization=each), SETTINGS) for each in (Quantization.INT8, Quantization.NF4)
    )
    assert four < eight < promised_bytes(inspection(), SETTINGS)
    assert plan(inspection(), ledger(eight)).quantizations == (Quantization.INT8, Quantization.NF4)
    assert plan(inspection(), ledger(four)).quantizations == (Quantization.NF4,)
    assert plan(inspection(), ledger(four - 1)).quantizations == ()
    assert plan(inspection(quantization=Quantization.NF4), ledger(four - 1)).quantizations == ()


def test_a_shorter_context_is_offered_beside_any_verdict() -> None:
    short = promised_bytes(inspection(context_length=1024), SETTINGS)
    found = plan(inspection(context_length=4096), ledger(short))
    assert found.shorter_context == 1024
    assert plan(inspection(context_length=4096), ledger(10)).shorter_context is None


@pytest.mark.parametrize("runtime", [Runtime.ONNXRUNTIME, Runtime.LLAMA_CPP])
def test_what_cannot_be_quantised_never_fits(runtime: Runtime) -> None:
    found = plan(inspection(runtime), ledger(MIB))
    assert (found.fit, found.quantizations) == (Fit.NEVER, ())


def with_gpu(memory: int, *names: str) -> Ledger:
    made = ledger()
    made.limits.update(dict.fromkeys(names or ("cuda:0",), memory))
    return made


def test_as_many_layers_as_the_gpu_has_room_for() -> None:
    whole = plan(inspection(Runtime.LLAMA_CPP), with_gpu(16 * GIB), gpus=("cuda:0",))
    assert (whole.fit, whole.device) == (Fit.FITS, "cuda:0")
    there = whole.needs[0].total
    some = plan(inspection(Runtime.LLAMA_CPP), with_gpu(there * 3 // 4), gpus=("cuda:0",))
    assert some.fit is Fit.SPLIT
    assert some.gpu_layers is not None
    assert 0 < some.gpu_layers < 33
    for layers, fits in ((some.gpu_layers, True), (some.gpu_layers + 1, False)):
        needs = needs_of(inspection(Runtime.LLAMA_CPP, gpu_layers=layers), SETTINGS, "cuda:0")
        assert (needs[0].total <= there * 3 // 4) is fits


def test_layers_on_the_host_and_on_the_gpu_are_all_the_layers() -> None:
    for layers in range(1, 33):
        gpu, host = needs_of(inspection(Runtime.LLAMA_CPP, gpu_layers=layers), SETTINGS, "cuda:0")
        assert abs(gpu.weights + host.weights - ONE_BILLION.tensor_bytes) <= 1
        assert gpu.cache + host.cache == needs_of(inspection(Runtime.LLAMA_CPP), SETTINGS, "cpu")[0].cache
    assert [need.device for need in needs_of(inspection(Runtime.LLAMA_CPP, gpu_layers=0), SETTINGS, "cpu")] == ["cpu"]


def test_the_gpu_with_room_is_taken() -> None:
    made = with_gpu(16 * GIB, "cuda:0", "cuda:1")
    made.ask("other", {"cuda:0": 15 * GIB})
    made.force("other")
    found = plan(inspection(), made, gpus=("cuda:0", "cuda:1"))
    assert (found.fit, found.device, found.dtype) == (Fit.FITS, "cuda:1", "bfloat16")
    assert plan(inspection(device="cuda:0"), made, gpus=("cuda:0", "cuda:1")).fit is not Fit.FITS
    assert plan(inspection(device="cpu"), made, gpus=("cuda:0", "cuda:1")).device == "cpu"


def test_a_download_that_the_disk_has_no_room_for() -> None:
    remote = replace(inspection(), local=None, files=(RepoFile("model.safetensors", 2 * GIB),))
    assert not plan(remote, ledger()).fits_on_disk
    assert plan(inspection(), ledger()).fits_on_disk


TENANTS = st.lists(
    st.tuples(st.integers(0, 4 * GIB), st.floats(0, 100), st.booleans(), st.booleans(), st.booleans()), max_size=5
)


@run(max_examples=300, deadline=None)
@given(
    limit=st.integers(0, 16 * GIB),
    tenants=TENANTS,
    runtime=st.sampled_from([Runtime.TRANSFORMERS, Runtime.ONNXRUNTIME, Runtime.LLAMA_CPP]),
    context=st.integers(8, 32_768),
    quantization=st.sampled_from([None, *Quantization]),
)
def test_a_verdict_is_true_of_the_ledger_and_leaves_it_alone(
    limit: int, tenants: list[Any], runtime: Runtime, context: int, quantization: Quantization | None
) -> None:
    where = ledger(limit, **{f"t{index}": size for index, (size, *_) in enumerate(tenants)})
    those = [Tenant(f"t{index}", at, *flags) for index, (_, at, *flags) in enumerate(tenants)]
    before = copy.deepcopy((where.limits, where.names, where.held("cpu")))
    of = inspection(runtime, context_length=context, quantization=quantization)
    found = plan(of, where, *those)
    assert (where.limits, where.names, where.held("cpu")) == before
    need = found.total
    room = limit - where.held("cpu")
    assert (found.fit is Fit.FITS) == (need <= room)
    if found.fit is Fit.AFTER_UNLOADING:
        gone = sum(tenants[int(name[1:])][0] for name in found.unload)
        assert need <= room + gone
        assert not any(those[int(name[1:])].is_pinned for name in found.unload)
    if found.fit is Fit.NEVER:
        movable = sum(size for size, _, _, is_pinned, _ in tenants if not is_pinned)
        assert need > room + movable
    for each in found.quantizations:
        assert promised_bytes(replace(of, spec=replace(of.spec, quantization=each)), SETTINGS) <= room
    if found.shorter_context:
        shorter = inspection(runtime, context_length=found.shorter_context, quantization=quantization)
        assert promised_bytes(shorter, SETTINGS) <= room
