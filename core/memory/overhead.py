"""What a model takes beside its weights and its cache: the process, the libraries, and the numbers of one pass.

The figures were measured with `python -m bench.plan`; docs/memory.md has the table. Those of a GPU are estimates.
"""

from __future__ import annotations

from core.types import Inspection, Quantization, Runtime

_MIB = 1024 * 1024
# Of a worker on the host, before it has any weights: what it writes to of the fork server's memory, and its own.
_PROCESS = {
    Runtime.TRANSFORMERS: 40 * _MIB,
    Runtime.SENTENCE_TRANSFORMERS: 40 * _MIB,
    Runtime.ONNXRUNTIME: 64 * _MIB,  # its library is imported in each worker
    Runtime.LLAMA_CPP: 20 * _MIB,
}
_BITSANDBYTES = {"cpu": 20 * _MIB, "cuda": 130 * _MIB}  # beside a GPU each worker imports it for itself
_UNPACKED = 75 * _MIB  # what it unpacks for each pass of a prompt, in pieces between those of a growing cache
_TOKENIZER = 7  # bytes for each byte of tokenizer.json
_LLAMA_TOKEN = 200  # bytes for each token of a GGUF file's vocabulary
# A CUDA context and the kernels that are loaded into it.
_CONTEXT = {
    Runtime.TRANSFORMERS: 500 * _MIB,
    Runtime.SENTENCE_TRANSFORMERS: 500 * _MIB,
    Runtime.ONNXRUNTIME: 500 * _MIB,
    Runtime.LLAMA_CPP: 300 * _MIB,
}
# Tokens of one pass where a load does not say, as the runtimes have them; a test holds them against each other.
BATCH_TOKENS = {"cpu": 2048, "cuda": 32768}
PREFILL_TOKENS = {
    Runtime.TRANSFORMERS: {"cpu": 256, "cuda": 2048},
    Runtime.ONNXRUNTIME: {"cpu": 128, "cuda": 2048},
    Runtime.LLAMA_CPP: {"cpu": 512, "cuda": 512},
}
MAX_LOGITS = 64 * 1024 * 1024  # numbers, of an ONNX graph, which gives those of every token
# Of images, as `transformers_vision` has them; a test holds them against each other.
EMBEDDED_BYTES = 64 * _MIB
PIXEL_BYTES = 64 * _MIB
TILES = {"cpu": 1, "cuda": 4}  # of an image that is split, through the tower at once; of a graph always one
_PROCESSORS = (Runtime.TRANSFORMERS, Runtime.ONNXRUNTIME)  # that read images by a processor of transformers
_SCORES = 2  # arrays of them at once
_IMAGE_HEAD = 64  # numbers of a patch that one head of a tower looks at, in the smallest that are known
# Arrays of a pass that live at once, of the layers' inner width and of a token's width: what a batch was seen to add.
_ARRAYS = {
    Runtime.TRANSFORMERS: (4, 10),
    Runtime.SENTENCE_TRANSFORMERS: (4, 10),
    Runtime.ONNXRUNTIME: (1, 4),
    Runtime.LLAMA_CPP: (2, 4),
}


def process_bytes(inspection: Inspection, quantization: Quantization | None, device: str) -> int:
    """Host bytes of the process itself, of a model on `device`."""
    files = {file.path.rpartition("/")[2]: file.size for file in inspection.files}
    if inspection.runtime is Runtime.LLAMA_CPP:
        return _PROCESS[inspection.runtime] + inspection.anatomy.vocabulary * _LLAMA_TOKEN
    total = _PROCESS[inspection.runtime] + files.get("tokenizer.json", 0) * _TOKENIZER
    if quantization:
        total += _BITSANDBYTES[device.partition(":")[0]] + (_UNPACKED if inspection.tasks[0].generates else 0)
    return total


def context_bytes(inspection: Inspection) -> int:
    """Device bytes before anything is computed."""
    return _CONTEXT[inspection.runtime]


def activation_bytes(inspection: Inspection, device: str, number: int, sequences: int, context: int) -> int:
    """Of the largest pass: `number` bytes a number, `context` tokens the longest text."""
    of_text = _text_bytes(inspection, device, number, sequences, context)
    if inspection.runtime is Runtime.LLAMA_CPP:  # what sees has buffers of its own: core/memory/projector.py
        return of_text
    if inspection.runtime is Runtime.ONNXRUNTIME:  # each graph keeps what its passes took
        return of_text + _image_bytes(inspection, device, number, context)
    return max(of_text, _image_bytes(inspection, device, number, context))


def kept_image_bytes(inspection: Inspection, number: int, tokens: int) -> int:
    """Of images that are kept as the model reads them, for the prompts to come: `tokens` of all answers' at most."""
    anatomy = inspection.anatomy
    if not anatomy.image_patches or inspection.runtime not in _PROCESSORS:
        return 0
    number = 4 if inspection.runtime is Runtime.ONNXRUNTIME else number
    return min(EMBEDDED_BYTES, tokens * anatomy.hidden * number)


def pixel_bytes(inspection: Inspection, sequences: int, context: int) -> int:
    """Host bytes of images that wait to be embedded; a patch has about as many numbers as it is wide in the tower."""
    if not inspection.anatomy.image_patches or inspection.runtime not in _PROCESSORS:
        return 0
    one = _patches(inspection, context) * inspection.anatomy.image_hidden * 4
    return max(one, min(PIXEL_BYTES, sequences * one))


def _image_bytes(inspection: Inspection, device: str, number: int, context: int) -> int:
    """Of what goes through the tower at once of an image as large as the model takes it, and a prompt can hold it."""
    anatomy, is_graph = inspection.anatomy, inspection.runtime is Runtime.ONNXRUNTIME
    inner, outer = _ARRAYS[inspection.runtime]
    number = 4 if device == "cpu" else number
    tiles = 1 if is_graph else TILES[device.partition(":")[0]]
    patches = min(_patches(inspection, context), tiles * anatomy.image_tile)
    width = inner * anatomy.image_intermediate + outer * anatomy.image_hidden
    if is_graph:  # the scores of every patch to every other
        width += _SCORES * patches * -(-anatomy.image_hidden // _IMAGE_HEAD)
    return patches * width * number


def _patches(inspection: Inspection, context: int) -> int:
    """Of an image at most: a larger one fits into no prompt."""
    return min(inspection.anatomy.image_patches, context * inspection.anatomy.image_merge)


def _text_bytes(inspection: Inspection, device: str, number: int, sequences: int, context: int) -> int:
    anatomy, runtime = inspection.anatomy, inspection.runtime
    kind = device.partition(":")[0]
    number = 4 if kind == "cpu" else number  # 16-bit numbers are multiplied as 32-bit ones there
    inner, outer = _ARRAYS[runtime]
    width = inner * anatomy.intermediate + outer * anatomy.hidden
    if not inspection.tasks[0].generates:
        tokens = max(inspection.spec.max_batch_tokens or BATCH_TOKENS[kind], context)
        # a graph keeps the scores of every token to every other; transformers computes them in pieces
        return tokens * (width + (anatomy.heads * context if runtime is Runtime.ONNXRUNTIME else 0)) * number
    tokens, logits = min(PREFILL_TOKENS[runtime][kind], context), sequences
    if runtime is Runtime.LLAMA_CPP:  # attention in pieces, all of it in 32 bits
        return (tokens * width + 2 * logits * anatomy.vocabulary) * 4
    if runtime is Runtime.ONNXRUNTIME:
        tokens = logits = max(1, min(tokens, MAX_LOGITS // max(anatomy.vocabulary, 1)))
    return tokens * (width + anatomy.heads * context) * number + 2 * logits * anatomy.vocabulary * 4
