"""Tiny random models with real tokenizers, made in the test run: every architecture, head and file layout.

Seeded, so that a model is the same in every run. Windows are short (64 tokens), so that long texts stay short.
"""

from __future__ import annotations

import functools
import io
import json
import warnings
from pathlib import Path
from typing import Any

import sentencepiece
import tokenizers
import torch
import transformers
from tokenizers import models, normalizers, pre_tokenizers, trainers

from core.types import Task

ARCHITECTURES = ("bert", "distilbert", "roberta", "xlm-roberta", "deberta-v2", "electra")
POSITIONS = 64  # tokens
LABELS = {
    Task.TEXT_CLASSIFICATION: ("부정", "긍정", "중립"),
    Task.ZERO_SHOT_CLASSIFICATION: ("contradiction", "neutral", "entailment"),
    Task.TOKEN_CLASSIFICATION: ("O", "B-PER", "I-PER", "B-LOC", "I-LOC"),
}
_HEADS: dict[Task, Any] = {
    Task.TEXT_CLASSIFICATION: transformers.AutoModelForSequenceClassification,
    Task.ZERO_SHOT_CLASSIFICATION: transformers.AutoModelForSequenceClassification,
    Task.TOKEN_CLASSIFICATION: transformers.AutoModelForTokenClassification,
    Task.QUESTION_ANSWERING: transformers.AutoModelForQuestionAnswering,
    Task.FILL_MASK: transformers.AutoModelForMaskedLM,
    Task.FEATURE_EXTRACTION: transformers.AutoModel,
}
_BERT_SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_ROBERTA_SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]

CORPUS = (
    "김민수는 서울에서 태어나 부산의 작은 회사에서 일한다.",
    "이순신 장군은 1545년 한양에서 태어났다.",
    "대한민국의 수도는 서울이고 제주도는 섬이다.",
    "박지은 씨는 지난 3월 5일 도쿄로 여행을 떠났다.",
    "영화가 정말 재미있었고 배우들의 연기도 좋았다.",
    "음식은 맛이 없었고 직원은 불친절했다.",
    "삼성전자와 네이버는 인공지능 모델을 함께 개발한다.",
    "Anna Smith moved from Paris to New York in March 2019.",
    "The quick brown fox jumps over the lazy dog near the river bank.",
    "Microsoft and Google opened offices in Berlin, Tokyo and São Paulo.",
    "I really loved this wonderful film; the acting was superb!",
    "The food was cold, the service was slow and nobody cared.",
    "Who wrote the letter that arrived on Monday morning?",
    "Machine translation, question answering and tagging are tasks.",
)


def write_model(
    directory: Path,
    architecture: str,
    head: Task,
    *,
    sharded: bool = False,
    pickle_only: bool = False,
    slow: bool = False,
    labels: tuple[str, ...] | None = None,
    seed: int = 7,
    **config: Any,
) -> Path:
    """Writes a model of `architecture` with the head of the task `head`; `slow` leaves tokenizer.json out."""
    directory.mkdir(parents=True, exist_ok=True)
    write_tokenizer(directory, architecture, slow=slow)
    names = labels or LABELS.get(head)
    if names is not None:
        config["id2label"] = dict(enumerate(names))
        config["label2id"] = {name: index for index, name in enumerate(names)}
    model = make_model(architecture, head, seed=seed, **config)
    if pickle_only:
        model.config.architectures = [type(model).__name__]
        model.config.save_pretrained(directory)
        torch.save(model.state_dict(), directory / "pytorch_model.bin")
    else:
        model.save_pretrained(directory, max_shard_size="40KB" if sharded else "1GB")
    return directory


def make_model(architecture: str, head: Task, *, seed: int = 7, **config: Any) -> Any:
    """The model itself, on the CPU in float32."""
    torch.manual_seed(seed)
    return _HEADS[head].from_config(_config(architecture, **config)).eval()


def read_model(path: Path, head: Task) -> Any:
    """The model that `write_model` wrote."""
    return _HEADS[head].from_pretrained(path)


def _config(architecture: str, **more: Any) -> Any:
    is_roberta = architecture in ("roberta", "xlm-roberta")
    shape: dict[str, Any] = {
        "vocab_size": vocabulary_size(architecture),
        "initializer_range": 0.3,  # large, so that answers differ and no two labels tie
        "max_position_embeddings": POSITIONS + 2 if is_roberta else POSITIONS,
        "pad_token_id": 1 if is_roberta else 0,
    }
    if architecture == "distilbert":
        shape |= {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
    else:
        shape |= {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    if architecture == "electra":
        shape["embedding_size"] = 16
    if architecture == "deberta-v2":  # as microsoft/deberta-v3-small is set up
        shape |= {
            "relative_attention": True,
            "position_buckets": 16,
            "pos_att_type": ["p2c", "c2p"],
            "share_att_key": True,
        }
        shape |= {"norm_rel_ebd": "layer_norm", "position_biased_input": False, "max_relative_positions": -1}
        shape |= {"pooler_hidden_size": 32, "type_vocab_size": 0}
    if is_roberta:
        shape |= {"bos_token_id": 0, "eos_token_id": 2, "type_vocab_size": 1}
    return transformers.AutoConfig.for_model(architecture, **(shape | more))


def write_tokenizer(directory: Path, architecture: str, *, slow: bool = False) -> None:
    """The tokenizer of `architecture`: as its original files, or as transformers saves them."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in _original_files(architecture).items():
        (directory / name).write_bytes(content)
    if slow:
        return
    _config(architecture).save_pretrained(directory)
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory, local_files_only=True)
    for name in _original_files(architecture):
        (directory / name).unlink()
    tokenizer.save_pretrained(directory)


@functools.cache
def vocabulary_size(architecture: str) -> int:
    files = _original_files(architecture)
    if "vocab.txt" in files:
        return len(files["vocab.txt"].splitlines())
    if "vocab.json" in files:
        return len(json.loads(files["vocab.json"]))
    pieces = sentencepiece.SentencePieceProcessor(model_proto=next(v for k, v in files.items() if k.endswith("model")))
    return int(pieces.get_piece_size()) + 2  # xlm-roberta shifts by one and adds a mask, deberta-v2 adds a mask


@functools.cache
def _original_files(architecture: str) -> dict[str, bytes]:
    if architecture == "roberta":
        return _byte_level_files()
    if architecture == "xlm-roberta":
        return _sentencepiece_files("sentencepiece.bpe.model", "XLMRobertaTokenizer")
    if architecture == "deberta-v2":
        return _sentencepiece_files("spm.model", "DebertaV2Tokenizer", specials=True)
    return _wordpiece_files(
        {"distilbert": "DistilBertTokenizer", "electra": "ElectraTokenizer"}.get(architecture, "BertTokenizer")
    )


def _tokenizer_config(kind: str, **more: Any) -> bytes:
    return json.dumps({"tokenizer_class": kind, "model_max_length": POSITIONS, **more}).encode()


def _wordpiece_files(kind: str) -> dict[str, bytes]:
    trained = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    trained.normalizer = normalizers.BertNormalizer(lowercase=False)
    trained.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trained.train_from_iterator(
        CORPUS, trainers.WordPieceTrainer(vocab_size=500, special_tokens=_BERT_SPECIALS, show_progress=False)
    )
    vocabulary = sorted(trained.get_vocab().items(), key=lambda pair: pair[1])
    lines = "".join(f"{token}\n" for token, _ in vocabulary)
    return {"vocab.txt": lines.encode(), "tokenizer_config.json": _tokenizer_config(kind, do_lower_case=False)}


def _byte_level_files() -> dict[str, bytes]:
    trained = tokenizers.Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=500,
            special_tokens=_ROBERTA_SPECIALS,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    saved = json.loads(trained.to_str())["model"]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in saved["merges"]]
    return {
        "vocab.json": json.dumps(saved["vocab"], ensure_ascii=False).encode(),
        "merges.txt": "\n".join(["#version: 0.2", *merges, ""]).encode(),
        "tokenizer_config.json": _tokenizer_config("RobertaTokenizer"),
    }


def _sentencepiece_files(name: str, kind: str, *, specials: bool = False) -> dict[str, bytes]:
    written = io.BytesIO()
    # xlm-roberta's model begins with <unk> <s> </s>; deberta's with [PAD] [CLS] [SEP] [UNK]
    ids: dict[str, Any] = (
        {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3}
        | {"pad_piece": "[PAD]", "bos_piece": "[CLS]", "eos_piece": "[SEP]", "unk_piece": "[UNK]"}
        if specials
        else {}
    )
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 4),
        model_writer=written,
        vocab_size=350,
        model_type="unigram",
        hard_vocab_limit=False,
        minloglevel=2,
        **ids,
    )
    return {name: written.getvalue(), "tokenizer_config.json": _tokenizer_config(kind)}


class _Graph(torch.nn.Module):
    """A model with plain tensors in and out, in the order of an export."""

    def __init__(self, model: Any, outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self.outputs = outputs

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        names = ("input_ids", "attention_mask", "token_type_ids")
        found = self.model(**dict(zip(names, tensors, strict=False)))
        return tuple(found[name] for name in self.outputs)


def write_graph(path: Path, model: Any, *, types: bool = False, fixed: tuple[int, int] | None = None) -> Path:
    """Exports `model` to ONNX at `path`, as the files of the Hub are; `fixed` is its only (rows, tokens)."""
    outputs: tuple[str, ...] = ("logits",)
    if hasattr(model, "qa_outputs"):
        outputs = ("start_logits", "end_logits")
    elif type(model).__name__.endswith("Model"):
        outputs = ("last_hidden_state",)
    inputs = ("input_ids", "attention_mask", "token_type_ids")[: 3 if types else 2]
    shape = fixed or (2, 5)
    ids = torch.arange(5, 5 + shape[0] * shape[1]).reshape(shape) % 30 + 5
    mask = torch.ones_like(ids)
    mask[-1, 3:] = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    if model._supports_sdpa:
        model.set_attn_implementation("eager")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Graph(model, outputs).eval(),
            (ids, mask, torch.zeros_like(ids))[: len(inputs)],
            str(path),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={} if fixed else {name: {0: "rows", 1: "tokens"} for name in inputs},
            opset_version=17,
            dynamo=False,
        )
    return path
