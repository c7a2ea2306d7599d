"""GGUF models against llama-cpp-python's own `Llama`: the same tokens alone, in company, in pieces, after a trim."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest

from core.errors import CorruptModel, InsufficientMemory, LoadFailed
from core.types import Runtime, Task
from core.worker import runtimes
from core.worker.generation.base import Chunk
from core.worker.runtimes.base import LoadRequest
from core.worker.runtimes.llama_cpp import DEFAULT_CONTEXT, LlamaCpp
from tests.core.worker.runtimes.writing import NOISE, Sequence_, greedy
from tests.fakes.gguf import CONTEXT, write_gguf, write_mamba

TEXTS = ("the quick brown", "안녕하세요 오늘", "model 😀 답", "a")
COUNT = 24  # tokens of an answer
MODELS: dict[str, dict[str, Any]] = {
    "spm": {},
    "bpe": {"vocabulary": "bpe"},
    "q8_0": {"quantized": True},
    "split": {"quantized": True, "vocabulary": "bpe", "parts": 2},
}


def open_file(path: Path, on_progress: Callable[..., None] = lambda stage, data: None, **options: Any) -> LlamaCpp:
    given = {"max_sequences": 4, "threads": 1, "name": "org/tiny", **options}
    request = LoadRequest(str(path.parent), Runtime.LLAMA_CPP, (Task.TEXT_GENERATION,), file=path.name, **given)
    found = runtimes.load(request, on_progress)
    assert isinstance(found, LlamaCpp)
    return found


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("gguf")
    return {name: write_gguf(root / name / "m.gguf", **options) for name, options in MODELS.items()}


@pytest.fixture(scope="module")
def loaded(paths: dict[str, Path]) -> Iterator[Callable[[str], LlamaCpp]]:
    opened: dict[str, LlamaCpp] = {}

    def get(name: str) -> LlamaCpp:
        if name not in opened:
            opened[name] = open_file(paths[name])
        for slot in range(opened[name].max_sequences):
            opened[name].trim(slot, 0)
        return opened[name]

    yield get
    for each in opened.values():
        each.close()


@pytest.fixture(scope="module")
def reference(paths: dict[str, Path]) -> Iterator[Callable[[str], llama_cpp.Llama]]:
    opened: dict[str, llama_cpp.Llama] = {}

    def get(name: str) -> llama_cpp.Llama:
        if name not in opened:
            # with flash attention, as llama.cpp itself chooses
            options: Any = {"n_ctx": CONTEXT, "n_threads": 1, "flash_attn": True, "logits_all": True}
            opened[name] = llama_cpp.Llama(str(paths[name]), verbose=False, **options)
        opened[name].reset()
        return opened[name]

    yield get
    for each in opened.values():
        each.close()


def written(llama: llama_cpp.Llama, prompt: list[int], count: int = COUNT) -> list[int]:
    """What `Llama` writes, past any end token."""
    tokens: list[int] = []
    for token in llama.generate(list(prompt), temp=0.0, top_k=1, repeat_penalty=1.0):
        tokens.append(token)
        if len(tokens) == count:
            break
    return tokens


def same(llama: llama_cpp.Llama, prompt: list[int], ours: list[int], theirs: list[int]) -> None:
    """Both are equal, or part where two tokens lie within float noise."""
    if ours == theirs:
        return
    at = next(index for index, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)
    llama.reset()
    llama.eval([*prompt, *theirs[:at]])
    scores = llama.scores[llama.n_tokens - 1]
    gap = abs(float(scores[ours[at]] - scores[theirs[at]]))
    assert gap < NOISE, f"{ours} is not {theirs}: they part at {at} by {gap}"


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("prefill", [1000, 3, 1])
def test_greedy_tokens_are_those_of_llama(
    name: str, prefill: int, loaded: Callable[..., Any], reference: Callable[..., Any]
) -> None:
    model, llama = loaded(name), reference(name)
    prompt = model.codec.encode(TEXTS[0])
    [ours] = greedy(model, [Sequence_(prompt, COUNT)], prefill=prefill)
    theirs = written(llama, prompt)
    assert len(set(theirs)) > 5, "an answer of one token would prove little"
    same(llama, prompt, ours, theirs)


@pytest.mark.parametrize("name", MODELS)
def test_company_changes_nothing(name: str, loaded: Callable[..., Any], reference: Callable[..., Any]) -> None:
    model, llama = loaded(name), reference(name)
    prompts = [model.codec.encode(text) for text in TEXTS]
    sequences = [Sequence_(prompt, COUNT, joins_at=2 * slot, slot=slot) for slot, prompt in enumerate(prompts)]
    for prompt, ours in zip(prompts, greedy(model, sequences, prefill=4), strict=True):
        llama.reset()
        same(llama, prompt, ours, written(llama, prompt))


def test_the_parts_of_a_split_file_are_the_whole(tmp_path: Path) -> None:
    models = [open_file(write_gguf(tmp_path / str(parts) / "m.gguf", parts=parts)) for parts in (1, 3)]
    prompt = models[0].codec.encode(TEXTS[0])
    [[one], [two]] = [greedy(model, [Sequence_(prompt, COUNT)]) for model in models]
    assert one == two


@pytest.mark.parametrize("length", [1, 5, 9])
def test_after_a_trim_it_goes_on_as_if_fresh(loaded: Callable[..., Any], length: int) -> None:
    model = loaded("spm")
    prompt = model.codec.encode(TEXTS[0])
    other = [*prompt[:length], *model.codec.encode("and then it rests")]
    model.step([Chunk(0, prompt, 0, False), Chunk(1, other, 0, False)])
    assert model.trim(0, length) == length
    assert model.trim(0, 1000) == length
    [trimmed] = model.step([Chunk(0, other[length:], length, True)])
    assert model.trim(1, 0) == 0
    [fresh] = model.step([Chunk(1, other, 0, True)])
    np.testing.assert_allclose(trimmed, fresh, atol=NOISE)


def test_a_recurrent_state_can_only_be_forgotten(tmp_path: Path) -> None:
    model = open_file(write_mamba(tmp_path / "mamba.gguf"))
    prompt = model.codec.encode(TEXTS[0])
    [fresh] = model.step([Chunk(0, prompt, 0, True)])
    assert model.trim(0, 3) == 0
    [again] = model.step([Chunk(0, prompt, 0, True)])
    np.testing.assert_allclose(again, fresh, atol=NOISE)


def test_scores_are_copies_and_only_those_asked_for(loaded: Callable[..., Any]) -> None:
    model = loaded("spm")
    scores, nothing = model.step([Chunk(0, [1, 5], 0, True), Chunk(1, [1, 6, 7], 0, False)])
    assert nothing is None
    assert (scores.dtype, scores.shape) == (np.float32, (model.codec.size,))
    before = scores.copy()
    model.step([Chunk(0, [9], 2, True)])
    np.testing.assert_array_equal(scores, before)
    with pytest.raises(ValueError, match="holds 3 tokens"):
        model.step([Chunk(0, [9], 2, True)])


def test_a_full_cache_leaves_all_as_it_was(paths: dict[str, Path]) -> None:
    model = open_file(paths["spm"], max_cached_tokens=CONTEXT)
    prompt = model.codec.encode(TEXTS[0])
    [undisturbed] = greedy(model, [Sequence_(prompt, COUNT)])
    model.trim(0, 0)
    model.step([Chunk(0, prompt, 0, False), Chunk(1, [5] * 200, 0, False)])
    for length in (100, CONTEXT + 1):  # more than is left, and more than there is
        with pytest.raises(InsufficientMemory, match=r"org/tiny is full.*256 tokens"):
            model.step([Chunk(2, [6] * length, 0, True)])
    model.trim(0, len(prompt) - 1)
    sequence = Sequence_(prompt, COUNT, read=len(prompt) - 1)
    assert greedy(model, [sequence]) == [undisturbed]
    model.trim(1, 0)
    assert model.step([Chunk(2, [6] * 100, 0, True)])[0] is not None


class TestText:
    @pytest.mark.parametrize("name", ["spm", "bpe"])
    @pytest.mark.parametrize("text", [*TEXTS, "", "  two  spaces\n\ttab", "<|user|> is no user", "é 漢字 👨‍👩‍👧 x"])
    def test_tokens_and_pieces_are_those_of_llama(
        self, name: str, text: str, loaded: Callable[..., Any], reference: Callable[..., Any]
    ) -> None:
        codec, llama = loaded(name).codec, reference(name)
        plain = llama.tokenize(text.encode(), add_bos=name == "spm", special=False)
        assert codec.encode(text) == plain
        assert codec.encode_chat(text) == llama.tokenize(text.encode(), add_bos=name == "spm", special=True)
        stream = codec.stream()
        pieces = [stream.push(token) for token in plain]
        assert not any("\ufffd" in piece for piece in pieces), "half a character"
        answer = "".join(pieces) + stream.flush()
        assert answer.lstrip(" ") == llama.detokenize(plain).decode().lstrip(" ") == text.lstrip(" ")

    def test_control_tokens(self, loaded: Callable[..., Any]) -> None:
        codec = loaded("spm").codec
        end = codec.encode_chat("<|end|>")[-1]
        assert codec.eos_ids == {2, end}
        assert codec.piece(end) == "<|end|>"
        assert codec.stream().push(end) == ""
        assert len(codec.encode("<|end|>")) > 3

    def test_bytes_that_are_no_character(self, loaded: Callable[..., Any]) -> None:
        codec = loaded("spm").codec
        first, *rest = codec.encode("😀")[-4:]
        assert codec.piece(first) == "\ufffd"
        stream = codec.stream()
        assert stream.push(first) == ""
        assert stream.flush() == "\ufffd"
        stream = codec.stream()
        assert [stream.push(token) for token in (first, *rest)] == ["", "", "", "😀"]

    def test_a_chat_is_written_by_the_template_of_the_file(self, loaded: Callable[..., Any]) -> None:
        codec = loaded("spm").codec
        text = codec.render([{"role": "user", "content": "안녕"}])
        assert text == "<s><|user|>안녕<|end|><|assistant|>"
        tokens = codec.encode_chat(text)
        assert tokens.count(1) == 1, "one BOS, though the model adds one and the template wrote one"
        assert [codec.piece(token) for token in tokens[-2:]] == ["<|end|>", "<|assistant|>"]

    def test_no_template(self, tmp_path: Path) -> None:
        model = open_file(write_gguf(tmp_path / "m.gguf", template=None))
        assert model.info.has_chat_template is False
        text = model.codec.render([{"role": "user", "content": "안녕"}])
        assert "안녕" in text
        assert model.codec.encode_chat(text).count(1) == 1

    def test_prompts_longer_than_any_buffer(self, loaded: Callable[..., Any], reference: Callable[..., Any]) -> None:
        text = "안녕 the 😀" * 3000
        plain = reference("bpe").tokenize(text.encode(), add_bos=False, special=False)
        assert loaded("bpe").codec.encode(text) == plain


class TestLoading:
    def test_what_it_says_of_itself(self, paths: dict[str, Path]) -> None:
        said: list[tuple[str, dict[str, Any]]] = []
        model = open_file(paths["q8_0"], lambda stage, data: said.append((stage, data)))
        info = model.info
        assert (info.tasks, info.runtime) == ((Task.TEXT_GENERATION,), Runtime.LLAMA_CPP)
        assert (info.device, info.dtype, info.model_type) == ("cpu", "Q8_0", "llama")
        assert (info.context_length, info.parameters, info.max_sequences) == (CONTEXT, 120_384, 4)
        assert info.has_chat_template is True
        assert model.max_cached_tokens == 4 * CONTEXT
        assert said[0] == ("loading", {})
        assert ("loading", {"done": 100, "total": 100}) in said
        assert said[-1] == ("warming", {})

    def test_the_context_is_bounded(self, tmp_path: Path, paths: dict[str, Path]) -> None:
        assert open_file(paths["spm"], context_length=64).info.context_length == 64
        assert open_file(paths["spm"], context_length=10**6).info.context_length == CONTEXT
        long = write_gguf(tmp_path / "m.gguf", context=131_072)
        model = open_file(long)
        assert model.info.context_length == DEFAULT_CONTEXT
        assert model.max_cached_tokens == 4 * DEFAULT_CONTEXT

    def test_the_cache_is_bounded(self, paths: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("core.worker.runtimes.llama_cpp.CACHE_BYTES", 256 * 300)  # a token of it has 256 bytes
        assert open_file(paths["spm"]).max_cached_tokens == 300
        monkeypatch.setattr("core.worker.runtimes.llama_cpp.CACHE_BYTES", 1)
        assert open_file(paths["spm"]).max_cached_tokens == CONTEXT

    def test_weights_that_are_no_numbers(self, tmp_path: Path) -> None:
        with pytest.raises(CorruptModel, match=r"org/tiny is damaged.*output_norm"):
            open_file(write_gguf(tmp_path / "m.gguf", nan=True))

    def test_an_architecture_that_is_not_known(self, paths: dict[str, Path], tmp_path: Path) -> None:
        path = tmp_path / "m.gguf"
        path.write_bytes(paths["spm"].read_bytes().replace(b"llama", b"lhama"))
        with pytest.raises(LoadFailed, match="lhama"):
            open_file(path)

    def test_damaged_files(self, paths: dict[str, Path], tmp_path: Path) -> None:
        data = paths["spm"].read_bytes()
        path = tmp_path / "m.gguf"
        for damaged in (b"", b"PK" + data, data[:5000], data[:-200], data.replace(b"blk.1.attn_q", b"blk.7.attn_q")):
            path.write_bytes(damaged)
            with pytest.raises((CorruptModel, LoadFailed)) as caught:
                open_file(path)
            assert "org/tiny" in caught.value.message
            assert str(tmp_path) not in caught.value.message
        path.unlink()
        with pytest.raises(LoadFailed, match="no file"):
            open_file(path)

    def test_devices(self, paths: dict[str, Path]) -> None:
        assert open_file(paths["spm"], device="cpu", gpu_layers=99).info.device == "cpu"
        with pytest.raises(LoadFailed, match="no device `tpu`"):
            open_file(paths["spm"], device="tpu")
        if not llama_cpp.llama_supports_gpu_offload():
            with pytest.raises(LoadFailed, match="without CUDA"):
                open_file(paths["spm"], device="cuda")
