"""What the starter models learn from: the same for a seed, and apart from what they are measured on."""

from __future__ import annotations

import re
from itertools import islice

import pytest

from starter import evaluate, train_embed, train_ner, train_sentiment
from starter.corpus import meaning, ner, parallel, sentiment
from starter.corpus.korean import Predicate, agree

LEAST = {"sentiment": 120, "ner": 100, "embed": 80}


def bare(text: str) -> str:
    """Letters and digits alone, so that a lost full stop does not hide a copy."""
    return re.sub(r"[\W_]", "", text.lower())


def held_out(name: str) -> set[str]:
    keys = ("text", "anchor", "positive", "negative")
    return {bare(row[key]) for row in evaluate.held_out(name) for key in keys if key in row}


@pytest.mark.parametrize("name", LEAST)
def test_enough_is_held_out_in_both_languages(name: str) -> None:
    rows = evaluate.held_out(name)
    assert len(rows) >= LEAST[name]
    assert min(sum(row["lang"] == lang for row in rows) for lang in ("ko", "en")) >= len(rows) / 4


def test_gold_spans_are_the_words_they_name() -> None:
    for row in evaluate.held_out("ner"):
        assert all(row["text"][one["start"] : one["end"]] == one["text"] for one in row["entities"])


@pytest.mark.parametrize("corpus", [sentiment.corpus, ner.corpus, parallel.meanings])
def test_a_seed_makes_one_corpus(corpus) -> None:
    assert list(corpus(7, 300)) == list(corpus(7, 300))
    assert list(corpus(7, 300)) != list(corpus(8, 300))


def test_sentiment_learns_no_held_out_sentence() -> None:
    learnt = sentiment.corpus(train_sentiment.SEED, train_sentiment.SENTENCES)
    assert not held_out("sentiment") & {bare(one.text) for one in learnt}


def test_ner_learns_no_held_out_sentence() -> None:
    learnt = ner.corpus(train_ner.SEED, train_ner.SENTENCES)
    assert not held_out("ner") & {bare(one.text) for one in learnt}


def test_embed_learns_no_held_out_sentence() -> None:
    learnt = [*meaning.pairs(), *parallel.meanings(train_embed.SEED, train_embed.DRAWN)]
    assert not held_out("embed") & {bare(text) for said in learnt for text in said.ko + said.en}


def test_ner_patterns_are_not_those_of_the_held_out_sentences() -> None:
    slot = {"GIVEN": "PER", "FIRST": "PER", "LAST": "PER", "YEAR": "DAT"}
    patterns = {
        bare(agree(ner.SLOT.sub(lambda match: slot.get(match[1], match[1]), pattern)))
        for lang in ("ko", "en")
        for pattern in ner.patterns(lang)
    }
    for row in evaluate.held_out("ner"):
        text = row["text"]
        for one in reversed(row["entities"]):
            text = text[: one["start"]] + one["label"] + text[one["end"] :]
        assert bare(text) not in patterns


def test_spans_of_the_training_sentences_hold_no_particle() -> None:
    maker = ner.Maker(3)
    tagged = [ner.fill("{LOC}은/는 {ORG}에서", "ko", maker.names) for _ in range(50)]
    for one in tagged:
        first, second = one.spans
        assert one.text[first.end] in "은는"
        assert one.text[second.end :] == "에서"


@pytest.mark.parametrize(
    ("dictionary", "hae", "verb", "expected"),
    [
        ("빠르다", "빨라", False, ("빨라요", "빠르다", "빠릅니다", "빨랐", "빠르지 않아요")),
        ("길다", "길어", False, ("길어요", "길다", "깁니다", "길었", "길지 않아요")),
        ("최고이다", "최고야", False, ("최고예요", "최고다", "최고입니다", "최고였", "최고가 아니에요")),
        ("만들다", "만들어", True, ("만들어요", "만든다", "만듭니다", "만들었", "만들지 않아요")),
        ("먹다", "먹어", True, ("먹어요", "먹는다", "먹습니다", "먹었", "먹지 않아요")),
    ],
)
def test_korean_endings(dictionary: str, hae: str, verb: bool, expected: tuple[str, ...]) -> None:
    word = Predicate(dictionary, hae, verb=verb)
    assert (word.polite(), word.plain(), word.formal(), word.past, word.denied()[0]) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("서울으로/로", "서울로"),
        ("부산으로/로", "부산으로"),
        ("민지이/가", "민지가"),
        ("삼성과/와", "삼성과"),
        ("BTS은/는", "BTS는"),
    ],
)
def test_particles_agree(raw: str, expected: str) -> None:
    assert agree(raw) == expected


def test_batches_carry_labels_for_every_character_token() -> None:
    tagged = list(islice((one for one in ner.corpus(5, 500) if one.spans), 200))
    tokenizer = train_ner.build_tokenizer([one.text for one in tagged])
    for one in tagged:
        encoded = tokenizer(one.text, return_offsets_mapping=True)
        labels = train_ner.token_labels(one, encoded["offset_mapping"])
        begun = [encoded["offset_mapping"][at][0] for at, number in enumerate(labels) if number > 0 and number % 2]
        assert begun == [span.start for span in one.spans]
