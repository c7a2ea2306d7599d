"""llama.cpp's own server, from the package xllamacpp: `python native_llama.py MODEL.gguf PORT THREADS`.

Runs in an environment of its own that has xllamacpp; imports nothing of this project.
"""

import sys
import threading

import xllamacpp

params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.port = int(sys.argv[2])
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = int(sys.argv[3])
params.n_parallel = 8
params.n_ctx = 8 * 1024
params.use_jinja = True
server = xllamacpp.Server(params)
threading.Event().wait()
