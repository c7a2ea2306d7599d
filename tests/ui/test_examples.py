"""The examples of the page work on the starters: a first click must not teach something wrong."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from gradio_client import Client

from tests.ui.conftest import Served
from ui.tabs import ask, classify, embed, fill, ner

SENTIMENTS = {
    "en": [["positive"], ["negative"], ["positive", "negative", "negative"]],
    "ko": [["positive"], ["negative"], ["positive", "negative", "positive"]],
}
ENTITIES = {
    "en": [
        {("Kim Min-jun", "PER"), ("Bank of Korea", "ORG"), ("Busan", "LOC"), ("March 2019", "DAT")},
        {("Emma Wilson", "PER"), ("Paris", "LOC"), ("12 April 2015", "DAT")},
        {("David Brown", "PER"), ("Chicago", "LOC"), ("Monday", "DAT")},
    ],
    "ko": [
        {("김민준", "PER"), ("2021년 5월 3일", "DAT"), ("서울대학교", "ORG")},
        {("이서연", "PER"), ("지난 금요일", "DAT"), ("부산", "LOC"), ("삼성전자", "ORG")},
        {("최지우", "PER"), ("작년 여름", "DAT"), ("제주도", "LOC")},
    ],
}
PAIRS = {"en": [[1, 0], [1, 0, 3, 2]], "ko": [[1, 0, 3, 2], [1, 0, 3, 2]]}  # the nearest of each line


@pytest.fixture(scope="module")
async def client(served: Served) -> Client:
    return await asyncio.to_thread(Client, served.url, verbose=False)


async def ask_for(client: Client, endpoint: str, text: str, model: str) -> Any:
    told = await asyncio.to_thread(client.predict, text.split("\n"), model=model, api_name=endpoint)
    return told["result"]


@pytest.mark.parametrize("language", ["en", "ko"])
async def test_sentiment(client: Client, language: str) -> None:
    for example, labels in zip(classify.EXAMPLES[language], SENTIMENTS[language], strict=True):
        rows = await ask_for(client, "/classify", example["fields"][0], "starter-sentiment")
        assert [scores[0]["label"] for scores in rows] == labels


@pytest.mark.parametrize("language", ["en", "ko"])
async def test_entities(client: Client, language: str) -> None:
    for example, entities in zip(ner.EXAMPLES[language], ENTITIES[language], strict=True):
        (found,) = await ask_for(client, "/ner", example["fields"][0], "starter-ner")
        assert {(entity["word"], entity["entity_group"]) for entity in found} == entities


@pytest.mark.parametrize("language", ["en", "ko"])
async def test_pairs(client: Client, language: str) -> None:
    for example, nearest in zip(embed.EXAMPLES[language], PAIRS[language], strict=False):
        vectors = np.array(await ask_for(client, "/embed", example["fields"][0], "starter-embed"))
        near = (vectors @ vectors.T - 2 * np.eye(len(vectors))).argmax(axis=1)
        assert near[: len(nearest)].tolist() == nearest


def test_there_are_three_in_each_language() -> None:
    for tab in (classify, ner, embed, ask, fill):
        assert [len(tab.EXAMPLES[language]) for language in ("en", "ko")] == [3, 3]
