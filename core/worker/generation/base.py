"""What a runtime offers for generation: token ids in, the scores of the next token out, for several sequences at once.

A sequence lives in a slot, a number from 0 to `max_sequences` - 1, and the runtime keeps the keys and values of the
tokens that slot has read. Which tokens those are is the scheduler's to know; so are sampling, text and stopping.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from core.types import Image, Message, ModelInfo, Preview


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens for one slot to read, after those that it has read."""

    slot: int
    tokens: Sequence[int]  # a slice of the prompt, or the one token that was drawn last
    start: int  # how many tokens the slot holds before them
    wants_logits: bool  # whether the scores after the last of them are needed


class TextStream(Protocol):
    """Tokens of one answer to text, bit by bit. Never gives half a character."""

    def push(self, token: int) -> str:
        """The text that is certain once `token` has come; empty while a character is incomplete."""
        ...

    def flush(self) -> str:
        """What is left at the end."""
        ...


class Codec(Protocol):
    """Text to tokens and back. Used by the text thread, a TextStream by the model thread."""

    eos_ids: frozenset[int]  # any of these ends an answer
    size: int  # one more than the highest token

    def encode(self, text: str) -> list[int]:
        """A prompt as it was written: special tokens of the tokenizer's own (BOS, T5's </s>) are added."""
        ...

    def encode_chat(self, text: str) -> list[int]:
        """A rendered chat: control tokens written in it are read as such and no other is added."""
        ...

    def render(self, messages: Sequence[Message]) -> str:
        """A chat as the model's own template writes it, with the opening of the assistant's answer.

        A model with no template gets a plain one, and `has_template` is false. Raises TemplateFailed.
        """
        ...

    @property
    def has_template(self) -> bool: ...

    def piece(self, token: int) -> str:
        """One token as text, for logprobs; bytes that are no character by themselves as U+FFFD."""
        ...

    def stream(self, after: Sequence[int] = ()) -> TextStream:
        """A new answer. `after`: the prompt that it continues word for word, so that a first space is kept."""
        ...


class Vision(Protocol):
    """How a model sees. `encode` and `preview` are used by the text thread, `show` by the model thread."""

    max_images: int  # in one prompt

    def read(self, image: Image) -> None:
        """Makes an image ready for `encode`, on the text thread. Raises InvalidRequest when it cannot be read."""
        ...

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """A chat that holds images, as tokens: as the model's own template and processor write it.

        Each place that a row of an image's numbers takes is an id of `core/worker/generation/images.py`, above
        `codec.size`. Raises TemplateFailed; InvalidRequest for an image that cannot be read.
        """
        ...

    def preview(self, image: Image) -> Preview:
        """What the model sees of an image, as pictures for people. Raises InvalidRequest when it cannot be read."""
        ...

    def show(self, slot: int, images: Sequence[Image]) -> None:
        """The images whose places the tokens of `slot` may name from now on, before `begin`; none: it is done with."""
        ...

    def look_on(self, chunk: Chunk, *, may_embed: bool = True) -> bool:
        """Before the step that reads `chunk`: whether the images that it names are embedded. If they are not, it
        embeds a part of one, no more than those who write should wait for, and is asked again before the next step;
        nothing when not `may_embed`.

        What it raises fails this prompt alone, what `step` raises may fail others. A runtime whose step does it all
        says yes.
        """
        ...


class Generator(Protocol):
    """A loaded model that generates. Used by one thread, the model thread."""

    name: str
    info: ModelInfo  # context_length is always set
    codec: Codec
    max_sequences: int  # slots
    max_cached_tokens: int  # over all slots; at least one context
    prefill_tokens: int  # prompt tokens in one step beyond which running answers would wait too long
    is_encoder_decoder: bool  # its prompt is read by `begin`; its slots cannot be continued

    @property
    def vision(self) -> Vision | None:
        """How it sees; None where it reads text alone."""
        ...

    def begin(self, slot: int, prompt: Sequence[int]) -> list[int]:
        """The tokens that `step` is to read for this prompt: its own. An encoder-decoder reads the prompt here, and
        returns what its answers begin with."""
        ...

    def step(self, chunks: Sequence[Chunk]) -> list[np.ndarray | None]:
        """One pass. Returns for each chunk float32 (vocabulary,) after its last token, or None when not wanted.

        No two chunks share a slot. Raises InsufficientMemory, which leaves every slot as it was, so that the same or
        a smaller step may follow; ContextLost.
        """
        ...

    def trim(self, slot: int, length: int) -> int:
        """Forgets what the slot holds beyond `length` tokens. Returns how many it holds then: `length`, or 0 where
        the runtime can only forget everything."""
        ...
