"""Which rows go through the model together.

No timer: an idle model answers at once, a busy one finds a fuller queue each time it looks. Requests take turns
to name the first row of a batch, so that one large request cannot hold back the small ones behind it. The rows
nearest to it in length, whoever they belong to, are then cut into passes so that padding and passes together cost
least; `bench/batching.py` compares that with filling greedily up to a bound on padding.
"""

from __future__ import annotations

import logging
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from threading import Condition, get_ident

import numpy as np

from core.errors import BerthError, InsufficientMemory, InternalError
from core.limits import BATCH_ROWS
from core.worker.runtimes.base import ContextLost, Runtime
from core.worker.tasks.base import Prepared

log = logging.getLogger(__name__)

NEIGHBOURS = BATCH_ROWS // 2  # rows shorter, and rows longer, than the first that are looked at for a batch


class Job:
    """A request's rows on their way through the model. Owned by the batcher until `on_done` is called."""

    def __init__(self, prepared: Prepared, on_done: Callable[[Job], None]) -> None:
        self.prepared = prepared
        self.on_done = on_done
        self.arrays: list[np.ndarray | None] = [None] * len(prepared.rows)
        self.error: BerthError | None = None
        self.is_cancelled = False
        self.added_at = time.monotonic()
        self.started_at: float | None = None
        self.model_s = 0.0
        # positions in `prepared.rows` not yet taken; from the end, so longest first
        self.waiting = sorted(range(len(prepared.rows)), key=lambda index: prepared.rows[index].length)
        self.missing = len(prepared.rows)

    @property
    def queue_s(self) -> float:
        return (self.started_at or self.added_at) - self.added_at


# (want, length, job's number, row's index): sorted, this puts rows that pad well side by side
_Key = tuple[str, int, int, int]


def cheapest(lengths: list[int], seed: int, overhead: int, limit: int) -> tuple[int, int]:
    """Which of the rows of these ascending `lengths` to run with the one at `seed`: first, and one past the last.

    Of all ways to cut the rows into passes of neighbours, the cheapest is found (dynamic programming over the last
    cut), where a pass costs `overhead` + rows x longest, in tokens, and may hold `limit` padded tokens or one row.
    The pass that the seed is in runs; what waits then is cut anew with what has come meanwhile.
    """
    sizes = np.array(lengths, np.float64)
    costs = np.zeros(len(sizes) + 1)
    cuts = np.zeros(len(sizes) + 1, np.intp)
    for end in range(1, len(sizes) + 1):
        padded = np.arange(end, 0, -1) * sizes[end - 1]  # of a pass that starts at 0, 1, …
        padded[:-1][padded[:-1] > limit] = np.inf
        options = costs[:end] + overhead + padded
        cuts[end] = options.argmin()
        costs[end] = options[cuts[end]]
    end = len(sizes)
    while cuts[end] > seed:
        end = int(cuts[end])
    return int(cuts[end]), end


def nearest(lengths: list[int], seed: int, limit: int) -> tuple[int, int]:
    """As `cheapest` where nothing is padded: as many as fit, from the one at `seed` on to longer ones, then shorter."""
    start, end, total = seed, seed + 1, lengths[seed]
    while end < len(lengths) and total + lengths[end] <= limit:
        total += lengths[end]
        end += 1
    while start > 0 and total + lengths[start - 1] <= limit:
        start -= 1
        total += lengths[start]
    return start, end


class Batcher:
    """The queue of rows in front of the model thread, or of several where the runtime runs passes side by side."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._changed = Condition()  # guards everything below; never held during a forward pass
        self._keys: list[_Key] = []
        self._jobs: dict[int, Job] = {}
        self._turns: deque[int] = deque()
        self._numbers = 0
        self._began: dict[int, float] = {}  # thread → monotonic seconds at which its forward pass began

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def busy_since(self) -> float | None:
        """Monotonic seconds at which the oldest forward pass under way began."""
        return min(list(self._began.values()), default=None)

    def add(self, job: Job) -> None:
        """Queues the rows of `job`. A job without rows is done at once."""
        if not job.prepared.rows:
            job.on_done(job)
            return
        with self._changed:
            self._numbers += 1
            number = self._numbers
            self._jobs[number] = job
            self._turns.append(number)
            for index, row in enumerate(job.prepared.rows):
                row.owner = number
                self._keys.append((row.want, row.length, number, index))
            self._keys.sort()  # one pass over what is sorted already
            self._changed.notify()

    def cancel(self, job: Job) -> None:
        """Drops what has not been taken yet; a forward pass under way ends first. `on_done` is not called."""
        with self._changed:
            job.is_cancelled = True
            if job.prepared.rows:
                self._forget(job.prepared.rows[0].owner)

    def run(self) -> None:
        """A model thread."""
        while True:
            self._pass(self.take())

    def take(self) -> list[tuple[Job, int]]:
        """The next batch as (job, index of its row). Waits for one."""
        with self._changed:
            while not self._keys:
                self._changed.wait()
            keys = self._best_batch()
            batch = []
            for key in keys:
                self._keys.pop(bisect_left(self._keys, key))
                job = self._jobs[key[2]]
                job.waiting.remove(key[3])
                job.started_at = job.started_at or time.monotonic()
                batch.append((job, key[3]))
            if self._keys:
                self._changed.notify()  # another model thread may wait, and this one is busy from now on
            return batch

    def _best_batch(self) -> list[_Key]:
        while not self._jobs[self._turns[0]].waiting:  # wholly taken, still in the model or done
            self._turns.popleft()
        number = self._turns[0]
        self._turns.rotate(-1)
        index = self._jobs[number].waiting[-1]
        row = self._jobs[number].prepared.rows[index]
        seed = bisect_left(self._keys, (row.want, row.length, number, index))
        low = bisect_left(self._keys, (row.want, 0, 0, 0), max(0, seed - NEIGHBOURS))
        high = bisect_left(
            self._keys, (row.want, row.length + 2**62, 0, 0), seed, min(len(self._keys), seed + NEIGHBOURS)
        )
        lengths = [key[1] for key in self._keys[low:high]]
        limit = self._runtime.max_batch_tokens
        if self._runtime.pads:
            start, end = cheapest(lengths, seed - low, self._runtime.overhead_tokens, limit)
        else:
            start, end = nearest(lengths, seed - low, limit)
        return self._keys[low + start : low + end]

    def _pass(self, batch: list[tuple[Job, int]]) -> None:
        """Runs `batch`; one that fails is halved until only the rows at fault fail."""
        batch = [(job, index) for job, index in batch if job.error is None and not job.is_cancelled]
        if not batch:
            return
        started = self._began[get_ident()] = time.monotonic()
        error: BerthError | None = None
        arrays: list[np.ndarray] = []
        try:
            arrays = self._runtime.forward([job.prepared.rows[index] for job, index in batch])
        except BerthError as caught:
            error = type(caught)(caught.message)  # a fresh one: the caught one holds frames, and frames hold tensors
        except ContextLost:
            raise
        except Exception as caught:
            log.exception("forward pass failed")
            error = InternalError(f"The model failed on this input: {type(caught).__name__}: {str(caught)[:300]}")
        taken = time.monotonic() - started
        del self._began[get_ident()]
        with self._changed:
            for job in {id(job): job for job, _ in batch}.values():
                job.model_s += taken
        if error is not None and len(batch) > 1:
            if isinstance(error, InsufficientMemory):
                log.warning("no memory for %d rows at once: they are run in halves", len(batch))
            middle = len(batch) // 2
            self._pass(batch[:middle])
            self._pass(batch[middle:])
        elif error is not None:
            self._settle(batch[0][0], batch[0][1], None, error)
        else:
            for (job, index), array in zip(batch, arrays, strict=True):
                self._settle(job, index, array, None)

    def _settle(self, job: Job, index: int, array: np.ndarray | None, error: BerthError | None) -> None:
        with self._changed:
            if job.is_cancelled or job.error is not None:
                return  # already answered
            job.arrays[index] = array
            job.missing -= 1
            job.error = error
            if job.missing and error is None:
                return
            self._forget(job.prepared.rows[index].owner)
        job.on_done(job)

    def _forget(self, number: int) -> None:
        job = self._jobs.pop(number, None)
        if job is None:
            return
        for index in job.waiting:
            row = job.prepared.rows[index]
            self._keys.pop(bisect_left(self._keys, (row.want, row.length, number, index)))
        job.waiting.clear()
        if number in self._turns:
            self._turns.remove(number)
