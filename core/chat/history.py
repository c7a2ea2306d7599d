"""How much of a conversation a model is sent: the newest turns that fit its context, system prompt always kept."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass

from core.chat.types import StoredMessage
from core.errors import ContextOverflow
from core.images.reader import MAX_IMAGE_BYTES
from core.messages import user_message
from core.params import MAX_CHARACTERS
from core.types import Begun, Delta, Generated, Image, Message

Item = Begun | Delta | Generated
Open = Callable[[tuple[Message, ...]], AsyncGenerator[Item]]
Turn = tuple[Message, Message]  # the user's and the answer to it

# Turns are left out this many at a time, so that the prompts of following turns begin alike and the model goes on
# from what it has in memory, instead of reading everything again at each turn of a long conversation.
_STEP = 4
ANSWER_ROOM = 256  # tokens that an answer should find, when the turn does not say how many it may have


@dataclass(frozen=True, slots=True)
class Asked:
    """What a model is asked."""

    system: str  # empty: none
    turns: Sequence[Turn]
    message: str
    images: tuple[Image, ...] = ()  # of the message

    def messages(self, start: int) -> tuple[Message, ...]:
        """All but the oldest `start` turns."""
        system: list[Message] = [{"role": "system", "content": self.system}] if self.system else []
        history = [message for turn in self.turns[start:] for message in turn]
        return (*system, *history, user_message(self.message, self.images))


@dataclass(frozen=True, slots=True)
class Opened:
    begun: Begun
    stream: AsyncGenerator[Item]
    dropped: int  # turns


def sent_of(stored: Sequence[StoredMessage], length: int, size: int) -> Sequence[StoredMessage]:
    """The newest turns of `stored` that fit into a request beside `length` characters and `size` bytes of images.

    Turns that were interrupted before the first word are left out: there is no answer to go on from.
    """
    kept: list[StoredMessage] = []
    for question, answer in zip(stored[-2::-2], stored[::-2], strict=False):
        if not answer.content:
            continue
        length += len(_asked(question)) + len(answer.content)
        size += sum(image.size for image in question.images)
        if length > MAX_CHARACTERS or size > MAX_IMAGE_BYTES:
            break
        kept += [answer, question]
    return kept[::-1]


def turns_of(stored: Sequence[StoredMessage], images: Mapping[str, Image]) -> list[Turn]:
    """Whole turns as a model reads them. `images` are those that are still there, by key."""
    return [
        (
            user_message(_asked(question), [images[each.key] for each in question.images if each.key in images]),
            {"role": "assistant", "content": answer.content},
        )
        for question, answer in zip(stored[::2], stored[1::2], strict=True)
    ]


def _asked(question: StoredMessage) -> str:
    return question.sent if question.sent is not None else question.content


def starts_of(turns: int) -> list[int]:
    """How many of `turns` turns may be left out, ascending: in steps, and one by one where few are left."""
    last = turns // _STEP * _STEP
    return [*range(0, last, _STEP), *range(last, turns + 1)]


async def open_fitting(open_: Open, asked: Asked, max_tokens: int | None) -> Opened:
    """Opens a generation with as much history as fits beside an answer: halving, so with few tries.

    Raises whatever comes before generation; ContextOverflow when the message does not even fit alone.
    """
    starts = starts_of(len(asked.turns))
    low, middle, high = 0, 0, len(starts) - 1  # the first that fits is one of low to high
    best: Opened | None = None
    try:
        while True:
            found = await _try(open_, asked, starts[middle], max_tokens)
            if found is None:
                low = middle + 1
            else:
                if best is not None:
                    await best.stream.aclose()
                best, high = found, middle
            if best is not None and low == high:
                return best
            middle = (low + high) // 2
    except BaseException:
        if best is not None:
            await best.stream.aclose()
        raise


async def _try(open_: Open, asked: Asked, start: int, max_tokens: int | None) -> Opened | None:
    """None when it does not fit and there is still something to leave out."""
    may_shrink = start < len(asked.turns)
    stream = open_(asked.messages(start))
    try:
        begun = await anext(stream)
    except ContextOverflow:
        if may_shrink:
            return None
        raise
    assert isinstance(begun, Begun)
    if may_shrink and not _has_room(begun, max_tokens):
        await stream.aclose()
        return None
    return Opened(begun, stream, start)


def _has_room(begun: Begun, max_tokens: int | None) -> bool:
    context = begun.context_length
    wanted = min(max_tokens, context // 2) if max_tokens is not None else min(ANSWER_ROOM, context // 4)
    return not context or context - begun.prompt_tokens >= wanted
