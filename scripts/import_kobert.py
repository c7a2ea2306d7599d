"""Turn a gluonnlp-era KoBERT classifier into a normal model directory, without running a pickle's code.

    python scripts/import_kobert.py FOLDER models/my-kobert --spiece kobert_news_wiki_ko_cased-1087f8699e.spiece

FOLDER holds `textClassifierModel.pt` (a bare state dict, maybe dynamically quantised to int8), `category.pkl` (label
map) and `vocab.pkl` (gluonnlp vocabulary). The result has safetensors, config.json and a fast tokenizer, loads with
AutoModelForSequenceClassification and AutoTokenizer, and says in its card how it was made.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.kobert.card import card
from scripts.kobert.errors import ImportRefused
from scripts.kobert.labels import read_labels
from scripts.kobert.tokenizer import build_tokenizer, read_vocabulary
from scripts.kobert.weights import build_model, config_of, read_state

SENTENCE = "이 영화 정말 재미있었어요!"


@dataclass(frozen=True, slots=True)
class Sources:
    """The files of a KoBERT classifier. Without `labels` the outputs are LABEL_0, LABEL_1, …"""

    weights: Path
    vocab: Path
    labels: Path | None = None
    spiece: Path | None = None
    heads: int | None = None  # told from the width when None
    max_length: int | None = None  # tokens; the model's positions when None
    sets_punctuation_apart: bool = True  # as gluonnlp's BERTSPTokenizer does


def convert(sources: Sources, target: Path) -> list[str]:
    """Write the model directory `target`, whole or not at all. Returns its labels. Raises ImportRefused."""
    if target.exists():
        raise ImportRefused(f"{target} is there already; choose another name or remove it.")
    state = read_state(sources.weights)
    config = config_of(state, sources.heads)
    vocabulary = read_vocabulary(sources.vocab)
    if len(vocabulary.tokens) > config.vocab_size:
        raise ImportRefused(
            f"{sources.vocab.name} has {len(vocabulary.tokens)} tokens and the model embeds {config.vocab_size}."
            " They do not belong together."
        )
    count = state["classifier.weight"].shape[0]
    labels = read_labels(sources.labels, count) if sources.labels else [f"LABEL_{index}" for index in range(count)]
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}
    config.pad_token_id = vocabulary.id_of("pad")
    length = min(sources.max_length or config.max_position_embeddings, config.max_position_embeddings)
    tokenizer = build_tokenizer(vocabulary, sources.spiece, length, sources.sets_punctuation_apart)
    model = build_model(state, config)

    target.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)
        (part / "README.md").write_text(card(target.name, labels, exact=sources.spiece is not None), "utf-8")
        part.chmod(0o755)
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return labels


def classify(folder: Path, text: str) -> tuple[str, float]:
    """The best label of `text` and its probability, by the model directory `folder` as anyone would load it."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.inference_mode():
        scores = model(**tokenizer(text, return_tensors="pt", truncation=True)).logits.softmax(-1)[0]
    best = int(scores.argmax())
    return model.config.id2label[best], float(scores[best])


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    labels: Path | None = options.labels or options.folder / "category.pkl"
    if options.labels is None and labels is not None and not labels.exists():
        labels = None
    sources = Sources(
        weights=options.weights or options.folder / "textClassifierModel.pt",
        vocab=options.vocab or options.folder / "vocab.pkl",
        labels=labels,
        spiece=options.spiece,
        heads=options.heads,
        max_length=options.max_length,
        sets_punctuation_apart=options.words == "gluonnlp",
    )
    try:
        names = convert(sources, options.target)
    except ImportRefused as error:
        print(f"import: {error}", file=sys.stderr)
        return 1
    label, score = classify(options.target, SENTENCE)
    print(f"{options.target}: {len(names)} labels ({', '.join(names[:8])}). {SENTENCE!r} -> {label} {score:.3f}")
    if sources.spiece is None:
        print("Without --spiece the tokenizer guesses where to cut words, and predictions will differ. See its card.")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Turn a gluonnlp-era KoBERT classifier into a normal model directory.")
    parser.add_argument("folder", type=Path, help="holds textClassifierModel.pt, category.pkl and vocab.pkl")
    parser.add_argument("target", type=Path, help="the model directory to write, for example models/my-kobert")
    parser.add_argument("--spiece", type=Path, help="KoBERT's SentencePiece model (.spiece, .model): exact tokens")
    parser.add_argument("--weights", type=Path, help="instead of FOLDER/textClassifierModel.pt")
    parser.add_argument("--vocab", type=Path, help="instead of FOLDER/vocab.pkl")
    parser.add_argument("--labels", type=Path, help="instead of FOLDER/category.pkl")
    parser.add_argument("--heads", type=int, help="attention heads, where they are not 64 wide")
    parser.add_argument("--max-length", type=int, metavar="TOKENS", help="what the model was trained to read, often 64")
    parser.add_argument(
        "--words",
        choices=("gluonnlp", "sentencepiece"),
        default="gluonnlp",
        help="gluonnlp: punctuation apart, as BERTSPTokenizer; sentencepiece: as skt/kobert-base-v1's own tokenizer",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
