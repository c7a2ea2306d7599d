"""One answer on its way: its tokens, where they lie, and the text that they make."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from core.errors import BerthError
from core.types import Delta, Image, Sampling, TokenLogprob, TokenScore, Usage
from core.worker.generation.base import Codec
from core.worker.generation.sampler import Drawn, Sampler
from core.worker.generation.stops import Stops


@dataclass(eq=False)
class Job:
    """A request for one or more answers to a prompt. The scheduler's, until `on_done` is called."""

    prompt: Sequence[int]
    sampling: Sampling
    max_tokens: int  # of each answer
    on_delta: Callable[[Delta], None]  # on the model thread
    on_done: Callable[[Job], None]  # on the model thread, once
    continues: bool = False  # the answer goes on with the prompt's own text
    images: Sequence[Image] = ()  # whose places the prompt names
    error: BerthError | None = None
    is_cancelled: bool = False
    added_at: float = field(default_factory=time.monotonic)
    started_at: float | None = None
    first_token_at: float | None = None
    cached_tokens: int = 0
    answers: list[Answer] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        return self.error is not None or self.is_cancelled

    @property
    def usage(self) -> Usage:
        return Usage(len(self.prompt), sum(answer.drawn for answer in self.answers), self.cached_tokens)


class Answer:
    """One sequence. `tokens` are the prompt and what was drawn; the first `read` of them are in the slot."""

    def __init__(self, job: Job, index: int, codec: Codec, name: str) -> None:
        self.job = job
        self.index = index
        self.tokens = list(job.prompt)
        self.read = 0
        self.drawn = 0
        self.slot: int | None = None
        self.finish_reason: str | None = None
        self._codec = codec
        self._sampler: Sampler | None = None
        self._name = name
        self._stream = codec.stream(job.prompt if job.continues else ())
        self._stops = Stops(job.sampling.stop)
        self._unsent = 0  # tokens drawn since the last delta

    @property
    def needs(self) -> int:
        """Tokens that it may come to hold."""
        return len(self.job.prompt) + self.job.max_tokens

    @property
    def unread(self) -> int:
        return len(self.tokens) - self.read

    def begin(self, tokens: list[int]) -> None:
        """Reading starts with `tokens`: the prompt, or what an encoder-decoder's answer begins with."""
        self.tokens = tokens
        self._sampler = Sampler(self.job.sampling, self.index, tokens, self._name)

    def take(self, logits: object) -> None:
        """Draws the next token from float32 scores (vocabulary,) and passes on what text it makes certain."""
        assert self._sampler is not None
        drawn = self._sampler.draw(logits)  # type: ignore[arg-type]
        self.drawn += 1
        self._unsent += 1
        self.job.first_token_at = self.job.first_token_at or time.monotonic()
        ends = drawn.token in self._codec.eos_ids and not self.job.sampling.ignore_eos
        text, stopped = "", False
        if not ends:
            self.tokens.append(drawn.token)
            text, stopped = self._stops.push(self._stream.push(drawn.token))
        if ends or stopped:
            self.finish_reason = "stop"
        elif self.drawn >= self.job.max_tokens:
            self.finish_reason = "length"
        if self.finish_reason and not stopped:
            last, stopped = self._stops.push(self._stream.flush())
            text += last
            if stopped:
                self.finish_reason = "stop"
            else:
                text += self._stops.flush()
        self._tell(text, () if ends else self._score(drawn))

    def _score(self, drawn: Drawn) -> tuple[TokenScore, ...]:
        if drawn.logprob is None:
            return ()
        top = [self._logprob(token, logprob) for token, logprob in drawn.top]
        return ({**self._logprob(drawn.token, drawn.logprob), "top": top},)  # type: ignore[typeddict-item]

    def _logprob(self, token: int, logprob: float) -> TokenLogprob:
        piece = self._codec.piece(token)
        return {"token": piece, "logprob": max(logprob, -1e9), "bytes": list(piece.encode())}

    def _tell(self, text: str, logprobs: tuple[TokenScore, ...]) -> None:
        if text or logprobs or self.finish_reason:
            self.job.on_delta(Delta(self.index, text, self._unsent, logprobs, self.finish_reason))
            self._unsent = 0
