"""What may stand where the text says mask."""

from __future__ import annotations

from typing import Any

import numpy as np

from core.errors import InvalidRequest, RequestTooLarge, TaskNotSupported
from core.types import MaskFill
from core.worker.runtimes.base import Row, Runtime
from core.worker.tasks.base import Prepared, room, softmax

MAX_MASKS = 64  # in one text; each is a row of logits as long as the vocabulary
MAX_MASKS_OF_A_REQUEST = 256


def prepare(runtime: Runtime, texts: list[str], params: dict[str, Any]) -> Prepared:
    """One row a text. Output: fills, best first; for a text with several masks a list of those for each mask."""
    tokenizer = runtime.tokenizer
    mask, mask_id = tokenizer.backend.mask_token, tokenizer.backend.mask_token_id
    if mask_id is None:
        raise TaskNotSupported(f"{runtime.name} has no mask token, so it cannot fill one.")
    size = room(runtime, tokenizer.single_overhead)
    sequences = tokenizer.ids(texts)
    targets = _target_ids(runtime, params["targets"])
    rows, found = [], 0
    for index, sequence in enumerate(sequences):
        inputs = tokenizer.inputs(sequence[:size])
        masks = [at for at, token_id in enumerate(inputs["input_ids"]) if token_id == mask_id]
        _check_masks(f"texts[{index}]", mask, len(masks), mask_id in sequence)
        rows.append(Row(inputs, "logits", positions=masks))
        found += len(masks)
        if found > MAX_MASKS_OF_A_REQUEST:
            raise RequestTooLarge(f"This request has over {MAX_MASKS_OF_A_REQUEST} masks. Send it in parts.")

    def finish(arrays: list[np.ndarray]) -> list[Any]:
        return [
            _fills(runtime, row, logits, targets, params["top_k"]) for row, logits in zip(rows, arrays, strict=True)
        ]

    return Prepared(
        rows=rows,
        finish=finish,
        input_tokens=[len(sequence) + tokenizer.single_overhead for sequence in sequences],
        windows=[1] * len(texts),
        truncated=[len(sequence) > size for sequence in sequences],
    )


def _check_masks(name: str, mask: str, count: int, is_there: bool) -> None:
    if count == 0 and is_there:
        raise InvalidRequest(f"`{name}` has its {mask} beyond what the model reads. Send a shorter text.")
    if count == 0:
        raise InvalidRequest(f"`{name}` has no mask. Write {mask} where the missing word is.")
    if count > MAX_MASKS:
        raise InvalidRequest(f"`{name}` has {count} masks; at most {MAX_MASKS} are filled at once.")


def _target_ids(runtime: Runtime, targets: list[str] | None) -> np.ndarray | None:
    """The first token of each target, as the vocabulary has it or as the tokenizer reads it."""
    if targets is None:
        return None
    backend = runtime.tokenizer.backend
    found = []
    for target, ids in zip(targets, runtime.tokenizer.ids(targets), strict=True):
        whole = backend.convert_tokens_to_ids(target)
        if whole is not None and whole != backend.unk_token_id:
            found.append(whole)
        elif ids:
            found.append(ids[0])
    if not found:
        raise InvalidRequest(f"None of `targets` is a word that {runtime.name} knows.")
    return np.array(list(dict.fromkeys(found)))


def _fills(runtime: Runtime, row: Row, logits: np.ndarray, targets: np.ndarray | None, top_k: int) -> list[Any]:
    """`logits`: (masks, vocabulary)."""
    tokenizer = runtime.tokenizer.backend
    assert row.positions is not None
    fills: list[list[MaskFill]] = []
    for position, scores in zip(row.positions, softmax(logits), strict=True):
        candidates = np.arange(len(scores)) if targets is None else targets
        best = candidates[np.argsort(-scores[candidates], kind="stable")[:top_k]]
        fills.append([])
        for token_id in map(int, best):
            ids = list(row.inputs["input_ids"])
            ids[position] = token_id
            fills[-1].append(
                {
                    "score": float(scores[token_id]),
                    "token": token_id,
                    "token_str": tokenizer.decode([token_id]),
                    # with several masks the others have to stay visible
                    "sequence": tokenizer.decode(ids, skip_special_tokens=len(row.positions) == 1),
                }
            )
    return fills if len(fills) > 1 else fills[0]
