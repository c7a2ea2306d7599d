"""What the errors of a device become."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException

from core.errors import InsufficientMemory, LoadFailed
from core.worker.devices import guarded, pick_device, pick_dtype
from core.worker.runtimes.base import ContextLost


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried ..."),
        RuntimeException("[ONNXRuntimeError] : 6 : BFCArena::AllocateRawInternal Failed to allocate memory"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeException("[ONNXRuntimeError] : 1 : FAIL : CUDA failure 2: out of memory ; GPU=0 ; hostname=h"),
        MemoryError(),
    ],
    ids=str,
)
def test_a_full_device_is_a_typed_error(error):
    def fail():
        raise error

    with pytest.raises(InsufficientMemory, match="Out of memory while reading"):
        guarded(fail, "cpu", "reading")


@pytest.mark.parametrize(
    "said",
    [
        "CUDA error: device-side assert triggered\nCUDA kernel errors might be reported later",
        "CUDA error: an illegal memory access was encountered",
        "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`",
        "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
        "[ONNXRuntimeError] : 1 : FAIL : CUDA failure 719: unspecified launch failure ; GPU=0 ; hostname=h",
    ],
)
def test_a_lost_context_ends_the_process(said):
    def fail():
        raise RuntimeError(said)

    with pytest.raises(ContextLost):
        guarded(fail, "cuda:0", "reading")


def test_onednn_is_left_alone_once_it_had_no_memory():
    """It never makes a primitive for a shape that it could not make one for."""

    def fail():
        raise RuntimeError("could not create a primitive")

    try:
        with pytest.raises(InsufficientMemory):
            guarded(fail, "cpu", "reading")
        assert not torch.backends.mkldnn.enabled
    finally:
        torch.backends.mkldnn.set_flags(_enabled=True)


def test_our_own_bugs_stay_what_they_are():
    with pytest.raises(ZeroDivisionError):
        guarded(lambda: 1 // 0, "cpu", "reading")
    with pytest.raises(RuntimeError, match="shape"):
        guarded(lambda: torch.zeros(2).reshape(3), "cpu", "reading")


def test_the_tensors_of_a_failed_pass_are_gone_when_its_error_is_raised():
    class Tensor:
        pass

    held = []

    def fail():
        tensor = Tensor()
        held.append(weakref.ref(tensor))
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(InsufficientMemory) as caught:
        guarded(fail, "cpu", "reading")
    gc.collect()
    assert held[0]() is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize(("device", "said"), [("cuda:0", "CUDA out of memory while"), ("cpu", "Out of memory while")])
def test_the_message_begins_with_its_cause(device, said, monkeypatch):
    def fail():
        raise MemoryError

    with pytest.raises(InsufficientMemory, match=f"^{said}"):
        guarded(fail, device, "reading")


def test_devices_and_precisions():
    if not torch.cuda.is_available():
        assert pick_device("auto") == "cpu"
        with pytest.raises(LoadFailed, match="this machine has no CUDA device"):
            pick_device("cuda")
    assert pick_device("cpu") == "cpu"
    assert pick_dtype(None, "cpu") is torch.float32
    assert pick_dtype("float16", "cpu") is torch.float16
