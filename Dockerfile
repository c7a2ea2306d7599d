# One image for a Hugging Face Docker Space, a server and a laptop: user 1000, port 7860, everything written at run time
# under /home/user/data and /tmp, so that it also runs with `--read-only --tmpfs /tmp` and one volume.
# No model is downloaded here; the starter models come with the project.
FROM python:3.12-slim AS wheels
# llama-cpp-python is a source build: compiled here, for any x86-64 processor with AVX2, so that the image needs no compiler.
ARG LLAMA_CMAKE_ARGS="-DGGML_NATIVE=OFF"
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
COPY --chown=1000:1000 requirements.txt /tmp/
RUN CMAKE_ARGS="$LLAMA_CMAKE_ARGS" pip wheel --no-cache-dir --no-deps --wheel-dir /wheels \
    "$(grep '^llama-cpp-python==' /tmp/requirements.txt)"

FROM python:3.12-slim

# Where torch comes from, when not the default index, whose Linux x86-64 build runs on GPU and CPU alike. A CPU-only
# index makes the image several GB smaller. On a Space, a variable of this name is passed to the build.
ARG TORCH_INDEX=""

RUN useradd --create-home --uid 1000 user
USER user
RUN mkdir -p /home/user/app /home/user/data

ENV HOME=/home/user \
    PATH=/home/user/.local/bin:$PATH \
    HOST=0.0.0.0 \
    PORT=7860 \
    BERTH_DATA_DIR=/home/user/data \
    BERTH_MODELS_DIR=/home/user/data/models \
    HF_HOME=/home/user/data/huggingface \
    HF_HUB_DISABLE_TELEMETRY=1 \
    GRADIO_TEMP_DIR=/tmp/gradio \
    GRADIO_ANALYTICS_ENABLED=False \
    XDG_CACHE_HOME=/tmp/cache \
    MPLCONFIGDIR=/tmp/matplotlib \
    NUMBA_CACHE_DIR=/tmp/numba \
    TRITON_CACHE_DIR=/tmp/triton \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1

WORKDIR /home/user/app

# Requirements first: a change to the code does not install them again.
COPY --chown=1000:1000 requirements.txt constraints.txt ./
COPY --from=wheels --chown=1000:1000 /wheels /tmp/wheels
RUN pip install --no-cache-dir --user ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$(grep '^torch==' requirements.txt)" \
    && pip install --no-cache-dir --user --find-links /tmp/wheels -r requirements.txt

COPY --chown=1000:1000 . .

USER 1000
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['PORT'] + '/health', timeout=4)"]
CMD ["python", "app.py"]
