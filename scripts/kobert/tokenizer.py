"""The tokenizer: ids from the pickled vocabulary, pieces from the SentencePiece model where there is one.

gluonnlp numbered the pieces anew (alphabetically, for KoBERT), so the SentencePiece model's own ids are not used. Its
BERTSPTokenizer first sets punctuation and Chinese characters apart, then gives each word to SentencePiece alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentencepiece import sentencepiece_model_pb2
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from scripts.kobert.errors import ImportRefused
from scripts.kobert.pickles import Record, read_pickle

UNIGRAM = 1  # TrainerSpec.ModelType
PIECES_OF_TEXT = (1, 4)  # SentencePiece.Type: NORMAL, USER_DEFINED; the others never match text
PUNCTUATION = r"[!-/:-@\[-`{-~\p{P}]"
UNREACHABLE = -1000.0  # log probability of what text may not become


@dataclass(frozen=True, slots=True)
class Vocabulary:
    tokens: tuple[str, ...]  # by id
    special: dict[str, str]  # unk, pad, cls, sep, mask -> token

    def id_of(self, role: str) -> int:
        return self.tokens.index(self.special[role])


def read_vocabulary(path: Path) -> Vocabulary:
    """From a pickled gluonnlp vocabulary, {token: id}, or a list of tokens. Raises ImportRefused."""
    data = read_pickle(path)
    fields = data.fields if isinstance(data, Record) else {}
    tokens = fields.get("_idx_to_token", data)
    if isinstance(tokens, dict):
        tokens = sorted(tokens, key=tokens.__getitem__)
    if not isinstance(tokens, (list, tuple)) or not tokens or not all(isinstance(token, str) for token in tokens):
        raise ImportRefused(f"{path.name} holds no vocabulary: no list of tokens was found in it.")
    if len(set(tokens)) != len(tokens):
        raise ImportRefused(f"{path.name} has a token twice, so its ids are ambiguous.")
    special = {role: _special(role, name, fields, tokens, path) for role, name in _ROLES.items()}
    return Vocabulary(tuple(tokens), special)


_ROLES = {"unk": "unknown", "pad": "padding", "cls": "cls", "sep": "sep", "mask": "mask"}


def _special(role: str, name: str, fields: dict[str, Any], tokens: Sequence[str], path: Path) -> str:
    exposed = fields.get("_identifiers_to_tokens")
    said = [fields.get(f"_{name}_token"), fields.get(f"{name}_token")]
    said.append(exposed.get(f"{name}_token") if isinstance(exposed, dict) else None)
    for token in [*said, f"[{role.upper()}]", f"<{role}>"]:
        if isinstance(token, str) and token in tokens:
            return token
    raise ImportRefused(f"{path.name} has no {name} token.")


def build_tokenizer(
    vocabulary: Vocabulary, spiece: Path | None, max_length: int, sets_punctuation_apart: bool = True
) -> PreTrainedTokenizerFast:
    """A fast tokenizer with the vocabulary's ids. Without `spiece` the cuts are a guess: the fewest pieces.

    `max_length`: tokens, special ones included. Raises ImportRefused.
    """
    scores, charsmap = _read_spiece(spiece) if spiece else (None, None)
    pieces = [(token, _score(token, scores)) for token in vocabulary.tokens]
    if scores is not None and not any(token in scores for token in vocabulary.tokens):
        raise ImportRefused(f"{spiece.name if spiece else ''} and the vocabulary have no piece in common.")
    tokenizer = Tokenizer(models.Unigram(pieces, vocabulary.id_of("unk"), False))
    tokenizer.normalizer = _normalizer(charsmap, sets_punctuation_apart)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always", split=False)]
    )
    cls, sep = vocabulary.special["cls"], vocabulary.special["sep"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B:1 {sep}:1",
        special_tokens=[(cls, vocabulary.id_of("cls")), (sep, vocabulary.id_of("sep"))],
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        model_max_length=max_length,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **{f"{role}_token": token for role, token in vocabulary.special.items()},
    )


def _normalizer(charsmap: bytes | None, sets_punctuation_apart: bool) -> normalizers.Normalizer:
    steps: list[normalizers.Normalizer] = []
    if sets_punctuation_apart:
        steps.append(normalizers.BertNormalizer(strip_accents=False, lowercase=False))
        # before SentencePiece's own normalisation, which turns one sign into several: "…" must stay one word
        steps.append(normalizers.Replace(Regex(f"(?={PUNCTUATION})|(?<={PUNCTUATION})"), " "))
    if charsmap is None:
        steps.append(normalizers.NFKC())
    elif charsmap:
        steps.append(normalizers.Precompiled(charsmap))
    return normalizers.Sequence(steps)


def _read_spiece(path: Path) -> tuple[dict[str, float], bytes]:
    """Log probability of each piece that text can become, and the model's normalisation table."""
    model = sentencepiece_model_pb2.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except OSError as error:
        raise ImportRefused(f"{path} cannot be read: {error.strerror}.") from error
    except Exception as error:  # protobuf's DecodeError has no public home
        raise ImportRefused(f"{path.name} is no SentencePiece model: {error}") from error
    if model.trainer_spec.model_type != UNIGRAM or not model.pieces:
        raise ImportRefused(f"{path.name} is no SentencePiece unigram model, which is what KoBERT uses.")
    scores = {piece.piece: piece.score for piece in model.pieces if piece.type in PIECES_OF_TEXT}
    return scores, model.normalizer_spec.precompiled_charsmap


def _score(token: str, scores: dict[str, float] | None) -> float:
    if scores is not None:
        return scores.get(token, UNREACHABLE)
    return -10.0 + 0.001 * len(token) ** 2  # fewest pieces; among equals, the one with the longest
