"""What the fork server imports: names that exist, one thread of ours, CUDA untouched."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys

from core.types import Runtime
from core.worker.runtimes import GENERATORS, LOADERS, PRELOADS

PROBE = """
import importlib, json, os, sys, threading
from core.types import Runtime
from core.worker.runtimes import PRELOADS
for runtime in (Runtime.TRANSFORMERS, Runtime.ONNXRUNTIME, Runtime.LLAMA_CPP):
    for name in PRELOADS[runtime]:
        importlib.import_module(name)
threads = max(threading.active_count(), len(os.listdir("/proc/self/task")))
cuda = sys.modules["torch"].cuda.is_initialized()
print(json.dumps({"threads": threads, "cuda": cuda, "onnxruntime": "onnxruntime" in sys.modules}))
"""


def test_every_runtime_has_a_loader_and_preloads():
    assert set(LOADERS) | {runtime for runtime, _ in GENERATORS} == set(PRELOADS) == set(Runtime)
    for module in (*LOADERS.values(), *GENERATORS.values()):
        assert callable(importlib.import_module(module).load)


def test_preloading_starts_no_thread_and_touches_no_cuda():
    command = [sys.executable, "-W", "ignore", "-c", PROBE]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # as the launcher sets it
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100, env=environment).stdout
    assert json.loads(said) == {"threads": 1, "cuda": False, "onnxruntime": False}
