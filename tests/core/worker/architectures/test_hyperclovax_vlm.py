"""HyperCLOVAX-SEED-Vision 3B against public implementations: `reference.py` beside this says which, and how."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor

from core.types import IMAGE_MARK, Runtime, Task
from core.worker.architectures import hyperclovax_vlm
from core.worker.architectures.hyperclovax_vlm.configuration import HCXVisionConfig
from core.worker.architectures.hyperclovax_vlm.modeling import HCXVisionForCausalLM, projector
from core.worker.architectures.hyperclovax_vlm.processing import HCXVisionProcessor
from core.worker.architectures.hyperclovax_vlm.tiling import canvases, tiling
from core.worker.runtimes import transformers_vision
from core.worker.runtimes.base import LoadRequest
from tests.core.worker.architectures import reference
from tests.fakes import hyperclovax as tiny
from tests.fakes.vision import picture

CLOSE = {"rtol": 2e-5, "atol": 2e-5}
CHAT = [
    {"role": "system", "content": [{"type": "text", "text": "짧게 답한다."}]},
    {
        "role": "user",
        "content": [{"type": "image"}, {"type": "text", "text": "무엇이 보이나요?"}, {"type": "image"}],
    },
]


@pytest.fixture(scope="module")
def recorded() -> Mapping[str, np.ndarray]:
    with np.load(reference.DATA) as found:
        return {name: found[name] for name in found.files}


@pytest.fixture(scope="module", autouse=True)
def _registered() -> Iterator[None]:
    hyperclovax_vlm.register()
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_hyperclovax(tmp_path_factory.mktemp("hyperclovax"))


@pytest.fixture(scope="module")
def model(repository: Path) -> HCXVisionForCausalLM:
    return AutoModelForImageTextToText.from_pretrained(repository, trust_remote_code=False).eval()


@pytest.fixture(scope="module")
def processor(repository: Path) -> HCXVisionProcessor:
    return AutoProcessor.from_pretrained(repository, trust_remote_code=False)


def images(*sizes: tuple[int, int]) -> list[PIL.Image.Image]:
    return [PIL.Image.fromarray(reference.picture(size)) for size in sizes]


@pytest.mark.parametrize(("kind", "prenorm"), reference.PROJECTORS)
def test_projectors_give_what_vllms_give(recorded: Any, kind: str, prenorm: bool) -> None:
    made = projector(HCXVisionConfig(**tiny.config(kind, proj_prenorm=prenorm)))
    shapes = tiny.projector_shapes(kind, prenorm=prenorm)
    made.load_state_dict(
        {name: torch.from_numpy(tiny.seeded(f"mm_projector.{name}", shape)) for name, shape in shapes.items()}
    )
    given = made(torch.from_numpy(reference.features(2))).numpy()
    np.testing.assert_allclose(given, recorded[f"{kind} {prenorm}"], **CLOSE)


@pytest.mark.parametrize("layer", [-1, -2, -3, 0, 2])
def test_the_towers_states_are_those_of_transformers_siglip(layer: int) -> None:
    ours = HCXVisionForCausalLM(HCXVisionConfig(**tiny.config(use_nth_layer=layer))).vision_model.eval()
    theirs = tiny.tower()
    assert not ours.load_state_dict(_prefixed(theirs.state_dict(), "vision_model."), strict=False).missing_keys
    pixels = torch.from_numpy(reference.tiles_of((42, 42), 3))
    states = theirs(pixels, output_hidden_states=True).hidden_states
    np.testing.assert_allclose(ours(pixels).numpy(), states[layer].numpy(), **CLOSE)


def _prefixed(state: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name: value for name, value in state.items()}


@pytest.mark.parametrize(("edge", "most"), reference.SCALES)
@pytest.mark.parametrize("unpad", [True, False])
def test_canvases_and_places_are_those_of_the_makers(recorded: Any, edge: int, most: int, unpad: bool) -> None:
    found = canvases(most, edge)
    assert [list(each) for each in found] == recorded[f"canvases {edge} {most}"].tolist()
    sizes = [(height, width) for height, width in recorded[f"shapes {edge} {most}"].tolist()]
    assert (1, 9000) in sizes  # too thin for any canvas to show a whole pixel of its height
    counted = [tiling(size, found, edge, 9, unpad=unpad).tokens for size in sizes]
    assert counted == recorded[f"counts {edge} {most} {unpad}"].tolist()


@pytest.mark.parametrize("size", reference.PICTURES)
@pytest.mark.parametrize("unpad", [True, False])
def test_an_images_rows_are_those_of_vllm(
    recorded: Any, model: HCXVisionForCausalLM, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], unpad: bool
) -> None:
    monkeypatch.setattr(model.config, "unpad", unpad)
    cut = model.config.tiling(size)
    pixels = torch.from_numpy(reference.tiles_of(size, cut.tiles))[None]
    (rows,) = model.get_image_features(pixels, torch.tensor([size])).pooler_output
    assert len(rows) == cut.tokens
    kept = rows if (size, unpad) == reference.WHOLE else rows[:, :: reference.EVERY]
    np.testing.assert_allclose(kept.numpy(), recorded[f"rows {size} {unpad}"], rtol=1e-4, atol=1e-4)


def test_images_beside_each_other_are_as_alone(model: HCXVisionForCausalLM, processor: HCXVisionProcessor) -> None:
    many = processor.image_processor(images(*reference.PICTURES), return_tensors="pt")
    for index, rows in enumerate(model.get_image_features(**many).pooler_output):
        one = processor.image_processor(images(reference.PICTURES[index]), return_tensors="pt")
        np.testing.assert_allclose(rows.numpy(), model.get_image_features(**one).pooler_output[0].numpy(), **CLOSE)


@pytest.mark.parametrize("size", reference.PICTURES)
def test_pixels_are_those_of_the_makers(recorded: Any, processor: HCXVisionProcessor, size: tuple[int, int]) -> None:
    given = processor.image_processor(images(size), return_tensors="np")
    pixels = given["pixel_values"][0]
    np.testing.assert_allclose(
        pixels[:, :, :: reference.STEP, :: reference.STEP], recorded[f"pixels {size}"], rtol=0, atol=1e-6
    )
    np.testing.assert_allclose(pixels.mean((2, 3)), recorded[f"means {size}"], rtol=0, atol=1e-5)
    assert processor.count(size) == recorded[f"count {size}"]
    assert given["image_sizes"].tolist() == [list(size)]


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_images_of_any_mode_are_tiles_of_rgb(processor: HCXVisionProcessor, mode: str) -> None:
    (image,) = images((50, 90))
    given = processor.image_processor([image.convert(mode)], return_tensors="np")["pixel_values"]
    as_rgb = processor.image_processor([image.convert(mode).convert("RGB")], return_tensors="np")["pixel_values"]
    assert np.array_equal(given, as_rgb)


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (3, 1), (1, 2000), (2000, 1)])
def test_the_smallest_images_have_places(
    model: HCXVisionForCausalLM, processor: HCXVisionProcessor, size: tuple[int, int]
) -> None:
    given = processor.image_processor(images(size), return_tensors="pt")
    (rows,) = model.get_image_features(**given).pooler_output
    assert len(rows) == processor.count(size)
    assert torch.isfinite(rows).all()


def test_the_prompt_has_a_place_for_each_row(model: HCXVisionForCausalLM, processor: HCXVisionProcessor) -> None:
    sizes = (50, 90), (260, 30)
    text = processor.apply_chat_template(CHAT, add_generation_prompt=True)
    assert text.count(tiny.IMAGE_TOKEN) == 2
    assert text.index("(vector)") < text.index("image/aux") < text.index("무엇이") < text.rindex("(vector)")
    assert text.endswith("<|im_start|>assistant\n")
    given = processor(text=text, images=images(*sizes), return_tensors="pt")
    rows = model.get_image_features(given["pixel_values"], given["image_sizes"]).pooler_output
    ids = given["input_ids"][0].tolist()
    assert ids.count(model.config.image_token_id) == sum(map(len, rows)) == sum(map(processor.count, sizes))
    parts = text.split(tiny.IMAGE_TOKEN)
    plain = [processor.tokenizer(part, add_special_tokens=False)["input_ids"] for part in parts]
    token = [model.config.image_token_id]
    assert ids == plain[0] + token * len(rows[0]) + plain[1] + token * len(rows[1]) + plain[2]


def test_a_template_may_be_told_what_is_known_of_an_image(processor: HCXVisionProcessor) -> None:
    part = {"type": "image", "ocr": "서울역", "filename": "a.png"}
    text = processor.apply_chat_template([{"role": "user", "content": [part]}])
    assert '"ocr": "서울역", "lens_keywords": ""' in text
    assert '"filename": "a.png"' in text


def test_a_template_that_needs_all_fields_of_an_image_gets_them(repository: Path, tmp_path: Path) -> None:
    """As the runtime renders it, where a field that is not there cannot be added to a text."""
    shutil.copytree(repository, tmp_path, dirs_exist_ok=True)
    template = (
        "{% for message in messages %}{% for part in message.content %}{% if part.type == 'image' %}"
        + tiny.IMAGE_TOKEN
        + "{{ '{' + part.filename + part.ocr + part.lens_keywords + part['lens_local_keywords'] + '}' }}"
        "{% else %}{{ part.text }}{% endif %}{% endfor %}{% endfor %}"
    )
    (tmp_path / "chat_template.jinja").write_text(template)
    tasks = (Task.IMAGE_TEXT_TO_TEXT, Task.TEXT_GENERATION)
    request = LoadRequest(str(tmp_path), Runtime.TRANSFORMERS, tasks, threads=1, name="org/model")
    generator = transformers_vision.load(request, lambda stage, data: None)
    image = picture(1, 90, 50)
    prompt = generator.vision.encode([{"role": "user", "content": f"a{IMAGE_MARK}b", "images": (image,)}])
    assert sum(each >= generator.codec.size for each in prompt) == 69
    assert generator.codec.decode([each for each in prompt if each < generator.codec.size]) == "a{}b"


def test_one_table_of_words_for_reading_and_writing(repository: Path, tmp_path: Path) -> None:
    """Tied weights are saved once, as released models of this size are."""
    shutil.copytree(repository, tmp_path, dirs_exist_ok=True)
    settings = json.loads((tmp_path / "config.json").read_text())
    edit_json(tmp_path / "config.json", text_config={**settings["text_config"], "tie_word_embeddings": True})
    state = load_file(tmp_path / "model.safetensors")
    del state["language_model.lm_head.weight"]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    model, report = AutoModelForImageTextToText.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_the_whole_model_is_vllms_rows_in_transformers_llama(
    recorded: Any, model: HCXVisionForCausalLM, processor: HCXVisionProcessor
) -> None:
    """Rows as vLLM computed them, written by transformers' LLaMA; ours from pixels on. Greedy, then all scores."""
    size, _ = reference.WHOLE
    rows = torch.from_numpy(recorded[f"rows {size} True"])
    text = processor.apply_chat_template(CHAT[1:], add_generation_prompt=True).replace(tiny.IMAGE_TOKEN, "", 1)
    ids = processor(text=text, images=images(size), return_tensors="pt")["input_ids"]
    places = ids[0] == model.config.image_token_id
    pixels = torch.from_numpy(reference.tiles_of(size, model.config.tiling(size).tiles))[None]

    llama = tiny.text_model(len(processor.tokenizer))
    embedded = llama.get_input_embeddings()(ids)
    embedded[0, places] = rows
    theirs = llama(inputs_embeds=embedded).logits
    ours = model(input_ids=ids, pixel_values=pixels, image_sizes=torch.tensor([size])).logits
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-3, atol=1e-3)
    wanted = llama.generate(inputs_embeds=embedded, max_new_tokens=12, do_sample=False)
    given = model.generate(
        input_ids=ids, pixel_values=pixels, image_sizes=torch.tensor([size]), max_new_tokens=12, do_sample=False
    )
    assert given[0, ids.shape[1] :].tolist() == wanted[0].tolist()


def test_embedded_prompts_go_on_from_kept_keys(model: HCXVisionForCausalLM, processor: HCXVisionProcessor) -> None:
    """As a runtime reads a prompt: images embedded on their own, the prompt in two pieces."""
    given = processor(
        text=processor.apply_chat_template(CHAT, add_generation_prompt=True),
        images=images((50, 90), (84, 84)),
        return_tensors="pt",
    )
    whole = model(**given)
    rows = torch.cat(model.get_image_features(given["pixel_values"], given["image_sizes"]).pooler_output)
    embedded = model.get_input_embeddings()(given["input_ids"])
    embedded[given["input_ids"] == model.config.image_token_id] = rows
    first = model(inputs_embeds=embedded[:, :100], use_cache=True)
    second = model(inputs_embeds=embedded[:, 100:], past_key_values=first.past_key_values, logits_to_keep=1)
    np.testing.assert_allclose(second.logits.numpy(), whole.logits[:, -1:].numpy(), rtol=1e-4, atol=1e-4)


def test_places_and_rows_have_to_agree(model: HCXVisionForCausalLM, processor: HCXVisionProcessor) -> None:
    given = processor.image_processor(images((50, 90)), return_tensors="pt")
    ids = torch.full((1, 5), model.config.image_token_id)
    with pytest.raises(ValueError, match="5 image tokens, and the images 69"):
        model(input_ids=ids, **given)


def test_all_weights_of_the_release_are_used_or_known_to_be_unused(repository: Path) -> None:
    _, report = AutoModelForImageTextToText.from_pretrained(
        repository, trust_remote_code=False, output_loading_info=True
    )
    assert not any(report.values())


def test_a_weight_of_another_name_is_noticed(repository: Path, tmp_path: Path) -> None:
    shutil.copytree(repository, tmp_path, dirs_exist_ok=True)
    state = load_file(tmp_path / "model.safetensors")
    state["mm_projector.net.0.0.conv1.conv.weight"] = state.pop("mm_projector.net.0.b1.conv1.conv.weight")
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    _, report = AutoModelForImageTextToText.from_pretrained(tmp_path, output_loading_info=True)
    assert report["missing_keys"] == {"mm_projector.net.0.b1.conv1.conv.weight"}
    assert report["unexpected_keys"] == {"mm_projector.net.0.0.conv1.conv.weight"}


def test_what_is_saved_has_the_released_names(
    model: HCXVisionForCausalLM, processor: HCXVisionProcessor, repository: Path, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    with (
        safe_open(tmp_path / "model.safetensors", "np") as saved,
        safe_open(repository / "model.safetensors", "np") as released,
    ):
        unused = set(released.keys()) - set(saved.keys())
        assert set(saved.keys()) < set(released.keys())
    assert {name.split(".")[2] for name in unused} == {"encoder", "head", "post_layernorm"}
    given = processor(text=tiny.IMAGE_TOKEN, images=images((50, 90)), return_tensors="pt")
    again = AutoProcessor.from_pretrained(tmp_path)(text=tiny.IMAGE_TOKEN, images=images((50, 90)), return_tensors="pt")
    assert all(torch.equal(given[name], again[name]) for name in given)
    logits = AutoModelForImageTextToText.from_pretrained(tmp_path)(**again).logits
    assert torch.equal(logits, model(**given).logits)


def test_the_first_revisions_files_are_understood(
    model: HCXVisionForCausalLM, processor: HCXVisionProcessor, tmp_path: Path
) -> None:
    tiny.write_hyperclovax(tmp_path, first_form=True)
    first = AutoModelForImageTextToText.from_pretrained(tmp_path, trust_remote_code=False)
    reader = AutoProcessor.from_pretrained(tmp_path, trust_remote_code=False)
    text = reader.apply_chat_template(CHAT, add_generation_prompt=True)
    assert text == processor.apply_chat_template(CHAT, add_generation_prompt=True)
    given = reader(text=text, images=images((50, 90), (42, 42)), return_tensors="pt")
    assert torch.equal(first(**given).logits, model(**given).logits)


def test_the_repositorys_code_is_never_looked_at(tmp_path: Path) -> None:
    """Whatever class its files name; with the configuration at hand, the Auto class takes ours."""
    tiny.write_hyperclovax(tmp_path, processor="HCXOther")
    for name in ("configuration_hyperclovax", "modeling_hyperclovax", "processing_hyperclovax"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('code of the repository')")
    config = AutoConfig.from_pretrained(tmp_path, trust_remote_code=False)
    found = AutoProcessor.from_pretrained(tmp_path, config=config, trust_remote_code=False)
    assert type(found) is HCXVisionProcessor
    assert type(AutoModelForImageTextToText.from_config(config, trust_remote_code=False)) is HCXVisionForCausalLM
    edit_json(tmp_path / "preprocessor_config.json", image_processor_type="HCXVisionImageProcessor")
    assert type(AutoImageProcessor.from_pretrained(tmp_path, trust_remote_code=False)) is type(found.image_processor)


def edit_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_without_tiles_an_image_is_one(repository: Path, tmp_path: Path) -> None:
    shutil.copytree(repository, tmp_path, dirs_exist_ok=True)
    edit_json(tmp_path / "config.json", anyres=False, unpad=False)
    state = load_file(tmp_path / "model.safetensors")
    del state["image_newline"]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    model, report = AutoModelForImageTextToText.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    processor = AutoProcessor.from_pretrained(tmp_path)
    given = processor(text=tiny.IMAGE_TOKEN, images=images((50, 90)), return_tensors="pt")
    assert given["pixel_values"].shape == (1, 1, 3, 42, 42)
    assert given["input_ids"].tolist() == [[model.config.image_token_id] * tiny.QUERIES]
    assert model(**given).logits.shape[1] == tiny.QUERIES
    (alone,) = model.get_image_features(given["pixel_values"]).pooler_output
    assert len(alone) == tiny.QUERIES


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"mm_projector_type": "qwen_merger"}, "its projector is 'qwen_merger'"),
        ({"num_queries_vis_abstractor_image": 10}, "10 tokens a tile, which is no square"),
        ({"max_num_grids": 1}, "allows for none"),
        ({"vision_config": {"model_type": "clip_vision_model"}}, "clip_vision_model"),
    ],
)
def test_what_is_not_implemented_says_so(changed: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        HCXVisionConfig(**tiny.config(**changed))
