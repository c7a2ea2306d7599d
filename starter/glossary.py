"""What single pieces of the tokenizer mean, as far as the word lists tell; the embedding model begins with it."""

from __future__ import annotations

import random
import unicodedata

import torch
from tokenizers import Tokenizer
from torch.nn.functional import normalize
from transformers import ElectraModel

from starter.corpus.parallel import Grammar

WORD_START = "▁"
SPREAD = 3.0  # begins with token vectors well above the noise of position vectors


def korean_words() -> dict[str, str]:
    """English for Korean words and for the forms that adjectives and verbs take."""
    grammar = Grammar(random.Random(0))
    found: dict[str, str] = {}
    for nouns in grammar.words.nouns.values():
        found |= {ko: noun.en[0] for noun in nouns for ko in noun.ko}
    found |= dict(grammar.dictionary)
    said = [(one.ko, one.en[0]) for one in grammar.words.adjectives]
    said += [(ko, verb.en[0][0]) for verb in [*grammar.words.verbs, *grammar.words.acts] for ko in verb.ko]
    for predicate, english in [*said, *((predicate, forms[0]) for predicate, forms in grammar.verbs)]:
        for form in (predicate.stem, predicate.hae, predicate.past):
            found.setdefault(form, english)
    return found


def meaning_of(piece: str, words: dict[str, str]) -> str | None:
    """English for a piece: itself, or that of the longest known Korean word it begins with; None where unknown."""
    text = unicodedata.normalize("NFC", piece.removeprefix(WORD_START))
    if text.isascii():
        return text if text.isalpha() else None
    if not piece.startswith(WORD_START):
        return words.get(text) if len(text) > 1 else None
    known = (text[:end] for end in range(len(text), 0, -1))
    return next((words[start] for start in known if start in words and (len(start) > 1 or start == text)), None)


def begin_with_words(model: ElectraModel, tokenizer: Tokenizer, teach: torch.nn.Module, axes: torch.Tensor) -> int:
    """Sets the token vectors from the teacher's embeddings of what pieces mean; returns how many were set.

    `axes` (384, 192) leads from the teacher's space to the model's. Before its first step the model then averages
    word meanings.
    """
    words, vocabulary = korean_words(), tokenizer.get_vocab()
    meanings = {number: meaning_of(piece, words) for piece, number in vocabulary.items()}
    known = [(number, text) for number, text in meanings.items() if text]
    texts = sorted({text for _, text in known})
    targets = normalize(teach.encode(texts, batch_size=256, convert_to_tensor=True) @ axes, dim=1)
    row = {text: at for at, text in enumerate(texts)}
    wide = targets[[row[text] for _, text in known]]
    _, kept = torch.linalg.eigh(wide.T @ wide)
    kept = kept[:, -model.config.embedding_size :]
    with torch.no_grad():
        model.embeddings.word_embeddings.weight[[number for number, _ in known]] = SPREAD * wide @ kept
        model.embeddings_project.weight.copy_(kept)
        model.embeddings_project.bias.zero_()
    return len(known)
