"""The reply pipeline: template, history, generation, and the turn stored when its last token is out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from core.chat.database import Database, parse_url
from core.chat.history import Asked, Item, Opened, open_fitting, sent_of, turns_of
from core.chat.image_limits import ImageLimits
from core.chat.images import ImageFolder
from core.chat.rows import new_id, now
from core.chat.store import ConversationStore
from core.chat.template_store import TemplateStore
from core.chat.types import (
    COMPLETE,
    INTERRUPTED,
    ChatBegun,
    ChatEnded,
    ChatTurn,
    Conversation,
    StoredMessage,
    StoredTurn,
    stored_image,
)
from core.errors import BerthError, ConversationBusy, ConversationNotFound, InvalidRequest
from core.params import valid_text
from core.settings import Settings
from core.types import Begun, Delta, Generated, Image, Message, Prompt, Sampling, Task, Usage

log = logging.getLogger(__name__)

Generate = Callable[[Prompt, Sampling, str | None, Task], AsyncGenerator[Item]]
_CLOSE_S = 5.0  # that turns under way have to be stored when the server stops


class Chat:
    """Conversations, templates, and replies. `owner` is whose they are; another's do not exist."""

    def __init__(self, settings: Settings, generate: Generate) -> None:
        self._database = Database(parse_url(settings.database_url, settings.data_dir))
        limits = ImageLimits(settings.max_conversation_images, settings.max_stored_image_bytes)
        self.conversations = ConversationStore(self._database, ImageFolder(settings.data_dir / "images"), limits)
        self.templates = TemplateStore(self._database)
        self.page_size = settings.page_size
        self._max_history = settings.max_history_length
        self._sweeping: asyncio.Task[None] | None = None
        self._generate = generate
        self._claims: dict[str, _Claim] = {}  # conversation → the turn that is being answered in it

    async def reply(self, turn: ChatTurn, owner: str) -> AsyncGenerator[ChatBegun | Delta | ChatEnded]:
        """`ChatBegun`, the deltas, last `ChatEnded`; closing it stops the model and stores what there is.

        The first item raises whatever comes before generation: InvalidRequest, ImageQuotaExceeded, TemplateNotFound,
        ConversationNotFound, ConversationBusy, and what `Core.generate` raises. NotReady and DiskFull at the end mean
        that the turn could not be stored.
        """
        _check(turn)
        claim = self._claim(turn, owner)
        answer: _Answer | None = None
        try:
            asked = await self._ask(turn, owner, claim)
            opened = await open_fitting(lambda messages: self._open(turn, messages), asked, turn.sampling.max_tokens)
            answer = _Answer(turn, asked, opened)
            async with contextlib.aclosing(opened.stream) as items:
                yield ChatBegun(opened.begun, claim.conversation_id if claim else None, 2 * opened.dropped)
                async for item in items:
                    answer.take(item)
                    if isinstance(item, Delta):
                        yield item
            await self._save(claim, answer)
        except BaseException as error:
            if answer is not None and answer.is_worth_keeping(error):
                await self._save_what_there_is(claim, answer)
            raise
        finally:
            if claim is not None and not claim.is_saving:
                self._release(claim)
        yield answer.ended(claim.conversation_id if claim else None)

    def start(self) -> None:
        """Looks in the background for images that nobody needs any more."""
        self._sweeping = asyncio.create_task(self._sweep())

    async def _sweep(self) -> None:
        try:
            await self.conversations.images.sweep()
        except (BerthError, OSError) as error:
            log.warning("images that no conversation holds could not be looked for: %s", error)

    async def delete(self, owner: str, conversation_id: str) -> None:
        """Raises ConversationNotFound, ConversationBusy."""
        claim = self._claims.get(conversation_id)
        if claim is not None and claim.owner == owner:
            raise ConversationBusy("A turn of this conversation is being answered. Stop it first, then delete.")
        await self.conversations.delete(owner, conversation_id)

    async def bring_back(self, owner: str, given: Sequence[Conversation]) -> tuple[str, ...]:
        """As `ConversationStore.add`, beside the turns of the owner that are being answered."""
        size = sum(image.size for each in given for message in each.messages for image in message.images)
        claim = _Claim(new_id(), owner, is_new=True, image_bytes=size)
        self._claims[claim.conversation_id] = claim
        try:
            return await self.conversations.add(owner, given, self._coming(claim))
        finally:
            self._release(claim)

    async def trouble(self) -> str | None:
        """Why conversations cannot be kept now; None when they can."""
        try:
            await self._database.ping()
        except BerthError as error:
            return error.shown
        return None

    async def close(self) -> None:
        """Once the turns under way are stored. Whatever generates for them must have been told to end."""
        if self._claims:
            waiting = [asyncio.ensure_future(claim.ended.wait()) for claim in self._claims.values()]
            _, late = await asyncio.wait(waiting, timeout=_CLOSE_S)
            for each in late:
                each.cancel()
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.wait([self._sweeping])
        await self._database.close()

    def _claim(self, turn: ChatTurn, owner: str) -> _Claim | None:
        """Nobody else answers in this conversation until it is released."""
        if not turn.is_kept:
            return None
        other = self._claims.get(turn.conversation_id or "")
        if other is not None:
            if other.owner != owner:
                raise ConversationNotFound("There is no such conversation.")
            raise ConversationBusy(
                "Another turn of this conversation is being answered. Wait for its end or stop it, then send again."
            )
        size = sum(len(image["data"]) for image in turn.images)
        claim = _Claim(turn.conversation_id or new_id(), owner, turn.conversation_id is None, size)
        self._claims[claim.conversation_id] = claim
        return claim

    def _release(self, claim: _Claim) -> None:
        del self._claims[claim.conversation_id]
        claim.ended.set()

    async def _ask(self, turn: ChatTurn, owner: str, claim: _Claim | None) -> Asked:
        system, message = "", turn.message
        stored: tuple[StoredMessage, ...] = ()
        if turn.is_kept and turn.conversation_id is not None:
            most = (self._max_history - 1) // 2 * 2  # whole turns, beside the message
            system, stored = await self.conversations.history(owner, turn.conversation_id, most, turn.replaces)
        if claim is not None:
            await self._check_images(turn, claim)
        if turn.template is not None:
            template = await self.templates.get(owner, turn.template, turn.language)
            system, message = template.render(turn.message, turn.variables)
        if turn.system is not None:
            system = turn.system
        sent = sent_of(stored, len(system) + len(message), sum(len(image["data"]) for image in turn.images))
        return Asked(system, turns_of(sent, await self._images(turn, sent)), message, turn.images)

    async def _check_images(self, turn: ChatTurn, claim: _Claim) -> None:
        """Raises InvalidRequest, ImageQuotaExceeded when what the turn brings may not be kept."""
        given, coming = tuple(map(stored_image, turn.images)), self._coming(claim)
        await self.conversations.images.check_turn(claim.owner, claim.conversation_id, given, turn.replaces, coming)

    def _coming(self, claim: _Claim) -> int:
        """Bytes of images that the owner's others add."""
        others = (other for other in self._claims.values() if other.owner == claim.owner and other is not claim)
        return sum(other.image_bytes for other in others)

    async def _images(self, turn: ChatTurn, stored: Sequence[StoredMessage]) -> dict[str, Image]:
        """Those of `stored` that are still there, by key."""
        found: dict[str, Image] = {}
        for image in {image.key: image for message in stored for image in message.images}.values():
            shown = await self.conversations.images.shown(turn.conversation_id or "", image)
            if shown is not None:
                found[image.key] = shown
        return found

    def _open(self, turn: ChatTurn, messages: tuple[Message, ...]) -> AsyncGenerator[Item]:
        return self._generate(Prompt(messages=messages), turn.sampling, turn.model, turn.task)

    async def _save(self, claim: _Claim | None, answer: _Answer) -> None:
        """Stores the turn even if the caller is cancelled meanwhile; the conversation is released afterwards."""
        answer.is_saved = True
        if claim is None:
            return
        claim.is_saving = True
        saving = asyncio.ensure_future(
            self.conversations.add_turn(
                claim.owner,
                claim.conversation_id,
                answer.stored(),
                is_new=claim.is_new,
                replaces=answer.turn.replaces,
            )
        )

        def saved(task: asyncio.Future[None]) -> None:
            self._release(claim)
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("a turn of conversation %s could not be stored: %s", claim.conversation_id, error)

        saving.add_done_callback(saved)
        await asyncio.shield(saving)

    async def _save_what_there_is(self, claim: _Claim | None, answer: _Answer) -> None:
        with contextlib.suppress(BerthError):  # logged; what interrupted the turn is what its caller hears of
            await self._save(claim, answer)


@dataclass(eq=False)
class _Claim:
    """A conversation while a turn of it is answered; conversations while they are brought back."""

    conversation_id: str
    owner: str
    is_new: bool
    image_bytes: int  # that it adds
    is_saving: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class _Answer:
    """One answer on its way, and how it is stored."""

    def __init__(self, turn: ChatTurn, asked: Asked, opened: Opened) -> None:
        self.turn = turn
        self.is_saved = False
        self._asked = asked
        self._begun: Begun = opened.begun
        self._question_id, self._answer_id = new_id(), new_id()
        self._asked_at = now()
        self._ended_at: datetime | None = None
        self._texts: list[str] = []
        self._tokens = 0
        self._finish_reason: str | None = None
        self._usage: Usage | None = None

    def take(self, item: Item) -> None:
        if isinstance(item, Delta):
            self._texts.append(item.text)
            self._tokens += item.tokens
            self._finish_reason = item.finish_reason or self._finish_reason
        elif isinstance(item, Generated):
            self._usage = item.usage
            self._finish_reason = item.finish_reasons[0]

    def is_worth_keeping(self, error: BaseException) -> bool:
        """Of a turn that `error` ends. A client that is told of an error before the first word sends the turn again,
        and one that edits does not mean to lose an answer for none."""
        if self.is_saved or any(self._texts):
            return not self.is_saved
        return not isinstance(error, Exception) and self.turn.replaces is None

    @property
    def usage(self) -> Usage:
        return self._usage or Usage(self._begun.prompt_tokens, self._tokens)

    def stored(self) -> StoredTurn:
        self._ended_at = now()
        sent = self._asked.message if self._asked.message != self.turn.message else None
        question = StoredMessage(
            id=self._question_id,
            role="user",
            content=self.turn.message,
            sent=sent,
            template=self.turn.template,
            created_at=self._asked_at,
            images=tuple(map(stored_image, self.turn.images)),
        )
        answer = StoredMessage(
            id=self._answer_id,
            role="assistant",
            content="".join(self._texts),
            status=COMPLETE if self._finish_reason else INTERRUPTED,
            model=self._begun.model,
            prompt_tokens=self.usage.prompt_tokens,
            completion_tokens=self.usage.completion_tokens,
            finish_reason=self._finish_reason,
            created_at=self._ended_at,
        )
        return StoredTurn(question, answer, self._asked.system)

    def ended(self, conversation_id: str | None) -> ChatEnded:
        assert self._finish_reason is not None
        return ChatEnded(
            model=self._begun.model,
            usage=self.usage,
            finish_reason=self._finish_reason,
            created_at=self._ended_at or now(),
            conversation_id=conversation_id,
            question_id=self._question_id if conversation_id else None,
            answer_id=self._answer_id if conversation_id else None,
        )


def _check(turn: ChatTurn) -> None:
    """Raises InvalidRequest, RequestTooLarge."""
    if not valid_text("message", turn.message).strip():
        raise InvalidRequest("`message` is empty. Send some text.")
    if turn.system is not None:
        valid_text("system", turn.system)
    if turn.template is None and turn.variables:
        raise InvalidRequest("`variables` belong to a template: name it in `template`.")
    if turn.replaces is not None and turn.conversation_id is None:
        raise InvalidRequest("`replaces` needs the `conversation_id` that the message is in.")
