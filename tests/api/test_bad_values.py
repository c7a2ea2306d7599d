"""Fields that are out of range or do not go together. The names are those of the test plan (B1 …)."""

import json

import pytest

from tests.api.refusals import check_refusal
from tests.serving import JSON

pytestmark = pytest.mark.usefixtures("leaves_nothing")

NUMBERS = [
    ("temperature", ["NaN", "Infinity", "-Infinity", "1e400", "-1", "1e308", '"0.7"', "true", "[]"]),
    ("max_new_tokens", ["0", "-1", str(2**31), str(2**63), str(2**64), "1.5", "1e3", '"5"']),
    ("max_length", ["0", "-1", str(2**31), "2.0"]),
    ("top_p", ["1.0001", "-0.5", '"1"']),
    ("top_k", ["-1", "0", str(2**40), "1.5", "true"]),
    ("repetition_penalty", ["0", "-1", "NaN"]),
    ("seed", ["-1", str(2**64), "0.5"]),
    ("stride", ["-1", str(2**40)]),
    ("dimensions", ["0", "-1", str(2**31)]),
    ("do_sample", ["1", '"true"', "0.0"]),
    ("normalize", ["1", '"yes"']),
    ("aggregation_strategy", ['"best"', "1", '""']),
    ("candidate_labels", ["[]", '"a,b"', "[1]", "[null]", json.dumps(["x"] * 257)]),
    ("targets", ["[]", "[1]"]),
    ("hypothesis_template", ['"no place"', '"{} {}"', '"{0.__class__}"', json.dumps("{}" + "x" * 1001)]),
    ("task", ['"conversational"', "1", '"token-classification"']),
    ("n", [str(10**9)]),
    ("n_ctx", ["0", str(2**31)]),
    ("stop", [json.dumps(["x"] * 10_000)]),
    ("timeout", ["0", "-1", str(10**9)]),
]


@pytest.mark.parametrize(("field", "values"), NUMBERS, ids=[field for field, _ in NUMBERS])
async def test_b21_to_b35_a_value_out_of_range(shared, field, values):
    await shared.load("a")
    for value in values:
        body = f'{{"text": "x", "{field}": {value}}}'
        answer = await shared.client.post("/models/a/predict", content=body, headers=JSON)
        error = check_refusal(answer, 400 if value == '"token-classification"' else 422)
        if value not in ("NaN", "Infinity", "-Infinity", "1e400"):  # these are not JSON
            assert field in error["message"] or value.strip('"') in error["message"]


GENERATION = [
    ("temperature", ["NaN", "Infinity", "1e400", "-1", "1e308", '"0.7"', "true", "[]"]),
    ("top_p", ["1.0001", "-0.5", '"1"']),
    ("seed", ["-1", str(2**64), "0.5", '"1"']),
    ("stop", [json.dumps(["x"] * 10_000), json.dumps("x" * 900_000), '[""]', "[1]", "5", '{"a": 1}']),
    ("stream", ["1", '"true"', "[]"]),
    ("model", ["5", '["a"]']),
]
LENGTHS = ["0", "-1", str(2**31), str(2**63), str(2**64), "1.5", '"5"']
ANSWERS = ["0", "-1", str(10**9), "1.5", "true"]
OF_ROUTES = [
    ("/generate", "max_new_tokens", LENGTHS), ("/chat", "max_new_tokens", LENGTHS),
    ("/generate", "num_return_sequences", ANSWERS), ("/generate", "repetition_penalty", ["0", "-1", "NaN"]),
    ("/generate", "top_k", ["-1", str(2**40), "1.5"]), ("/generate", "n", ["1"]), ("/generate", "logprobs", ["1"]),
    ("/v1/chat/completions", "max_tokens", LENGTHS), ("/v1/chat/completions", "n", ANSWERS),
    ("/v1/chat/completions", "logprobs", ["5", '"x"']), ("/v1/chat/completions", "top_logprobs", ["5", "-1", "2.5"]),
    ("/v1/completions", "max_tokens", LENGTHS), ("/v1/completions", "n", ANSWERS),
    ("/v1/completions", "logprobs", ["21", "-1", "true"]), ("/v1/completions", "best_of", ["2", "0"]),
    ("/v1/completions", "prompt", ["[]", "5", "null", '[1, "x"]', "[[]]", json.dumps(["x"] * 129)]),
    ("/v1/embeddings", "input", ["[]", "5", "null", "[1]", "[[1]]", '["x", 1]', json.dumps(["x"] * 2049)]),
    ("/v1/embeddings", "dimensions", ["-1", str(2**31), "1.5"]),
    ("/v1/embeddings", "encoding_format", ['"int8"', "5"]),
]  # fmt: skip
WRITE = {
    "/generate": {"prompt": "x"},
    "/chat": {"instruction": "x"},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "x"}]},
    "/v1/completions": {"prompt": "x"},
}


@pytest.mark.parametrize(
    ("path", "field", "values"),
    [*((path, *row) for path in WRITE for row in GENERATION), *OF_ROUTES],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_b21_to_b35_a_value_out_of_range_for_what_writes(shared, path, field, values):
    for value in values:
        given = WRITE.get(path, {"input": "x"}).items()
        rest = "".join(f", {json.dumps(name)}: {json.dumps(said)}" for name, said in given if name != field)
        answer = await shared.client.post(path, content=f'{{"{field}": {value}{rest}}}', headers=JSON)
        error = check_refusal(answer, 422)
        if value not in ("NaN", "Infinity", "1e400"):  # these are not JSON
            assert field in error["message"]


@pytest.mark.parametrize(
    "messages",
    [
        "[]", "{}", '"x"', "null", "[null]", '["x"]', "[[]]", '[{"role": "user"}]', '[{"content": "x"}]',
        '[{"role": "user", "content": 5}]', '[{"role": "user", "content": null}]', '[{"role": 5, "content": "x"}]',
        '[{"role": "wizard", "content": "x"}]', '[{"role": "user", "content": [{"type": "text"}]}]',
        '[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}]',
        json.dumps([{"role": "user", "content": "x"}] * 10_000),
        '[{"role": "user", "content": "\\ud800"}]',
    ],
    ids=lambda messages: messages[:40],
)  # fmt: skip
async def test_messages_that_are_none(shared, messages):
    answer = await shared.client.post("/v1/chat/completions", content=f'{{"messages": {messages}}}', headers=JSON)
    check_refusal(answer, 422)


async def test_what_nobody_here_can_write(shared):
    await shared.load("a")
    for path, body in WRITE.items():
        assert check_refusal(await shared.client.post(path, json=body), 404)["type"] == "model_not_found"
        classifier = await shared.client.post(path, json={**body, "model": "a"})
        assert check_refusal(classifier, 400)["type"] == "task_not_supported"
        unknown = await shared.client.post(path, json={**body, "model": "x" * 150})
        assert check_refusal(unknown, 404)["type"] == "model_not_found"
        check_refusal(await shared.client.post(path, json={**body, "model": "x" * 100_000}), 422)


async def test_what_is_at_the_edge_is_taken(shared):
    await shared.load("a")
    for field, value in (
        ("top_p", -0.0), ("top_p", 1.0), ("top_p", 1), ("temperature", 0), ("top_k", 1), ("seed", 2**63 - 1),
        ("max_length", None), ("normalize", None), ("task", "text-classification"),
    ):  # fmt: skip
        assert (await shared.predict("a", "four", **{field: value})).status_code == 200, field


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("context_length", 0), ("context_length", 2**31), ("context_length", "64"), ("max_batch_tokens", 0),
        ("max_batch_tokens", 2**40), ("device", "gpu"), ("device", "cuda:999"), ("device", ""), ("device", 0),
        ("dtype", "int8"), ("quantization", "2bit"), ("quantization", 8), ("load_in_8bit", 1), ("runtime", "vllm"),
        ("task", "conversational"), ("revision", ""), ("revision", 5), ("file", ""),
    ],
)  # fmt: skip
async def test_b33_a_load_with_a_value_out_of_range(shared, field, value):
    body = {"model_name": "x", "model_path": "a", field: value}
    error = check_refusal(await shared.client.post("/models/load", json=body), 422)
    assert field in error["message"]


async def test_two_ways_to_quantise_must_agree(shared):
    for fields in ({"load_in_8bit": True, "load_in_4bit": True}, {"quantization": "4bit", "load_in_8bit": True}):
        body = {"model_name": "x", "model_path": "a", **fields}
        check_refusal(await shared.client.post("/models/load", json=body), 422)


@pytest.mark.parametrize(
    "body",
    [
        {}, {"texts": []}, {"text": "x", "texts": ["x"]}, {"question": "x"}, {"context": "x"}, {"texts": "x"},
        {"text": ["x"]}, {"text": None}, {"texts": [None]}, {"texts": [1]}, {"texts": ["x"] * 2049},
        {"question": "who", "context": "x"}, {"text": "x", "question": "who", "context": "x"},
        {"texts": ["x", {"text": "y"}]}, {"text": {"text": "x"}},
    ],
)  # fmt: skip
async def test_one_text_many_texts_or_a_question(shared, body):
    await shared.load("a")
    check_refusal(await shared.client.post("/models/a/predict", json=body), 422)
