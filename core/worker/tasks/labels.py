"""How the labels of tokens join to entities: the tagging schemes BIO, IO, BIOES/BILOU, and labels without one."""

from __future__ import annotations

from dataclasses import dataclass

_BEGINS = frozenset("BSU")
_ENDS = frozenset("ESLU")  # S and U are entities of one token
_MARKS = frozenset("BIESLU")


@dataclass(frozen=True, slots=True)
class Tag:
    kind: str  # the entity's type, "O" outside
    begins: bool  # starts an entity even right after one of the same kind
    ends: bool  # no token after it belongs to the same entity


def tags_of(labels: tuple[str, ...]) -> list[Tag]:
    """The tag of each label. Marks are read before the type (B-PER), or after it (PER-B) where all labels say so."""
    if any(label[:2] in ("B-", "I-") for label in labels):
        has_ends = any(label[:2] in ("S-", "U-") for label in labels)
        return [_tag(label[:1], label[2:], label, has_ends) if label[1:2] == "-" else _plain(label) for label in labels]
    if any(label[-2:] == "-B" for label in labels):
        has_ends = any(label[-2:] in ("-S", "-U") for label in labels)
        return [
            _tag(label[-1:], label[:-2], label, has_ends) if label[-2:-1] == "-" else _plain(label) for label in labels
        ]
    return [_plain(label) for label in labels]


def _tag(mark: str, kind: str, label: str, has_ends: bool) -> Tag:
    if mark not in (_MARKS if has_ends else "BI"):
        return _plain(label)
    return Tag(kind, mark in _BEGINS, mark in _ENDS)


def _plain(label: str) -> Tag:
    return Tag(label, False, False)
