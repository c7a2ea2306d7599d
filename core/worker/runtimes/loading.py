"""What loading has in common, whatever the library."""

from __future__ import annotations

from typing import Any

from transformers import AutoTokenizer
from transformers.utils import logging

from core.errors import CorruptModel, LoadFailed
from core.types import Task
from core.worker.runtimes.base import LoadRequest, Row
from core.worker.tokenizers import Tokenizer

# Padded tokens in one pass. On a CPU the tokens per second of a small encoder are level from some 256 tokens on,
# and a longer pass only holds up whoever comes next.
MAX_BATCH_TOKENS = {"cpu": 2048, "cuda": 32768}


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


def check_tasks(request: LoadRequest, tasks: tuple[Task, ...]) -> None:
    """Raises LoadFailed when the model serves none of the tasks that it was loaded for."""
    if request.tasks[0] not in tasks:
        hint = " Its labels name no entailment." if request.tasks[0] is Task.ZERO_SHOT_CLASSIFICATION else ""
        raise LoadFailed(f"{request.name} does not do {request.tasks[0]}.{hint} Load it for another task.")


def warm_row(runtime: Any, task: Task | None = None) -> Row:
    """A row as small as can be, for `task` or the first one that the runtime serves."""
    inputs = runtime.tokenizer.inputs([])
    if not inputs["input_ids"]:
        inputs = runtime.tokenizer.inputs([0])
    task = task or runtime.info.tasks[0]
    want = "embedding" if task is Task.FEATURE_EXTRACTION else "logits"
    return Row(inputs, want, positions=[0] if task is Task.FILL_MASK else None)
