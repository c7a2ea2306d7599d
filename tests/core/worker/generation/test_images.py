"""Places of images among token ids, and where images stand in a message."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from core.types import IMAGE_MARK, Image, Message
from core.worker.generation.images import MAX_PLACES, Span, images_of, number_of, parts_of, places, spans, tokens_of

SIZE = 1000


def image(name: str) -> Image:
    return {"data": name.encode(), "key": hashlib.sha256(name.encode()).hexdigest()}


A, B, C = map(image, "abc")


def message(content: str, *images: Image) -> Message:
    return {"role": "user", "content": content, "images": images}


def test_images_stand_at_their_marks_and_the_others_first() -> None:
    assert parts_of(message(f"one {IMAGE_MARK} two", A)) == ["one ", A, " two"]
    assert parts_of(message("what?", A, B)) == [A, B, "what?"]
    assert parts_of(message(f"{IMAGE_MARK}and {IMAGE_MARK}", A, B)) == [A, "and ", B]
    assert parts_of(message(f"{IMAGE_MARK}?", A, B, C)) == [B, C, A, "?"]
    assert parts_of(message(f"{IMAGE_MARK}x{IMAGE_MARK}", A)) == [A, "x"]
    assert parts_of({"role": "user", "content": f"a{IMAGE_MARK}b"}) == [f"a{IMAGE_MARK}b"]  # a character as any other
    assert parts_of(message("")) == [""]
    chat = [message("?", A), message("and", B), message(f"{IMAGE_MARK}!", C, A)]
    assert images_of(chat) == (A, B, A, C)


def test_ids_lie_above_the_vocabulary_and_within_64_bits() -> None:
    ids = places(SIZE, "f" * 64, MAX_PLACES)
    assert ids[0] >= SIZE
    assert ids[-1] < 2**63
    assert places(SIZE, A["key"], 5) == places(SIZE, A["key"], 5)
    assert not set(places(SIZE, A["key"], 5)) & set(places(SIZE, B["key"], 5))


@given(st.lists(st.one_of(st.integers(0, SIZE - 1), st.tuples(st.sampled_from("abc"), st.integers(1, 9))), max_size=12))
def test_spans_are_what_was_laid_out(layout: list[int | tuple[str, int]]) -> None:
    tokens: list[int] = []
    shown: list[tuple[int, int, int]] = []
    for each in layout:
        if isinstance(each, int):
            tokens.append(each)
        else:
            name, count = each
            shown.append((len(tokens), number_of(image(name)["key"]), count))
            tokens += places(SIZE, image(name)["key"], count)
    assert list(spans(tokens, SIZE)) == [Span(start, number, 0, count) for start, number, count in shown]
    for cut in range(len(tokens)):  # in two pieces, as a prompt is read
        found = [*spans(tokens[:cut], SIZE), *spans(tokens[cut:], SIZE)]
        assert sum(each.count for each in found) == sum(count for _, _, count in shown)


def test_what_each_image_takes() -> None:
    tokens = [1, *places(SIZE, A["key"], 4), 2, *places(SIZE, B["key"], 3)]
    assert tokens_of((A, B), tokens, SIZE) == [4, 3]
