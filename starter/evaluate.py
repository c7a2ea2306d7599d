"""Measures the starter models on the held-out sentences: `python -m starter.evaluate` prints every figure."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    pipeline,
)

from starter.corpus import chat as corpus
from starter.vision_accuracy import vision

HERE = Path(__file__).parent
Figures = dict[str, float]


def held_out(name: str) -> list[dict[str, Any]]:
    """Rows of `eval/<name>.jsonl`, in file order."""
    lines = (HERE / "eval" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def macro_f1(gold: list[str], told: list[str]) -> float:
    """Mean of the F1 of each label that the gold answers have."""
    scores = []
    for label in sorted(set(gold)):
        hits = sum(a == b == label for a, b in zip(gold, told, strict=True))
        scores.append(2 * hits / (gold.count(label) + told.count(label)))
    return sum(scores) / len(scores)


def sentiment(directory: Path) -> Figures:
    """Accuracy and macro-F1, all and by language."""
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForSequenceClassification.from_pretrained(directory).eval()
    rows = held_out("sentiment")
    with torch.no_grad():
        batch = tokenizer([row["text"] for row in rows], padding=True, truncation=True, return_tensors="pt")
        told = [model.config.id2label[number] for number in model(**batch).logits.argmax(-1).tolist()]
    figures: Figures = {}
    for lang in ("all", "ko", "en"):
        pairs = [(row["label"], answer) for row, answer in zip(rows, told, strict=True) if lang in ("all", row["lang"])]
        gold, answers = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        figures[f"accuracy {lang}"] = sum(a == b for a, b in pairs) / len(pairs)
        figures[f"macro-F1 {lang}"] = macro_f1(gold, answers)
    return figures


def ner(directory: Path) -> Figures:
    """Entity-level F1 (label and both ends right), all, by language and by label."""
    tagger = pipeline(
        "token-classification",
        model=AutoModelForTokenClassification.from_pretrained(directory),
        tokenizer=AutoTokenizer.from_pretrained(directory),
        aggregation_strategy="simple",
        device="cpu",
    )
    rows = held_out("ner")
    gold, told = set(), set()
    for number, (row, found) in enumerate(zip(rows, tagger([row["text"] for row in rows]), strict=True)):
        gold |= {(row["lang"], number, one["start"], one["end"], one["label"]) for one in row["entities"]}
        told |= {(row["lang"], number, one["start"], one["end"], one["entity_group"]) for one in found}
    figures: Figures = {}
    for part in ("all", "ko", "en", "PER", "ORG", "LOC", "DAT"):
        wanted, answered = _part(gold, part), _part(told, part)
        figures[f"F1 {part}"] = 2 * len(wanted & answered) / (len(wanted) + len(answered))
    return figures


def _part(spans: Iterable[tuple[Any, ...]], part: str) -> set[tuple[Any, ...]]:
    return {span for span in spans if part in ("all", span[0], span[4])}


def embed(directory: Path) -> Figures:
    """Triplet accuracy, and retrieval@1: is the paraphrase the nearest of all paraphrases of its language?

    "with decoys" adds the negatives, which share words with the sentences, to those it is sought among.
    """
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(directory), device="cpu")
    rows = held_out("embed")
    columns = ([row[key] for row in rows] for key in ("anchor", "positive", "negative"))
    anchors, positives, negatives = (model.encode(column, convert_to_tensor=True) for column in columns)
    nearer = ((anchors * positives).sum(1) > (anchors * negatives).sum(1)).float()
    figures: Figures = {"triplet accuracy all": float(nearer.mean())}
    for lang in ("ko", "en", "ko-en"):
        chosen = [number for number, row in enumerate(rows) if row["lang"] == lang]
        decoys = torch.cat([positives[chosen], negatives[chosen]])
        figures[f"triplet accuracy {lang}"] = float(nearer[chosen].mean())
        figures[f"retrieval@1 {lang}"] = _first_found(anchors[chosen], positives[chosen])
        figures[f"retrieval@1 {lang} with decoys"] = _first_found(anchors[chosen], decoys)
    return figures


def _first_found(anchors: torch.Tensor, others: torch.Tensor) -> float:
    """Share of anchors (n, d) whose nearest of `others` (at least n, d) is the one in the same row."""
    return float(((anchors @ others.T).argmax(1) == torch.arange(len(anchors))).float().mean())


def chat(directory: Path) -> Figures:
    """Share of questions that are answered with the right topic's words, and of foreign ones that are turned down."""
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForCausalLM.from_pretrained(directory).eval()
    right: dict[str, list[bool]] = {}
    for row in held_out("chat"):
        lang, is_known = row["lang"], row["topic"] != "unknown"
        answers = {topic.name: topic.answer for topic in corpus.topics(lang)} | {"unknown": corpus.UNKNOWN[lang]}
        told = answer(model, tokenizer, [{"role": "user", "content": row["text"]}])
        kind = "answered" if is_known else "turned down"
        right.setdefault(f"{kind} {lang}", []).append(told == answers[row["topic"]])
    return {name: sum(each) / len(each) for name, each in sorted(right.items())}


def answer(model: Any, tokenizer: Any, messages: list[dict[str, str]]) -> str:
    """The likeliest answer to a chat."""
    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        ids = model.generate(**inputs, max_new_tokens=160, do_sample=False)
    return str(tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))


MEASURES: dict[str, Callable[[Path], Figures]] = {
    "sentiment": sentiment,
    "ner": ner,
    "embed": embed,
    "chat": chat,
    "vision": vision,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=HERE, help="folder that holds sentiment/, ner/ and so on")
    parser.add_argument("only", nargs="*", help="sentiment, ner, embed, chat, vision; all when left out")
    options = parser.parse_args()
    torch.set_num_threads(2)
    for name in options.only or MEASURES:
        for figure, value in MEASURES[name](options.models / name).items():
            print(f"{name}: {figure}: {value:.3f}")


if __name__ == "__main__":
    main()
