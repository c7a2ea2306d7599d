"""Which tokens go through the model next: continuous batching over the slots of one model.

Each step takes one token of every answer that is being written and, within a budget, some of the prompts that are
being read, in equal shares; so a long prompt neither stalls the running streams nor the short prompt behind it
(Agrawal et al. 2023, "Sarathi"). Answers begin in the order of their requests, as soon as there is a slot and room
for all the tokens that they may come to. A slot keeps what it has read after its answer's end: the next turn of the
conversation goes on from there.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from threading import Condition

import numpy as np

from core.errors import BerthError, InsufficientMemory, InternalError
from core.worker.generation.answer import Answer, Job
from core.worker.generation.base import Chunk, Generator
from core.worker.runtimes.base import ContextLost

log = logging.getLogger(__name__)

_WORTHWHILE = 0.5  # share of a slot's tokens that a prompt has to begin with, for the rest to be given up for it
_MANY = 16  # tokens that make it worthwhile where a slot has to be given up in any case; fewer are sooner read anew,
#             together with the other prompts that begin


@dataclass(frozen=True, slots=True)
class Load:
    """How busy a model is."""

    running: int  # answers that have a slot
    waiting: int
    cached_tokens: int  # held by slots, in use or not


class Scheduler:
    """The queue of jobs in front of one model thread, and the slots behind it."""

    def __init__(self, runtime: Generator, on_step: Callable[[], None] = lambda: None) -> None:
        self._runtime = runtime
        self._on_step = on_step  # after each pass, when all its deltas are told; on the model thread
        self._changed = Condition()  # guards _arrived and each job's is_cancelled; never held during a step
        self._arrived: deque[Job] = deque()
        self._waiting: deque[Answer] = deque()  # from here on the model thread's alone
        self._running: list[Answer] = []
        self._free = list(range(runtime.max_sequences))
        self._idle: OrderedDict[int, list[int]] = OrderedDict()  # slot → tokens it holds; longest unused first
        self.busy_since: float | None = None  # monotonic seconds at which the step under way began

    @property
    def load(self) -> Load:
        held = sum(answer.read for answer in self._running) + sum(map(len, list(self._idle.values())))
        return Load(len(self._running), len(self._waiting) + len(self._arrived), held)

    def add(self, job: Job) -> None:
        with self._changed:
            self._arrived.append(job)
            self._changed.notify()

    def cancel(self, job: Job) -> None:
        """Its answers leave before the next step. `on_done` is not called."""
        with self._changed:
            job.is_cancelled = True
            self._changed.notify()

    def run(self) -> None:
        """The model thread."""
        while True:
            with self._changed:
                while not (self._arrived or self._waiting or self._running):
                    self._changed.wait()
            self.step()

    def step(self) -> None:
        """Lets new answers in, runs the model once, and draws a token for each answer whose turn it is."""
        self._receive()
        self._leave()
        self._admit()
        chunks = self._plan()
        if chunks:
            self._pass(chunks)
            self._on_step()
        self._leave()

    # who is in

    def _receive(self) -> None:
        with self._changed:
            arrived, self._arrived = self._arrived, deque()
        for job in arrived:
            job.answers = [
                Answer(job, index, self._runtime.codec, self._runtime.name) for index in range(job.sampling.n)
            ]
            self._waiting.extend(job.answers)

    def _leave(self) -> None:
        """Answers that are finished, cancelled or failed give up their slots, and their jobs are told."""
        self._waiting = deque(answer for answer in self._waiting if not answer.job.is_over)
        leaving = [answer for answer in self._running if answer.finish_reason or answer.job.is_over]
        for answer in leaving:
            self._running.remove(answer)
            self._release(answer)
        for job in dict.fromkeys(answer.job for answer in leaving):
            if not job.is_over and all(answer.finish_reason for answer in job.answers):
                job.on_done(job)

    def _release(self, answer: Answer) -> None:
        slot, answer.slot = answer.slot, None
        assert slot is not None
        if answer.job.images and self._runtime.vision is not None:
            self._runtime.vision.show(slot, ())
        if self._runtime.is_encoder_decoder or not answer.read:
            self._runtime.trim(slot, 0)
            self._free.append(slot)
        else:
            self._idle[slot] = answer.tokens[: answer.read]

    def _admit(self) -> None:
        while self._waiting and (self._free or self._idle):
            answer = self._waiting[0]
            promised = sum(each.needs for each in self._running)
            if self._running and promised + answer.needs > self._runtime.max_cached_tokens:
                return
            self._waiting.popleft()
            try:
                self._seat(answer, self._runtime.max_cached_tokens - promised - answer.needs)
            except ContextLost:
                raise
            except Exception as error:
                self._fail(answer.job, error)
                continue

    def _seat(self, answer: Answer, spare: int) -> None:
        """Gives `answer` a slot, best one that begins as its prompt does; idle slots may keep `spare` tokens."""
        prompt = list(answer.job.prompt)
        slot, shared = self._best_slot(prompt)
        held = self._idle.pop(slot, None)
        if slot in self._free:
            self._free.remove(slot)
        answer.slot = slot
        self._running.append(answer)
        answer.job.started_at = answer.job.started_at or time.monotonic()
        if held:
            answer.read = self._runtime.trim(slot, shared)
            answer.job.cached_tokens += answer.read if answer.index == 0 else 0
        while sum(map(len, self._idle.values())) > max(0, spare):
            forgotten, _ = self._idle.popitem(last=False)
            self._runtime.trim(forgotten, 0)
            self._free.append(forgotten)
        if answer.job.images and self._runtime.vision is not None:
            self._runtime.vision.show(slot, answer.job.images)
        answer.begin(self._runtime.begin(slot, prompt))

    def _forget_idle(self) -> bool:
        """Frees what slots keep for a next turn. Whether there was any."""
        slots = list(self._idle)
        for slot in slots:
            del self._idle[slot]
            self._free.append(slot)
            self._runtime.trim(slot, 0)
        return bool(slots)

    def _best_slot(self, prompt: list[int]) -> tuple[int, int]:
        """A slot that is not in use, and how many of its tokens the prompt begins with."""
        shares = {slot: _shared(tokens, prompt) for slot, tokens in self._idle.items()}
        best = max(shares, key=lambda slot: shares[slot], default=None)
        if best is not None and shares[best]:
            is_most = shares[best] >= _WORTHWHILE * len(self._idle[best])
            if is_most or (not self._free and shares[best] >= _MANY):
                return best, shares[best]
        return (self._free[0] if self._free else next(iter(self._idle))), 0

    # what is run

    def _plan(self, late: Collection[int] = ()) -> list[Chunk]:
        """`late`: slots that read nothing in this step."""
        running = [answer for answer in self._running if answer.slot not in late]
        writing = [answer for answer in running if answer.unread == 1]
        reading = [answer for answer in running if answer.unread > 1]
        budget = max(self._runtime.prefill_tokens - len(writing), 1)
        chunks = [self._chunk(answer, 1) for answer in writing]
        for index, answer in enumerate(reading):  # what one leaves of its share goes to those after it
            share = max(1, budget // (len(reading) - index))
            chunks.append(self._chunk(answer, min(share, answer.unread)))
            budget -= min(share, answer.unread)
            if budget <= 0:
                break
        return chunks

    def _chunk(self, answer: Answer, count: int) -> Chunk:
        assert answer.slot is not None
        end = answer.read + count
        return Chunk(answer.slot, answer.tokens[answer.read : end], answer.read, end == len(answer.tokens))

    def _pass(self, chunks: list[Chunk]) -> None:
        owners = {answer.slot: answer for answer in self._running}
        self.busy_since = time.monotonic()
        try:
            chunks = self._ready(chunks, owners)
            scores = self._runtime.step(chunks) if chunks else []
        except ContextLost:
            raise
        except InsufficientMemory as error:
            if not self._forget_idle():
                # The last to come is the one there was no memory for; the others go on, and have what it held.
                self._fail(owners[chunks[-1].slot].job, error)
                for answer in owners[chunks[-1].slot].job.answers:
                    answer.read = 0
            return
        except Exception as error:
            log.exception("a step failed")
            for chunk in chunks:  # nobody knows what their slots hold now
                owners[chunk.slot].read = 0
                self._fail(owners[chunk.slot].job, error)
            return
        finally:
            self.busy_since = None
        for chunk, logits in zip(chunks, scores, strict=True):
            self._taken(owners[chunk.slot], chunk, logits)

    def _ready(self, chunks: list[Chunk], owners: dict[int | None, Answer]) -> list[Chunk]:
        """Those whose images are ready to be read; the others' share of the prompts goes to them."""
        seen = self._seen(chunks, owners, may_embed=True)
        late = {chunk.slot for chunk in chunks} - {chunk.slot for chunk in seen}
        if not late:
            return seen
        wider = {chunk.slot: chunk for chunk in self._seen(self._plan(late), owners, may_embed=False)}
        return [wider.get(chunk.slot, chunk) for chunk in seen]

    def _seen(self, chunks: list[Chunk], owners: dict[int | None, Answer], *, may_embed: bool) -> list[Chunk]:
        """Those whose images are embedded. One part of one image is embedded in a step, if any, in the order in which
        the prompts came, so that who writes never waits for more; images that are kept wait for none of that."""
        vision, size = self._runtime.vision, self._runtime.codec.size
        seen = []
        for chunk in chunks:
            names_images = vision is not None and max(chunk.tokens) >= size
            if not names_images or self._looked(owners[chunk.slot].job, chunk, may_embed=may_embed):
                seen.append(chunk)
            else:
                may_embed = False
        return seen

    def _looked(self, job: Job, chunk: Chunk, *, may_embed: bool) -> bool:
        """Whether the images that `chunk` reads are ready for it; its job may have failed."""
        assert self._runtime.vision is not None
        try:
            return self._runtime.vision.look_on(chunk, may_embed=may_embed)
        except ContextLost:
            raise
        except InsufficientMemory as error:
            if not self._forget_idle():  # else it is looked at again in a later step
                self._fail(job, error)
                for answer in job.answers:
                    answer.read = 0
        except Exception as error:
            self._fail(job, error)
        return False

    def _taken(self, answer: Answer, chunk: Chunk, logits: np.ndarray | None) -> None:
        answer.read += len(chunk.tokens)
        if logits is None or answer.job.is_over:
            return
        try:
            answer.take(logits)
        except Exception as error:
            self._fail(answer.job, error)

    def _fail(self, job: Job, error: Exception) -> None:
        """Once for a job; its answers leave with the next look."""
        if job.is_over:
            return
        if isinstance(error, BerthError):
            job.error = type(error)(error.message)  # a fresh one: the caught one holds frames, and frames hold tensors
        else:
            job.error = InternalError(f"The model failed on this prompt: {type(error).__name__}: {str(error)[:300]}")
        job.on_done(job)


def _shared(held: Sequence[int], prompt: Sequence[int]) -> int:
    """Tokens that both begin with; one of the prompt is always left to read, since its scores are wanted."""
    limit = min(len(held), len(prompt) - 1)
    for index in range(limit):
        if held[index] != prompt[index]:
            return index
    return limit
