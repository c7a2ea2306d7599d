"""A tiny KoBERT classifier as its owners saved it: bare state dict, pickled labels, pickled gluonnlp vocabulary."""

from __future__ import annotations

import io
import pickle
import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from torch import nn
from transformers import BertConfig, BertModel

LABELS = {"clean": 0, "욕설": 1, "혐오": 2}
TEXTS = [
    "이 영화 정말 재미있었어요!",
    "배송이 느려서… 조금 실망했습니다.",
    "(하)하, 「오늘」은 12월 3일입니다!!",
    "ABC  def\tghi 漢字 café ㈜한국 ①②",
    "없는낱말뷁쀍 😀 끝",
    "",
]
CORPUS = [
    f"{who}{what} {how} {end}"
    for who in ("영화", "배송", "음식", "오늘", "직원", "가격")
    for what in ("이", "은", "도", "가")
    for how in ("정말", "조금", "너무", "아주", "12월 3일", "ABC def", "...", "(하)하")
    for end in ("재미있었어요!", "실망했습니다.", "느려요", "좋습니다, 그렇죠?", "최고입니다!!")
]


class BERTClassifier(nn.Module):
    """Named and shaped as the classifier that KoBERT's examples train."""

    def __init__(self, bert: BertModel, classes: int) -> None:
        super().__init__()
        self.bert = bert
        self.classifier = nn.Linear(bert.config.hidden_size, classes)

    def forward(self, token_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Logits of shape (texts, classes)."""
        pooled = self.bert(input_ids=token_ids, attention_mask=attention_mask).pooler_output
        return self.classifier(pooled)


def tiny_classifier(vocabulary: int) -> BERTClassifier:
    torch.manual_seed(7)
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=256,
        max_position_embeddings=64,
    )
    model = BERTClassifier(BertModel(config), len(LABELS)).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # far enough from 0 for the logits of two texts to differ
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def quantized(model: nn.Module) -> nn.Module:
    """The model as torch.quantization.quantize_dynamic leaves it: int8 linear layers with packed parameters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)


def train_spiece(folder: Path) -> Path:
    """A SentencePiece unigram model with KoBERT's special tokens among its pieces."""
    corpus = folder / "corpus.txt"
    corpus.write_text("\n".join(CORPUS), "utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus),
        model_prefix=str(folder / "kobert"),
        vocab_size=160,
        hard_vocab_limit=False,
        unk_piece="[UNK]",
        pad_piece="[PAD]",
        pad_id=1,
        unk_id=0,
        bos_id=-1,
        eos_id=-1,
        control_symbols=["[CLS]", "[SEP]", "[MASK]"],
        minloglevel=2,
    )
    return (folder / "kobert.model").rename(folder / "kobert.spiece")


@contextmanager
def gluonnlp() -> Iterator[types.SimpleNamespace]:
    """Modules of gluonnlp's names, there only while something is pickled."""
    names = ("gluonnlp", "gluonnlp.vocab", "gluonnlp.vocab.bert", "gluonnlp.data", "gluonnlp.data.utils")
    modules = {name: types.ModuleType(name) for name in names}
    vocab = type("BERTVocab", (), {"__module__": "gluonnlp.vocab.bert"})
    lookup = type("DefaultLookupDict", (dict,), {"__module__": "gluonnlp.data.utils"})
    modules["gluonnlp.vocab.bert"].BERTVocab = vocab  # type: ignore[attr-defined]
    modules["gluonnlp.data.utils"].DefaultLookupDict = lookup  # type: ignore[attr-defined]
    sys.modules.update(modules)
    try:
        yield types.SimpleNamespace(vocab=vocab, lookup=lookup)
    finally:
        for name in names:
            del sys.modules[name]


def pickled_vocab(tokens: list[str], protocol: int) -> bytes:
    """A BERTVocab: tokens in gluonnlp's own order, a dictionary with a default, special tokens as attributes."""
    with gluonnlp() as package:
        vocab: Any = package.vocab()
        table = package.lookup((token, index) for index, token in enumerate(tokens))
        table._default = 0
        vocab._idx_to_token = tokens
        vocab._token_to_idx = table
        vocab._unknown_token, vocab._padding_token = "[UNK]", "[PAD]"
        vocab._cls_token, vocab._sep_token, vocab._mask_token = "[CLS]", "[SEP]", "[MASK]"
        vocab._bos_token = vocab._eos_token = vocab._embedding = None
        vocab._reserved_tokens = ["[PAD]", "[MASK]", "[SEP]", "[CLS]"]
        return pickle.dumps(vocab, protocol)


def gluon_order(spiece: Path) -> list[str]:
    """Tokens as BERTVocab numbers them: special ones first, the rest by the alphabet, whatever SentencePiece says."""
    processor = sentencepiece.SentencePieceProcessor(model_file=str(spiece))
    special = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [processor.id_to_piece(index) for index in range(processor.get_piece_size())]
    return special + sorted(piece for piece in pieces if piece not in special)


def save_state(model: nn.Module, path: Path, **options: Any) -> None:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(model.state_dict(), buffer, **options)
    path.write_bytes(buffer.getvalue())
