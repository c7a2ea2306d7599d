"""The words of the vision starter: shapes, colours, places and numbers in Korean and English, and its fixed answers."""

from __future__ import annotations

from starter.corpus.korean import agree

LANGS = ("ko", "en")
SHAPES = {
    "circle": ("원", "동그라미"),
    "square": ("사각형", "네모", "정사각형"),
    "triangle": ("삼각형", "세모"),
    "star": ("별", "별 모양"),
    "heart": ("하트", "하트 모양"),
    "diamond": ("마름모", "다이아몬드"),
    "cross": ("십자가", "십자 모양"),
}
ENGLISH_SHAPES = {
    "circle": ("disc", "round shape"),
    "square": ("box", "rectangle"),
    "diamond": ("rhombus",),
    "cross": ("plus sign",),
}
COLOURS = {  # before a noun, then as a noun
    "red": ("빨간", "빨간색", "붉은색"),
    "orange": ("주황색", "주황색", "오렌지색"),
    "yellow": ("노란", "노란색", "노랑"),
    "green": ("초록색", "초록색", "녹색"),
    "blue": ("파란", "파란색", "파랑"),
    "purple": ("보라색", "보라색", "자주색"),
    "pink": ("분홍색", "분홍색", "핑크색"),
    "brown": ("갈색", "갈색", "밤색"),
    "black": ("검은", "검은색", "검정색"),
    "white": ("하얀", "흰색", "하얀색"),
    "grey": ("회색", "회색", "회색"),
    "light blue": ("하늘색", "하늘색", "하늘색"),
    "light green": ("연두색", "연두색", "연두색"),
    "navy": ("남색", "남색", "남색"),
}
PLACES = {  # by cell, in reading order
    "ko": ("왼쪽 위", "위쪽 가운데", "오른쪽 위", "왼쪽 가운데", "한가운데", "오른쪽 가운데", "왼쪽 아래",
           "아래쪽 가운데", "오른쪽 아래"),
    "en": ("at the top left", "at the top", "at the top right", "on the left", "in the centre", "on the right",
           "at the bottom left", "at the bottom", "at the bottom right"),
}  # fmt: skip
OTHER_PLACES = {  # ways that people say them
    "ko": ("왼쪽 상단", "맨 위 가운데", "오른쪽 상단", "가운데 왼쪽", "중앙", "가운데 오른쪽", "왼쪽 하단",
           "맨 아래 가운데", "오른쪽 하단"),
    "en": ("in the upper left corner", "in the top middle", "in the upper right corner", "in the middle left",
           "in the middle", "in the middle right", "in the lower left corner", "in the bottom middle",
           "in the lower right corner"),
}  # fmt: skip
_EMPTY = {"at", "the", "on", "in", "shape", "모양"}  # of the places and forms above: they name nothing
NUMBERS = {
    "ko": ("영", "한", "두", "세", "네", "다섯", "여섯"),
    "en": ("no", "one", "two", "three", "four", "five", "six"),
}
FIXED = {
    "en": {
        "unknown": "I can only talk about simple drawn shapes: their colour, form, number and place.",
        "no_picture": "Send me a picture first. I can only talk about the simple drawn shapes in it.",
        "clutter": "I see no simple shapes that I know in this picture. I can only talk about simple drawn shapes.",
        "hello": "Hello! Send me a picture of simple shapes and ask me about it.",
        "thanks": "You are welcome! Ask me more about the picture.",
        "who": "I am the small vision model of Berth. I know colour, form, number and place of simple drawn shapes.",
    },
    "ko": {
        "unknown": "저는 단순한 도형 그림의 색, 모양, 개수, 위치만 말할 수 있어요.",
        "no_picture": "먼저 그림을 보내 주세요. 저는 그림 속의 단순한 도형에 대해서만 말할 수 있어요.",
        "clutter": "이 그림에는 제가 아는 단순한 도형이 보이지 않아요. 저는 단순한 도형 그림만 말할 수 있어요.",
        "hello": "안녕하세요! 단순한 도형 그림을 보내고 물어보세요.",
        "thanks": "천만에요! 그림에 대해 더 물어보세요.",
        "who": "저는 Berth의 작은 비전 모델이에요. 단순한 도형의 색, 모양, 개수, 위치를 말할 수 있어요.",
    },
}


def root(word: str) -> str:
    """A Korean word without the ending that makes a noun of a colour or of a side, where more than a syllable stays."""
    return word[:-1] if len(word) > 2 and word.endswith("색") or word in ("위쪽", "아래쪽") else word


def naming(said: str) -> list[str]:
    """The words of `said` that name something, without their endings."""
    return [root(word) for word in said.split() if word not in _EMPTY]


def vocabulary(*kinds: str) -> list[str]:
    """All words that name a shape, a colour or a place, or only those of these `kinds`, the longest first."""
    named = {
        "shape": [word for names in (SHAPES, ENGLISH_SHAPES) for said in names.items() for word in (said[0], *said[1])],
        "colour": [word for said in COLOURS.items() for word in (said[0], *said[1])],
        "place": [word for places in (PLACES, OTHER_PLACES) for lang in LANGS for word in places[lang]],
    }
    words = {word for kind in kinds or named for said in named[kind] for word in naming(said)}
    return sorted(words, key=lambda word: (-len(word), word))


def plural(noun: str) -> str:
    return noun + ("es" if noun.endswith(("s", "x")) else "s")


def article(noun: str) -> str:
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def listing(parts: list[str], lang: str) -> str:
    """Such as "a, b and c"."""
    if lang == "ko":
        return ", ".join(parts)
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def named(shape: str | None, colour: str | None, lang: str, number: int = 1) -> str:
    """A thing such as "red circle" or "빨간 원"; a shape or a colour that is None goes unsaid."""
    if lang == "ko":
        words = [COLOURS[colour][0]] if colour else []
        return " ".join([*words, SHAPES[shape][0] if shape else "도형"])
    noun = shape or "shape"
    return " ".join([*([colour] if colour else []), noun if number == 1 else plural(noun)])


def counted(shape: str | None, colour: str | None, number: int, lang: str) -> str:
    """Such as "two red circles" or "빨간 원 두 개"."""
    if lang == "ko":
        return f"{named(shape, colour, lang)} {NUMBERS['ko'][number]} 개"
    return f"{NUMBERS['en'][number]} {named(shape, colour, lang, number)}"


def are(shape: str | None, colour: str | None, number: int, lang: str) -> str:
    """That so many are there, as a sentence."""
    if lang == "ko":
        thing = named(shape, colour, lang)
        return agree(f"{thing}이/가 {NUMBERS['ko'][number]} 개 있어요.") if number else agree(f"{thing}은/는 없어요.")
    return f"There {'is' if number == 1 else 'are'} {counted(shape, colour, number, lang)}."
