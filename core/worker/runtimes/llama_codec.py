"""The vocabulary of a GGUF model: text to tokens and back, and its chat template."""

from __future__ import annotations

import codecs
import ctypes
from collections.abc import Sequence
from typing import cast

import llama_cpp

from core.errors import InvalidRequest, TemplateFailed
from core.types import Message
from core.worker.generation.chat_template import ChatTemplate

_PIECE_BYTES = 256  # of a token's text at first; llama.cpp says when it needs more

_PROBE: Message = {"role": "user", "content": "berth"}


class LlamaCodec:
    """Reads what the model holds and writes nothing, so that any thread may use it."""

    def __init__(self, model: llama_cpp.llama_model_p, name: str) -> None:
        vocabulary = llama_cpp.llama_model_get_vocab(model)
        assert vocabulary is not None
        self._vocabulary = vocabulary
        self._name = name
        self.size = int(llama_cpp.llama_vocab_n_tokens(vocabulary))
        self.eos_ids = frozenset(token for token in range(self.size) if llama_cpp.llama_vocab_is_eog(vocabulary, token))
        bos = int(llama_cpp.llama_vocab_bos(vocabulary))
        self._bos = bos if 0 <= bos < self.size and llama_cpp.llama_vocab_get_add_bos(vocabulary) else None
        self._wants_parts: bool | None = None  # whether its template takes a message's text as a list; not asked yet
        source = llama_cpp.llama_model_chat_template(model, None)
        begins = self._text_of(bos) if source is not None or self._bos is not None else ""
        self._template = ChatTemplate(
            source.decode("utf-8", errors="replace") if source is not None else None,
            bos=begins,
            eos=self._text_of(int(llama_cpp.llama_vocab_eos(vocabulary))),
            name=name,
        )

    @property
    def first_token(self) -> int:
        """A token that a prompt may begin with."""
        return self._bos if self._bos is not None else 0

    @property
    def has_template(self) -> bool:
        return self._template.has_template

    def encode(self, text: str) -> list[int]:
        """Control tokens written in `text` are read as the text they are."""
        tokens = self._tokenize(text, control=False)
        return tokens if self._bos is None else [self._bos, *tokens]

    def encode_chat(self, text: str) -> list[int]:
        """The BOS of a model that wants one is added only when `text` does not begin with it."""
        tokens = self._tokenize(text, control=True)
        return tokens if self._bos is None or tokens[:1] == [self._bos] else [self._bos, *tokens]

    def encode_part(self, text: str) -> list[int]:
        """What follows an image in a rendered chat."""
        return self._tokenize(text, control=True) if text else []

    def render(self, messages: Sequence[Message]) -> str:
        if self._wants_parts is None:
            self._wants_parts = self.has_template and not self._writes(_PROBE) and self._writes(_in_parts(_PROBE))
        return self._template.render([_in_parts(each) for each in messages] if self._wants_parts else messages)

    def _writes(self, message: Message) -> bool:
        try:
            return _PROBE["content"] in self._template.render([message])
        except TemplateFailed:
            return False

    def piece(self, token: int) -> str:
        return self.piece_bytes(token, control=True).decode("utf-8", errors="replace")

    def stream(self, after: Sequence[int] = ()) -> LlamaTextStream:
        return LlamaTextStream(self)

    def piece_bytes(self, token: int, *, control: bool = False) -> bytes:
        """The text of a token, maybe half a character; of control tokens nothing unless `control`."""
        buffer = ctypes.create_string_buffer(_PIECE_BYTES)
        length = llama_cpp.llama_token_to_piece(self._vocabulary, token, buffer, len(buffer), 0, control)
        if length < 0:
            buffer = ctypes.create_string_buffer(-length)
            length = llama_cpp.llama_token_to_piece(self._vocabulary, token, buffer, len(buffer), 0, control)
        return buffer.raw[: max(length, 0)]

    def _text_of(self, token: int) -> str:
        return self.piece(token) if 0 <= token < self.size else ""

    def _tokenize(self, text: str, *, control: bool) -> list[int]:
        data = text.encode()
        room = len(data) + 16  # a token has at least one byte, and a space may be put before the first
        for _ in range(2):
            tokens = (llama_cpp.llama_token * room)()
            count = llama_cpp.llama_tokenize(self._vocabulary, data, len(data), tokens, room, False, control)
            if count >= 0:
                return tokens[:count]
            room = -count
        raise InvalidRequest(f"The prompt for {self._name} cannot be read as tokens: {len(data):,} bytes are too many.")


def _in_parts(message: Message) -> Message:
    """A message as templates of models that see may want it: what it says is a list of one text."""
    return cast(Message, {**message, "content": [{"type": "text", "text": message["content"]}]})


class LlamaTextStream:
    """Tokens to text; the bytes of a character that is not whole wait for the rest."""

    def __init__(self, codec: LlamaCodec) -> None:
        self._codec = codec
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        return self._decoder.decode(self._codec.piece_bytes(token))

    def flush(self) -> str:
        return self._decoder.decode(b"", True)
