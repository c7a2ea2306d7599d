"""Which device and precision to use, and what the errors of a device mean."""

from __future__ import annotations

import gc
import logging
import re
from collections.abc import Callable
from typing import TypeVar

import torch

from core.errors import InsufficientMemory, LoadFailed
from core.worker.runtimes.base import ContextLost

log = logging.getLogger(__name__)

Result = TypeVar("Result")

_LOST = ("CUDA error", "CUDA failure", "device-side assert", "CUBLAS_STATUS", "CUDNN_STATUS", "cuDNN error",
         "illegal memory access")  # fmt: skip
_FULL = re.compile(
    "out of memory|can't allocate memory|Failed to allocate memory|bad allocation|bad_alloc"
    "|CU(BLAS|DNN)_STATUS_ALLOC_FAILED"
    "|could not create a primitive$"
)
_ONEDNN = "could not create a primitive"  # on a CPU, whatever it lacks; of a wrong shape it says more


def pick_device(wanted: str) -> str:
    """`wanted` (auto, cpu, cuda, cuda:N) as a device that is there. Raises LoadFailed."""
    if wanted == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    if wanted == "cpu":
        return "cpu"
    kind, _, index = wanted.partition(":")
    if kind != "cuda" or not (index == "" or index.isdecimal()):
        raise LoadFailed(f"There is no device `{wanted}`. Use auto, cpu, cuda or cuda:N.")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(index or 0) >= count:
        have = f"{count} CUDA devices" if count else "no CUDA device"
        raise LoadFailed(
            f"The device `{wanted}` is not there: this machine has {have}. Load with device `auto` or `cpu`."
        )
    return f"cuda:{int(index or 0)}"


def pick_dtype(wanted: str | None, device: str) -> torch.dtype:
    """The precision to compute in: as asked, else float32 on a CPU and a 16-bit one on a GPU."""
    if wanted is not None:
        dtypes = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
        if wanted not in dtypes:
            raise LoadFailed(f"There is no dtype `{wanted}`. Use one of: {', '.join(dtypes)}.")
        return dtypes[wanted]
    if device == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def is_full(error: BaseException) -> bool:
    """Whether `error` says that the device's memory is used up."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return _is_of_a_runtime(error) and _FULL.search(str(error)) is not None


def is_lost(error: BaseException) -> bool:
    """Whether `error` says that the CUDA context is gone."""
    return _is_of_a_runtime(error) and any(sign in str(error) for sign in _LOST)


def _is_of_a_runtime(error: BaseException) -> bool:
    """onnxruntime's errors are plain Exceptions, of classes that are not imported here."""
    return isinstance(error, RuntimeError) or type(error).__module__.startswith("onnxruntime.")


def out_of_memory(device: str, doing: str) -> InsufficientMemory:
    what = "CUDA out of memory" if device.startswith("cuda") else "Out of memory"
    return InsufficientMemory(f"{what} while {doing}. Unload another model, or send less at once.")


def guarded(call: Callable[[], Result], device: str, doing: str) -> Result:
    """`call()`, its device errors turned into InsufficientMemory and ContextLost.

    The caught error keeps the frames of the call alive, and with them their tensors: memory is only freed, and
    the typed error only raised, after it is gone.
    """
    try:
        return call()
    except Exception as error:
        said = (str(error) or type(error).__name__).splitlines()[0]
        was_lost = not is_full(error)
        if was_lost and not is_lost(error):
            raise
    if was_lost:
        raise ContextLost(said)
    log.warning("out of memory while %s: %s", doing, said)
    if said == _ONEDNN:  # it keeps in mind that it could not, and never tries that shape again
        log.warning("without oneDNN from here on, which is slower; load the model again to have it back")
        torch.backends.mkldnn.set_flags(_enabled=False)
    gc.collect(1)  # what the pass made is young; all of the libraries would take a tenth of a second, for each half
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
    raise out_of_memory(device, doing)
