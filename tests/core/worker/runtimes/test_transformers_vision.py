"""Models that see: prompts are laid out as their processors do, and greedy tokens are those of `generate`."""

from __future__ import annotations

import functools
import io
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
import transformers

from core.errors import ContextOverflow, InsufficientMemory, InvalidRequest
from core.types import Image, Message, Prompt, Quantization, Runtime, Sampling, Task, View
from core.worker.generation import prompts
from core.worker.generation.answer import Job
from core.worker.generation.base import Chunk
from core.worker.generation.scheduler import Scheduler
from core.worker.runtimes import transformers_vision
from core.worker.runtimes.base import LoadRequest
from core.worker.runtimes.transformers_vision import TransformersVision, load
from tests.core.worker.runtimes.writing import NOISE, Sequence_, greedy
from tests.fakes.vision import SEEING, opened, picture, write_vision

TASKS = (Task.IMAGE_TEXT_TO_TEXT, Task.TEXT_GENERATION)
SQUARE, WIDE, TALL = picture(1, 48, 48), picture(2, 90, 40), picture(3, 30, 70)
Turn = tuple[str, list[str | Image]]

ONE: list[Turn] = [("user", [SQUARE, "what colour is it?"])]
TWO: list[Turn] = [
    ("user", [WIDE, "what is this? ", TALL, " and that?"]),
    ("assistant", ["a bird and a tree"]),
    ("user", ["which is larger?"]),
]
TEXT: list[Turn] = [("user", ["count to ten, please"])]
MORE: list[Turn] = [("user", ["look: ", TALL, "yes"])]


def messages(chat: list[Turn]) -> tuple[Message, ...]:
    found: list[Message] = []
    for role, parts in chat:
        content = "".join(part if isinstance(part, str) else "\ufffc" for part in parts)
        found.append({"role": role, "content": content, "images": tuple(p for p in parts if not isinstance(p, str))})
    return tuple(found)


def conversation(chat: list[Turn]) -> list[dict[str, Any]]:
    """As transformers takes it."""
    return [
        {
            "role": role,
            "content": [
                {"type": "text", "text": part} if isinstance(part, str) else {"type": "image", "image": opened(part)}
                for part in parts
            ],
        }
        for role, parts in chat
    ]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return functools.cache(lambda name: write_vision(tmp_path_factory.mktemp(name), name))


def loaded(path: Path, **more: Any) -> TransformersVision:
    request = LoadRequest(str(path), Runtime.TRANSFORMERS, TASKS, threads=1, name="org/model", **more)
    return load(request, lambda stage, data: None)


@pytest.fixture(scope="module")
def seeing(directory):
    return functools.cache(lambda name: loaded(directory(name)))


def processed(processor: Any, chat: list[Turn]) -> Any:
    is_film = isinstance(processor, transformers.SmolVLMProcessor)  # which asks after its reader of films
    write = transformers.ProcessorMixin.apply_chat_template if is_film else type(processor).apply_chat_template
    return write(
        processor,
        conversation(chat),
        tokenize=True,
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
    )


def encoded(generator: TransformersVision, chat: list[Turn]) -> list[int]:
    job = prompts.prepare(generator, Prompt(messages=messages(chat)), Sampling(), lambda delta: None, lambda job: None)
    return list(job.prompt)


class Expected:
    """What `generate` writes, past any end token, and how far apart its scores lay."""

    def __init__(self, model: Any, processor: Any, chat: list[Turn], count: int) -> None:
        model.generation_config.eos_token_id = None
        inputs = processed(processor, chat)
        written = model.generate(
            **inputs,
            do_sample=False,
            max_new_tokens=count,
            pad_token_id=1,
            return_dict_in_generate=True,
            output_logits=True,
        )
        self.tokens = written.sequences[0, inputs["input_ids"].shape[1] :].tolist()
        self._logits = written.logits

    def parted(self, ours: list[int], noise: float = NOISE) -> int:
        """0 when equal, 1 when they part within float noise; fails otherwise."""
        assert len(ours) == len(self.tokens)
        for at, (mine, theirs) in enumerate(zip(ours, self.tokens, strict=True)):
            if mine != theirs:
                gap = float(self._logits[at][0, theirs] - self._logits[at][0, mine])
                assert gap < noise, f"{ours} is not {self.tokens}: they part at {at} by {gap}"
                return 1
        return 0


def begun(generator: TransformersVision, chat: list[Turn], count: int, joins_at: int = 0, slot: int = 0) -> Sequence_:
    generator.trim(slot, 0)
    generator.vision.show(slot, [part for _, parts in chat for part in parts if not isinstance(part, str)])
    return Sequence_(generator.begin(slot, encoded(generator, chat)), count, joins_at, slot)


@pytest.mark.parametrize("name", SEEING)
def test_prompts_are_laid_out_as_the_processor_does(name: str, seeing, own) -> None:
    generator, processor = seeing(name), own(name)
    image_token = processor.tokenizer.convert_tokens_to_ids(processor.image_token)
    for chat in (ONE, TWO, MORE, TEXT):
        ids, size = encoded(generator, chat), generator.codec.size
        theirs = processed(processor, chat)["input_ids"][0].tolist()
        assert [image_token if each >= size else each for each in ids] == theirs
    shown = [each for each in encoded(generator, TWO) if each >= generator.codec.size]
    assert len(set(shown)) == len(shown)
    again = [each for each in encoded(generator, MORE) if each >= generator.codec.size]
    assert again == shown[-len(again) :]  # the same picture in another chat has the same ids


@pytest.mark.parametrize("name", SEEING)
def test_tokens_are_those_of_generate_alone_and_in_company(name: str, seeing, own, plain) -> None:
    generator = seeing(name)
    chats, counts = (ONE, TEXT, TWO, MORE), (12, 20, 14, 8)
    expected = [Expected(plain(name), own(name), chat, count) for chat, count in zip(chats, counts, strict=True)]
    assert expected[0].tokens != expected[3].tokens[:12]
    parted = 0
    for chat, count, theirs in zip(chats, counts, expected, strict=True):
        [alone] = greedy(generator, [begun(generator, chat, count)])
        parted += theirs.parted(alone)
    for prefill in (1000, 7):
        company = [
            begun(generator, chat, count, joins_at, slot)
            for slot, (chat, count, joins_at) in enumerate(zip(chats, counts, (2, 0, 4, 0), strict=True))
        ]
        for ours, theirs in zip(greedy(generator, company, prefill=prefill), expected, strict=True):
            parted += theirs.parted(ours)
    assert parted <= 1


@pytest.mark.parametrize("name", ["smolvlm", "qwen2_vl"])
def test_what_is_seen_matters_to_what_is_said(name: str, seeing) -> None:
    generator = seeing(name)
    said = []
    for image in (SQUARE, WIDE, TALL):
        said += greedy(generator, [begun(generator, [("user", [image, "what is it?"])], 12)])
    assert len({tuple(each) for each in said}) == 3


class Talk:
    """Chats through the scheduler."""

    def __init__(self, generator: TransformersVision, on_step: Callable[[], None] = lambda: None) -> None:
        self.generator = generator
        self.scheduler = Scheduler(generator, on_step)
        self.done: list[Job] = []

    def ask(self, *chats: list[Turn], count: int = 8) -> list[Job]:
        """Asked at once, and answered to the end."""
        jobs = [
            prompts.prepare(
                self.generator,
                Prompt(messages=messages(chat)),
                Sampling(max_tokens=count, temperature=0, ignore_eos=True),
                lambda delta: None,
                self.done.append,
            )
            for chat in chats
        ]
        for job in jobs:
            self.scheduler.add(job)
        while any(job not in self.done for job in jobs):
            self.scheduler.step()
        return jobs


def drawn(job: Job) -> list[int]:
    return job.answers[0].tokens[len(job.prompt) :]


@pytest.fixture
def tower(monkeypatch):
    """Counts how often images are embedded."""

    def watch(generator: TransformersVision) -> list[int]:
        calls: list[int] = []
        real = generator.vision._passage
        monkeypatch.setattr(generator.vision, "_passage", lambda image: calls.append(1) or real(image))
        return calls

    return watch


@pytest.mark.parametrize("name", ["idefics3", "qwen2_vl"])
def test_a_question_on_the_same_picture_does_not_embed_it_again(name: str, directory, own, plain, tower) -> None:
    generator = loaded(directory(name))
    calls, talk = tower(generator), Talk(generator)
    [first] = talk.ask(ONE)
    once = len(calls)
    assert first.usage.prompt_tokens == processed(own(name), ONE)["input_ids"].shape[1]
    on = [*ONE, ("assistant", ["it is red"]), ("user", ["are you sure?"])]
    [second] = talk.ask(on)
    places = sum(each >= generator.codec.size for each in first.prompt)
    assert second.cached_tokens > places  # read already, in its slot
    assert Expected(plain(name), own(name), on, 8).parted(drawn(second)) == 0
    elsewhere = [("user", ["say: ", SQUARE, "what shape?"])]
    [third] = talk.ask(elsewhere)  # in another chat, which begins with other words
    assert Expected(plain(name), own(name), elsewhere, 8).parted(drawn(third)) == 0
    assert len(calls) == once
    wide, both = [("user", [WIDE, "what is it?"])], [("user", [SQUARE, "and ", WIDE, "?"])]
    for job, chat in zip(talk.ask(wide, both, ONE), (wide, both, ONE), strict=True):
        assert Expected(plain(name), own(name), chat, 8).parted(drawn(job)) == 0
    seen = len(calls)
    assert seen > once
    talk.ask(both, wide)
    assert len(calls) == seen


@pytest.mark.parametrize("name", ["qwen2_vl", "smolvlm", "hyperclovax_vlm"])
def test_without_room_for_images_they_are_embedded_again(name: str, directory, own, plain, tower, monkeypatch) -> None:
    monkeypatch.setattr(transformers_vision, "EMBEDDED_BYTES", 1)
    generator = loaded(directory(name))
    generator.prefill_tokens = 5  # an image is read in several steps
    calls, talk = tower(generator), Talk(generator)
    for job, chat in zip(talk.ask(TWO, TEXT), (TWO, TEXT), strict=True):
        assert Expected(plain(name), own(name), chat, 8).parted(drawn(job)) == 0
    assert len(calls) == 2  # one each, however many steps
    assert generator.vision._at_hand == {}
    again = [("user", ["first: ", WIDE])]
    [job] = talk.ask(again)
    assert len(calls) == 3
    assert Expected(plain(name), own(name), again, 8).parted(drawn(job)) == 0


def test_no_memory_for_an_image_fails_its_prompt_alone(directory, own, plain, monkeypatch) -> None:
    generator = loaded(directory("llava"))

    def full(**given: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(generator.vision._model, "get_image_features", full)
        talk = Talk(generator)
        image, text = talk.ask(ONE, TEXT)
    assert isinstance(image.error, InsufficientMemory)
    assert Expected(plain("llava"), own("llava"), TEXT, 8).parted(drawn(text)) == 0
    [again] = talk.ask(ONE)
    assert Expected(plain("llava"), own("llava"), ONE, 8).parted(drawn(again)) == 0


@pytest.mark.parametrize("until", [lambda eyes: eyes._under_way, lambda eyes: eyes._at_hand], ids=["tower", "text"])
def test_a_cancelled_prompt_leaves_nothing(until: Callable[[Any], bool], directory) -> None:
    generator = loaded(directory("smolvlm"))
    generator.prefill_tokens = 3
    talk = Talk(generator)
    job = prompts.prepare(generator, Prompt(messages=messages(TWO)), Sampling(), lambda delta: None, talk.done.append)
    talk.scheduler.add(job)
    while not until(generator.vision):
        talk.scheduler.step()
    talk.scheduler.cancel(job)
    talk.scheduler.step()
    assert not generator.vision._at_hand
    assert not generator.vision._under_way
    assert talk.done == []


SPLITTING = ("smolvlm", "idefics3", "llava_next", "hyperclovax_vlm")


@pytest.fixture
def tiles():
    """How many tiles each pass through the tower has, into `seen`, before it begins."""
    hooks: list[Any] = []

    def watch(generator: TransformersVision, seen: Callable[[int], object]) -> None:
        model = generator.vision._model
        inner = getattr(model, "model", None)
        tower = getattr(inner, "vision_tower", None) or getattr(inner, "vision_model", None) or model.vision_model

        def before(module: Any, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
            seen(len(positional[0] if positional else named["pixel_values"]))

        hooks.append(tower.register_forward_pre_hook(before, with_kwargs=True))

    yield watch
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("name", SPLITTING)
def test_who_writes_waits_for_one_tile_of_an_image_at_most(name: str, directory, own, plain, tiles) -> None:
    generator, happened = loaded(directory(name)), []
    tiles(generator, lambda count: happened.append(("tiles", count)))
    talk = Talk(generator, lambda: happened.append(("drawn", text.answers[0].drawn)))
    endless = Sampling(max_tokens=60, temperature=0, ignore_eos=True)
    text = prompts.prepare(generator, Prompt(messages=messages(TEXT)), endless, lambda delta: None, talk.done.append)
    talk.scheduler.add(text)
    talk.scheduler.step()
    wide, tall = talk.ask([("user", [WIDE, "what is it?"])], MORE)
    assert [count for what, count in happened if what == "drawn"] == list(range(1, text.answers[0].drawn + 1))
    assert {count for what, count in happened if what == "tiles"} == {1}
    tiled = [what == "tiles" for what, _ in happened]
    assert sum(tiled) > 4
    assert not any(here and next_ for here, next_ in itertools.pairwise(tiled))
    while text not in talk.done:
        talk.scheduler.step()
    for job, chat in ((wide, [("user", [WIDE, "what is it?"])]), (tall, MORE), (text, TEXT)):
        count = len(drawn(job))
        assert Expected(plain(name), own(name), chat, count).parted(drawn(job)) == 0


@pytest.mark.parametrize("name", SPLITTING)
def test_memory_that_is_full_in_the_middle_of_an_image(name: str, directory, own, plain, tiles) -> None:
    generator, seen = loaded(directory(name)), []
    talk = Talk(generator)
    talk.ask(TEXT)  # its slot gives way

    def full(count: int) -> None:
        seen.append(count)
        if len(seen) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    tiles(generator, full)
    [job] = talk.ask(MORE)
    assert Expected(plain(name), own(name), MORE, 8).parted(drawn(job)) == 0
    again: list[int] = []
    fresh = loaded(directory(name))
    tiles(fresh, again.append)
    Talk(fresh).ask(MORE)
    assert len(seen) == len(again) + 1 > 2  # the one that failed was tried again, and no other


@pytest.mark.parametrize("name", ["qwen2_vl", "smolvlm"])
def test_a_slot_that_is_cut_goes_on_as_if_it_were_new(name: str, seeing, own, plain) -> None:
    generator = seeing(name)
    first, second = begun(generator, TWO, 4), encoded(generator, [*TWO[:2], ("user", ["or the same?"])])
    greedy(generator, [first])
    same = next(index for index, (a, b) in enumerate(zip(first.prompt, second, strict=False)) if a != b)
    assert generator.trim(0, same) == same
    [ours] = greedy(generator, [Sequence_(second, 8, read=same)])
    assert Expected(plain(name), own(name), [*TWO[:2], ("user", ["or the same?"])], 8).parted(ours) == 0


@pytest.mark.parametrize("quantization", list(Quantization))
def test_quantized_it_sees_as_the_quantized_model_does(quantization: Quantization, directory, own) -> None:
    generator = loaded(directory("smolvlm"), quantization=quantization)
    for chat in (ONE, TEXT):
        [ours] = greedy(generator, [begun(generator, chat, 8)])
        assert Expected(generator.vision._model, own("smolvlm"), chat, 8).parted(ours) == 0


def test_what_it_says_of_itself(seeing) -> None:
    info = seeing("llava").info
    assert (info.tasks, info.model_type, info.context_length) == (TASKS, "llava", 512)
    assert info.has_chat_template is True


@pytest.mark.parametrize("name", ["smolvlm", "llava", "qwen2_vl"])
def test_words_are_no_image(name: str, seeing, own) -> None:
    generator = seeing(name)
    token = own(name).image_token
    chat = [("user", [SQUARE, f"what does {token} mean?"])]
    seen = [each for each in encoded(generator, chat) if each >= generator.codec.size]
    assert seen == [each for each in encoded(generator, ONE) if each >= generator.codec.size]


def test_what_cannot_be_looked_at_is_refused(seeing) -> None:
    generator = seeing("qwen2_vl")
    broken: Image = {"data": SQUARE["data"][:60], "key": "0" * 64}
    with pytest.raises(InvalidRequest, match="no sound PNG or JPEG"):
        encoded(generator, [("user", [broken, "?"])])
    with pytest.raises(InvalidRequest, match=r"org/model cannot look at an image of 600×2 pixels"):
        encoded(generator, [("user", [picture(4, 600, 2), "?"])])
    with pytest.raises(InvalidRequest, match="holds 257 images; org/model takes 256"):
        encoded(generator, [("user", [*[picture(9, 20, 20)] * 257, "?"])])
    with pytest.raises(ContextOverflow, match=r"576 of them for 16 images"):
        encoded(generator, [("user", [*[picture(9, 96, 96)] * 16, "?"])])
    assert encoded(generator, [("user", [picture(5, 1, 1), "?"])])


def test_a_model_whose_files_do_not_fit_each_other_says_so(seeing) -> None:
    generator = seeing("llava")
    [sequence] = [begun(generator, [("user", [picture(6), "?"])], 2)]
    real = generator.vision._model.model.multi_modal_projector.forward
    generator.vision._model.model.multi_modal_projector.forward = lambda hidden: real(hidden)[:, 1:]
    try:
        with pytest.raises(Exception, match="embeds an image as 15 rows and its processor leaves 16 places"):
            generator.step([Chunk(0, sequence.prompt, 0, True)])
    finally:
        generator.vision._model.model.multi_modal_projector.forward = real


def numbers(png: bytes, images: Any) -> np.ndarray:
    """The picture in a PNG file, normalised: (3, height, width)."""
    with PIL.Image.open(io.BytesIO(png)) as shown:
        assert (shown.format, shown.mode) == ("PNG", "RGB")
        return ((np.asarray(shown) / 255 - images.image_mean) / images.image_std).transpose(2, 0, 1)


def patches(picture: np.ndarray, images: Any) -> np.ndarray:
    """(patches, numbers), as Qwen2-VL's processor lays them out."""
    merged, edge = images.merge_size, images.patch_size
    high, wide = picture.shape[1] // edge, picture.shape[2] // edge
    places = [
        (top + row, left + column)
        for top in range(0, high, merged)
        for left in range(0, wide, merged)
        for row in range(merged)
        for column in range(merged)
    ]
    cut = [picture[:, y * edge : (y + 1) * edge, x * edge : (x + 1) * edge] for y, x in places]
    return np.stack([np.stack([each] * images.temporal_patch_size, axis=1).ravel() for each in cut])


def stitched(view: View) -> PIL.Image.Image:
    rows = len(view["tiles"]) // view["columns"]
    whole = PIL.Image.new("RGB", (view["columns"] * view["width"], rows * view["height"]))
    for index, png in enumerate(view["tiles"]):
        row, column = divmod(index, view["columns"])
        with PIL.Image.open(io.BytesIO(png)) as tile:
            whole.paste(tile, (column * view["width"], row * view["height"]))
    return whole


@pytest.mark.parametrize("name", SEEING)
@pytest.mark.parametrize("image", [SQUARE, WIDE, TALL], ids=["square", "wide", "tall"])
def test_a_preview_shows_the_numbers_that_the_model_is_given(name, image, seeing, own):
    preview = seeing(name).vision.preview(image)
    processor = own(name)
    images = processor.image_processor
    given = images(images=[opened(image)], return_tensors="np")["pixel_values"]
    tiles = [numbers(png, images) for view in preview["views"] for png in view["tiles"]]
    if given.ndim == 2:
        shown = patches(tiles[0], images)
    else:
        if name in ("smolvlm", "idefics3"):
            tiles = tiles[1:] + tiles[:1]  # the whole is read last, and shown first
        shown = np.stack(tiles)
        given = given.reshape(-1, *given.shape[-3:])
    step = 1 / 255 / min(images.image_std)
    assert shown.shape == given.shape
    assert np.abs(shown - given).max() <= 0.51 * step  # floats between two of 256 steps become the nearer one
    assert preview["tokens"] == sum(
        each >= seeing(name).codec.size for each in encoded(seeing(name), [("user", [image])])
    )
    assert preview["is_exact"]


@pytest.mark.parametrize("name", ["smolvlm", "idefics3", "llava_next", "hyperclovax_vlm"])
def test_the_tiles_of_a_preview_lie_as_they_lay_in_the_picture(name, seeing):
    for image in (WIDE, TALL):
        whole, in_tiles = seeing(name).vision.preview(image)["views"]
        assert len(whole["tiles"]) == 1
        assert len(in_tiles["tiles"]) > 1
        picture, drawn = opened(image), stitched(in_tiles)
        ratio = min(drawn.width / picture.width, drawn.height / picture.height)
        if name in ("smolvlm", "idefics3"):  # stretched over all tiles
            size = drawn.size
        else:  # in the middle of them
            size = round(picture.width * ratio), round(picture.height * ratio)
        corner = (drawn.width - size[0]) // 2, (drawn.height - size[1]) // 2
        expected = np.asarray(picture.resize(size), float)
        found = np.asarray(drawn.crop((*corner, corner[0] + size[0], corner[1] + size[1])), float)
        assert np.abs(found - expected).mean() < 12, image  # another order of the tiles: 50 and more


def test_what_cannot_be_read_has_no_preview(seeing):
    with pytest.raises(InvalidRequest, match="no sound PNG or JPEG"):
        seeing("smolvlm").vision.preview({"data": b"nothing", "key": "x"})
