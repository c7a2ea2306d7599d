"""huggingface_hub's client at the address of a model that looks at pictures, or names them."""

import base64
import io
from typing import Any

import pytest
import transformers
from huggingface_hub import AsyncInferenceClient
from huggingface_hub.errors import HfHubHTTPError
from PIL import Image as Pillow

from core.core import Core
from core.settings import Settings
from tests.api.refusals import check_refusal
from tests.core.images.pictures import GREEN, RED, picture, png, saved
from tests.fakes.images import LABELS, write_classifier
from tests.fakes.images import picture as spots
from tests.fakes.vision import write_vision
from tests.serving import serve

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # how huggingface_hub sends files


def client(served: Any, name: str) -> AsyncInferenceClient:
    return AsyncInferenceClient(model=f"{served.url}/models/{name}", token="none")


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def test_questions_about_a_picture(seer, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(saved(picture(20, 10, GREEN), "JPEG", quality=100, subsampling=0))
    async with client(seer, "seer") as asked:
        (found,) = await asked.visual_question_answering(png(48, 32, RED), "look")
        assert (found.answer, found.score) == ("48x32 #ff0000", None)
        (found,) = await asked.visual_question_answering(tmp_path / "photo.jpg", "look", top_k=3)
        assert found.answer.startswith("20x10 #")
        (found,) = await asked.document_question_answering(png(10, 11, GREEN), "look")
        assert (found.answer, found.start) == ("10x11 #00ff00", None)
        written = await asked.image_to_text(png())
        assert written.generated_text == "ok"  # what this model says where nothing is asked


async def test_bytes_of_which_nobody_says_what_they_are(seer):
    for headers in ({}, {"Content-Type": "image/png"}, {"Content-Type": "application/octet-stream"}):
        answer = await seer.client.post("/models/seer", content=png(), headers=headers)
        assert (answer.status_code, answer.json()) == (200, [{"generated_text": "ok"}])
    in_a_uri = {"inputs": f"data:image/png;base64,{base64_of(png())}", "question": "look", "parameters": None}
    assert (await seer.client.post("/models/seer", json=in_a_uri)).json() == [{"answer": "48x32 #ff0000"}]


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({}, 422, "invalid_request"),
        ({"inputs": 1}, 422, "invalid_request"),
        ({"inputs": "no base64!"}, 422, "invalid_image"),
        ({"inputs": "https://example.com/photo.png"}, 422, "invalid_image"),
        ({"inputs": base64_of(b"<svg/>")}, 422, "invalid_image"),
        ({"inputs": {"image": base64_of(png())}}, 422, "invalid_request"),
        ({"inputs": {"image": "", "question": "look"}}, 422, "invalid_image"),
        ({"inputs": base64_of(png()), "question": ["look"]}, 422, "invalid_request"),
        ({"inputs": base64_of(png()), "parameters": {"threshold": 0.5}}, 422, "invalid_request"),
        ({"inputs": base64_of(png()), "parameters": {"top_k": "all"}}, 422, "invalid_request"),
        ({"inputs": base64_of(png()), "parameters": {"candidate_labels": ["a", "b"]}}, 400, "task_not_supported"),
        ({"text": "look"}, 422, "invalid_request"),
    ],
)
async def test_what_is_refused(seer, body, status, kind):
    assert check_refusal(await seer.client.post("/models/seer", json=body), status)["type"] == kind


async def test_errors_reach_who_uses_the_client(seer):
    async with client(seer, "seer") as asked:
        with pytest.raises(HfHubHTTPError, match="invalid_image"):
            await asked.image_to_text(png()[:40])
        with pytest.raises(HfHubHTTPError, match="task_not_supported"):
            await asked.zero_shot_image_classification(png(), ["cat", "dog"])
    async with client(seer, "writer") as asked:
        with pytest.raises(HfHubHTTPError, match="writer cannot look at images. These can: seer"):
            await asked.visual_question_answering(png(), "look")
    async with client(seer, "nobody") as asked:
        with pytest.raises(HfHubHTTPError, match="model_not_found"):
            await asked.image_to_text(png())
    for kind in ("text/plain", "audio/wav", "multipart/form-data; boundary=x"):
        check_refusal(await seer.client.post("/models/seer", content=png(), headers={"Content-Type": kind}), 415)


@pytest.fixture(scope="module")
async def real(tmp_path_factory):
    """A tiny ViT and a tiny SmolVLM with random weights, in processes of their own."""
    root = tmp_path_factory.mktemp("models")
    write_classifier(root / "names", "vit")
    write_vision(root / "looks", "smolvlm")
    settings = Settings(_env_file=None, models_dir=root, data_dir=root / "data", offline=True)
    async with serve(Core(settings)) as served:
        await served.load("names", "looks")
        yield served


async def test_labels_are_those_of_transformers(real):
    image = spots(3)["data"]
    path = real.core.settings.models_dir / "names"
    reference = transformers.pipeline("image-classification", model=str(path))
    expected = reference(Pillow.open(io.BytesIO(image)).convert("RGB"), top_k=len(LABELS))
    async with client(real, "names") as asked:
        found = await asked.image_classification(image)
        assert [each.label for each in found] == [each["label"] for each in expected]
        assert [each.score for each in found] == pytest.approx([each["score"] for each in expected], abs=1e-5)
        few = await asked.image_classification(image, top_k=2, function_to_apply="none")
        assert [each.label for each in few] == [each["label"] for each in expected[:2]]
        assert few[0].score != pytest.approx(found[0].score, abs=1e-3)
        with pytest.raises(HfHubHTTPError, match="reads an image alone"):
            await asked.visual_question_answering(image, "what is it?")


async def test_a_model_that_looks_writes_of_what_it_is_shown(real):
    said = []
    for image in (spots(1)["data"], spots(2)["data"]):
        predicted = await real.client.post("/models/looks/predict", content=image, headers={"Content-Type": "image/*"})
        async with client(real, "looks") as same:
            said.append((await same.image_to_text(image)).generated_text)
        assert [{"generated_text": said[-1]}] == predicted.json()["result"]
    assert said[0] != said[1]
