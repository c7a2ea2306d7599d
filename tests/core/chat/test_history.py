"""How much history is sent, against trying every amount; with a generation that only counts."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.chat.history import ANSWER_ROOM, MAX_IMAGE_BYTES, Asked, open_fitting, sent_of, starts_of, turns_of
from core.chat.types import INTERRUPTED, StoredImage, stored_image
from core.errors import ContextOverflow, QueueFull
from core.images.reading import read_image
from core.params import MAX_CHARACTERS
from core.types import Begun
from tests.core.chat.turns import turn
from tests.core.images.pictures import png


class Counter:
    """A model whose tokens are characters. Remembers how often it was opened, and what is still open."""

    def __init__(self, context: int, error: Exception | None = None) -> None:
        self.context, self.error = context, error
        self.opened, self.open_now = 0, 0

    async def open(self, messages):
        tokens = sum(len(message["content"]) for message in messages)
        self.opened += 1
        if self.error is not None and self.opened > 2:
            raise self.error
        if tokens >= self.context:
            raise ContextOverflow(f"{tokens} of {self.context}")
        self.open_now += 1
        try:
            yield Begun("m", "r", tokens, self.context, True)
        finally:
            self.open_now -= 1


def asked(lengths: list[int], system: int = 0, message: int = 1) -> Asked:
    turns = [({"role": "user", "content": "q" * n}, {"role": "assistant", "content": "a"}) for n in lengths]
    return Asked("s" * system, turns, "m" * message)


def fits(made: Asked, start: int, context: int, room: int) -> bool:
    tokens = sum(len(message["content"]) for message in made.messages(start))
    return tokens < context and context - tokens >= room


@settings(max_examples=300, deadline=None, database=None)
@given(
    st.lists(st.integers(0, 60), max_size=60),
    st.integers(0, 40),
    st.integers(20, 2500),
    st.one_of(st.none(), st.integers(1, 5000)),
)
async def test_the_newest_that_fit(lengths, system, context, max_tokens):
    made, counter = asked(lengths, system), Counter(context)
    room = min(ANSWER_ROOM, context // 4) if max_tokens is None else min(max_tokens, context // 2)
    starts = [start for start in starts_of(len(lengths)) if fits(made, start, context, room)]
    alone = made.messages(len(lengths))
    if not starts and sum(len(message["content"]) for message in alone) >= context:
        with pytest.raises(ContextOverflow):
            await open_fitting(counter.open, made, max_tokens)
    else:
        opened = await open_fitting(counter.open, made, max_tokens)
        assert opened.dropped == (starts[0] if starts else len(lengths))
        assert counter.open_now == 1
        await opened.stream.aclose()
    assert counter.open_now == 0
    assert counter.opened <= 8


@pytest.mark.parametrize("turns", range(40))
def test_at_most_three_turns_more_than_needed_are_left_out(turns):
    starts = starts_of(turns)
    assert starts[0] == 0
    assert starts[-1] == turns
    assert all(0 < b - a <= 4 for a, b in zip(starts, starts[1:], strict=False))


async def test_a_long_conversation_begins_alike_for_some_turns():
    begun = []
    for turns in range(20, 32):
        opened = await open_fitting(Counter(200).open, asked([9] * turns), 50)
        begun.append(opened.dropped)
        await opened.stream.aclose()
    assert begun == [8, 8, 8, 12, 12, 12, 12, 16, 16, 16, 16, 20]


async def test_an_error_while_trying_leaves_nothing_open():
    counter = Counter(200, QueueFull("full"))
    with pytest.raises(QueueFull):
        await open_fitting(counter.open, asked([9] * 40), 50)
    assert counter.open_now == 0


def test_turns_are_paired_and_empty_ones_left_out():
    made = [turn("q0", "a0"), turn("q1", "", is_whole=False), turn("q2", "a2", status=INTERRUPTED)]
    stored = [message for each in made for message in (each.question, each.answer)]
    assert turns_of(sent_of(stored, 0, 0), {}) == [
        ({"role": "user", "content": "q0"}, {"role": "assistant", "content": "a0"}),
        ({"role": "user", "content": "q2"}, {"role": "assistant", "content": "a2"}),
    ]
    assert turns_of(sent_of([], 0, 0), {}) == []
    assert sent_of(stored, MAX_CHARACTERS - 4, 0) == stored[4:]


def test_images_are_counted_with_their_turns():
    image = read_image(png(8, 9))
    made = [turn("q0", "a0"), turn("\ufffcq1", "a1"), turn("q2", "a2")]
    stored = [message for each in made for message in (each.question, each.answer)]
    stored[2] = replace(stored[2], images=(stored_image(image), StoredImage("gone", "png", 1, 1, 1)))
    room = MAX_IMAGE_BYTES - len(image["data"]) - 1
    assert sent_of(stored, 0, room) == stored
    assert sent_of(stored, 0, room + 1) == stored[4:]
    shown = turns_of(stored, {image["key"]: image})
    assert shown[1][0] == {"role": "user", "content": "q1", "images": (image,)}
    assert "images" not in shown[2][0]
