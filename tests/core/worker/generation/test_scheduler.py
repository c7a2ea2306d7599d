"""The scheduler over a generator that checks every step: who runs when, and what is left afterwards."""

from __future__ import annotations

import itertools
import random

import pytest

from core.errors import BerthError, ContextOverflow, CorruptModel, InsufficientMemory, InternalError, InvalidRequest
from core.types import IMAGE_MARK, Delta, Image, Message, ModelInfo, Prompt, Runtime, Sampling, Task
from core.worker.generation import prompts
from core.worker.generation.answer import Job
from core.worker.generation.images import number_of
from core.worker.generation.scheduler import Scheduler
from tests.core.images.pictures import png
from tests.fakes.generator import CONTEXT, ByteCodec, Writer
from tests.fakes.seeing import Seeing

INFO = ModelInfo((Task.TEXT_GENERATION,), Runtime.TRANSFORMERS, "cpu", "float32", "fake", context_length=CONTEXT)
GREEDY = Sampling(temperature=0)


class Desk:
    """A scheduler, stepped by hand, and what its answers said."""

    def __init__(self, obey=lambda command: None, **options) -> None:
        self.writer = Writer(INFO, obey, **options)
        self.scheduler = Scheduler(self.writer)
        self.deltas: dict[Job, list[Delta]] = {}
        self.done: list[Job] = []

    def ask(self, text: str, sampling: Sampling = GREEDY) -> Job:
        deltas: list[Delta] = []
        job = prompts.prepare(self.writer, Prompt(text=text), sampling, deltas.append, self.done.append)
        self.deltas[job] = deltas
        self.scheduler.add(job)
        return job

    def run(self, limit: int = 10_000) -> None:
        """Steps until nothing is left."""
        for _ in range(limit):
            self.scheduler.step()
            if not (self.scheduler.load.running or self.scheduler.load.waiting):
                return
        raise AssertionError("the scheduler does not come to an end")

    def text(self, job: Job, index: int = 0) -> str:
        return "".join(delta.text for delta in self.deltas[job] if delta.index == index)

    def slots_read_in(self, step: int) -> set[int]:
        return {chunk.slot for chunk in self.writer.steps[step]}


def raising(errors: dict[str, Exception]):
    def obey(command: str) -> None:
        if command in errors:
            raise errors[command]

    return obey


def test_an_answer_comes_in_deltas_and_ends_once():
    desk = Desk()
    job = desk.ask("say:안녕 🙂")
    desk.run()
    assert desk.text(job) == "안녕 🙂"
    assert [delta.finish_reason for delta in desk.deltas[job]].count("stop") == 1
    assert desk.deltas[job][-1].finish_reason == "stop"
    assert desk.done == [job]
    assert job.usage.completion_tokens == sum(delta.tokens for delta in desk.deltas[job]) == len("안녕 🙂".encode()) + 1


def test_max_tokens_end_it_and_no_half_character_is_sent_before():
    desk = Desk()
    job = desk.ask("say:가나", Sampling(temperature=0, max_tokens=4))
    desk.run()
    assert desk.text(job).startswith("가")
    assert desk.deltas[job][-1].finish_reason == "length"
    assert all("\ufffd" not in delta.text for delta in desk.deltas[job][:-1])


def test_the_end_token_is_passed_over_when_asked():
    desk = Desk()
    job = desk.ask("say:ab", Sampling(temperature=0, ignore_eos=True, max_tokens=9))
    desk.run()
    assert job.usage.completion_tokens == 9
    assert desk.deltas[job][-1].finish_reason == "length"


def test_a_stop_string_ends_it_across_tokens():
    desk = Desk()
    job = desk.ask("say:one END two", Sampling(temperature=0, stop=("END",)))
    desk.run()
    assert desk.text(job) == "one "
    assert desk.deltas[job][-1].finish_reason == "stop"


def test_answers_are_written_side_by_side():
    desk = Desk()
    jobs = [desk.ask(f"say:answer {index}") for index in range(4)]
    desk.run()
    assert [desk.text(job) for job in jobs] == [f"answer {index}" for index in range(4)]
    assert any(len(step) == 4 for step in desk.writer.steps)


def test_more_than_there_are_slots_for_wait_their_turn():
    desk = Desk(max_sequences=2)
    jobs = [desk.ask(f"say:{letter}{letter}") for letter in "abcde"]
    desk.run()
    assert [desk.text(job) for job in jobs] == ["aa", "bb", "cc", "dd", "ee"]
    assert desk.done == jobs
    assert max(len(step) for step in desk.writer.steps) == 2


def test_a_long_prompt_stalls_neither_a_stream_nor_the_short_prompt_behind_it():
    desk = Desk(prefill_tokens=64)
    running = desk.ask("count:500")
    desk.scheduler.step()
    long = desk.ask("x" * 2000 + "\nsay:long")
    short = desk.ask("say:short")
    before = running.usage.completion_tokens
    for _ in range(12):
        desk.scheduler.step()
    assert running.usage.completion_tokens == before + 12
    assert desk.text(short) == "short"
    assert desk.text(long) == ""
    assert max(sum(len(chunk.tokens) for chunk in step) for step in desk.writer.steps) <= 64
    desk.run()
    assert desk.text(long) == "long"


def test_a_cancelled_answer_leaves_before_the_next_step():
    desk = Desk()
    job, other = desk.ask("count:4000"), desk.ask("say:" + "y" * 50)
    for _ in range(5):
        desk.scheduler.step()
    slot = job.answers[0].slot
    desk.scheduler.cancel(job)
    steps = len(desk.writer.steps)
    desk.run()
    assert all(slot not in desk.slots_read_in(step) for step in range(steps, len(desk.writer.steps)))
    assert desk.done == [other]


def test_cancelled_while_it_waits_it_never_runs():
    desk = Desk(max_sequences=1)
    first, second = desk.ask("say:first"), desk.ask("say:second")
    desk.scheduler.step()
    desk.scheduler.cancel(second)
    desk.run()
    assert desk.deltas[second] == []
    assert desk.done == [first]


def test_the_next_turn_reads_only_what_is_new():
    desk = Desk()
    history = "user says a lot of things " * 20
    desk.ask(history + "\nsay:one")
    desk.run()
    steps = len(desk.writer.steps)
    second = desk.ask(history + "\nsay:one more")
    desk.run()
    read = sum(len(chunk.tokens) for step in desk.writer.steps[steps:] for chunk in step)
    assert desk.text(second) == "one more"
    assert second.cached_tokens >= len(history)
    assert read < len(second.prompt) - len(history) + 20


@pytest.mark.parametrize(("shared", "kept"), [(15, 0), (16, 16)])
def test_a_few_tokens_that_begin_alike_are_read_again_where_a_slot_is_given_up(shared, kept):
    desk = Desk(max_sequences=1)
    begin = "x" * shared
    desk.ask(begin + "a long conversation of somebody else\nsay:one")
    desk.run()
    job = desk.ask(begin + "Another\nsay:two")
    desk.run()
    assert (job.cached_tokens, desk.text(job)) == (kept, "two")


def test_two_conversations_keep_a_slot_each():
    desk = Desk(max_sequences=2)
    left, right = "left " * 50, "right " * 50
    for text in (left, right):
        desk.ask(text + "\nsay:a")
        desk.run()
    again = [desk.ask(left + "\nsay:b"), desk.ask(right + "\nsay:b")]
    desk.run()
    assert all(job.cached_tokens >= 250 for job in again)


def test_what_idle_slots_hold_makes_room():
    desk = Desk(max_cached_tokens=400, max_sequences=4)
    for letter in "abcd":
        desk.ask(letter * 100 + "\nsay:x", Sampling(temperature=0, max_tokens=5))
        desk.run()
        assert desk.scheduler.load.cached_tokens <= 400
    assert sum(map(len, desk.writer.slots.values())) <= 400


def test_answers_that_would_not_fit_together_run_one_after_the_other():
    desk = Desk(max_cached_tokens=300)
    jobs = [desk.ask("say:" + letter * 150, Sampling(temperature=0, max_tokens=100)) for letter in "ab"]
    desk.run()
    assert max(len(step) for step in desk.writer.steps) == 1
    assert [len(desk.text(job)) for job in jobs] == [100, 100]


def test_several_answers_to_one_prompt():
    desk = Desk()
    job = desk.ask("say:same", Sampling(temperature=0, n=3))
    desk.run()
    assert [desk.text(job, index) for index in range(3)] == ["same"] * 3
    assert desk.done == [job]


def test_what_there_is_no_memory_for_fails_alone():
    desk = Desk(raising({"oom": InsufficientMemory("full")}))
    good = desk.ask("count:30")
    desk.scheduler.step()
    bad = desk.ask("oom")
    desk.run()
    assert type(bad.error) is InsufficientMemory
    assert len(desk.text(good)) == 30
    assert desk.text(desk.ask("say:after")) == ""
    desk.run()
    assert desk.done[-1].error is None


def test_what_idle_slots_keep_goes_before_anybody_fails():
    errors = {}
    desk = Desk(raising(errors))
    kept = desk.ask("say:kept")
    desk.run()
    assert desk.scheduler.load.cached_tokens > 0
    errors["oom"] = InsufficientMemory("full")
    job = desk.ask("oom")
    desk.scheduler.step()
    assert desk.scheduler.load.cached_tokens == 0
    errors.clear()
    desk.run()
    assert (kept.error, job.error, desk.text(job)) == (None, None, "ok")


def test_what_failed_for_memory_keeps_none():
    desk = Desk(raising({"oom": InsufficientMemory("full")}), prefill_tokens=16)
    good = desk.ask("count:60")
    desk.scheduler.step()
    bad = desk.ask("a prompt that is read in several steps before there is no memory left for it\noom")
    while bad.error is None:
        desk.scheduler.step()
    slot = bad.answers[0].slot
    desk.scheduler.step()
    assert sum(map(bool, desk.writer.slots.values())) == 1
    desk.run()
    assert len(desk.text(good)) == 60
    assert slot is None or not desk.writer.slots[slot]


def test_a_bug_in_the_runtime_is_told_and_slots_are_clean_afterwards():
    desk = Desk(raising({"bug": ZeroDivisionError("a bug")}))
    job = desk.ask("bug")
    desk.run()
    assert type(job.error) is InternalError
    after = desk.ask("say:after")
    desk.run()
    assert desk.text(after) == "after"


def test_scores_that_are_no_numbers_fail_their_answer_alone(monkeypatch):
    desk = Desk()
    good, bad = desk.ask("say:good"), desk.ask("say:bad")
    step = desk.writer.step
    monkeypatch.setattr(
        desk.writer,
        "step",
        lambda chunks: [
            scores * float("nan") if chunk.slot == bad.answers[0].slot else scores
            for chunk, scores in zip(chunks, step(chunks), strict=True)
        ],
    )
    desk.run()
    assert type(bad.error) is CorruptModel
    assert desk.text(good) == "good"


@pytest.mark.parametrize(("has_template", "stop"), [(False, ("x", "\nUser:")), (True, ("x",))])
def test_a_chat_with_no_template_of_its_own_stops_at_the_next_question(has_template, stop):
    writer = Writer(INFO)
    writer.codec = type("Codec", (ByteCodec,), {"has_template": has_template})()
    prompt = Prompt(messages=({"role": "user", "content": "hello"},))
    job = prompts.prepare(writer, prompt, Sampling(stop=("x",)), print, print)
    assert job.sampling.stop == stop


@pytest.mark.parametrize(
    ("prompt", "error"),
    [
        (Prompt(text=""), InvalidRequest),
        (Prompt(ids=(5, 9999)), InvalidRequest),
        (Prompt(ids=(0, -1)), InvalidRequest),
        (Prompt(text="x" * CONTEXT), ContextOverflow),
    ],
    ids=["empty", "too high", "negative", "too long"],
)
def test_prompts_that_cannot_be(prompt, error):
    with pytest.raises(error):
        prompts.prepare(Writer(INFO), prompt, GREEDY, print, print)


def test_a_hundred_clients_that_leave_at_random_leave_nothing_behind():
    rng = random.Random(2)
    desk = Desk(max_sequences=4, max_cached_tokens=2000)
    jobs: list[Job] = []
    gone: set[Job] = set()
    for index in range(100):
        jobs.append(desk.ask(f"turn {index % 7}\ncount:{rng.randint(1, 60)}", Sampling(temperature=0, max_tokens=60)))
        for _ in range(rng.randint(0, 4)):
            desk.scheduler.step()
        if rng.random() < 0.5:
            leaving = rng.choice(jobs)
            if leaving not in desk.done and leaving not in gone:
                desk.scheduler.cancel(leaving)
                gone.add(leaving)
    desk.run()
    assert set(desk.done) | gone == set(jobs)
    assert len(desk.done) == len(set(desk.done))
    for job in set(desk.done):
        assert len(desk.text(job)) == int(bytes(job.prompt[:-1]).decode().split("count:")[1])
    load = desk.scheduler.load
    assert (load.running, load.waiting) == (0, 0)
    assert load.cached_tokens == sum(map(len, desk.writer.slots.values())) <= 2000
    assert not any(isinstance(job.error, BerthError) for job in jobs)


def picture(key: str) -> Image:
    return {"data": png(), "key": key}


def shown(desk: Desk, key: str, text: str) -> Job:
    deltas: list[Delta] = []
    message: Message = {"role": "user", "content": f"{IMAGE_MARK}\n{text}", "images": (picture(key),)}
    job = prompts.prepare(desk.writer, Prompt(messages=(message,)), GREEDY, deltas.append, desk.done.append)
    desk.deltas[job] = deltas
    desk.scheduler.add(job)
    return job


def test_a_part_of_one_image_is_embedded_in_a_step_and_who_writes_goes_on():
    desk = Desk(max_sequences=5)
    desk.writer.vision = vision = Seeing(desk.writer.codec)
    vision.parts = 5
    writing = desk.ask("count:60")
    desk.scheduler.step()
    jobs = [shown(desk, "a", "say:first"), shown(desk, "b", "say:second"), shown(desk, "a", "say:third")]
    reading = desk.ask("say:" + "x" * 100)
    counts = []
    for _ in range(11):
        desk.scheduler.step()
        counts.append((len(desk.text(writing)), len(vision.looked)))
    assert [count for count, _ in counts] == list(range(counts[0][0], counts[0][0] + 11))  # one in each step
    assert max(after - before for (_, before), (_, after) in itertools.pairwise([(0, 0), *counts])) == 1
    first, second = number_of("a"), number_of("b")
    assert vision.looked == [first] * 5 + [second] * 5
    assert desk.text(reading).startswith("x")  # a text that came last was not kept by the pictures before it
    desk.run()
    assert [desk.text(job) for job in jobs] == ["first", "second", "third"]
    assert len(vision.looked) == 10


def test_an_image_that_fails_half_way_fails_its_prompt_alone():
    desk = Desk()
    vision = Seeing(desk.writer.codec)
    vision.parts, desk.writer.vision = 3, vision
    real = vision.look_on

    def look_on(chunk, *, may_embed=True):
        if may_embed and len(vision.looked) == 2:
            vision.looked.append(0)
            raise ZeroDivisionError("a bug")
        return real(chunk, may_embed=may_embed)

    vision.look_on = look_on
    failing, other, text = shown(desk, "a", "say:first"), shown(desk, "b", "say:second"), desk.ask("count:20")
    desk.run()
    assert isinstance(failing.error, InternalError)
    assert (desk.text(other), desk.text(text)) == ("second", "abcdefghijklmnopqrst")


def test_an_image_that_is_embedded_waits_for_no_other():
    desk = Desk()
    desk.writer.vision = vision = Seeing(desk.writer.codec)
    vision.parts = 1000
    vision._embedded[number_of("a")] = 1000  # though no slot has read it
    shown(desk, "b", "say:first")
    desk.scheduler.step()
    again = shown(desk, "a", "say:again")
    for _ in range(10):
        desk.scheduler.step()
    assert desk.text(again) == "again"


def test_prompts_that_wait_for_the_tower_take_no_share_from_those_that_read():
    desk = Desk(max_sequences=8, prefill_tokens=64)
    desk.writer.vision = vision = Seeing(desk.writer.codec)
    vision.parts = 1000
    for key in "abcdefg":
        shown(desk, key, "say:x")
    desk.scheduler.step()
    text = desk.ask("x" * 630 + "\nsay:y")
    for _ in range(12):
        desk.scheduler.step()
    assert desk.text(text) == "y"
