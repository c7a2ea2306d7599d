"""Keys and values of the answers that a model writes at once, as each runtime of ours keeps them.

No runtime keeps less for a sliding window: transformers' layers are given all columns, llama.cpp opens its cache with
`swa_full`, and an ONNX graph gives back what it was given. So a window does not make a cache smaller here.
"""

from __future__ import annotations

from dataclasses import dataclass

from core.types import Inspection, Runtime

DEFAULT_CONTEXT = 4096  # tokens, where a load asks for none
# As the runtimes have them; a test holds them against each other.
LLAMA_CACHE_BYTES = 256 * 1024 * 1024  # beyond one context
CACHE_BYTES = 4 * 1024**3  # of the other runtimes, beyond one context
_LLAMA_STEP = 256  # llama.cpp rounds its cells up
# What a cache takes at its largest beside the numbers in it: it grows by copies, and the allocator keeps pieces.
_GROWTH = {Runtime.TRANSFORMERS: 1.25, Runtime.ONNXRUNTIME: 2.5}


@dataclass(frozen=True, slots=True)
class Cache:
    tokens: int  # of all answers together
    total: int  # bytes


NO_CACHE = Cache(0, 0)


def context_of(inspection: Inspection) -> int:
    """Tokens of one prompt and its answer."""
    known = inspection.context_length or DEFAULT_CONTEXT
    return known if inspection.spec.context_length is not None else min(known, DEFAULT_CONTEXT)


def cache_of(inspection: Inspection, number: int, sequences: int, most_tokens: int | None = None) -> Cache:
    """The cache for `sequences` answers at once, numbers of `number` bytes; never for less than one context.

    `most_tokens`: of all answers, when the operator says so.
    """
    anatomy = inspection.anatomy
    if not inspection.tasks[0].generates or not anatomy.cache_numbers:
        return NO_CACHE
    context = context_of(inspection)
    if inspection.runtime is Runtime.LLAMA_CPP:
        plain = max(2 * anatomy.plain_cache_numbers, 1)
        tokens = max(context, most_tokens or min(context * sequences, LLAMA_CACHE_BYTES // plain))
        cells = -(-tokens // _LLAMA_STEP) * _LLAMA_STEP
        return Cache(tokens, cells * anatomy.cache_numbers * 2)  # float16
    of_token = anatomy.cache_numbers * number
    tokens = max(context, most_tokens or min(context * sequences, CACHE_BYTES // of_token))
    read = context * sequences * of_token if anatomy.cross_attends else 0  # of the texts that are answered
    return Cache(tokens, int(tokens * of_token * _GROWTH[inspection.runtime]) + read)
