"""Which rows go together, and what happens to the others when one fails."""

from concurrent.futures import Future
from itertools import combinations
from queue import SimpleQueue
from threading import Barrier, Event, Thread

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InsufficientMemory, InternalError, InvalidRequest
from core.limits import BATCH_ROWS
from core.worker.batching import Batcher, Job, cheapest
from core.worker.runtimes.base import ContextLost, Row
from core.worker.tasks.base import Prepared


class Echo:
    """A runtime that answers with the sum of a row's ids, remembers its batches, and fails where it is told to."""

    info = None
    tokenizer = None

    def __init__(self, max_batch_tokens=64, overhead_tokens=8, fits=10**9, pads=True):
        self.pads = pads
        self.max_batch_tokens = max_batch_tokens
        self.overhead_tokens = overhead_tokens
        self.fits = fits  # padded tokens that there is memory for
        self.batches = []

    def forward(self, rows):
        self.batches.append([row.length for row in rows])
        if len(rows) * max(row.length for row in rows) > self.fits:
            raise InsufficientMemory("too large")
        if any(row.inputs["input_ids"][0] == -1 for row in rows):
            raise InvalidRequest("a poisoned row")
        if any(row.inputs["input_ids"][0] == -2 for row in rows):
            raise ZeroDivisionError("a bug")
        if any(row.inputs["input_ids"][0] == -3 for row in rows):
            raise ContextLost("device-side assert")
        return [np.array([sum(row.inputs["input_ids"])], np.float32) for row in rows]


def job_of(lengths, *, want="logits", first=1, done=None):
    rows = [Row({"input_ids": [first] + [1] * (length - 1)}, want) for length in lengths]
    count = len(rows)
    prepared = Prepared(rows, list, [0] * count, [1] * count, [False] * count)
    return Job(prepared, done or (lambda job: None))


def drain(batcher):
    """Runs everything that waits."""
    while len(batcher):
        batcher._pass(batcher.take())


def test_an_idle_model_runs_what_there_is_at_once():
    runtime = Echo()
    batcher = Batcher(runtime)
    job = job_of([5])
    batcher.add(job)
    drain(batcher)
    assert runtime.batches == [[5]]
    assert job.arrays[0] == [5]


def test_a_job_without_rows_is_done_without_the_model():
    runtime, done = Echo(), []
    Batcher(runtime).add(job_of([], done=done.append))
    assert len(done) == 1
    assert runtime.batches == []


def test_rows_of_one_length_share_a_batch_up_to_the_token_limit():
    runtime = Echo(max_batch_tokens=40)
    batcher = Batcher(runtime)
    for _ in range(6):
        batcher.add(job_of([10]))
    drain(batcher)
    assert sorted(len(batch) for batch in runtime.batches) == [2, 4]


def test_a_short_row_is_not_padded_to_a_long_one():
    runtime = Echo(max_batch_tokens=10_000, overhead_tokens=8)
    batcher = Batcher(runtime)
    for length in (4, 200, 5, 201):
        batcher.add(job_of([length]))
    drain(batcher)
    assert sorted(sorted(batch) for batch in runtime.batches) == [[4, 5], [200, 201]]


def test_padding_is_worth_it_where_a_pass_is_dear():
    runtime = Echo(max_batch_tokens=10_000, overhead_tokens=1000)
    batcher = Batcher(runtime)
    for length in (4, 200, 5, 201):
        batcher.add(job_of([length]))
    drain(batcher)
    assert [sorted(batch) for batch in runtime.batches] == [[4, 5, 200, 201]]


def test_where_nothing_is_padded_lengths_may_differ_up_to_the_token_limit():
    runtime = Echo(max_batch_tokens=260, overhead_tokens=8, pads=False)
    batcher = Batcher(runtime)
    for length in (4, 200, 5, 201, 50):
        batcher.add(job_of([length]))
    drain(batcher)
    assert sorted(sorted(batch) for batch in runtime.batches) == [[4, 5, 50, 200], [201]]


def test_rows_that_want_different_things_are_never_mixed():
    runtime = Echo(overhead_tokens=10**6, max_batch_tokens=10**6)
    batcher = Batcher(runtime)
    for want in ("logits", "hidden", "logits"):
        batcher.add(job_of([7], want=want))
    drain(batcher)
    assert sorted(len(batch) for batch in runtime.batches) == [1, 2]


def test_a_row_over_the_limit_runs_alone():
    runtime = Echo(max_batch_tokens=10, overhead_tokens=10**6)
    batcher = Batcher(runtime)
    batcher.add(job_of([50, 2, 2]))
    drain(batcher)
    assert sorted(runtime.batches) == [[2, 2], [50]]


@pytest.mark.parametrize("pads", [True, False])
def test_a_pass_never_holds_more_rows_than_is_told(pads):
    runtime = Echo(max_batch_tokens=10**6, overhead_tokens=10**6, pads=pads)
    batcher = Batcher(runtime)
    batcher.add(job_of([1] * 3 * BATCH_ROWS))
    drain(batcher)
    assert max(map(len, runtime.batches)) <= BATCH_ROWS


def test_a_large_request_does_not_hold_back_a_small_one():
    runtime = Echo(max_batch_tokens=40, overhead_tokens=0)
    batcher = Batcher(runtime)
    finished = []
    batcher.add(job_of([10] * 100, done=lambda job: finished.append("large")))
    batcher.add(job_of([3], done=lambda job: finished.append("small")))
    batcher._pass(batcher.take())
    batcher._pass(batcher.take())
    assert finished == ["small"]


def test_only_the_row_at_fault_fails():
    runtime = Echo()
    batcher = Batcher(runtime)
    good, bad = [job_of([5]) for _ in range(4)], job_of([5], first=-1)
    for job in [*good[:2], bad, *good[2:]]:
        batcher.add(job)
    drain(batcher)
    assert all(job.error is None and job.arrays[0] == [5] for job in good)
    assert isinstance(bad.error, InvalidRequest)


def test_out_of_memory_splits_the_batch_until_it_fits():
    runtime = Echo(max_batch_tokens=1000, fits=20)
    batcher = Batcher(runtime)
    jobs = [job_of([10]) for _ in range(8)]
    for job in jobs:
        batcher.add(job)
    drain(batcher)
    assert all(job.error is None for job in jobs)
    assert runtime.batches[0] == [10] * 8


def test_a_row_that_never_fits_fails_alone():
    runtime = Echo(max_batch_tokens=1000, overhead_tokens=1000, fits=20)
    batcher = Batcher(runtime)
    small, large = job_of([10]), job_of([30])
    batcher.add(small)
    batcher.add(large)
    drain(batcher)
    assert small.error is None
    assert isinstance(large.error, InsufficientMemory)


def test_a_bug_becomes_a_typed_error_that_holds_no_frames():
    batcher = Batcher(Echo())
    job = job_of([5], first=-2)
    batcher.add(job)
    drain(batcher)
    assert isinstance(job.error, InternalError)
    assert job.error.__traceback__ is None


def test_a_lost_context_is_not_survived():
    batcher = Batcher(Echo())
    batcher.add(job_of([5], first=-3))
    with pytest.raises(ContextLost):
        drain(batcher)


def test_a_job_of_which_one_row_fails_is_answered_once():
    batcher = Batcher(Echo(max_batch_tokens=10, overhead_tokens=0))
    done = []
    job = job_of([5, 5, 5, 5], done=done.append)
    job.prepared.rows[1].inputs["input_ids"][0] = -1
    batcher.add(job)
    drain(batcher)
    assert done == [job]
    assert isinstance(job.error, InvalidRequest)


def test_a_cancelled_job_leaves_no_rows_and_gets_no_answer():
    runtime, done = Echo(), []
    batcher = Batcher(runtime)
    leaving, staying = job_of([5] * 10, done=done.append), job_of([5], done=done.append)
    batcher.add(leaving)
    batcher.add(staying)
    batcher.cancel(leaving)
    drain(batcher)
    assert done == [staying]
    assert runtime.batches == [[5]]


def test_the_model_thread_waits_for_work_and_then_does_it():
    runtime = Echo()
    batcher = Batcher(runtime)
    Thread(target=batcher.run, daemon=True).start()
    answered: Future[Job] = Future()
    batcher.add(job_of([5], done=answered.set_result))
    assert answered.result(timeout=10).arrays[0] == [5]


def test_what_arrives_during_a_pass_shares_the_next():
    runtime = Echo(max_batch_tokens=1000)
    entered, release = Event(), Event()
    plain = runtime.forward

    def slow(rows):
        entered.set()
        assert release.wait(10)
        return plain(rows)

    runtime.forward = slow
    batcher = Batcher(runtime)
    Thread(target=batcher.run, daemon=True).start()
    batcher.add(job_of([5]))
    assert entered.wait(10)
    answers = [Future() for _ in range(3)]
    for answer in answers:
        batcher.add(job_of([5], done=answer.set_result))
    release.set()
    for answer in answers:
        answer.result(timeout=10)
    assert runtime.batches == [[5], [5, 5, 5]]


def meeting(runtime, threads):
    """From now on no pass of `runtime` begins before another has: one alone fails after ten seconds."""
    together, plain = Barrier(threads, timeout=10), runtime.forward

    def forward(rows):
        together.wait()
        return plain(rows)

    runtime.forward = forward


@pytest.mark.parametrize("shapes", [[[10] * 8], [[10]] * 8, [[10] * 3, [10], [10] * 2, [10, 10]]], ids=str)
def test_two_model_threads_run_side_by_side_and_answer_each_job_once(shapes):
    runtime = Echo(max_batch_tokens=10)  # a row a pass
    meeting(runtime, 2)
    batcher = Batcher(runtime)
    for _ in range(2):
        Thread(target=batcher.run, daemon=True).start()
    answered = SimpleQueue()
    jobs = [job_of(lengths, done=answered.put) for lengths in shapes]
    for job in jobs:
        batcher.add(job)
    done = [answered.get(timeout=10) for _ in jobs]
    assert sorted(map(id, done)) == sorted(map(id, jobs))
    assert [job.error for job in jobs] == [None] * len(jobs)
    assert all(array == [10] for job in jobs for array in job.arrays)
    assert runtime.batches == [[10]] * 8  # so nothing is left that could answer a job again
    assert answered.empty()


def cost(lengths, cuts, overhead, limit):
    """Of running sorted `lengths` in the passes that `cuts` make; None when one is too large."""
    passes = [lengths[start:end] for start, end in zip([0, *cuts], [*cuts, len(lengths)], strict=True)]
    if any(len(each) > 1 and len(each) * each[-1] > limit for each in passes):
        return None
    return sum(overhead + len(each) * each[-1] for each in passes)


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=7).map(sorted), st.integers(0, 40), st.integers(1, 120), st.data()
)
def test_the_cheapest_cut_is_found_as_by_trying_all(lengths, overhead, limit, data):
    seed = data.draw(st.integers(0, len(lengths) - 1))
    start, end = cheapest(lengths, seed, overhead, limit)
    assert start <= seed < end
    borders = range(1, len(lengths))
    costs = {
        cuts: found
        for count in range(len(lengths))
        for cuts in combinations(borders, count)
        if (found := cost(lengths, cuts, overhead, limit)) is not None
    }
    with_pass = {cuts: each for cuts, each in costs.items() if {start, end} - {0, len(lengths)} <= set(cuts)
                 and not any(start < cut < end for cut in cuts)}  # fmt: skip
    assert min(with_pass.values()) == min(costs.values())


@given(
    st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=6), min_size=1, max_size=8),
    st.integers(1, 100),
    st.integers(0, 50),
)
def test_every_row_runs_exactly_once_and_within_the_limits(shapes, limit, overhead):
    runtime = Echo(max_batch_tokens=limit, overhead_tokens=overhead)
    batcher = Batcher(runtime)
    done = []
    jobs = [job_of(lengths, done=done.append) for lengths in shapes]
    for job in jobs:
        batcher.add(job)
    drain(batcher)
    assert sorted(map(id, done)) == sorted(map(id, jobs))
    for job, lengths in zip(jobs, shapes, strict=True):
        assert [int(array[0]) for array in job.arrays] == lengths
    for batch in runtime.batches:
        assert len(batch) == 1 or len(batch) * max(batch) <= limit
