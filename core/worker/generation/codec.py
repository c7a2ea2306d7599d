"""Text to tokens and back with a tokenizer of transformers, fast or slow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar, overload

from core.types import Message
from core.worker.generation.chat_template import ChatTemplate

_INCOMPLETE = "\ufffd"  # what a tokenizer writes for bytes that are no character yet
_HELD = 8  # tokens held back at most; a character has four bytes, and a token at least one of them
_CONTEXT = 4  # tokens of a prompt that decide how its first continuation is written


class HFCodec:
    """See the protocol `Codec`. Any thread may use it: nothing in the tokenizer is changed."""

    def __init__(self, tokenizer: Any, generation_config: Any, template: ChatTemplate) -> None:
        self._tokenizer = tokenizer
        self._fast = tokenizer.backend_tokenizer if tokenizer.is_fast else None
        if self._fast is not None:
            self._fast.no_truncation()  # many tokenizer.json files carry both, for some training run
            self._fast.no_padding()
        self._template = template
        self._pieces: dict[int, str] = {}
        anchors = self._encode("a", special=False)[-1:]
        self._anchor = (anchors, self.decode(anchors))
        self.size = max(len(tokenizer), max(tokenizer.added_tokens_decoder, default=-1) + 1)
        self.eos_ids = eos_ids(tokenizer, generation_config)

    @property
    def has_template(self) -> bool:
        return self._template.has_template

    def render(self, messages: Sequence[Message]) -> str:
        return self._template.render(messages)

    def encode(self, text: str) -> list[int]:
        return self._encode(text, special=True)

    def encode_chat(self, text: str) -> list[int]:
        return self._encode(text, special=False)

    def _encode(self, text: str, *, special: bool) -> list[int]:
        if self._fast is not None:
            ids: list[int] = self._fast.encode(text, add_special_tokens=special).ids
            return ids
        return list(self._tokenizer.encode(text, add_special_tokens=special))

    def decode(self, ids: Sequence[int], *, special: bool = False) -> str:
        """`ids` as text, as the tokenizer writes it; control tokens are left out unless `special`."""
        if self._fast is not None:
            text: str = self._fast.decode(list(ids), skip_special_tokens=not special)
            return text
        return str(
            self._tokenizer.decode(list(ids), skip_special_tokens=not special, clean_up_tokenization_spaces=False)
        )

    def piece(self, token: int) -> str:
        """See `Codec`. With the space that the token begins with: tokenizers drop it at the start of a text."""
        if token not in self._pieces:
            before, text = self._anchor
            written = self.decode([*before, token], special=True)
            self._pieces[token] = written[len(text) :] if written.startswith(text) else written
        return self._pieces[token]

    def stream(self, after: Sequence[int] = ()) -> HFTextStream:
        """A new answer. `after`: the prompt that it continues word for word, so that a first space is kept."""
        return HFTextStream(self, after)


CodecKind = TypeVar("CodecKind", bound=HFCodec)


class HFTextStream:
    """Tokens to text; each token costs the same, however long the answer is.

    Decodes only the tokens since the last border between texts, and those before it for their influence on spaces;
    waits while the end is an incomplete character.
    """

    def __init__(self, codec: HFCodec, after: Sequence[int] = ()) -> None:
        self._codec = codec
        self._tokens = list(after[-_CONTEXT:])  # the ones before the border, then those not given out yet
        self._border = len(self._tokens)
        self._before = codec.decode(self._tokens) if self._tokens else ""

    def push(self, token: int) -> str:
        self._tokens.append(token)
        text = self._codec.decode(self._tokens)
        held = len(self._tokens) - self._border
        if held <= _HELD and (text.endswith(_INCOMPLETE) or len(text) <= len(self._before)):
            return ""
        if text.endswith(_INCOMPLETE):  # no character is that long: what is old is broken, what is new may not be
            return self._give_out(len(self._tokens) - 3)
        return self._give_out(len(self._tokens))

    def flush(self) -> str:
        return self._give_out(len(self._tokens)) if len(self._tokens) > self._border else ""

    def _give_out(self, end: int) -> str:
        text = self._codec.decode(self._tokens[:end])
        new = text[len(self._before) :]
        self._tokens = self._tokens[self._border :]
        self._border = end - self._border
        self._before = self._codec.decode(self._tokens[: self._border])
        return new


@overload
def hf_codec(tokenizer: Any, generation_config: Any, name: str) -> HFCodec: ...
@overload
def hf_codec(tokenizer: Any, generation_config: Any, name: str, kind: type[CodecKind]) -> CodecKind: ...
def hf_codec(tokenizer: Any, generation_config: Any, name: str, kind: type[HFCodec] = HFCodec) -> HFCodec:
    """The codec of `tokenizer` with the chat template that lies beside it, if any."""
    source = tokenizer.chat_template
    if isinstance(source, dict):  # several, each for a use of its own
        source = source.get("default")
    bos, eos = tokenizer.bos_token or "", tokenizer.eos_token or ""
    begins = tokenizer.bos_token_id is not None and tokenizer.encode("a")[:1] == [tokenizer.bos_token_id]
    if source is None and not begins:
        bos = ""
    return kind(tokenizer, generation_config, ChatTemplate(source, bos=bos, eos=eos, name=name))


def eos_ids(tokenizer: Any, generation_config: Any) -> frozenset[int]:
    """The tokens that end an answer, by the model's own settings and by its tokenizer's."""
    stated = getattr(generation_config, "eos_token_id", None)
    several: Iterable[Any] = stated if isinstance(stated, list | tuple) else (stated,)
    return frozenset(int(each) for each in (*several, tokenizer.eos_token_id) if each is not None)
