"""The chat service, v5, over HTTP and a real worker process that says what it is shown."""

import base64
import json
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from core.core import Core
from core.errors import WorkerCrashed
from core.fleet.launcher import Launcher
from core.images.reading import read_image
from core.settings import Settings
from core.types import ModelSpec, Task
from tests.api.refusals import check_refusal
from tests.api.test_chat import KEPT, events_of
from tests.core.images.pictures import GREEN, RED, gif_frames, picture, png, png_that_says, saved
from tests.serving import serve

CHAT, STREAM = "/api/v5/vision/chat", "/api/v5/vision/chat/stream"
PREVIEW = "/api/v5/vision/preview"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def ask(served, message: str = "look", *images: bytes, **given) -> dict:
    body = {"message": message, "images": [*map(base64_of, images)], **given}
    answer = await served.client.post(CHAT, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def send(served, fields: dict, *files: bytes, name: str = "image", path: str = CHAT):
    """As a form; the names and types of its files say nothing true."""
    parts = [(name, (f"../{index}.exe", data, "text/html")) for index, data in enumerate(files)]
    return await served.client.post(path, data=fields, files=parts)


def kept_files(served) -> set[str]:
    root = Path(served.core.settings.data_dir, "images")
    return {path.relative_to(root).as_posix() for path in root.rglob("*.*")}


async def test_a_picture_in_base64(seer):
    answer = await ask(seer, "look", png(48, 32, GREEN))
    assert set(answer) == KEPT
    assert (answer["response"], answer["model"], answer["finish_reason"]) == ("48x32 #00ff00", "seer", "stop")
    assert answer["usage"]["prompt_tokens"] == len("user\n\nlook") + 4 + 1
    assert answer["usage"]["image_tokens"] == 4
    for value in (f"data:image/png;base64,{base64_of(png())}", base64_of(png())):
        alone = await seer.client.post(CHAT, json={"message": "look", "image": value, "temperature": 0})
        assert alone.json()["response"] == "48x32 #ff0000"
    both = {"message": "look", "image": base64_of(png(8, 8)), "images": [base64_of(png(9, 9))]}
    assert (await seer.client.post(CHAT, json=both)).json()["response"] == "8x8 #ff0000 9x9 #ff0000"


@pytest.mark.parametrize("name", ["image", "images"])
async def test_pictures_in_a_form(seer, name):
    fields = {"message": "look", "max_tokens": "60", "temperature": "0.5", "seed": "7", "model": "seer", "template": ""}
    answer = await send(seer, fields, png(10, 11), saved(picture(12, 13, GREEN), "BMP"), gif_frames(9), name=name)
    assert answer.status_code == 200, answer.text
    assert answer.json()["response"] == "10x11 #ff0000 12x13 #00ff00 16x16 #ff0000"
    cut = await send(seer, {**fields, "max_tokens": "5", "stop": ["x", "y"]}, png(10, 11), name=name)
    assert cut.status_code == 200, cut.text
    assert (cut.json()["response"], cut.json()["finish_reason"]) == ("10", "stop")
    said = {"message": "look", "image": f"data:;base64,{base64_of(png(8, 8))}"}
    assert (await seer.client.post(CHAT, files={k: (None, v) for k, v in said.items()})).json()[
        "response"
    ] == "8x8 #ff0000"
    nobody_chose = await seer.client.post(CHAT, data={"message": "say:x"}, files={"image": ("", b"")})
    assert nobody_chose.json()["response"] == "x"


async def test_a_stream(seer):
    answer = await send(seer, {"message": "look"}, png(), path=STREAM)
    *deltas, (name, done) = events_of(answer.text)
    assert "".join(data["delta"] for _, data in deltas) == "48x32 #ff0000"
    assert (name, done["done"], done["finish_reason"]) == (None, True, "stop")
    assert done["usage"]["image_tokens"] == 4
    assert deltas[0][1]["conversation_id"] == done["conversation_id"]
    on = await seer.client.post(STREAM, json={"message": "look", "conversation_id": done["conversation_id"]})
    assert "".join(data.get("delta", "") for _, data in events_of(on.text)) == "48x32 #ff0000"


@pytest.mark.parametrize("is_form", [False, True], ids=["json", "form"])
async def test_what_a_model_sees_of_a_picture(seer, is_form):
    drawn = picture(20, 10, GREEN)
    drawn.paste(RED, (0, 0, 10, 10))
    before = kept_files(seer)
    if is_form:
        answer = await send(seer, {"model": "seer"}, saved(drawn), path=PREVIEW)
    else:
        answer = await seer.client.post(PREVIEW, json={"image": base64_of(saved(drawn))})
    assert answer.status_code == 200, answer.text
    preview = answer.json()
    whole, halves = preview.pop("views")
    assert preview == {"model": "seer", "image_tokens": 4, "is_exact": True}
    assert (whole["columns"], whole["width"], whole["height"], len(whole["tiles"])) == (1, 8, 8, 1)
    assert (halves["columns"], halves["width"], halves["height"], len(halves["tiles"])) == (2, 10, 10, 2)
    for uri, colour in zip(halves["tiles"], (RED, GREEN), strict=True):
        kind, data = uri.split(",")
        assert kind == "data:image/png;base64"
        with Image.open(BytesIO(base64.b64decode(data))) as tile:
            assert tile.getcolors() == [(100, colour)]
    assert kept_files(seer) == before  # it is no conversation


async def test_a_preview_is_of_one_picture_that_can_be_read_by_a_model_that_sees(seer):
    one = base64_of(png())
    for body in ({}, {"images": []}, {"images": [one, one]}, {"image": one, "images": [one]}):
        assert "Send one" in check_refusal(await seer.client.post(PREVIEW, json=body), 422)["message"]
    bad = {"image": base64_of(SVG)}
    assert check_refusal(await seer.client.post(PREVIEW, json=bad), 422)["type"] == "invalid_image"
    assert (
        "an address" in check_refusal(await seer.client.post(PREVIEW, json={"image": "http://x/y.png"}), 422)["message"]
    )
    for model, status in (("writer", 400), ("nobody", 404)):
        check_refusal(await seer.client.post(PREVIEW, json={"image": one, "model": model}), status)
    check_refusal(await seer.client.post(PREVIEW, json={"image": one, "message": "look"}), 422)


async def test_a_conversation_about_pictures(seer):
    first = await ask(seer, "look", png(8, 9))
    conversation = first["conversation_id"]
    second = await ask(seer, "look", conversation_id=conversation)
    assert second["response"] == "8x9 #ff0000"
    third = await ask(seer, "look", png(10, 11, GREEN), png(8, 9), conversation_id=conversation)
    assert third["response"] == "8x9 #ff0000 10x11 #00ff00 8x9 #ff0000"
    shown = (await seer.client.get(f"/api/v4/conversations/{conversation}")).json()["messages"]
    assert [len(each["images"]) for each in shown] == [1, 0, 0, 0, 2, 0]
    image = shown[4]["images"][0]
    assert (image["width"], image["height"], image["media_type"]) == (10, 11, "image/png")
    found = await seer.client.get(image["url"])
    assert (found.headers["content-type"], found.headers["x-content-type-options"]) == ("image/png", "nosniff")
    assert found.content == (seer.core.settings.data_dir / "images" / conversation / f"{image['key']}.png").read_bytes()
    check_refusal(await seer.client.get(image["url"][:-1] + "0"), 404)
    assert len({name for name in kept_files(seer) if name.startswith(conversation)}) == 2
    again = await ask(seer, "look", conversation_id=conversation, replaces=second["message_id"])
    assert again["response"] == "8x9 #ff0000"
    assert {name for name in kept_files(seer) if name.startswith(conversation)} == {
        f"{conversation}/{shown[0]['images'][0]['key']}.png"
    }
    plain = await seer.client.post("/api/v4/chat", json={"message": "look", "conversation_id": conversation})
    assert (plain.json()["response"], plain.json()["model"]) == ("8x9 #ff0000", "seer")
    await seer.client.delete(f"/api/v4/conversations/{conversation}")
    assert not any(name.startswith(conversation) for name in kept_files(seer))


async def test_a_template_around_a_question(seer):
    answer = await ask(seer, "x", png(), template="sql_assistant", variables={"dialect": "MySQL"}, language="en")
    alone = await ask(seer, "x", png())
    assert answer["usage"]["prompt_tokens"] > alone["usage"]["prompt_tokens"] + 100
    fields = {
        "message": "x",
        "template": "sql_assistant",
        "variables": json.dumps({"dialect": "MySQL"}),
        "language": "en",
    }
    form = await send(seer, fields, png())
    assert form.json()["usage"] == answer["usage"]


async def test_a_picture_that_was_removed_by_hand(seer):
    first = await ask(seer, "look", png(8, 9), png(10, 11))
    folder = seer.core.settings.data_dir / "images" / first["conversation_id"]
    shown = (await seer.client.get(f"/api/v4/conversations/{first['conversation_id']}")).json()["messages"][0]["images"]
    (folder / f"{shown[0]['key']}.png").unlink()
    check_refusal(await seer.client.get(shown[0]["url"]), 404)
    on = await ask(seer, "look", conversation_id=first["conversation_id"])
    assert on["response"] == "10x11 #ff0000"


async def test_taken_away_and_brought_back(seer):
    first = await ask(seer, "look", png(8, 9))
    taken = await seer.client.get(f"/api/v4/conversations/{first['conversation_id']}/export")
    (made,) = (await seer.client.post("/api/v4/conversations/import", json=taken.json())).json()["ids"]
    await seer.client.delete(f"/api/v4/conversations/{first['conversation_id']}")
    assert (await ask(seer, "look", conversation_id=made))["response"] == "8x9 #ff0000"
    bad = taken.json()
    bad["conversations"][0]["messages"][0]["images"] = [f"data:image/png;base64,{base64_of(SVG)}"]
    assert "SVG" in check_refusal(await seer.client.post("/api/v4/conversations/import", json=bad), 422)["message"]


async def test_a_model_that_reads_text_alone_says_who_can_look(seer):
    for body in ({"images": [base64_of(png())]}, {}):
        for path in (CHAT, STREAM):
            refused = await seer.client.post(path, json={"message": "look", "model": "writer", **body})
            error = check_refusal(refused, 400)
            assert (error["type"], "These can: seer" in error["message"]) == ("task_not_supported", True)
    conversation = (await ask(seer, "look", png()))["conversation_id"]
    on = {"message": "say:x", "model": "writer", "conversation_id": conversation}
    assert "seer" in check_refusal(await seer.client.post("/api/v4/chat", json=on), 400)["message"]


async def test_more_pictures_than_there_may_be(seer):
    many = {"message": "look", "images": [base64_of(png())] * 4}
    assert "takes 3" in check_refusal(await seer.client.post(CHAT, json=many), 422)["message"]
    assert "takes 3" in check_refusal(await send(seer, {"message": "look"}, *[png()] * 4), 422)["message"]
    conversation = (await ask(seer, "look", *[png()] * 3))["conversation_id"]
    on = {"message": "look", "images": [base64_of(png())] * 2, "conversation_id": conversation}
    assert "Begin a new one" in check_refusal(await seer.client.post(CHAT, json=on), 422)["message"]
    assert (await ask(seer, "say:x", png(), conversation_id=conversation))["response"] == "x"


async def test_what_is_known_of_it(seer):
    info = (await seer.client.get("/api/v5/vision/info")).json()
    assert (info["model"], info["state"], info["loaded"], info["models"]) == ("seer", "loaded", True, ["seer"])
    assert (info["max_images"], info["max_conversation_images"], info["max_pixels"]) == (3, 4, 20_000_000)
    assert info["formats"] == ["PNG", "JPEG", "WebP", "GIF", "BMP"]
    assert info["context_length"] == 4096


async def test_nobody_sees(client):
    info = (await client.get("/api/v5/vision/info")).json()
    assert (info["model"], info["state"], info["loaded"], info["models"]) == (None, "absent", False, [])
    asked = await client.post(CHAT, json={"message": "x", "images": [base64_of(png())]})
    assert check_refusal(asked, 404)["type"] == "model_not_found"


# bad input; the numbers are those of the test plan


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(png_that_says(65_500, 65_500), 413, id="B62 65,500 a side"),
        pytest.param(png_that_says(10_000, 10_000), 413, id="B62 10,000 a side"),
        pytest.param(SVG, 422, id="B63"),
        pytest.param(saved(picture(), "TIFF"), 422, id="B64 TIFF"),
        pytest.param(b"%PDF-1.7\n" + png(), 422, id="B64 polyglot"),
        pytest.param(png_that_says(1, 1), 422, id="B65 1x1"),
        pytest.param(png_that_says(0, 0), 422, id="B65 0x0"),
        pytest.param(saved(picture(300, 200), "JPEG")[:-300], 422, id="B65 truncated JPEG"),
        pytest.param(b"RIFF\x24\0\0\0WAVEfmt ", 422, id="B66 sound"),
        pytest.param(b"", 422, id="empty"),
    ],
)
async def test_b62_to_b66_files_that_are_no_picture(seer, data, status):
    before = kept_files(seer)
    kind = "request_too_large" if status == 413 else "invalid_image"
    for path in (CHAT, STREAM):
        assert check_refusal(await send(seer, {"message": "look"}, data, path=path), status)["type"] == kind
        in_json = await seer.client.post(path, json={"message": "look", "image": base64_of(data)})
        assert check_refusal(in_json, status)["type"] == kind
    raw = await seer.client.post("/models/seer/predict", content=data, headers={"Content-Type": "image/png"})
    check_refusal(raw, status)
    assert kept_files(seer) == before


@pytest.mark.parametrize("form", ["CMYK", "I;16", "gif", "WEBP"])
async def test_b64_b65_what_is_odd_and_read(seer, form):
    if form == "gif":
        data = gif_frames(20_000)
    elif form == "WEBP":
        frame = picture(16, 16).convert("RGB")
        data = saved(frame, "WEBP", save_all=True, append_images=[picture(16, 16, GREEN)], lossless=True)
    else:
        data = saved(
            picture(16, 16).convert(form) if form == "CMYK" else picture(16, 16, (65535,), form),
            "JPEG" if form == "CMYK" else "PNG",
        )
    answer = await send(seer, {"message": "look"}, data)
    assert answer.json()["response"].startswith("16x16 #f")


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/x", "https://example.com/a.png", "file:///etc/passwd", "/etc/passwd"]
)
async def test_nothing_is_fetched(seer, url):
    for body in ({"image": url}, {"images": [url]}):
        error = check_refusal(await seer.client.post(CHAT, json={"message": "look", **body}), 422)
        assert (error["type"], "fetches nothing" in error["message"]) == ("invalid_image", True)
    check_refusal(await seer.client.post(CHAT, files={"message": (None, "x"), "image": (None, url)}), 422)
    check_refusal(await seer.client.post("/models/seer/predict", json={"image": url}), 422)


async def test_b14_b18_bodies_that_are_too_large_or_compressed(seer):
    large = {"message": "look", "image": f"data:image/png;base64,{'A' * 20_000_000}"}
    check_refusal(await seer.client.post(CHAT, json=large), 413)
    check_refusal(await send(seer, {"message": "look"}, b"\x89PNG\r\n\x1a\n" + b"\0" * 20_000_000), 413)
    for kind in ("application/json", "multipart/form-data; boundary=x", "image/png"):
        headers = {"Content-Encoding": "gzip", "Content-Type": kind}
        check_refusal(await seer.client.post(CHAT, content=b"\x1f\x8b", headers=headers), 415)


FORM = {"Content-Type": "multipart/form-data; boundary=x"}
PART = b'--x\r\nContent-Disposition: form-data; name="message"\r\n\r\nlook\r\n'


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(PART * 10_000 + b"--x--\r\n", id="B16 ten thousand parts"),
        pytest.param(PART * 2 + b"--x--\r\n", id="a field twice"),
        pytest.param(PART, id="cut between parts"),
        pytest.param(PART[:-10], id="cut within one"),
        pytest.param(b"", id="empty"),
        pytest.param(b"look", id="no form"),
        pytest.param(b"--x\r\n\r\nlook\r\n--x--\r\n", id="no headers"),
        pytest.param(b"--x\r\nContent-Disposition: form-data\r\n\r\nlook\r\n--x--\r\n", id="no name"),
        pytest.param(b"--x\r\n" + b"A: b\r\n" * 10_000 + b"\r\n\r\n--x--\r\n", id="very many headers"),
        pytest.param(b"--x\r\nA: " + b"b" * 100_000 + b"\r\n\r\n\r\n--x--\r\n", id="a long header"),
        pytest.param(PART.replace(b"look", b"\xff\xfe") + b"--x--\r\n", id="not UTF-8"),
        pytest.param(PART.replace(b"message", b"surprise") + b"--x--\r\n", id="unknown field"),
        pytest.param(PART.replace(b"message", b"max_tokens") + PART + b"--x--\r\n", id="no number"),
        pytest.param(PART.replace(b'"message"', b'"message"; filename="a"') + b"--x--\r\n", id="a file as text"),
        pytest.param(PART.replace(b"message", b"variables") + PART + b"--x--\r\n", id="no object"),
        pytest.param(PART.replace(b"message", b"\\") + b"--x--\r\n", id="an odd name"),
    ],
)
async def test_b16_forms_that_are_none(seer, body):
    check_refusal(await seer.client.post(CHAT, content=body, headers=FORM), 422)


async def test_b15_no_boundary_and_other_types(seer):
    for kind, status in (
        ("multipart/form-data", 422),
        ("multipart/form-data; boundary=", 422),
        ("multipart/form-data; boundary=" + "x" * 2000, 422),
        ("multipart/mixed; boundary=x", 415),
        ("application/x-www-form-urlencoded", 415),
        ("text/plain", 415),
        ("image/png", 415),
    ):
        check_refusal(await seer.client.post(CHAT, content=PART + b"--x--\r\n", headers={"Content-Type": kind}), status)
    for path in ("/api/v4/chat", "/v1/chat/completions"):  # which take no forms
        check_refusal(await seer.client.post(path, content=PART + b"--x--\r\n", headers=FORM), 415)


@pytest.mark.parametrize("field", ["image_url", "picture", "n", "messages", "task", "surprise"])
async def test_fields_that_it_does_not_know(seer, field):
    assert (
        f"`{field}`" in check_refusal(await seer.client.post(CHAT, json={"message": "x", field: "x"}), 422)["message"]
    )
    for version in ("v1", "v2", "v3", "v4"):
        later = await seer.client.post(f"/api/{version}/chat", json={"message": "x", "images": []})
        assert "`images`" in check_refusal(later, 422)["message"]


async def test_a_worker_that_dies_while_it_looks(seer):
    answer = await seer.client.post(CHAT, json={"message": "die", "images": [base64_of(png())]})
    assert check_refusal(answer, 503)["type"] == WorkerCrashed.type
    assert (await ask(seer, "look", png(), model="seer"))["response"] == "48x32 #ff0000"


async def test_conversations_with_pictures_outlive_a_restart(fake_models, tmp_path):
    from core.settings import Settings

    settings = Settings(
        _env_file=None,
        models_dir=fake_models,
        data_dir=tmp_path / "data",
        starter_dir=fake_models / "none",
        offline=True,
    )
    async with serve(Core(settings, Launcher("tests.fakes.runtime"))) as served:
        await served.load("seer")
        conversation = (await ask(served, "look", png(8, 9)))["conversation_id"]
    async with serve(Core(settings, Launcher("tests.fakes.runtime"))) as served:
        await served.load("seer")
        assert (await ask(served, "look", conversation_id=conversation))["response"] == "8x9 #ff0000"


# predict


async def test_a_prediction_about_a_picture(seer):
    expected = [{"generated_text": "48x32 #ff0000"}]
    in_json = await seer.client.post("/models/seer/predict", json={"image": base64_of(png()), "text": "look"})
    assert in_json.status_code == 200, in_json.text
    body = in_json.json()
    assert (body["task"], body["result"]) == ("image-text-to-text", expected)
    assert body["input"] == {"image": {"width": 48, "height": 32}, "text": "look"}
    alone = await seer.client.post("/models/seer/predict", json={"text": "say:hi"})
    assert alone.json()["result"] == [{"generated_text": "hi"}]
    for kind in ("image/png", "image/jpeg", "application/octet-stream"):
        raw = await seer.client.post("/models/seer/predict", content=png(), headers={"Content-Type": kind})
        assert raw.status_code == 200, raw.text
        assert raw.json()["result"] == [{"generated_text": "ok"}]
    for bad in (
        {"image": base64_of(png()), "texts": ["x"]},
        {"image": base64_of(png()), "question": "x"},
        {"image": 1},
    ):
        check_refusal(await seer.client.post("/models/seer/predict", json=bad), 422)
    refused = await seer.client.post("/models/writer/predict", json={"image": base64_of(png()), "text": "look"})
    assert "These can: seer" in check_refusal(refused, 400)["message"]


def test_the_colours_that_the_fake_names_are_those_that_are_drawn():
    assert (RED, GREEN) == ((255, 0, 0), (0, 255, 0))


async def test_a_graph_alone_that_names_pictures_as_the_guide_has_it(tmp_path, monkeypatch):
    from core.settings import Settings
    from tests.fakes.images import write_graph

    monkeypatch.chdir(tmp_path)
    maps = write_graph(tmp_path / "models" / "vision-model.onnx")
    settings = Settings(
        _env_file=None, data_dir="data", starter_dir="none", offline=True, vision_model_path="models/vision-model.onnx"
    )  # fmt: skip
    async with serve(Core(settings)) as served:
        path = "/models/vision-model/predict"
        raw = await served.client.post(path, content=png(32, 32, GREEN), headers={"Content-Type": "image/png"})
        assert raw.status_code == 200, raw.text
        found = raw.json()
        assert (found["task"], found["model_name"]) == ("image-classification", "vision-model")
        assert found["input"] == {"image": {"width": 32, "height": 32}, "text": ""}
        assert len(found["result"]) == len(maps)
        assert sum(each["score"] for each in found["result"]) == pytest.approx(1, abs=1e-5)
        again = await served.client.post(path, json={"image": base64_of(png(32, 32, GREEN)), "top_k": 1})
        assert again.json()["result"] == found["result"][:1]
        check_refusal(await served.client.post(path, json={"image": base64_of(png()), "text": "why?"}), 422)
        check_refusal(await served.client.post(path, json={"text": "why?"}), 422)
        assert served.core.default_model(Task.IMAGE_CLASSIFICATION) == "vision-model"
        asked = await served.client.post(CHAT, json={"message": "x", "images": [base64_of(png())]})
        assert check_refusal(asked, 404)["type"] == "model_not_found"


async def test_the_pictures_of_all_conversations_together(fake_models, tmp_path):
    """A key may keep so many bytes of them, and the others' are theirs."""
    mine, yours = {"X-API-Key": "mine"}, {"X-API-Key": "yours"}
    one = len(read_image(png(8, 9))["data"])
    settings = Settings(
        _env_file=None, models_dir=fake_models, data_dir=tmp_path / "data", starter_dir=fake_models / "none",
        offline=True, api_keys="mine,yours", max_stored_images_mb=2 * one / 2**20,
    )  # fmt: skip
    async with serve(Core(settings, Launcher("tests.fakes.runtime"))) as served:
        await (await served.core.load(ModelSpec("seer", "seer"), admin=True)).done

        async def post(path: str, body: dict, key: dict = mine):
            return await served.client.post(path, json=body, headers=key)

        picture, other = {"image": base64_of(png(8, 9))}, {"image": base64_of(png(8, 9, GREEN))}
        kept = [(await post(CHAT, {"message": "look", **picture})).json()["conversation_id"] for _ in range(2)]
        full = kept_files(served)
        taken = (await served.client.get(f"/api/v4/conversations/{kept[0]}/export", headers=mine)).json()
        for path, body in (
            (CHAT, {"message": "look", **picture}),
            (STREAM, {"message": "look", **picture}),
            (CHAT, {"message": "look", **other, "conversation_id": kept[0]}),
            ("/api/v4/conversations/import", taken),
        ):
            error = check_refusal(await post(path, body), 409)
            assert (error["type"], error["retryable"]) == ("image_quota_exceeded", False)
            assert "Delete conversations" in error["message"]
        listed = (await served.client.get("/api/v4/conversations", headers=mine)).json()
        assert (listed["total"], [each["message_count"] for each in listed["items"]]) == (2, [2, 2])
        assert kept_files(served) == full
        assert len(full) == 2

        again = await post(CHAT, {"message": "look", **picture, "conversation_id": kept[0]})  # no file more
        assert again.status_code == 200, again.text
        question = (await served.client.get(f"/api/v4/conversations/{kept[1]}", headers=mine)).json()["messages"][0]
        place = {"conversation_id": kept[1], "replaces": question["id"]}
        assert (await post(CHAT, {"message": "look", **other, **place})).json()["response"] == "8x9 #00ff00"
        assert (await post(CHAT, {"message": "look", **picture}, yours)).status_code == 200
        await served.client.delete(f"/api/v4/conversations/{kept[0]}", headers=mine)
        assert (await post(CHAT, {"message": "look", **picture})).status_code == 200
