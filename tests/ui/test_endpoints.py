"""Every endpoint through the real gradio_client."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from tests.fakes.hub import Fault
from tests.fakes.images import LABELS, picture
from tests.ui.conftest import NAMER, SLOW, Served

TEXT = "Anna Smith moved from Paris to New York."
ENDPOINTS = {
    "/classify": ["text", "model", "top_k", "labels", "multi_label"],
    "/classify_image": ["image", "model", "top_k"],
    "/ner": ["text", "model", "aggregation"],
    "/embed": ["text", "model", "normalize", "dimensions", "prompt_name"],
    "/generate": [
        "prompt", "model", "max_tokens", "temperature", "top_p", "top_k", "min_p",
        "repetition_penalty", "seed", "stop", "n",
    ],
    "/chat": [
        "message", "model", "system", "template", "variables", "language", "conversation_id", "keep",
        "max_tokens", "temperature", "top_p", "top_k", "repetition_penalty", "seed", "stop", "images",
    ],
    "/vision": [
        "message", "images", "model", "system", "conversation_id", "keep",
        "max_tokens", "temperature", "top_p", "top_k", "repetition_penalty", "seed", "stop",
    ],
    "/answer": ["question", "context", "model", "top_k"],
    "/fill_mask": ["text", "model", "top_k"],
    "/models": [],
    "/load": [
        "model_path", "name", "revision", "file", "runtime", "task",
        "quantization", "device", "dtype", "context_length",
    ],
    "/plan": ["model_path", "revision", "file", "runtime", "quantization", "device", "context_length"],
    "/cancel": ["model"],
    "/unload": ["model"],
    "/cleanup": [],
}  # fmt: skip

Call = Callable[..., Any]


@pytest.fixture(scope="module")
async def client(served: Served) -> Client:
    return await asyncio.to_thread(Client, served.url, verbose=False)


@pytest.fixture
def call(client: Client) -> Call:
    async def called(endpoint: str, *arguments: Any, **named: Any) -> Any:
        return await asyncio.to_thread(client.predict, *arguments, **named, api_name=endpoint)

    return called


@pytest.fixture(scope="module", autouse=True)
async def _models(client: Client) -> None:
    for name in ("classify-a", "nli", "tagger", "embedder", "reader", "filler", NAMER):
        last = await asyncio.to_thread(client.predict, name, api_name="/load")
        assert last["state"] == "ready"


async def test_the_endpoints_are_these(client: Client) -> None:
    told = await asyncio.to_thread(client.view_api, return_format="dict", print_info=False)
    named = told["named_endpoints"]
    assert {name: [each["parameter_name"] for each in one["parameters"]] for name, one in named.items()} == ENDPOINTS
    assert told["unnamed_endpoints"] == {}


async def test_classify(call: Call) -> None:
    one = await call("/classify", TEXT, model="classify-a", top_k=2)
    assert [*one["result"][0]] == ["label", "score"]
    assert len(one["result"]) == 2
    assert (one["model"], one["revision"], one["task"]) == ("classify-a", "local", "text-classification")
    many = await call("/classify", [TEXT, "other"], model="classify-a", top_k=2)
    for row, again in zip(one["result"], many["result"][0], strict=True):
        assert row["label"] == again["label"]
        assert row["score"] == pytest.approx(again["score"], abs=1e-5)
    assert len(many["result"]) == 2


async def test_classify_among_labels(call: Call) -> None:
    told = await call("/classify", TEXT, model="nli", labels=["travel", "food"], multi_label=True)
    assert {row["label"] for row in told["result"]} == {"travel", "food"}


async def test_classify_an_image(call: Call, served: Served) -> None:
    data = picture()["data"]
    one = await call("/classify_image", base64.b64encode(data).decode(), model=NAMER)
    async with httpx.AsyncClient(base_url=served.url) as client:
        told = await client.post(f"/models/{NAMER}/predict", content=data, headers={"Content-Type": "image/png"})
    assert {row["label"] for row in one["result"]} == set(LABELS)
    assert one["result"] == told.json()["result"]
    [two] = (await call("/classify_image", [base64.b64encode(data).decode()], model=NAMER, top_k=2))["result"]
    assert two == one["result"][:2]
    with pytest.raises(AppError, match="an address"):
        await call("/classify_image", "http://127.0.0.1/picture.png", model=NAMER)
    with pytest.raises(AppError, match="cannot look at images|made for|image-classification"):
        await call("/classify_image", base64.b64encode(data).decode(), model="classify-a")


async def test_ner(call: Call) -> None:
    told = await call("/ner", TEXT, model="tagger")
    assert told["result"]
    assert all(TEXT[row["start"] : row["end"]] == row["word"] for row in told["result"])
    tokens = await call("/ner", TEXT, model="tagger", aggregation="none")
    assert len(tokens["result"]) == tokens["tokens"] - 2  # but for the special ones


async def test_embed(call: Call) -> None:
    told = await call("/embed", [TEXT, "other"], model="embedder", normalize=True)
    vectors = np.array(told["result"])
    assert vectors.shape == (2, 32)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)


async def test_answer(call: Call) -> None:
    told = await call("/answer", "Who moved?", TEXT, model="reader")
    found = told["result"]
    assert TEXT[found["start"] : found["end"]] == found["answer"]
    several = await call("/answer", question="Who moved?", context=TEXT, model="reader", top_k=3)
    assert several["result"][0]["answer"] == found["answer"]


async def test_fill_mask(call: Call) -> None:
    told = await call("/fill_mask", "Anna moved to [MASK].", model="filler", top_k=3)
    assert len(told["result"]) == 3
    assert {"score", "token", "token_str", "sequence"} == set(told["result"][0])


@pytest.fixture(scope="module")
async def writer(writing: str) -> Client:
    client = await asyncio.to_thread(Client, writing, verbose=False)
    await asyncio.to_thread(client.predict, "writer", api_name="/load")
    return client


async def test_generate(writer: Client) -> None:
    job = await asyncio.to_thread(
        writer.submit, "say:안녕 🙂 you", model="writer", n=2, stop=["you"], api_name="/generate"
    )
    told = await asyncio.to_thread(job.result, 60)
    assert told["result"] == ["안녕 🙂 ", "안녕 🙂 "]
    assert told["finish_reasons"] == ["stop", "stop"]
    assert all(told["result"][0].startswith(step["result"][0]) for step in job.outputs())
    with pytest.raises(AppError, match="`temperature` must be"):
        await asyncio.to_thread(writer.predict, "x", temperature=99, api_name="/generate")


async def test_chat_with_a_conversation_and_a_template(writer: Client) -> None:
    one = await asyncio.to_thread(writer.predict, "say:one", model="writer", keep=True, api_name="/chat")
    told = {"model": "writer", "conversation_id": one["conversation_id"], "api_name": "/chat"}
    again = await asyncio.to_thread(lambda: writer.predict("what did you say?", **told))
    assert (one["result"], again["result"]) == ("one", "one")  # the first message is read again
    alone = await asyncio.to_thread(
        lambda: writer.predict("say:x", model="writer", template="sql_assistant", language="en", api_name="/chat")
    )
    assert alone["result"] == "x"
    assert alone["conversation_id"] is None
    assert alone["prompt_tokens"] > again["prompt_tokens"]
    with pytest.raises(AppError, match="There is no such conversation"):
        await asyncio.to_thread(lambda: writer.predict("x", **{**told, "conversation_id": "nobody's"}))


async def test_models_cleanup_and_unload(call: Call) -> None:
    await call("/load", "classify-b", name="for/a-while", context_length=32, device="cpu", dtype="float32")
    here = {model["name"]: model for model in await call("/models")}
    assert here["for/a-while"]["state"] == "ready"
    assert here["for/a-while"]["context_length"] == 32
    assert "cpu" in await call("/cleanup")
    assert (await call("/unload", "for/a-while"))["cpu"] > 0
    assert "for/a-while" not in {model["name"] for model in await call("/models")}


async def test_a_load_tells_its_steps_and_can_be_cancelled(client: Client, call: Call, served: Served) -> None:
    served.hub.stalled.clear()  # set by whatever stalled before
    served.hub.fail(SLOW, "model.safetensors", kind=Fault.STALL, after=1)
    job = await asyncio.to_thread(client.submit, SLOW, name="half", api_name="/load")
    await asyncio.to_thread(served.hub.stalled.wait, 30)
    assert (await call("/cancel", "half")) == "Loading half was cancelled."
    with pytest.raises(AppError, match="cancelled"):
        await asyncio.to_thread(job.result, 30)
    served.hub.heal()
    served.hub.stalled.clear()
    assert "downloading" in {step["progress"]["stage"] for step in job.outputs() if step["progress"]}
    assert "half" not in {model["name"] for model in await call("/models")}


async def test_a_plan_says_whether_a_model_fits(call: Call) -> None:
    plan = await call("/plan", "classify-b")
    [need] = plan["needs"]
    assert (plan["verdict"], need["device"], plan["download_bytes"]) == ("fits", "cpu", 0)
    assert need["total"] == need["weights"] + need["cache"] + need["activations"] + need["overhead"]


@pytest.mark.parametrize(
    ("endpoint", "arguments", "sentence"),
    [
        ("/classify", {"text": TEXT, "model": "nobody"}, "There is no model `nobody` here"),
        ("/classify", {"text": TEXT, "model": "tagger"}, "cannot do text-classification"),
        ("/classify", {"text": TEXT, "model": "classify-a", "top_k": 0}, "`top_k` must be a whole number"),
        ("/ner", {"text": TEXT, "model": "tagger", "aggregation": "most"}, "`aggregation_strategy` must be one of"),
        ("/embed", {"text": ["a"] * 3000, "model": "embedder"}, "must be a list of 1 to 2,048"),
        ("/answer", {"question": 1, "context": TEXT, "model": "reader"}, "must be a string"),
        ("/fill_mask", {"text": "no gap", "model": "filler"}, "mask"),
        ("/load", {"model_path": "org/nothing"}, "org/nothing"),
        ("/load", {"model_path": "../x"}, "is not a model's source"),
        ("/load", {"model_path": "classify-b", "name": "a b"}, "cannot be a model's name"),
        ("/load", {"model_path": "classify-b", "name": "x/predict"}, "cannot be a model's name"),
        ("/load", {"model_path": "classify-b", "runtime": "magic"}, "`runtime` must be one of"),
        ("/load", {"model_path": "classify-b", "dtype": "int3"}, "`dtype` must be one of"),
        ("/load", {"model_path": "classify-b", "device": "/dev/zero"}, "`device` must be"),
        ("/load", {"model_path": "classify-b", "context_length": -3}, "`context_length` must be"),
        ("/load", {"model_path": ""}, "Type the id of a model first"),
        ("/unload", {"model": "nobody"}, "There is no model `nobody` here"),
        ("/cancel", {"model": "classify-a"}, "there is no load to cancel"),
    ],
)
async def test_what_cannot_be_done_is_told_as_a_sentence(
    call: Call, endpoint: str, arguments: dict[str, Any], sentence: str
) -> None:
    before = {model["name"] for model in await call("/models")}
    with pytest.raises(AppError, match=sentence.replace("(", r"\(")) as caught:
        await call(endpoint, **arguments)
    assert "Traceback" not in str(caught.value)
    assert {model["name"] for model in await call("/models")} == before


async def test_pictures_that_are_named_count_as_those_that_are_sent(client: Client) -> None:
    named = [{"conversation": "none", "key": "none"}] * 9
    with pytest.raises(AppError, match="a message takes 8"):
        await asyncio.to_thread(client.predict, "look", named, api_name="/vision")
