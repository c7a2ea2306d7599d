"""Answers over HTTP from real models in real processes: their form is the contract's, their numbers the model's own."""

import asyncio
import base64
import struct

import numpy as np
import openai
import pytest
from openai import AsyncOpenAI

TEXTS = ["김민수는 서울에서 태어나 부산의 작은 회사에서 일한다.", "The food was cold.", "😀 e\u0301 \u202e한글"]


async def ask(served, name, **body) -> dict:
    answer = await served.client.post(f"/models/{name}/predict", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_an_answer_says_what_was_asked_and_how_it_went(real_server):
    answer = await ask(real_server, "classify", text=TEXTS[0])
    assert (answer["model_name"], answer["task"], answer["input"]) == ("classify", "text-classification", TEXTS[0])
    assert set(answer["result"][0]) == {"label", "score"}
    assert len(answer["result"]) == 1
    assert "T" in answer["timestamp"]
    assert set(answer["timing"]) == {"queue_ms", "model_ms", "total_ms"}
    assert (answer["revision"], answer["windows"], answer["truncated"]) == ("local", [1], [False])
    assert answer["tokens"] > 2


async def test_labels_best_first_and_many_texts(real_server):
    one = await ask(real_server, "classify", text=TEXTS[1], top_k=3)
    scores = [row["score"] for row in one["result"]]
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1)
    many = await ask(real_server, "classify", texts=TEXTS, top_k=3)
    assert many["input"] == TEXTS
    assert len(many["result"]) == 3
    assert [row["label"] for row in many["result"][1]] == [row["label"] for row in one["result"]]
    assert many["result"][1][0]["score"] == pytest.approx(scores[0], abs=1e-5)


async def test_tokens_and_groups_point_into_the_text_as_sent(real_server):
    for text in TEXTS:
        rows = (await ask(real_server, "tag", text=text))["result"]
        assert all(text[row["start"] : row["end"]] == row["word"] for row in rows)
        assert all(set(row) == {"label", "score", "word", "start", "end"} for row in rows)
    for strategy in ("simple", "first", "average", "max"):
        rows = (await ask(real_server, "tag", text=TEXTS[0], aggregation_strategy=strategy))["result"]
        assert all(set(row) == {"entity_group", "score", "word", "start", "end"} for row in rows)


async def test_a_vector_for_each_text(real_server):
    one = (await ask(real_server, "embed", text=TEXTS[0]))["result"]
    assert (len(one), len(one[0])) == (1, 32)
    many = (await ask(real_server, "embed", texts=TEXTS))["result"]
    np.testing.assert_allclose(many[0], one[0], atol=1e-5)
    unit = np.array((await ask(real_server, "embed", texts=TEXTS, normalize=True))["result"])
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-5)


async def test_questions(real_server):
    context = "Anna Smith moved from Paris to New York in March 2019."
    answer = await ask(real_server, "answer", question="Who moved?", context=context)
    assert answer["input"] == {"question": "Who moved?", "context": context}
    assert context[answer["result"]["start"] : answer["result"]["end"]] == answer["result"]["answer"]
    three = await ask(real_server, "answer", question="Who moved?", context=context, top_k=3)
    assert len(three["result"]) == 3
    assert three["result"][0] == answer["result"]


async def test_labels_of_ones_own_and_masks(real_server):
    answer = await ask(real_server, "entail", text=TEXTS[1], candidate_labels=["음식", "movie"])
    assert answer["task"] == "zero-shot-classification"  # meant by the labels, though it is a classifier first
    result = answer["result"]
    assert {row["label"] for row in result} == {"음식", "movie"}
    missing = await real_server.client.post(
        "/models/entail/predict", json={"text": "x", "task": "zero-shot-classification"}
    )
    assert missing.status_code == 422
    assert "candidate_labels" in missing.json()["detail"]
    filled = (await ask(real_server, "fill", text="The [MASK] was cold.", top_k=2))["result"]
    assert [set(row) for row in filled] == [{"score", "token", "token_str", "sequence"}] * 2
    no_mask = await real_server.client.post("/models/fill/predict", json={"text": "no mask"})
    assert no_mask.status_code == 422


async def test_fields_of_another_task_are_left_aside(real_server):
    guide = {"max_length": 64, "temperature": 1.0, "top_p": 1.0, "top_k": 50, "do_sample": False}
    assert len((await ask(real_server, "classify", text=TEXTS[0], **guide))["result"]) == 3


async def test_a_task_the_model_cannot_do_names_those_it_can(real_server):
    answer = await real_server.client.post("/models/classify/predict", json={"text": "x", "task": "fill-mask"})
    assert answer.status_code in (400, 422)
    assert "text-classification" in answer.json()["detail"]


async def test_the_spaces_call(real_server):
    answer = await real_server.client.post("/predict", json={"text": TEXTS[0]})
    assert answer.status_code == 200
    body = answer.json()
    direct = await ask(real_server, "classify", text=TEXTS[0])
    assert (body["text"], body["classification"]) == (TEXTS[0], direct["result"][0]["label"])
    assert body["score"] == pytest.approx(direct["result"][0]["score"], abs=1e-6)


async def test_the_embedding_service(real_server):
    client = real_server.client
    one = (await client.post("/api/v1/embed", json={"text": TEXTS[0]})).json()
    assert (one["dim"], one["model"], len(one["embedding"])) == (32, "embed", 32)
    assert np.linalg.norm(one["embedding"]) == pytest.approx(1, abs=1e-5)
    raw = (await client.post("/api/v1/embed", json={"text": TEXTS[0], "normalize": False})).json()
    assert np.linalg.norm(raw["embedding"]) != pytest.approx(1, abs=1e-3)
    many = (await client.post("/api/v1/embed-batch", json={"texts": TEXTS})).json()
    assert (many["count"], many["dim"], many["model"]) == (3, 32, "embed")
    np.testing.assert_allclose(many["embeddings"][0], one["embedding"], atol=1e-5)
    info = (await client.get("/api/v1/model-info")).json()
    assert info == {
        "name": "embed",
        "dimension": 32,
        "max_length": 64,
        "pooling": "mean",
        "device": "cpu",
        "state": "loaded",
    }
    assert (await client.get("/api/v1/model-info?model=nobody")).json()["state"] == "absent"
    wrong = await client.post("/api/v1/embed", json={"text": "x", "model": "answer"})
    assert wrong.status_code in (200, 400)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "\n\t", "\u202e\u0007\x1b[31m\r\n", "a\u0000b", "e" + "\u0301" * 10_000, "👩‍👩‍👧‍👦" * 50, "a" * 20_000,
        "[CLS] [SEP] [MASK] [PAD] <|im_end|> </s> [INST]", "{{7*7}} {% for %} {0.__class__} %(x)s ${x}",
        "<script>alert(1)</script> <img onerror=x>", "a" * 5000 + "!", "가" * 300, "\ufffd\ufeff\u200b", "x " * 3000,
    ],
    ids=lambda text: ascii(text)[:24],
)  # fmt: skip
async def test_b36_to_b45_any_text_is_read_or_refused(real_server, text):
    for name, more in (("classify", {}), ("tag", {}), ("embed", {}), ("entail", {"candidate_labels": ["x"]})):
        answer = await real_server.client.post(f"/models/{name}/predict", json={"text": text, **more})
        assert answer.status_code in (200, 422), answer.text
        if answer.status_code == 200:
            assert answer.json()["input"] == text
        if name == "tag" and answer.status_code == 200:
            assert all(text[row["start"] : row["end"]] == row["word"] for row in answer.json()["result"])
    question = await real_server.client.post("/models/answer/predict", json={"question": text, "context": text})
    assert question.status_code in (200, 422), question.text


async def test_b40_more_text_than_a_request_may_hold(real_server):
    answer = await real_server.client.post("/models/classify/predict", json={"text": "x" * 2_000_001})
    assert (answer.status_code, answer.json()["error"]["type"]) == (413, "request_too_large")


async def test_many_at_once_get_their_own_answers(real_server):
    texts = [f"문장 {number} " + "좋다 " * (number % 7) for number in range(60)]
    alone = [(await ask(real_server, "classify", text=text))["result"][0] for text in texts[:10]]
    together = await asyncio.gather(*(ask(real_server, "classify", text=text) for text in texts))
    for text, answer in zip(texts, together, strict=True):
        assert answer["input"] == text
    for one, answer in zip(alone, together, strict=False):
        assert answer["result"][0]["label"] == one["label"]
        assert answer["result"][0]["score"] == pytest.approx(one["score"], abs=1e-5)
    assert real_server.core.registry.get("classify").leases == 0
    assert 500 not in real_server.statuses


async def test_a_starter_answers_by_its_name_without_being_loaded_first(real_server):
    answer = await ask(
        real_server, "starter-ner", text="이영희 대표는 부산에서 삼성전자와 계약했다.", aggregation_strategy="simple"
    )
    words = {row["word"]: row["entity_group"] for row in answer["result"]}
    assert words == {"이영희": "PER", "부산": "LOC", "삼성전자": "ORG"}
    assert (await real_server.client.get("/models")).json()["models_status"]["starter-ner"] == "loaded"


def test_the_request_takes_every_field_there_is():
    from api.predict import PredictRequest
    from core.params import FIELD_NAMES

    assert set(PredictRequest.model_fields) == FIELD_NAMES | {"text", "texts", "question", "context", "image", "task"}


async def test_embeddings_by_the_client_of_openai(real_server):
    async with AsyncOpenAI(base_url=f"{real_server.url}/v1", api_key="none") as ai:
        texts = ["안녕하세요", "hello", ""]
        packed = await ai.embeddings.create(model="embed", input=texts)  # the client asks for base64 by itself
        plain = await ai.embeddings.create(model="embed", input=texts, encoding_format="float")
        one = await ai.embeddings.create(model="", input=texts[0])
        short = await ai.embeddings.create(model="embed", input=texts, dimensions=8)
        raw = await ai.embeddings.with_raw_response.create(model="embed", input=texts[0], encoding_format="base64")
        with pytest.raises(openai.BadRequestError, match="token ids"):
            await ai.embeddings.create(model="embed", input=[[1, 2], [3]])
        with pytest.raises(openai.BadRequestError, match="dimensions"):
            await ai.embeddings.create(model="embed", input=texts, dimensions=-1)
        with pytest.raises(openai.BadRequestError):
            await ai.embeddings.create(model="embed", input=[])
        with pytest.raises(openai.BadRequestError, match="cannot do"):
            await ai.embeddings.create(model="classify", input="x")
    async with AsyncOpenAI(base_url=f"{real_server.url}/models/embed/v1", api_key="none") as ai:
        bound = await ai.embeddings.create(model="classify", input=texts)
    assert (bound.model, bound.data) == ("embed", packed.data)
    own = await real_server.client.post("/api/v1/embed-batch", json={"texts": texts, "model": "embed"})
    assert [each.index for each in packed.data] == [0, 1, 2]
    for index, expected in enumerate(own.json()["embeddings"]):
        assert packed.data[index].embedding == pytest.approx(expected, abs=1e-6)
        assert plain.data[index].embedding == pytest.approx(expected, abs=1e-6)
    assert one.data[0].embedding == pytest.approx(packed.data[0].embedding, abs=1e-6)
    assert [len(each.embedding) for each in short.data] == [8, 8, 8]
    text = raw.http_response.json()["data"][0]["embedding"]
    assert struct.unpack("<32f", base64.b64decode(text)) == pytest.approx(packed.data[0].embedding, abs=1e-6)
    assert packed.usage.prompt_tokens == packed.usage.total_tokens > 6


async def test_texts_continued_and_rewritten(real_server):
    one = await ask(real_server, "write", text=TEXTS[1], max_new_tokens=8)
    assert (one["task"], len(one["result"]), set(one["result"][0])) == ("text-generation", 1, {"generated_text"})
    assert one["result"][0]["generated_text"].startswith(TEXTS[1])
    assert len(one["result"][0]["generated_text"]) > len(TEXTS[1])
    many = await ask(real_server, "write", texts=TEXTS, max_new_tokens=8)
    assert many["result"][1] == one["result"]
    assert [row[0]["generated_text"].startswith(text) for row, text in zip(many["result"], TEXTS, strict=True)]
    same = await ask(real_server, "write", text=TEXTS[1], max_new_tokens=8, do_sample=True, seed=5, temperature=2.0)
    again = await ask(real_server, "write", text=TEXTS[1], max_new_tokens=8, temperature=2.0, seed=5)
    assert same["result"] == again["result"] != one["result"]
    length = one["tokens"] + 8
    assert (await ask(real_server, "write", text=TEXTS[1], max_length=length))["result"] == one["result"]
    for task in ("text2text-generation", "summarization", "translation"):
        new = await ask(real_server, "rewrite", texts=TEXTS, task=task, max_new_tokens=8)
        assert new["task"] == task
        assert not new["result"][1][0]["generated_text"].startswith(TEXTS[1])
    wrong = await real_server.client.post("/models/write/predict", json={"text": "x", "task": "summarization"})
    assert (wrong.status_code, wrong.json()["error"]["type"]) == (400, "task_not_supported")


async def test_a_chat_by_the_client_of_openai_with_a_real_model(real_server):
    async with AsyncOpenAI(base_url=f"{real_server.url}/v1", api_key="none") as ai:
        asked = {"model": "write", "messages": [{"role": "user", "content": TEXTS[0]}], "max_tokens": 12, "seed": 3}
        whole = await ai.chat.completions.create(**asked, logprobs=True)
        streamed = await ai.chat.completions.create(**asked, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in streamed])
    assert text == whole.choices[0].message.content
    assert len(whole.choices[0].logprobs.content) <= whole.usage.completion_tokens <= 12
    assert all(score.logprob < 0 for score in whole.choices[0].logprobs.content)
