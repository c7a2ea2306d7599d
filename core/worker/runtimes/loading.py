"""What loading has in common, whatever the library."""

from __future__ import annotations

from typing import Any

from transformers import AutoTokenizer
from transformers.utils import logging

from core.errors import CorruptModel
from core.types import Task
from core.worker.runtimes.base import LoadRequest, Row
from core.worker.tokenizers import Tokenizer

MAX_BATCH_TOKENS = {"cpu": 4096, "cuda": 32768}
OVERHEAD_TOKENS = {"cpu": 16, "cuda": 2048}


def quiet() -> None:
    """No progress bars and load reports: what they say is raised as errors here."""
    logging.disable_progress_bar()
    logging.set_verbosity_error()


def load_tokenizer(request: LoadRequest) -> Tokenizer:
    """The tokenizer of a model's directory, fast where that can be."""
    found = AutoTokenizer.from_pretrained(request.path, local_files_only=True, trust_remote_code=False)
    return Tokenizer(found, request.name)


def check_vocabulary(request: LoadRequest, tokenizer: Tokenizer, rows: int) -> None:
    """Raises CorruptModel when the tokenizer can give an id that the model has no row for."""
    if tokenizer.size > rows:
        raise CorruptModel(
            f"The tokenizer of {request.name} has {tokenizer.size:,} tokens and its weights {rows:,}: "
            "the files do not belong together. Download the model again, or tell its author."
        )


def warm_row(runtime: Any, task: Task | None = None) -> Row:
    """A row as small as can be, for `task` or the first one that the runtime serves."""
    inputs = runtime.tokenizer.inputs([])
    if not inputs["input_ids"]:
        inputs = runtime.tokenizer.inputs([0])
    task = task or runtime.info.tasks[0]
    want = "embedding" if task is Task.FEATURE_EXTRACTION else "logits"
    return Row(inputs, want, positions=[0] if task is Task.FILL_MASK else None)
