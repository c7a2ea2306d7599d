"""A generator that writes what its prompt says, a byte a token: the real scheduler, sampler and worker around it.

The last `say:TEXT` line of a prompt is answered with TEXT, `count:N` with N letters, anything else with "ok". A line
that `tests.fakes.runtime.obey` knows (`oom`, `bug`, `die`, `wait:FIFO` …) is carried out when the prompt is read,
and `then:COMMAND` once two bytes of the answer are written. One that sees (`tests.fakes.seeing`) answers `look` with
what pictures it was shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle, islice
from string import ascii_lowercase

import numpy as np

from core.types import Message, ModelInfo
from core.worker.generation.base import Chunk
from tests.fakes.seeing import Seeing

END, ANSWER = 256, 257  # end of an answer; where it begins
CONTEXT = 4096


class Bytes:
    """UTF-8, held back until a character is whole."""

    def __init__(self) -> None:
        self._held = b""

    def push(self, token: int) -> str:
        if token >= END:
            return ""
        self._held += bytes([token])
        try:
            text = self._held.decode()
        except UnicodeDecodeError:
            return ""
        self._held = b""
        return text

    def flush(self) -> str:
        return self._held.decode(errors="replace")


class ByteCodec:
    eos_ids = frozenset((END,))
    size = 258
    answer = ANSWER
    has_template = True

    def encode(self, text: str) -> list[int]:
        return [*text.encode(), ANSWER] if text else []

    encode_chat = encode

    def render(self, messages: Sequence[Message]) -> str:
        return "".join(f"{message['role']}\n{message['content']}\n" for message in messages)

    def piece(self, token: int) -> str:
        return bytes([token]).decode(errors="replace") if token < END else "<end>"

    def stream(self, after: Sequence[int] = ()) -> Bytes:
        return Bytes()


class Writer:
    """Keeps what each slot has read, checks that the scheduler's arithmetic is right, and remembers its steps."""

    codec = ByteCodec()
    is_encoder_decoder = False
    vision: Seeing | None = None
    name = "writer"

    def __init__(
        self,
        info: ModelInfo,
        obey: Callable[[str], None] = lambda command: None,
        *,
        max_sequences: int = 4,
        max_cached_tokens: int = 4 * CONTEXT,
        prefill_tokens: int = 64,
    ) -> None:
        self.info = info
        self.max_sequences = max_sequences
        self.max_cached_tokens = max_cached_tokens
        self.prefill_tokens = prefill_tokens
        self.slots: dict[int, list[int]] = {slot: [] for slot in range(max_sequences)}
        self.steps: list[list[Chunk]] = []
        self._obey = obey

    def begin(self, slot: int, prompt: Sequence[int]) -> list[int]:
        return list(prompt)

    def step(self, chunks: Sequence[Chunk]) -> list[np.ndarray | None]:
        assert len({chunk.slot for chunk in chunks}) == len(chunks)
        self.steps.append(list(chunks))
        for chunk in chunks:
            self._command(chunk)
        return [self._read(chunk) for chunk in chunks]

    def trim(self, slot: int, length: int) -> int:
        assert length <= len(self.slots[slot])
        del self.slots[slot][length:]
        return length

    def _command(self, chunk: Chunk) -> None:
        tokens = [*self.slots[chunk.slot], *chunk.tokens]
        if ANSWER in chunk.tokens:
            self._obey(_lines(tokens)[-1])
        elif ANSWER in tokens and len(_written(tokens)) == 2:
            for line in _lines(tokens):
                if line.startswith("then:"):
                    self._obey(line[5:])

    def _read(self, chunk: Chunk) -> np.ndarray | None:
        held = self.slots[chunk.slot]
        assert chunk.start == len(held)
        held.extend(chunk.tokens)
        if not chunk.wants_logits:
            return None
        lines, written = _lines(held), len(_written(held))
        answer = self.vision.described(held) if self.vision and lines[-1] == "look" else answer_to(lines)
        scores = np.zeros(self.codec.size, np.float32)
        scores[answer[written] if written < len(answer) else END] = 50.0
        return scores


def answer_to(lines: Sequence[str]) -> bytes:
    for line in reversed(lines):
        if line.startswith("say:"):
            return line[4:].encode()
        if line.startswith("count:"):
            return "".join(islice(cycle(ascii_lowercase), int(line[6:]))).encode()
    return b"ok"


def _lines(tokens: Sequence[int]) -> list[str]:
    """Of the prompt, without empty ones."""
    prompt = tokens[: len(tokens) - 1 - tokens[::-1].index(ANSWER)] if ANSWER in tokens else tokens
    lines = bytes(token for token in prompt if token < END).decode(errors="replace").split("\n")
    return [line for line in lines if line] or [""]


def _written(tokens: Sequence[int]) -> Sequence[int]:
    return tokens[len(tokens) - tokens[::-1].index(ANSWER) :]
