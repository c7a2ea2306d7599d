"""The text generation service: prompts, instructions, the model behind them, and streams."""

import asyncio
import json
import os
import shutil

import httpx
import pytest

from tests.serving import Served

PROMPT = "say:안녕하세요"  # 19 bytes


async def ask(served: Served, path: str, **body) -> dict:
    answer = await served.client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def events(served: Served, path: str, **body) -> list[tuple[str, dict]]:
    """(name, data) of each event; a name is empty where there is none."""
    async with served.client.stream("POST", path, json={**body, "stream": True}) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        return [parsed(block) async for block in blocks(answer)]


async def blocks(answer: httpx.Response):
    text = "".join([piece async for piece in answer.aiter_text()])
    for block in text.removesuffix("\n\n").split("\n\n"):
        yield block


def parsed(block: str) -> tuple[str, dict]:
    fields = dict(line.split(": ", 1) for line in block.split("\n"))
    return fields.get("event", ""), json.loads(fields["data"])


async def test_a_prompt_is_continued(writer):
    answer = await ask(writer, "/generate", prompt=PROMPT)
    assert answer["generated_text"] == [PROMPT + "안녕하세요"]
    assert (answer["prompt"], answer["model_name"]) == (PROMPT, "writer")
    assert answer["generation_time"] >= 0
    assert answer["finish_reasons"] == ["stop"]
    assert answer["usage"] == {"prompt_tokens": 20, "completion_tokens": 16}


async def test_the_request_of_the_guide(writer):
    answer = await ask(
        writer, "/generate", prompt="count:300", max_new_tokens=256, temperature=0.7, top_p=0.9, top_k=50,
        repetition_penalty=1.1, do_sample=True, num_return_sequences=2,
    )  # fmt: skip
    assert [len(text) - len("count:300") for text in answer["generated_text"]] == [256, 256]
    assert answer["finish_reasons"] == ["length", "length"]
    assert (await ask(writer, "/generate", prompt="count:300"))["generated_text"] == answer["generated_text"][:1]
    stopped = await ask(writer, "/generate", prompt="count:300", stop=["fg"], seed=3, do_sample=False)
    assert stopped["generated_text"] == ["count:300abcde"]


async def test_an_instruction_and_what_it_is_about(writer):
    answer = await ask(writer, "/chat", instruction="Repeat this.", input="say:그대로")
    assert (answer["response"], answer["instruction"]) == ("그대로", "Repeat this.")
    assert (answer["model_name"], answer["finish_reason"]) == ("writer", "stop")
    assert answer["generation_time"] >= 0
    with_system = await ask(writer, "/chat", instruction="say:x", system="Be brief.", model="writer")
    grown = with_system["usage"]["prompt_tokens"] - len("system\nBe brief.\n")
    assert grown == (await ask(writer, "/chat", instruction="say:x"))["usage"]["prompt_tokens"]


async def test_a_stream_says_the_same_bit_by_bit(writer):
    *deltas, done = await events(writer, "/generate", prompt=PROMPT, num_return_sequences=2)
    assert [name for name, _ in (*deltas, done)] == [""] * (len(deltas) + 1)
    texts = ["", ""]
    for _, data in deltas:
        assert data.keys() == {"delta", "index"}
        texts[data["index"]] += data["delta"]
    assert texts == ["안녕하세요"] * 2
    assert len(deltas) == 10  # a character each
    last = done[1]
    assert last.pop("generation_time") >= 0
    assert last == {
        "done": True, "finish_reason": "stop", "finish_reasons": ["stop", "stop"], "model_name": "writer",
        "usage": {"prompt_tokens": 20, "completion_tokens": 32},
    }  # fmt: skip
    *deltas, done = await events(writer, "/chat", instruction="say:hello")
    assert "".join(data["delta"] for _, data in deltas) == "hello"
    assert done[1]["done"] is True


async def test_an_error_after_the_first_token_is_an_event_and_before_it_an_answer(writer):
    *deltas, error = await events(writer, "/generate", prompt="then:oom\ncount:9")
    assert "".join(data["delta"] for _, data in deltas) == "ab"
    assert error[0] == "error"
    assert error[1]["error"]["type"] == "insufficient_memory"
    assert error[1]["error"].keys() == {"type", "message", "request_id", "retryable"}
    answer = await writer.client.post("/generate", json={"prompt": "x" * 5000, "stream": True})
    assert (answer.status_code, answer.json()["error"]["type"]) == (422, "context_length_exceeded")


async def test_a_client_that_leaves_a_stream_stops_its_model(writer, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    body = {"prompt": f"then:wait:{fifo}\ncount:4000", "stream": True}
    async with writer.client.stream("POST", "/generate", json=body) as answer:
        await anext(answer.aiter_bytes())
    record = writer.core.registry.get("writer")
    while record.leases:
        await asyncio.sleep(0.01)
    await asyncio.to_thread(fifo.write_bytes, b"go")
    assert (await ask(writer, "/generate", prompt="say:b"))["generated_text"] == ["say:bb"]


@pytest.mark.parametrize(
    ("path", "fields", "named"),
    [
        ("/generate", {"surprise": 1}, "surprise"), ("/generate", {"max_new_tokens": 0}, "max_new_tokens"),
        ("/generate", {"num_return_sequences": 10**9}, "num_return_sequences"), ("/generate", {"top_p": 1.5}, "top_p"),
        ("/generate", {"temperature": "0.7"}, "temperature"), ("/generate", {"stop": "x" * 800_000}, "stop"),
        ("/generate", {"stop": [""]}, "stop"), ("/generate", {"prompt": 5}, "prompt"),
        ("/generate", {"prompt": ""}, "prompt"), ("/generate", {"stream": "yes"}, "stream"),
        ("/chat", {"top_k": 5}, "top_k"), ("/chat", {"instruction": None}, "instruction"),
        ("/chat", {"input": ["x"]}, "input"), ("/chat", {"prompt": "x"}, "prompt"),
    ],
)  # fmt: skip
async def test_a_wrong_field_is_refused_by_name(writer, path, fields, named):
    body = {"prompt" if path == "/generate" else "instruction": "say:x", **fields}
    answer = await writer.client.post(path, json=body)
    assert answer.status_code == 422
    assert named in answer.json()["detail"]
    assert len(answer.content) < 2000


async def test_which_model_writes(server, tmp_path, fake_models):
    missing = await server.client.get("/model_info")
    assert (missing.status_code, missing.json()["detail"]) == (404, "Model not found or not loaded")
    assert (await server.client.post("/generate", json={"prompt": "x"})).status_code == 404
    await server.load("a")
    assert (await server.client.post("/generate", json={"prompt": "x", "model": "a"})).status_code == 400
    shutil.copytree(fake_models / "writer", tmp_path / "final_model")
    loaded = await server.client.post("/load_model", params={"model_path": str(tmp_path / "final_model")})
    assert loaded.json() == {
        "message": "Model final_model loaded successfully", "model_name": "final_model",
        "model_path": str(tmp_path / "final_model"), "device": "cpu",
    }  # fmt: skip
    await server.client.post("/load_model?model_path=writer&load_in_8bit=false&load_in_4bit=false")
    info = (await server.client.get("/model_info")).json()
    assert info == {
        "model_name": "writer", "model_path": "writer", "device": "cpu", "gpu_memory_allocated": "0.00 GB",
        "gpu_memory_reserved": "0.00 GB", "state": "loaded", "context_length": 4096,
    }  # fmt: skip
    assert (await ask(server, "/generate", prompt="say:b"))["model_name"] == "writer"
    assert (await ask(server, "/generate", prompt="say:b", model="final_model"))["model_name"] == "final_model"
    for path in ("/metrics", "/system/status", "/models"):
        assert (await server.client.get(path)).status_code == 200
        assert "final_model" in (await server.client.get(path)).text


@pytest.mark.parametrize(
    "query",
    ["", "model_path=", "model_path=%00", "model_path=..", "model_path=/proc/self", "model_path=" + "x" * 1025,
     "model_path=no/where", "model_path=/no/where", "model_path=a&load_in_8bit=true&load_in_4bit=true",
     "model_path=a&load_in_8bit=maybe", "model_path=http://169.254.169.254/", "model_path=a/predict"],
)  # fmt: skip
async def test_a_model_that_cannot_be_loaded_changes_nothing(shared, query):
    answer = await shared.client.post(f"/load_model?{query}")
    assert answer.status_code in (404, 422, 503), answer.text
    assert shared.core.registry.records() == []
    assert (await shared.client.get("/model_info")).status_code == 404
