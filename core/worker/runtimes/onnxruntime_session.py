"""Opening an ONNX graph with onnxruntime."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import onnxruntime

from core.errors import LoadFailed
from core.worker.runtimes.base import LoadRequest


def graph_file(request: LoadRequest, defaults: tuple[str, ...]) -> Path:
    """The graph to open, always inside the model's directory."""
    root = Path(request.path)
    if request.file is not None:
        inside = PurePosixPath(request.file)
        if inside.is_absolute() or ".." in inside.parts or not (root / inside).is_file():
            raise LoadFailed(f"{request.name} has no file `{request.file[:200]}`.")
        return root / inside
    for name in defaults:
        if (root / name).is_file():
            return root / name
    raise LoadFailed(f"{request.name} has no ONNX graph; looked for {', '.join(defaults)}. Name its file.")


def open_session(request: LoadRequest, path: Path, device: str) -> Any:
    """A session on `device`. onnxruntime itself refuses external data outside the graph's directory."""
    threads = request.threads or (len(os.sched_getaffinity(0)) if request.passes > 1 else 0)
    if device == "cpu":
        threads = max(threads // request.passes, min(threads, 1))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = threads
    # Threads spin from one operator to the next, 10 to 15 % faster than waking up; where passes run side by side they
    # would spin on each other's cores. An idle model uses none.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if request.passes == 1 else "0")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.enable_mem_pattern = False  # lengths differ from pass to pass
    providers: list[Any] = ["CPUExecutionProvider"]
    kind, _, index = device.partition(":")
    if kind == "cuda":
        onnxruntime.preload_dlls()  # CUDA and cuDNN as torch brought them
        cuda = {"device_id": int(index), "arena_extend_strategy": "kSameAsRequested"}
        providers.insert(0, ("CUDAExecutionProvider", cuda))
    session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    if kind == "cuda" and session.get_providers()[0] != "CUDAExecutionProvider":
        raise LoadFailed(
            f"onnxruntime cannot use the GPU here, so {request.name} was not loaded on {device}. Load it with device "
            "`cpu`, or install the CUDA and cuDNN libraries that onnxruntime-gpu asks for."
        )
    return session


def shrink(session: Any, feed: dict[str, np.ndarray], device: str) -> None:
    """Gives back the memory that onnxruntime keeps from passes before. It does that at the end of a pass only: here of
    one over `feed`, which should be small."""
    kind, _, index = device.partition(":")
    arenas = ["cpu:0", *([f"gpu:{index}"] if kind == "cuda" else [])]
    options = onnxruntime.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", ";".join(arenas))
    with contextlib.suppress(Exception):  # no memory for even that, or another device's error: the next pass will tell
        session.run(None, feed, options)
