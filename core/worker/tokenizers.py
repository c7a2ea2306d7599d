"""Text to token ids and back to characters, the same for fast and slow tokenizers.

Truncation, padding and special tokens are ours: a tokenizer is only ever asked for the plain tokens of a text,
which changes nothing inside it. What it puts around a sequence or a pair is learnt once, as a frame.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Any

from core.errors import CorruptModel
from core.worker.alignment import align

Span = tuple[int, int]

_SPACES = ("▁", "Ġ")  # tokens of nothing but the space before a word
_PROBES = ("a", "1", ".", "가")  # a frame is learnt around the first of these that gives a token


@dataclass(frozen=True, slots=True)
class Aligned:
    """The tokens of a text, special ones not added. All lists are of equal length."""

    ids: list[int]
    spans: list[Span]  # characters, without white space around; start == end for a token that shows no character
    continues: list[bool]  # whether the token goes on with the word of the one before


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands around the sequences of one row: `parts[0] A parts[1]`, or `parts[0] A parts[1] B parts[2]`."""

    parts: tuple[tuple[int, ...], ...]  # ids
    part_types: tuple[tuple[int, ...], ...]  # token_type_ids of `parts`
    types: tuple[int, ...]  # token_type_id of each sequence

    @property
    def length(self) -> int:
        return sum(map(len, self.parts))

    def around(self, *sequences: list[int]) -> tuple[list[int], list[int]]:
        """The whole row: ids and token_type_ids."""
        ids, types = list(self.parts[0]), list(self.part_types[0])
        for index, sequence in enumerate(sequences):
            ids += sequence
            types += [self.types[index]] * len(sequence)
            ids += self.parts[index + 1]
            types += self.part_types[index + 1]
        return ids, types

    def start_of(self, index: int, *sequences: list[int]) -> int:
        """Where sequence `index` begins in the row."""
        return sum(len(part) for part in self.parts[: index + 1]) + sum(len(each) for each in sequences[:index])


class Tokenizer:
    """A transformers tokenizer of either kind. Not for two threads at once."""

    def __init__(self, tokenizer: Any, name: str = "this model") -> None:
        self.backend = tokenizer
        self._fast = tokenizer.backend_tokenizer if tokenizer.is_fast else None
        if self._fast is not None:
            self._fast.no_truncation()  # many tokenizer.json files carry both, for some training run
            self._fast.no_padding()
        self._has_types = "token_type_ids" in tokenizer.model_input_names
        if self._fast is not None:
            self._word_prefix = getattr(self._fast.model, "continuing_subword_prefix", None)
        else:
            self._word_prefix = "##" if any(token.startswith("##") for token in tokenizer.get_vocab()) else None
        try:
            self._single, self._pair = self._learn_frame("A"), self._learn_frame("A", "B")
        except ValueError as error:
            raise CorruptModel(f"The tokenizer of {name} gives no token for any text; its files are broken.") from error

    @property
    def size(self) -> int:
        """One more than the highest token id."""
        return max(len(self.backend), max(self.backend.added_tokens_decoder, default=-1) + 1)

    @property
    def single_overhead(self) -> int:
        """Special tokens around one text."""
        return self._single.length

    @property
    def pair_overhead(self) -> int:
        """Special tokens around a pair of texts."""
        return self._pair.length

    @property
    def pair(self) -> Frame:
        return self._pair

    @property
    def single(self) -> Frame:
        return self._single

    def ids(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text, special tokens not added."""
        if self._fast is not None:
            return [each.ids for each in self._fast.encode_batch_fast(texts, add_special_tokens=False)]
        return [self.backend.convert_tokens_to_ids(self.backend.tokenize(text)) for text in texts]

    def aligned(self, text: str) -> Aligned:
        """Tokens of `text` with the characters that each stands for."""
        if self._fast is None:
            tokens = self.backend.tokenize(text)
            spans = align(text, tokens, self.backend.unk_token)
            ids: list[int] = self.backend.convert_tokens_to_ids(tokens)
        else:
            encoding = self._fast.encode(text, add_special_tokens=False)
            tokens, ids, spans = encoding.tokens, encoding.ids, encoding.offsets
        spans = [
            (start, start) if token in _SPACES and text[start:end] != token else (start, end)
            for token, (start, end) in zip(tokens, tidy(text, spans), strict=True)
        ]
        return Aligned(ids, spans, self._continuations(text, ids, tokens, spans))

    def inputs(self, *sequences: list[int]) -> dict[str, list[int]]:
        """The model's inputs for one text or a pair of texts, special tokens added."""
        frame = self._single if len(sequences) == 1 else self._pair
        ids, types = frame.around(*sequences)
        inputs = {"input_ids": ids, "attention_mask": [1] * len(ids)}
        if self._has_types:
            inputs["token_type_ids"] = types
        return inputs

    def _continuations(self, text: str, ids: list[int], tokens: list[str], spans: list[Span]) -> list[bool]:
        """As transformers' token-classification pipeline tells words apart, with any white space as a border."""
        unknown = self.backend.unk_token_id
        prefix = self._word_prefix
        if prefix:
            return [token.startswith(prefix) and token != prefix for token in tokens]
        return [
            token_id != unknown and start > 0 and not (text[start - 1].isspace() or text[start : start + 1].isspace())
            for token_id, (start, _) in zip(ids, spans, strict=True)
        ]

    def _learn_frame(self, *names: str) -> Frame:
        """Raises ValueError when no probe gives a token."""
        if self._fast is None:
            return self._learn_slow_frame(len(names))
        for probe in _PROBES:
            encoding = self._fast.encode(*[probe] * len(names), add_special_tokens=True)
            owners = encoding.sequence_ids
            if set(range(len(names))) <= set(owners):
                return _frame(encoding.ids, encoding.type_ids, owners, len(names))
        raise ValueError("no tokens")

    def _learn_slow_frame(self, count: int) -> Frame:
        sequences = [[-1 - index] for index in range(count)]  # ids that no vocabulary has
        ids = self.backend.build_inputs_with_special_tokens(*sequences)
        types = self.backend.create_token_type_ids_from_sequences(*sequences)
        if len(types) != len(ids):
            types = [0] * len(ids)
        return _frame(ids, types, [-1 - each if each < 0 else None for each in ids], count)


def _frame(ids: list[int], types: list[int], owners: list[int | None], count: int) -> Frame:
    """Cuts a framed row at its sequences. `owners`: for each token its sequence, or None for a special one."""
    parts: list[list[int]] = [[] for _ in range(count + 1)]
    part_types: list[list[int]] = [[] for _ in range(count + 1)]
    sequence_types = [0] * count
    passed = 0  # sequences begun
    for token_id, token_type, owner in zip(ids, types, owners, strict=True):
        if owner is None:
            parts[passed].append(token_id)
            part_types[passed].append(token_type)
        else:
            passed = owner + 1
            sequence_types[owner] = token_type
    return Frame(tuple(map(tuple, parts)), tuple(map(tuple, part_types)), tuple(sequence_types))


def tidy(text: str, spans: list[Span]) -> list[Span]:
    """`spans` inside the text, in order of their starts, without white space around, with the accents that follow.

    Tokenizers count the space before a word into its token, and leave out the combining marks that their
    normaliser drops; a word cut from the text should have neither fault.
    """
    tidied: list[Span] = []
    floor = 0
    for index, (start, end) in enumerate(spans):
        start = min(max(start, floor), len(text))
        end = min(max(end, start), len(text))
        floor = start
        while start < end and text[start].isspace():
            start += 1
        while end > start and text[end - 1].isspace():
            end -= 1
        if end > start:
            following = spans[index + 1][0] if index + 1 < len(spans) else len(text)
            while end < min(following, len(text)) and unicodedata.combining(text[end]):
                end += 1
        tidied.append((start, end))
    return tidied
