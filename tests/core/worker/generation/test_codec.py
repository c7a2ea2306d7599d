"""A tokenizer's text, token by token: joined it is what the tokenizer says, and no character is ever halved."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import tokenizers
import transformers
from tokenizers import decoders, models, normalizers, pre_tokenizers
from transformers import GenerationConfig

from core.types import Message
from core.worker.generation.chat_template import ChatTemplate
from core.worker.generation.codec import HFCodec, hf_codec
from tests.fakes.decoders import CHAT_TEMPLATE, byte_level, write_decoder

TEXTS = (
    "김민수는 서울에서 태어나, 뷁꿹 부산으로 갔다.",
    "Emoji 🙂🚀 and families 👩‍👩‍👧‍👦👨🏽‍🚀, flags 🇰🇷, accents e\u0301 naïve.",
    "  two spaces ,  before commas  .\n\n\tTabs\tand lines\n",
    "漢字とかな العربية हिन्दी 𝒳𝓎𝓏",
    "'s 't don't can 't. I 'm",
)


def with_byte_fallback() -> transformers.PreTrainedTokenizerFast:
    """A tokenizer set up as Llama 2's: pieces with ▁, unknown characters as bytes."""
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    names += ["▁", *"abcdefghijklmnopqrstuvwxyz.,", "▁and", "▁be", "om", "서울", "▁김", "는"]
    scores = [(name, 0.0 if name.startswith("<") else -float(index)) for index, name in enumerate(names)]
    found = tokenizers.Tokenizer(models.Unigram(scores, unk_id=0, byte_fallback=True))
    found.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    found.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=found, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def with_metaspace() -> transformers.PreTrainedTokenizerFast:
    names = [("<unk>", 0.0), ("</s>", 0.0), ("▁", -2.0)]
    letters = dict.fromkeys("".join(TEXTS).replace(" ", ""))
    names += [(letter, -5.0) for letter in letters] + [("▁서울", -1.0), ("▁and", -1.0)]
    found = tokenizers.Tokenizer(models.Unigram(names, unk_id=0))
    found.pre_tokenizer = pre_tokenizers.Metaspace()
    found.decoder = decoders.Metaspace()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=found, eos_token="</s>", unk_token="<unk>")


@pytest.fixture(scope="module")
def marian(tmp_path_factory) -> transformers.PreTrainedTokenizer:
    path = write_decoder(tmp_path_factory.mktemp("marian"), "marian")
    with pytest.warns(UserWarning, match="sacremoses"):
        return transformers.AutoTokenizer.from_pretrained(path)


@pytest.fixture(params=["byte-level", "byte-fallback", "metaspace", "marian"])
def tokenizer(request):
    made = {"byte-level": byte_level, "byte-fallback": with_byte_fallback, "metaspace": with_metaspace}
    return request.getfixturevalue("marian") if request.param == "marian" else made[request.param]()


def codec_of(tokenizer, config: GenerationConfig | None = None) -> HFCodec:
    return HFCodec(tokenizer, config or GenerationConfig(), ChatTemplate(None, name="org/model"))


def streamed(codec: HFCodec, ids: list[int]) -> list[str]:
    stream = codec.stream()
    return [*(stream.push(token) for token in ids), stream.flush()]


@pytest.mark.parametrize("text", TEXTS)
def test_the_pieces_of_a_stream_are_the_text_and_halve_no_character(tokenizer, text: str) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False)
    pieces = streamed(codec_of(tokenizer), ids)
    expected = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert "".join(pieces) == expected
    assert "\ufffd" not in "".join(pieces)
    assert len([piece for piece in pieces if piece]) > min(len(text), len(ids)) / 6  # it does come bit by bit


@pytest.mark.parametrize("seed", range(3))
def test_broken_bytes_are_passed_on_and_do_not_pile_up(seed: int) -> None:
    tokenizer = byte_level()
    codec = codec_of(tokenizer)
    rng = random.Random(seed)
    ids = [rng.randrange(len(tokenizer)) for _ in range(300)]
    pieces = streamed(codec, ids)
    expected = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert "".join(pieces).replace("\ufffd", "") == expected.replace("\ufffd", "")
    stream = codec.stream()
    [lone] = tokenizer.encode("한", add_special_tokens=False)[:1]
    given = [stream.push(lone) for _ in range(100)]
    assert len(stream._tokens) < 32
    assert sum(map(len, given)) > 80


def test_a_word_after_a_prompt_keeps_its_space() -> None:
    tokenizer = with_byte_fallback()
    codec = codec_of(tokenizer)
    ids = tokenizer.encode("be om and", add_special_tokens=False)
    stream = codec.stream(ids[:1])
    assert "".join([*map(stream.push, ids[1:]), stream.flush()]) == " om and"
    assert "".join(streamed(codec, ids)) == "be om and"


def test_a_piece_is_the_token_with_its_space() -> None:
    tokenizer = with_byte_fallback()
    codec = codec_of(tokenizer)
    pieces = {name: codec.piece(tokenizer.convert_tokens_to_ids(name)) for name in ("▁and", "om", "<0xEA>", "</s>")}
    assert pieces == {"▁and": " and", "om": "om", "<0xEA>": "\ufffd", "</s>": "</s>"}


def test_prompts_and_chats_differ_in_their_special_tokens() -> None:
    codec = hf_codec(byte_level(begins=True), GenerationConfig(), "org/model")
    plain = byte_level().encode("서울 and", add_special_tokens=False)
    assert codec.encode("서울 and") == [0, *plain]
    assert codec.encode_chat("서울 and") == plain
    assert codec.encode_chat("<|im_start|>서울 and<|im_end|>") == [5, *plain, 6]
    assert codec.size == 500


def test_the_ends_of_an_answer_are_those_of_the_model_and_of_its_tokenizer() -> None:
    assert codec_of(byte_level()).eos_ids == {2}
    assert codec_of(byte_level(), GenerationConfig(eos_token_id=6)).eos_ids == {2, 6}
    assert codec_of(byte_level(), GenerationConfig(eos_token_id=[6, 4])).eos_ids == {2, 4, 6}


@pytest.mark.parametrize("begins", [True, False])
def test_a_chat_is_read_from_its_template_or_a_plain_one(tmp_path: Path, begins: bool) -> None:
    chat: list[Message] = [{"role": "user", "content": "안녕"}]
    architecture = "llama" if begins else "gpt2"
    path = write_decoder(tmp_path / "with", architecture, chat_template=CHAT_TEMPLATE)
    found = hf_codec(transformers.AutoTokenizer.from_pretrained(path), GenerationConfig(), "org/model")
    assert found.has_template
    assert found.render(chat) == "<|im_start|>user\n안녕<|im_end|>\n<|im_start|>assistant\n"
    path = write_decoder(tmp_path / "without", architecture)
    found = hf_codec(transformers.AutoTokenizer.from_pretrained(path), GenerationConfig(), "org/model")
    assert not found.has_template
    assert found.render(chat) == ("<s>" if begins else "") + "User: 안녕\nAssistant:"
