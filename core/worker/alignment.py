"""Which characters each token of a slow tokenizer stands for: these give tokens without offsets."""

from __future__ import annotations

import unicodedata

_WORD_STARTS = ("▁", "Ġ")
_CONTINUATIONS = ("##",)
_ENDINGS = ("</w>", "@@")
_LOOKAHEAD = 4  # tokens that must agree on where an unknown token ends


def _folded(text: str) -> str:
    """`text` without the differences that normalisers make: case, accents, width, composition, white space."""
    marks = unicodedata.normalize("NFKD", text.casefold())
    return "".join(mark for mark in marks if not unicodedata.combining(mark) and not mark.isspace())


def _surface(token: str) -> str:
    """A token's own characters, folded."""
    for marker in _CONTINUATIONS + _WORD_STARTS:
        if token != marker:
            token = token.removeprefix(marker)
    for marker in _ENDINGS:
        if token != marker:
            token = token.removesuffix(marker)
    return _folded(token)


def align(text: str, tokens: list[str], unknown: str | None) -> list[tuple[int, int]]:
    """The span of characters of each token, in order, never overlapping backwards.

    Tokens are searched in the folded text from left to right. An unknown token takes what lies before the next
    known one, at most one word; a token that is not found (a normaliser rewrote it) gets an empty span.
    """
    folded: list[str] = []
    origin: list[int] = []  # index into `text` of each folded character
    for index, character in enumerate(text):
        for mark in _folded(character):
            folded.append(mark)
            origin.append(index)
    line = "".join(folded)
    surfaces = ["" if token == unknown else _surface(token) for token in tokens]
    spans: list[tuple[int, int]] = []
    at = 0  # in `line`
    for index, (token, surface) in enumerate(zip(tokens, surfaces, strict=True)):
        if token == unknown:
            end = _end_of_unknown(text, line, origin, at, surfaces[index + 1 :][:_LOOKAHEAD])
        elif surface and (found := line.find(surface, at, at + len(surface) + 64)) >= 0:
            at, end = found, found + len(surface)
        else:
            end = at
        spans.append(_characters(text, origin, at, end))
        at = end
    return spans


def _end_of_unknown(text: str, line: str, origin: list[int], at: int, following: list[str]) -> int:
    """Where the unknown word that begins at `at` ends: at white space, or where the next known token begins."""
    end = at
    while end < len(line) and not (end > at and _is_gap(text, origin[end - 1], origin[end])):
        end += 1
    known = next((surface for surface in following if surface), "")
    found = line.find(known, at, end + len(known)) if known else -1
    return found if at < found < end else end


def _is_gap(text: str, left: int, right: int) -> bool:
    """Whether white space lies between two neighbouring characters of the folded text."""
    return any(character.isspace() for character in text[left + 1 : right])


def _characters(text: str, origin: list[int], start: int, end: int) -> tuple[int, int]:
    if start >= len(origin):
        return (len(text), len(text))
    if end <= start:
        return (origin[start], origin[start])
    return (origin[start], origin[end - 1] + 1)
