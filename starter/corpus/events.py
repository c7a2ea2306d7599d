"""Who does what and where, in both languages."""

from __future__ import annotations

import random
import re
from pathlib import Path

from starter.corpus import korean
from starter.corpus.lexicon import Lexicon, Noun, Verb, is_plural
from starter.corpus.meaning import Meaning

HERE = Path(__file__).parent
ASKING = ["어요?", "어?", "나요?", "습니까?"]
VERB_ENTRY = re.compile(r"([가-힣]+)/([가-힣]+)=([a-z ]+)/([a-z ]+?)(?= [가-힣]|\s*$)")


class Events:
    """Draws meanings in which somebody does something; seeded by the random source it is given."""

    def __init__(self, source: random.Random) -> None:
        self.random = source
        self.words = Lexicon()
        self._read_dictionary()

    def _read_dictionary(self) -> None:
        text = (HERE / "dictionary.txt").read_text(encoding="utf-8").split()
        self.dictionary = [(ko, en.replace("_", " ")) for ko, en in (one.split("=") for one in text)]
        people = {en for noun in self.words.nouns["person"] for en in noun.en}
        self.people = [(ko, en) for ko, en in self.dictionary if en in people]
        self.verbs = []
        for match in VERB_ENTRY.finditer((HERE / "dictionary_verbs.txt").read_text(encoding="utf-8")):
            ko, hae, now, past = match.groups()
            self.verbs.append((korean.Predicate(ko, hae, verb=True), (now, past)))

    def noun(self, *domains: str) -> Noun:
        pool = [noun for domain in domains for noun in self.words.nouns[domain]]
        return self.random.choice(pool)

    def some(self, options: list[str] | tuple[str, ...], count: int) -> tuple[str, ...]:
        return tuple(self.random.choice(options) for _ in range(count))

    def event(self) -> Meaning:
        """Somebody does something: with an object, or an act at a place."""
        person = self.noun("person")
        if self.random.random() < 0.5:
            return self._act(person)
        verb = self.random.choice(self.words.verbs)
        thing = self.noun(*verb.domains)
        style = self.random.choice(["doing", "did", "want", "please", "did?", "i"])
        ko = tuple(self._event_ko(style, person, thing, verb) for _ in range(2))
        en = tuple(self._event_en(style, person, thing, verb) for _ in range(2))
        return Meaning(ko, en, "U")

    def _event_ko(self, style: str, person: Noun, thing: Noun, verb: Verb) -> str:
        who, what, does = self.random.choice(person.ko), self.random.choice(thing.ko), self.random.choice(verb.ko)
        who += korean.particle(who, self.random.choice(["이/가", "은/는"]))
        what += korean.particle(what, "을/를")
        choose = self.random.choice
        me = choose(["", "", "저는 ", "나는 "])
        return {
            "doing": f"{who} {what} {choose(does.ongoing())}",
            "did": f"{who} {what} {choose(does.before())}",
            "want": f"{me}{what} {choose([does.stem + '고 싶어요', does.stem + '고 싶다', does.stem + '고 싶습니다'])}",
            "please": f"{what} {choose([does.hae + ' 주세요', does.hae + '줘', does.hae + ' 주시겠어요?'])}",
            "did?": f"{what} {choose([does.past + end for end in ASKING])}",
            "i": f"{me}{what} {choose(does.before())}",
        }[style]

    def _event_en(self, style: str, person: Noun, thing: Noun, verb: Verb) -> str:
        who, what = self.random.choice(person.en), self.random.choice(thing.en)
        base, past, going = self.random.choice(verb.en)
        what = (
            what
            if thing.domain == "topic"
            else self.random.choice([f"the {what}", what if is_plural(what) else f"a {what}"])
        )
        article = self.random.choice(["The", "A"])
        return {
            "doing": f"{article} {who} is {going} {what}",
            "did": f"{article} {who} {past} {what}",
            "want": f"I {self.random.choice(['want to', 'would like to'])} {base} {what}",
            "please": f"{self.random.choice(['Please', 'Could you', 'Can you'])} {base} {what}",
            "did?": f"Did you {base} {what}?",
            "i": f"I {past} {what}",
        }[style]

    def _act(self, person: Noun) -> Meaning:
        act, place, past = self.random.choice(self.words.acts), self.noun("place"), self.random.random() < 0.4
        somewhere = self.random.random() < 0.6

        def ko() -> str:
            who, does, where = self.random.choice(person.ko), self.random.choice(act.ko), self.random.choice(place.ko)
            who += korean.particle(who, self.random.choice(["이/가", "은/는"]))
            said = self.random.choice(does.before() if past else does.ongoing())
            return f"{who} {where + '에서 ' if somewhere else ''}{said}"

        def en() -> str:
            _, did, going = self.random.choice(act.en)
            where = f" {self.random.choice(['at', 'in'])} the {self.random.choice(place.en)}" if somewhere else ""
            who = f"{self.random.choice(['A', 'The'])} {self.random.choice(person.en)}"
            return f"{who} {did if past else 'is ' + going}{where}"

        return Meaning((ko(), ko()), (en(), en()), "U")

    def deed(self) -> Meaning:
        """A dictionary verb with a dictionary noun, in several tenses."""
        (ko, en), (verb, (now, past)) = self.random.choice(self.dictionary), self.random.choice(self.verbs)
        (who, who_en), tense = (
            self.random.choice(self.people),
            self.random.choice(["past", "now", "will", "not", "bare"]),
        )
        what, choose = ko + korean.particle(ko, "을/를"), self.random.choice
        who_ko = who + korean.particle(who, choose(["이/가", "은/는"]))
        said = {
            "past": (f"{who_ko} {what} {{}}", verb.before(), f"The {who_en} {past} the {en}"),
            "now": (
                f"{who_ko} {what} {{}}",
                [verb.plain(), verb.formal(), verb.polite()],
                f"The {who_en} will {now} the {en}",
            ),
            "will": (f"{what} {{}}", [verb.stem + "고 싶어요", verb.stem + "고 싶다"], f"I want to {now} the {en}"),
            "not": (
                f"{what} {{}}",
                [verb.stem + "지 않았다", f"안 {verb.past}어요", f"못 {verb.past}어요"],
                f"I did not {now} the {en}",
            ),
            "bare": (f"{what} {{}}", [verb.stem + "다", verb.stem + "기"], f"{now} the {en}"),
        }[tense]
        frame, endings, english = said
        return Meaning(tuple(frame.format(ending) for ending in self.some(endings, 2)), (english, english), "U")
