"""GGUF models that see, against llama-cpp-python's own multimodal chat handler: the same tokens alone, in company, in
pieces, after a trim and in a second turn; the same layout as mtmd gives the whole prompt."""

from __future__ import annotations

import base64
import ctypes
import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import llama_cpp
import numpy as np
import pytest
from llama_cpp import mtmd_cpp
from llama_cpp.llama_chat_format import MTMDChatHandler
from PIL import Image as Pillow

from core.errors import CorruptModel, InsufficientMemory, InvalidRequest, LoadFailed, TemplateFailed
from core.types import IMAGE_MARK, Delta, Image, Message, Prompt, Runtime, Sampling, Task
from core.worker import runtimes
from core.worker.generation.answer import Job
from core.worker.generation.base import Chunk
from core.worker.generation.prompts import prepare
from core.worker.generation.scheduler import Scheduler
from core.worker.runtimes import llama_sight
from core.worker.runtimes.base import LoadRequest
from core.worker.runtimes.llama_vision import LlamaVision
from tests.core.worker.runtimes.writing import NOISE, Sequence_, greedy
from tests.fakes.gguf import CONTEXT
from tests.fakes.gguf_vision import KINDS, write_mmproj, write_seeing

COUNT = 12  # tokens of an answer
# As templates of models that see are: contents are texts, or lists of parts.
TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{% if message.content is string %}{{ message.content }}"
    "{% else %}{% for part in message.content %}{{ part.text }}{% endfor %}{% endif %}<|end|>{% endfor %}<|assistant|>"
)
MODEL: dict[str, Any] = {"vocabulary": "bpe", "template": TEMPLATE}  # no BOS, which the peer would write twice


def picture(seed: int, height: int = 40, width: int = 56) -> Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Pillow.fromarray(pixels).save(file, "PNG")
    return {"data": file.getvalue(), "key": hashlib.sha256(file.getvalue()).hexdigest()}


def asked(text: str, *images: Image, role: str = "user") -> Message:
    return {"role": role, "content": text, "images": images}


def open_model(folder: Path, **options: Any) -> Any:
    given = {"max_sequences": 4, "threads": 1, "name": "org/tiny", "projector": "mmproj-m.gguf", **options}
    tasks = (Task.IMAGE_TEXT_TO_TEXT, Task.TEXT_GENERATION)
    found = runtimes.load(LoadRequest(str(folder), Runtime.LLAMA_CPP, tasks, file="m.gguf", **given), lambda *_: None)
    assert isinstance(found, LlamaVision)
    return found


class Peer:
    """llama-cpp-python's own `Llama` with its handler of chats that hold images."""

    def __init__(self, folder: Path) -> None:
        handler = MTMDChatHandler(str(folder / "mmproj-m.gguf"), verbose=False)
        options: Any = {"n_ctx": CONTEXT, "n_threads": 1, "flash_attn": True, "chat_handler": handler}
        self.llama = llama_cpp.Llama(str(folder / "m.gguf"), verbose=False, **options)
        self._answers: dict[str, list[np.ndarray]] = {}

    def scores(self, messages: Sequence[Message]) -> list[np.ndarray]:
        """Of each token that it draws, greedily and past any end token: float32 (vocabulary,)."""
        known = repr(messages)
        if known not in self._answers:
            drawn: list[np.ndarray] = []

            def note(_: Any, scores: np.ndarray) -> np.ndarray:
                drawn.append(np.array(scores, np.float32))
                return scores

            processors = llama_cpp.LogitsProcessorList([note])
            self.llama.create_chat_completion(
                cast(Any, [_as_parts(each) for each in messages]),
                temperature=0, max_tokens=COUNT, repeat_penalty=1.0, logits_processor=processors,
            )  # fmt: skip
            self._answers[known] = drawn
        return self._answers[known]


def _as_parts(message: Message) -> dict[str, Any]:
    first, *others = message["content"].split(IMAGE_MARK)
    parts: list[dict[str, Any]] = [{"type": "text", "text": first}]
    for image, text in zip(message.get("images", ()), others, strict=True):
        url = "data:image/png;base64," + base64.b64encode(image["data"]).decode()
        parts += [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text}]
    return {"role": message["role"], "content": parts}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("seeing")
    for kind in KINDS:
        write_seeing(root / kind, kind, **MODEL)
    return {kind: root / kind for kind in KINDS}


@pytest.fixture(scope="module")
def loaded(folders: dict[str, Path]) -> Iterator[Callable[[str], Any]]:
    opened: dict[str, Any] = {}

    def get(kind: str) -> Any:
        if kind not in opened:
            opened[kind] = open_model(folders[kind])
        for slot in range(opened[kind].max_sequences):
            opened[kind].trim(slot, 0)
            opened[kind].vision.show(slot, ())
        return opened[kind]

    yield get
    for each in opened.values():
        each.close()


@pytest.fixture(scope="module")
def peers(folders: dict[str, Path]) -> Iterator[Callable[[str], Peer]]:
    opened: dict[str, Peer] = {}

    def get(kind: str) -> Peer:
        if kind not in opened:
            opened[kind] = Peer(folders[kind])
        return opened[kind]

    yield get
    for each in opened.values():
        each.llama.close()


def begun(model: Any, messages: Sequence[Message], slot: int = 0, count: int = COUNT) -> Sequence_:
    """A chat whose images are shown to `slot`."""
    model.vision.show(slot, [image for each in messages for image in each.get("images", ())])
    return Sequence_(model.vision.encode(messages), count, joins_at=2 * slot, slot=slot)


def same(ours: Sequence[int], theirs: Sequence[np.ndarray]) -> None:
    """Both wrote the same tokens, or part where two tokens lie within float noise."""
    for token, scores in zip(ours, theirs, strict=False):
        best = int(scores.argmax())
        if token != best:
            gap = float(scores[best] - scores[token])
            assert gap < NOISE, f"{token} is not {best}: they part by {gap}"
            return


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prefill", [1000, 5])
def test_greedy_tokens_are_those_of_the_chat_handler(
    kind: str, prefill: int, loaded: Callable[..., Any], peers: Callable[..., Peer]
) -> None:
    model, chat = loaded(kind), [asked(f"what is{IMAGE_MARK}?", picture(3))]
    theirs = peers(kind).scores(chat)
    [ours] = greedy(model, [begun(model, chat, count=len(theirs))], prefill=prefill)
    assert len(set(ours)) > 8, "an answer of one token would prove little"
    same(ours, theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_company_changes_nothing(kind: str, loaded: Callable[..., Any], peers: Callable[..., Peer]) -> None:
    model = loaded(kind)
    chats = [
        [asked(f"{IMAGE_MARK}{IMAGE_MARK}{IMAGE_MARK}quick", picture(1), picture(2, 30, 30), picture(1))],
        [asked("안녕하세요 오늘")],
        [asked(f"one{IMAGE_MARK}", picture(3)), asked("brown", role="assistant"), asked("fox")],
        [asked("the lazy dog")],
    ]
    sequences = [begun(model, chat, slot) for slot, chat in enumerate(chats)]
    for chat, ours in zip(chats, greedy(model, sequences, prefill=6), strict=True):
        same(ours, peers(kind).scores(chat))


@pytest.mark.parametrize("kind", KINDS)
def test_the_layout_is_that_of_the_whole_prompt(kind: str, loaded: Callable[..., Any]) -> None:
    model = loaded(kind)
    images = picture(1), picture(2, 30, 90)
    ids = model.vision.encode([asked(f"a {IMAGE_MARK} b{IMAGE_MARK}", *images)])
    theirs = mtmd_layout(model, "<|user|>a <__media__> b<__media__><|end|><|assistant|>", images)
    assert [token if token < model.codec.size else None for token in ids] == theirs
    seen = [token for token in ids if token >= model.codec.size]
    assert len(set(seen)) == len(seen) == theirs.count(None)


def mtmd_layout(model: Any, text: str, images: Sequence[Image]) -> list[int | None]:
    """Tokens of the whole prompt at once, None for each row of an image."""
    raw = model._projector._raw
    bitmaps = []
    for image in images:
        pixels = np.asarray(Pillow.open(io.BytesIO(image["data"])))
        height, width, _ = pixels.shape
        bitmaps.append(mtmd_cpp.mtmd_bitmap_init(width, height, pixels.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))))
    chunks: Any = mtmd_cpp.mtmd_input_chunks_init()
    given = mtmd_cpp.mtmd_input_text(text.encode(), len(text.encode()), True, True)
    array = (mtmd_cpp.mtmd_bitmap_p_ctypes * len(bitmaps))(*bitmaps)
    assert mtmd_cpp.mtmd_tokenize(raw, chunks, ctypes.byref(given), array, len(bitmaps)) == 0
    layout: list[int | None] = []
    for at in range(mtmd_cpp.mtmd_input_chunks_size(chunks)):
        chunk: Any = mtmd_cpp.mtmd_input_chunks_get(chunks, at)
        count = ctypes.c_size_t(mtmd_cpp.mtmd_input_chunk_get_n_tokens(chunk))
        found: Any = mtmd_cpp.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(count))
        layout += found[: count.value] if found else [None] * mtmd_cpp.mtmd_input_chunk_get_n_tokens(chunk)
    mtmd_cpp.mtmd_input_chunks_free(chunks)
    for bitmap in bitmaps:
        mtmd_cpp.mtmd_bitmap_free(cast(Any, bitmap))
    return layout


@pytest.mark.parametrize("kind", KINDS)
def test_after_a_trim_it_goes_on_as_if_fresh(kind: str, loaded: Callable[..., Any]) -> None:
    model, images = loaded(kind), (picture(1), picture(2))
    [ids, other] = [
        model.vision.encode([asked(f"a{IMAGE_MARK}b{IMAGE_MARK}{text}", *images)]) for text in ("quick", "lazy dog")
    ]
    model.vision.show(0, images)
    model.vision.show(1, images)
    [fresh] = model.step([Chunk(1, other, 0, True)])
    rows = [index for index, token in enumerate(ids) if token >= model.codec.size]
    for length in (rows[-1] + 1, rows[-1], rows[0] + 2, rows[0], 1):
        model.trim(0, 0)
        model.step([Chunk(0, ids, 0, False)])
        kept = model.trim(0, length)
        assert kept == length or (length in rows and 0 <= length - kept < len(rows))
        [trimmed] = model.step([Chunk(0, other[kept:], kept, True)])
        np.testing.assert_allclose(trimmed, fresh, atol=NOISE)


def test_a_tile_that_is_half_there_is_not_read(loaded: Callable[..., Any]) -> None:
    model, chat = loaded("qwen2vl_merger"), [asked(f"what is{IMAGE_MARK}?", picture(1))]
    sequence = begun(model, chat)
    [fresh] = greedy(model, [sequence])
    first = next(index for index, token in enumerate(sequence.prompt) if token >= model.codec.size)
    model.trim(0, 0)
    model.step([Chunk(0, sequence.prompt[: first + 7], 0, False)])
    assert model.trim(0, first + 4) == first + 4
    assert greedy(model, [Sequence_(sequence.prompt, COUNT, read=first + 4)]) == [fresh]


@pytest.mark.parametrize("kind", ["mlp", "qwen2vl_merger"])
def test_a_full_cache_leaves_all_as_it_was(kind: str, folders: dict[str, Path]) -> None:
    model, chat = open_model(folders[kind], max_cached_tokens=CONTEXT), [asked(f"a{IMAGE_MARK}b", picture(1))]
    sequence = begun(model, chat)
    length = len(sequence.prompt)
    [undisturbed] = greedy(model, [sequence])
    model.trim(0, length - 2)
    model.vision.show(1, chat[0]["images"])
    model.step([Chunk(2, [5] * (CONTEXT - length - 8), 0, False)])  # room for the text before the image, not for it
    with pytest.raises(InsufficientMemory, match="org/tiny is full"):
        model.step([Chunk(0, sequence.prompt[-2:-1], length - 2, False), Chunk(1, sequence.prompt, 0, True)])
    model.trim(2, 0)
    assert greedy(model, [Sequence_(sequence.prompt, COUNT, read=length - 2)]) == [undisturbed]
    [again] = greedy(model, [Sequence_(sequence.prompt, COUNT, slot=1)])
    assert again == undisturbed
    model.close()


class TestScheduled:
    def answer(self, model: Any, scheduler: Scheduler, messages: Sequence[Message]) -> tuple[Job, list[Delta]]:
        deltas: list[Delta] = []
        done: list[Job] = []
        sampling = Sampling(max_tokens=COUNT, temperature=0, ignore_eos=True)
        job = prepare(model, Prompt(messages=tuple(messages)), sampling, deltas.append, done.append)
        scheduler.add(job)
        while not done:
            scheduler.step()
        assert job.error is None
        return job, deltas

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_second_turn_does_not_look_again(
        self, kind: str, loaded: Callable[..., Any], peers: Callable[..., Peer], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        encoded: list[int] = []
        encode = mtmd_cpp.mtmd_encode_chunk
        monkeypatch.setattr(mtmd_cpp, "mtmd_encode_chunk", lambda *given: encoded.append(1) or encode(*given))
        model = loaded(kind)
        scheduler = Scheduler(model)
        chat = [asked(f"what is{IMAGE_MARK}?", picture(40))]
        job, deltas = self.answer(model, scheduler, chat)
        assert encoded
        encoded.clear()
        chat = [*chat, asked("".join(each.text for each in deltas), role="assistant"), asked("over")]
        second, _ = self.answer(model, scheduler, chat)
        assert second.cached_tokens >= len(job.prompt) - 2
        assert not encoded
        same(second.answers[0].tokens[len(second.prompt) :], peers(kind).scores(chat))

    def test_an_image_that_is_in_memory_is_not_encoded_again(
        self, loaded: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = loaded("mlp")
        scheduler = Scheduler(model)
        self.answer(model, scheduler, [asked(f"quick{IMAGE_MARK}", picture(50))])
        monkeypatch.setattr(mtmd_cpp, "mtmd_encode_chunk", lambda *given: pytest.fail("encoded again"))
        job, _ = self.answer(model, scheduler, [asked(f"lazy{IMAGE_MARK}", picture(50))])
        assert job.cached_tokens < 3


def test_images_are_forgotten_beyond_a_bound(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    of_one = 16 * 64 * 4  # rows, numbers of a row, bytes
    monkeypatch.setattr(llama_sight, "KEPT_BYTES", 2 * of_one)
    model = open_model(folders["mlp"])
    for seed in range(4):
        model.vision.encode([asked(IMAGE_MARK, picture(seed))])
    assert list(model.vision._kept) == [picture(2)["key"], picture(3)["key"]]
    chat = [asked(f"a{IMAGE_MARK}", picture(0))]  # forgotten between its encoding and its turn
    sequence = begun(model, chat)
    model.vision._kept.clear()
    model.vision.show(0, chat[0]["images"])
    assert len(greedy(model, [sequence])[0]) == COUNT
    model.close()


def test_a_large_image_is_made_smaller(loaded: Callable[..., Any]) -> None:
    model = loaded("qwen2vl_merger")
    ids = model.vision.encode([asked(IMAGE_MARK, picture(1, 240, 320))])  # 1,200 rows as it is
    rows = sum(token >= model.codec.size for token in ids)
    assert CONTEXT // 4 < rows <= CONTEXT // 2


def test_a_preview_is_what_mtmd_is_handed(loaded: Callable[..., Any]) -> None:
    model, small, large = loaded("qwen2vl_merger"), picture(1), picture(1, 240, 320)

    def rows(image: Image) -> int:
        return sum(token >= model.codec.size for token in model.vision.encode([asked(IMAGE_MARK, image)]))

    def shown(image: Image) -> bytes:
        preview = model.vision.preview(image)
        [view] = preview["views"]
        assert not preview["is_exact"]
        assert preview["tokens"] == rows(image)
        [png] = view["tiles"]
        assert (view["columns"], view["width"], view["height"]) == (1, *Pillow.open(io.BytesIO(png)).size)
        return png

    assert np.array_equal(Pillow.open(io.BytesIO(shown(small))), Pillow.open(io.BytesIO(small["data"])))
    made_smaller = shown(large)
    assert Pillow.open(io.BytesIO(made_smaller)).height < 200
    again: Image = {"data": made_smaller, "key": hashlib.sha256(made_smaller).hexdigest()}
    assert rows(again) == rows(large)


class TestRefusals:
    def test_images_that_cannot_be_shown(self, loaded: Callable[..., Any]) -> None:
        broken: Image = {"data": picture(1)["data"][:60], "key": "0" * 64}
        with pytest.raises(InvalidRequest, match="org/tiny cannot be read"):
            loaded("mlp").vision.encode([asked(IMAGE_MARK, broken)])
        with pytest.raises(InvalidRequest, match="org/tiny cannot look at an image of 300 × 1 pixels"):
            loaded("idefics3").vision.encode([asked(IMAGE_MARK, picture(1, 1, 300))])

    @pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (3, 500)])
    @pytest.mark.parametrize("kind", ["mlp", "gemma3", "qwen2vl_merger"])
    def test_images_of_any_form(self, kind: str, size: tuple[int, int], loaded: Callable[..., Any]) -> None:
        model = loaded(kind)
        [scores] = model.step([Chunk(0, begun(model, [asked(IMAGE_MARK, picture(1, *size))]).prompt, 0, True)])
        assert scores is not None
        assert np.isfinite(scores).all()

    def test_a_template_that_leaves_images_out(self, tmp_path: Path) -> None:
        write_seeing(tmp_path, **MODEL | {"template": "{{ messages[-1].content }}<|assistant|>"})
        model = open_model(tmp_path)
        with pytest.raises(TemplateFailed, match="writes 0 of 1 images"):
            model.vision.encode([asked(IMAGE_MARK, picture(1)), asked("and now")])
        model.close()

    def test_a_template_that_takes_parts_alone(self, tmp_path: Path) -> None:
        parts = (
            "{% for part in messages[-1].content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}"
        )
        write_seeing(tmp_path, **MODEL | {"template": parts})
        model = open_model(tmp_path)
        assert model.codec.render([{"role": "user", "content": "안녕"}]) == "안녕"
        assert len(model.vision.encode([asked(f"a{IMAGE_MARK}", picture(1))])) == 17
        model.close()

    def test_marks_without_images_are_no_images(self, loaded: Callable[..., Any]) -> None:
        model = loaded("mlp")
        ids = model.vision.encode([asked(f"a{IMAGE_MARK}b{IMAGE_MARK}c", picture(1)), asked(IMAGE_MARK)])
        assert sum(token >= model.codec.size for token in ids) == 16


class TestLoading:
    def test_what_it_says_of_itself(self, loaded: Callable[..., Any]) -> None:
        info = loaded("mlp").info
        assert info.tasks == (Task.IMAGE_TEXT_TO_TEXT, Task.TEXT_GENERATION)
        assert info.runtime is Runtime.LLAMA_CPP

    def test_a_projector_of_another_model(self, tmp_path: Path) -> None:
        write_seeing(tmp_path, **MODEL)
        write_mmproj(tmp_path / "mmproj-m.gguf", width=32)
        with pytest.raises(LoadFailed, match=r"mmproj-m\.gguf was made for another model than m\.gguf of org/tiny"):
            open_model(tmp_path)
        write_mmproj(tmp_path / "mmproj-m.gguf", "idefics3")  # of the same width, with tokens that the model lacks
        with pytest.raises(LoadFailed, match="lacks the tokens"):
            open_model(tmp_path)

    def test_a_damaged_projector(self, tmp_path: Path) -> None:
        _, path = write_seeing(tmp_path, **MODEL)
        data = path.read_bytes()
        for damaged in (
            b"",
            data[:2000],
            data.replace(b"v.blk.1.attn_o", b"v.blk.7.attn_o"),
            data.replace(b"mlp", b"mlq"),
        ):
            path.write_bytes(damaged)
            with pytest.raises(CorruptModel, match=r"mmproj-m\.gguf of org/tiny") as caught:
                open_model(tmp_path)
            assert str(tmp_path) not in caught.value.message
