"""Conversations for the chat starter: questions about using Berth and their answers, and what it does not know."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from starter.corpus.noise import misspelt

HERE = Path(__file__).parent
UNKNOWN = {
    "en": "I do not know that. I only know how to use this server: models, the API, keys and memory.",
    "ko": "그건 잘 몰라요. 저는 이 서버를 쓰는 법만 알아요: 모델, API, 키, 메모리요.",
}
_SYSTEMS = (
    "You are a helpful assistant.",
    "You are a careful, friendly assistant. Answer briefly.",
    "당신은 친절한 도우미입니다.",
    "친절하고 정확하게 답하세요. 모르면 모른다고 말하세요.",
)
_BEFORE = {
    "en": ("", "", "", "", "please tell me: ", "hey, ", "hi, ", "so ", "ok, ", "and ", "question: ", "um, "),
    "ko": ("", "", "", "", "혹시 ", "저기요, ", "그럼 ", "근데 ", "질문이요, ", "그리고 ", "하나만 물어볼게요. "),
}  # fmt: skip
_AFTER = {
    "en": ("", "", "", "", " please", " thanks", " in berth", " on this server", " here"),
    "ko": ("", "", "", "", " 알려주세요", " 궁금해요", " 부탁해요", " 알려줘"),
}


@dataclass(frozen=True, slots=True)
class Topic:
    name: str
    questions: tuple[str, ...]
    answer: str


def topics(lang: str) -> list[Topic]:
    """Those of `chat_<lang>.txt`, in file order."""
    found = []
    for block in (HERE / f"chat_{lang}.txt").read_text("utf-8").split("\n["):
        lines = block.splitlines()
        if len(lines) < 3 or lines[0].startswith("#"):
            continue
        found.append(Topic(lines[0].rstrip("]"), tuple(lines[1].split(" | ")), lines[2].removeprefix("> ")))
    return found


def unknown(lang: str) -> tuple[list[str], list[str]]:
    """Patterns of questions that it cannot answer, and the things that fill them."""
    patterns, things = (HERE / f"chat_unknown_{lang}.txt").read_text("utf-8").split("\n---\n")
    return [line for line in patterns.splitlines() if not line.startswith("#")], things.strip().split(" | ")


class Conversations:
    """Seeded; each call of `draw` gives another conversation as messages."""

    def __init__(self, source: random.Random) -> None:
        self._source = source
        self._topics = {lang: topics(lang) for lang in UNKNOWN}
        self._unknown = {lang: unknown(lang) for lang in UNKNOWN}

    def draw(self) -> list[dict[str, str]]:
        source, messages = self._source, []
        if source.random() < 0.3:
            messages.append({"role": "system", "content": source.choice(_SYSTEMS)})
        lang = source.choice(("ko", "en"))
        for _ in range(source.choice((1, 1, 1, 2, 2, 3))):
            if source.random() < 0.1:
                lang = "ko" if lang == "en" else "en"
            question, answer = self._turn(lang)
            messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        return messages

    def _turn(self, lang: str) -> tuple[str, str]:
        source = self._source
        if source.random() < 0.25:
            patterns, things = self._unknown[lang]
            return self._said(source.choice(patterns).replace("{thing}", source.choice(things)), lang), UNKNOWN[lang]
        topic = source.choice(self._topics[lang])
        return self._said(source.choice(topic.questions), lang), topic.answer

    def _said(self, question: str, lang: str) -> str:
        """As people type it."""
        source = self._source
        if source.random() < 0.4:
            bare = question.rstrip("?!.")
            question = (
                source.choice(_BEFORE[lang]) + bare + source.choice(_AFTER[lang]) + source.choice(("", "?", "?", "."))
            )
        if source.random() < 0.15 and " " in question:
            words = question.split()
            del words[source.randrange(len(words))]  # a word forgotten: the others have to be enough
            question = " ".join(words)
        if source.random() < 0.3:
            question = question[0].upper() + question[1:]
        return misspelt(question, source)
