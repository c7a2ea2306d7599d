"""The starter models as a user gets them: they load with plain libraries and are as good as their cards say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer, pipeline

from starter import evaluate

STARTER = Path(evaluate.__file__).parent
MODELS = ("sentiment", "ner", "embed")
LARGEST = 15_000_000  # bytes a file

# what was measured, less a little, so that another processor's rounding does not fail the test
FLOORS = {
    "sentiment": {"accuracy ko": 0.84, "accuracy en": 0.75, "macro-F1 all": 0.80},
    "ner": {"F1 ko": 0.75, "F1 en": 0.84},
    "embed": {"triplet accuracy all": 0.63, "retrieval@1 ko": 0.64, "retrieval@1 en": 0.64, "retrieval@1 ko-en": 0.89},
}


@pytest.fixture(scope="module", autouse=True)
def _two_threads() -> None:
    torch.set_num_threads(2)


@pytest.fixture(scope="module")
def figures() -> dict[str, dict[str, float]]:
    return {name: evaluate.MEASURES[name](STARTER / name) for name in MODELS}


@pytest.mark.parametrize("name", MODELS)
def test_quality_holds(figures: dict[str, dict[str, float]], name: str) -> None:
    for figure, floor in FLOORS[name].items():
        assert figures[name][figure] >= floor, figure


@pytest.mark.parametrize("name", MODELS)
def test_the_card_says_what_evaluate_prints(figures: dict[str, dict[str, float]], name: str) -> None:
    card = (STARTER / name / "README.md").read_text(encoding="utf-8")
    rows = [f"| {figure} | {value:.3f} |" for figure, value in figures[name].items()]
    assert [row for row in rows if row not in card] == []


@pytest.mark.parametrize("name", MODELS)
def test_a_model_directory_holds_no_code_and_no_large_file(name: str) -> None:
    files = [path for path in (STARTER / name).rglob("*") if path.is_file()]
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= {path.name for path in files}
    assert {path.suffix for path in files} <= {".json", ".md", ".safetensors"}
    assert max(path.stat().st_size for path in files) <= LARGEST


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("이 영화는 정말 재미있었다!", "positive"),
        ("배송이 너무 늦고 포장도 엉망이었어요.", "negative"),
        ("회의는 오후 3시에 시작합니다.", "neutral"),
        ("I loved every minute of it.", "positive"),
        ("The room was dirty and nobody answered the phone.", "negative"),
        ("The package weighs two kilograms.", "neutral"),
    ],
)
def test_sentiment_of_the_first_examples(text: str, label: str) -> None:
    directory = STARTER / "sentiment"
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForSequenceClassification.from_pretrained(directory).eval()
    with torch.no_grad():
        scores = model(**tokenizer(text, return_tensors="pt")).logits.softmax(-1)[0]
    assert model.config.id2label[int(scores.argmax())] == label


@pytest.mark.parametrize("strategy", ["simple", "first", "max"])
@pytest.mark.parametrize(
    ("text", "entities"),
    [
        ("김철수는 서울대학교에서 컴퓨터과학을 전공했다.", [("김철수", "PER"), ("서울대학교", "ORG")]),
        (
            "이영희 대표는 2024년 3월 5일 부산에서 삼성전자와 계약했다.",
            [("이영희", "PER"), ("2024년 3월 5일", "DAT"), ("부산", "LOC"), ("삼성전자", "ORG")],
        ),
        (
            "Barack Obama was born in Hawaii on August 4, 1961.",
            [("Barack Obama", "PER"), ("Hawaii", "LOC"), ("August 4, 1961", "DAT")],
        ),
        ("Tim Cook runs Apple in California.", [("Tim Cook", "PER"), ("Apple", "ORG"), ("California", "LOC")]),
    ],
)
def test_entities_of_the_first_examples(text: str, entities: list[tuple[str, str]], strategy: str) -> None:
    directory = STARTER / "ner"
    tagger = pipeline(
        "token-classification",
        model=AutoModelForTokenClassification.from_pretrained(directory),
        tokenizer=AutoTokenizer.from_pretrained(directory),
        aggregation_strategy=strategy,
        device="cpu",
    )
    found = [(text[one["start"] : one["end"]], one["entity_group"]) for one in tagger(text)]
    assert found == entities


def test_every_character_of_a_text_has_a_token_of_its_own_place() -> None:
    text = "뷁쉙 씨는 \u1112\u1161\u11ab이 쓴\tCafé 글을 😀 읽었다  unbelievably."
    encoded = AutoTokenizer.from_pretrained(STARTER / "ner")(
        text, return_offsets_mapping=True, add_special_tokens=False
    )
    assert "".join(text[start:end] for start, end in encoded["offset_mapping"]) == text


def test_sentences_that_mean_the_same_are_near_in_both_languages() -> None:
    model = SentenceTransformer(str(STARTER / "embed"), device="cpu")
    vectors = model.encode(["배송이 빨라요", "Delivery was fast", "음식이 짜요", "The food is salty"])
    scores = vectors @ vectors.T
    assert scores.diagonal() == pytest.approx([1.0] * 4, abs=1e-5)
    assert scores[0, 1] > scores[0, 2] + 0.2
    assert scores[2, 3] > scores[2, 1] + 0.2
