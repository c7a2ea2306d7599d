"""Answers, held against a brute-force search through plain transformers."""

from __future__ import annotations

import pytest
import torch
import transformers

from core.errors import InvalidRequest
from core.params import parse_params
from core.types import Task
from core.worker import tasks
from tests.core.worker.conftest import ask
from tests.fakes.models import ARCHITECTURES, CORPUS

QA = Task.QUESTION_ANSWERING
ITEMS = [
    {"question": "이순신은 어디에서 태어났는가?", "context": CORPUS[1]},
    {"question": "수도는?", "context": " ".join(CORPUS[:3])},
    {"question": "Who moved?", "context": "  " + CORPUS[7] + " 👩‍👩‍👧 Cafe\u0301"},
]


def brute_force(path, item: dict, overlap: int | None = None, reach: int = 15) -> tuple[list[dict], float]:
    """Every span of at most 15 tokens of every window with its score, best first; and the score of no answer."""
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    question = tokenizer(item["question"], add_special_tokens=False)["input_ids"]
    context = tokenizer(item["context"], add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = context["input_ids"], context["offset_mapping"]
    middle = [tokenizer.sep_token_id] * (2 if "roberta" in model.config.model_type else 1)
    head = [tokenizer.cls_token_id, *question, *middle]
    size = 64 - len(head) - 1
    overlap = size // 4 if overlap is None else overlap
    windows = [*range(0, len(ids) - size, size - overlap), max(len(ids) - size, 0)]
    best: dict[tuple[int, int], float] = {}
    null_scores = []
    for window in windows:
        inside = ids[window : window + size]
        row = torch.tensor([[*head, *inside, tokenizer.sep_token_id]])
        types = torch.tensor([[0] * len(head) + [1] * (len(inside) + 1)])
        extra = {"token_type_ids": types} if "token_type_ids" in tokenizer.model_input_names else {}
        with torch.no_grad():
            out = model(input_ids=row, **extra)
        allowed = [0, *range(len(head), len(head) + len(inside))]
        starts = torch.softmax(out.start_logits[0][allowed].double(), 0).tolist()
        ends = torch.softmax(out.end_logits[0][allowed].double(), 0).tolist()
        null_scores.append(starts[0] * ends[0])
        for first in range(len(inside)):
            for last in range(first, min(first + reach, len(inside))):
                shown = [
                    offsets[window + at]
                    for at in range(first, last + 1)
                    if tokenizer.convert_ids_to_tokens(inside[at]) not in ("▁", "Ġ")
                ]
                if shown:
                    text = item["context"][shown[0][0] : shown[-1][1]]
                    begin, end = shown[0][0] + len(text) - len(text.lstrip()), shown[-1][1]
                    score = starts[1 + first] * ends[1 + last]
                    best[begin, end] = max(score, best.get((begin, end), 0.0))
    answers = [{"start": s, "end": e, "score": score, "answer": item["context"][s:e]} for (s, e), score in best.items()]
    return sorted(answers, key=lambda answer: -answer["score"]), min(null_scores)


def same(answers: list[dict], expected: list[dict]) -> None:
    assert [each["score"] for each in answers] == pytest.approx([each["score"] for each in expected], abs=1e-5)
    spans = {(each["start"], each["end"]): each["answer"] for each in expected}
    assert {(each["start"], each["end"]): each["answer"] for each in answers} == spans


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_answers_are_those_of_a_full_search(architecture, model_dir, loaded):
    runtime = loaded(architecture, QA)
    for item, answers in zip(ITEMS, ask(runtime, QA, ITEMS, top_k=5), strict=True):
        expected, _ = brute_force(model_dir(architecture, QA), item)
        same(answers, expected[:5])
        assert all(item["context"][each["start"] : each["end"]] == each["answer"] for each in answers)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_long_context_is_read_in_windows(architecture, model_dir, loaded):
    runtime = loaded(architecture, QA)
    items = [{"question": "누가 갔는가?", "context": " ".join(CORPUS[at:] + CORPUS)} for at in (0, 9)]
    prepared = tasks.prepare(QA, runtime, items, parse_params(QA, {"stride": 12, "top_k": 3}))
    answers = prepared.finish(runtime.forward(prepared.rows))
    assert all(count >= 5 for count in prepared.windows)
    assert all(row.length <= runtime.info.context_length for row in prepared.rows)
    for item, answer in zip(items, answers, strict=True):
        expected, _ = brute_force(model_dir(architecture, QA), item, 12)
        same(answer, expected[:3])


def test_windows_lose_no_token_and_each_holds_the_question(loaded):
    runtime = loaded("bert", QA)
    item = {"question": "누가 갔는가?", "context": " ".join(CORPUS)}
    prepared = tasks.prepare(QA, runtime, [item], parse_params(QA, {}))
    (question,) = runtime.tokenizer.ids([item["question"]])
    (context,) = runtime.tokenizer.ids([item["context"]])
    seen = set()
    for row in prepared.rows:
        ids = row.inputs["input_ids"]
        assert ids[1 : 1 + len(question)] == question
        window = ids[2 + len(question) : -1]
        places = [at for at in range(len(context)) if context[at : at + len(window)] == window]
        seen.update(place + step for place in places[:1] for step in range(len(window)))
    assert seen == set(range(len(context)))


def test_no_answer_may_be_the_answer(model_dir, loaded):
    runtime = loaded("bert", QA)
    for item in ITEMS:
        answers, null_score = brute_force(model_dir("bert", QA), item)
        (found,) = ask(runtime, QA, [item], top_k=500, handle_impossible_answer=True)
        empty = [each for each in found if each["answer"] == ""]
        assert empty == [{"answer": "", "score": pytest.approx(null_score, abs=1e-5), "start": 0, "end": 0}]
        assert [each["score"] for each in found] == sorted((each["score"] for each in found), reverse=True)
        (without,) = ask(runtime, QA, [item], top_k=500)
        assert all(each["answer"] for each in without)
        assert answers[0]["score"] == pytest.approx(without[0]["score"], abs=1e-5)


def test_one_answer_alone_is_no_list(loaded):
    runtime = loaded("bert", QA)
    (one,), (best, *_) = ask(runtime, QA, ITEMS[:1]), ask(runtime, QA, ITEMS[:1], top_k=3)[0]
    assert one == best


def test_an_empty_context_has_no_answer(loaded):
    (answer,) = ask(loaded("bert", QA), QA, [{"question": "누가?", "context": ""}])
    assert (answer["answer"], answer["start"], answer["end"]) == ("", 0, 0)


def test_a_question_longer_than_the_window_is_refused(loaded):
    with pytest.raises(InvalidRequest, match="Ask a shorter question"):
        ask(loaded("bert", QA), QA, [{"question": " ".join(CORPUS), "context": "서울"}])


def test_the_answer_is_the_same_whatever_the_batch(loaded):
    runtime = loaded("electra", QA)
    items = [*ITEMS, {"question": "누가 갔는가?", "context": " ".join(CORPUS)}]
    together, alone = ask(runtime, QA, items), ask(runtime, QA, items, rows=1)
    for left, right in zip(together, alone, strict=True):
        assert left == {**right, "score": pytest.approx(right["score"], abs=1e-5)}
