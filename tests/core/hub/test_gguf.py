"""Headers of GGUF files: the sound ones read as the gguf package reads them, all others refused by a typed error."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import gguf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import CorruptModel
from core.hub.files import LocalFiles, open_directory
from core.hub.gguf import GgufHeader, read_gguf
from core.hub.gguf_cursor import Cursor
from core.hub.gguf_types import FILE_TYPES, SCALARS, TENSOR_TYPES
from tests.fakes.gguf import CHAT_TEMPLATE, CONTEXT, write_gguf


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gguf")


@pytest.fixture(scope="module")
def sound(folder: Path) -> bytes:
    return write_gguf(folder / "sound.gguf").read_bytes()


def read(path: Path) -> GgufHeader:
    return read_gguf(open_directory("org/model", path.parent), path.name)


@pytest.fixture
def refused(folder: Path) -> Callable[[bytes], str]:
    """Writes a file of these bytes, which must be refused, and returns why it was."""

    def check(data: bytes) -> str:
        path = folder / "lying.gguf"
        path.write_bytes(data)
        with pytest.raises(CorruptModel) as caught:
            read(path)
        assert "lying.gguf of org/model" in caught.value.message
        assert len(caught.value.message) < 500
        return caught.value.message

    return check


@pytest.mark.parametrize("quantized", [False, True])
def test_a_header_is_that_of_the_package(tmp_path: Path, quantized: bool) -> None:
    path = write_gguf(tmp_path / "model.gguf", quantized=quantized)
    header = read(path)
    reference = gguf.GGUFReader(path)
    assert header.tensors == len(reference.tensors)
    assert header.tensor_bytes == sum(int(tensor.n_bytes) for tensor in reference.tensors)
    assert header.parameters == sum(int(tensor.n_elements) for tensor in reference.tensors)
    assert header.vocabulary == len(reference.fields["tokenizer.ggml.tokens"].data)
    assert (header.architecture, header.name, header.kind) == ("llama", "tiny", "model")
    assert (header.context_length, header.block_count, header.embedding_length) == (CONTEXT, 2, 64)
    assert (header.head_count, header.head_counts_kv, header.key_length, header.value_length) == (4, (2,), 16, 16)
    assert header.chat_template == CHAT_TEMPLATE
    assert header.file_type == ("Q8_0" if quantized else "F32")
    assert (header.part, header.parts) == (0, 1)
    assert header.cache_bytes == 2 * 2 * (16 + 16) * 2  # layers, heads, key and value, float16


def test_heads_may_differ_by_layer(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "openelm")
    writer.add_block_count(3)
    writer.add_head_count([4, 4, 8])
    writer.add_head_count_kv([1, 2, 4])
    writer.add_key_length(16)
    writer.add_value_length(16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header = read(tmp_path / "m.gguf")
    assert header.head_counts_kv == (1, 2, 4)
    assert header.cache_bytes == 2 * 7 * 32


def test_the_tables_are_those_of_the_package() -> None:
    kinds = {int(kind): (kind.name, *sizes) for kind, sizes in gguf.GGML_QUANT_SIZES.items()}
    assert TENSOR_TYPES.items() <= kinds.items()
    for number, name in FILE_TYPES.items():
        assert gguf.LlamaFileType(number).name.partition("_")[2] == name
    for number, form in SCALARS.items():
        kind = gguf.GGUFValueType(number).name
        assert (
            struct.calcsize(f"<{form}") == {"8": 1, "16": 2, "32": 4, "64": 8, "L": 1}[kind.strip("UINTFLOAB") or "L"]
        )


def test_a_long_header_is_read_in_few_pieces(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", metadata={f"some.text.{index}": "x" * 1000 for index in range(6000)})
    files = open_directory("m", tmp_path)
    reads: list[int] = []

    class Counting:
        name, sizes, directory = files.name, files.sizes, None

        def read(self, path: str, start: int, length: int) -> bytes:
            reads.append(length)
            return files.read(path, start, length)

    assert read_gguf(Counting(), path.name) == read(path)  # type: ignore[arg-type]
    assert len(reads) == 3


class _Bytes:
    """A file far away, of these bytes."""

    name, directory = "m", None

    def __init__(self, data: bytes) -> None:
        self.data, self.sizes = data, {"m.gguf": len(data)}

    def read(self, path: str, start: int, length: int) -> bytes:
        return self.data[start : start + length]


LENGTHS = (0, 1, 7, 8, 9, 42, 254, 255, 256, 257, 600, 70_000)
ODD = (b"", b"\0", b"\0" * 7, b"\0" * 8, b"x\0" * 9, b"\1" + b"\0" * 7, *(b"x" * length for length in LENGTHS))


@pytest.mark.parametrize("seed", range(12))
def test_texts_of_any_length_are_passed_over(seed: int) -> None:
    """Short ones are told apart in one go; what that cannot tell is walked, wherever it stands."""
    chance = random.Random(seed)
    odd_ones = chance.choice([0, 3, 300])
    texts = [f"word{index}".encode() for index in range(chance.choice([1, 1023, 1024, 1025, 5000]))]
    for _ in range(odd_ones):
        texts.insert(chance.randrange(len(texts) + 1), chance.choice(ODD))
    behind = chance.randbytes(40)
    data = b"".join(struct.pack("<Q", len(text)) + text for text in texts) + behind
    cursor = Cursor(_Bytes(data), "m.gguf")  # type: ignore[arg-type]
    cursor.skip_texts(len(texts))
    assert cursor.take(40) == behind
    cursor = Cursor(_Bytes(data), "m.gguf")  # type: ignore[arg-type]
    if len({text.partition(b"\0")[0] for text in texts}) == len(texts):
        cursor.skip_tokens(len(texts))
        assert cursor.take(40) == behind
    else:
        with pytest.raises(CorruptModel, match="twice"):
            cursor.skip_tokens(len(texts))


class TestLies:
    @pytest.mark.parametrize("length", [0, 3, 4, 8, 24, 100, -1, "half", "header"])
    def test_cut_short(self, sound: bytes, refused: Callable[[bytes], str], length: int | str) -> None:
        ends = {"half": len(sound) // 2, "header": 2000}
        refused(sound[: ends.get(length, length)])  # type: ignore[arg-type, misc]

    @pytest.mark.parametrize("version", [0, 1, 4, 99, 3 << 24, 2**32 - 1])
    def test_versions(self, sound: bytes, refused: Callable[[bytes], str], version: int) -> None:
        assert "version" in refused(sound[:4] + struct.pack("<I", version) + sound[8:])

    @pytest.mark.parametrize("magic", [b"GGML", b"\0\0\0\0", b"FUGG", b"PK\3\4", b"\x80\x04\x95\0"])
    def test_other_files(self, sound: bytes, refused: Callable[[bytes], str], magic: bytes) -> None:
        assert "no GGUF file" in refused(magic + sound[4:])

    @pytest.mark.parametrize("at", [8, 16])
    @pytest.mark.parametrize("count", [2**63, 2**64 - 1, 65_537, 65_536, 1 << 32])
    def test_counts(self, sound: bytes, refused: Callable[[bytes], str], at: int, count: int) -> None:
        refused(sound[:at] + struct.pack("<Q", count) + sound[at + 8 :])

    @pytest.mark.parametrize("length", [2**62, 2**64 - 1, (1 << 20) + 1, 65_536])
    def test_lengths_of_keys_and_texts(self, sound: bytes, refused: Callable[[bytes], str], length: int) -> None:
        key = struct.pack("<Q", length)
        refused(sound[:24] + key + sound[32:])
        place = sound.index(b"tokenizer.chat_template") + len(b"tokenizer.chat_template") + 4
        refused(sound[:place] + struct.pack("<Q", length) + sound[place + 8 :])

    @pytest.mark.parametrize("count", [2**62, 2**64 - 1, 1 << 40, 1 << 24, 362 + 1])
    @pytest.mark.parametrize("key", [b"tokenizer.ggml.tokens", b"tokenizer.ggml.scores"])
    def test_lengths_of_arrays(self, sound: bytes, refused: Callable[[bytes], str], key: bytes, count: int) -> None:
        place = sound.index(key) + len(key) + 8
        refused(sound[:place] + struct.pack("<Q", count) + sound[place + 8 :])

    @pytest.mark.parametrize("kind", [13, 9, 255, 2**32 - 1])
    def test_kinds_of_values(self, sound: bytes, refused: Callable[[bytes], str], kind: int) -> None:
        place = sound.index(b"tokenizer.ggml.scores") + len(b"tokenizer.ggml.scores")
        refused(sound[: place + 4] + struct.pack("<I", kind) + sound[place + 8 :])
        if kind != 9:
            refused(sound[:place] + struct.pack("<I", kind) + sound[place + 4 :])

    @pytest.mark.parametrize("alignment", [0, 3, 33, 8192, 1 << 31])
    def test_alignments(self, tmp_path: Path, refused: Callable[[bytes], str], alignment: int) -> None:
        path = write_gguf(tmp_path / "m.gguf", metadata={"general.alignment_": 32})
        data = path.read_bytes().replace(b"general.alignment_", b"general.alignment")
        # the key is a byte shorter now, and its length has to say so
        place = data.index(b"general.alignment") - 8
        data = data[:place] + struct.pack("<Q", 17) + data[place + 8 :]
        assert data[place + 25 : place + 33] == struct.pack("<II", 4, 32)
        assert "aligns" in refused(data[: place + 29] + struct.pack("<I", alignment) + data[place + 33 :])

    def test_a_key_twice(self, tmp_path: Path, refused: Callable[[bytes], str]) -> None:
        data = write_gguf(tmp_path / "m.gguf", metadata={"some.a": 1, "some.b": 2}).read_bytes()
        assert "twice" in refused(data.replace(b"some.b", b"some.a"))

    @pytest.mark.parametrize(
        ("offset", "form", "value"),
        [
            (0, "I", 5), (0, "I", 2**32 - 1), (4, "Q", 2**63), (4, "Q", 0), (12, "Q", 2**64 - 1), (12, "Q", 1 << 40),
            (20, "I", 4), (20, "I", 99), (20, "I", 8 + (1 << 31)), (24, "Q", 1), (24, "Q", 2**64 - 1),
            (24, "Q", 1 << 50),
        ],
    )  # fmt: skip
    def test_entries_of_tensors(
        self, sound: bytes, refused: Callable[[bytes], str], offset: int, form: str, value: int
    ) -> None:
        place = sound.index(b"token_embd.weight") + len(b"token_embd.weight") + offset
        refused(sound[:place] + struct.pack(f"<{form}", value) + sound[place + struct.calcsize(f"<{form}") :])

    def test_a_tensor_twice(self, sound: bytes, refused: Callable[[bytes], str]) -> None:
        assert "twice" in refused(sound.replace(b"blk.1.attn_q.weight", b"blk.0.attn_q.weight"))

    @pytest.mark.parametrize("token", ["▁the".encode(), "▁".encode() + b"\0\0\0"])
    def test_a_token_twice(self, sound: bytes, refused: Callable[[bytes], str], token: bytes) -> None:
        """llama.cpp aborts; its texts end at a NUL, so that half of one may be another."""
        place = sound.index("▁qui".encode())
        assert "same token" in refused(sound[:place] + token + sound[place + 6 :])

    def test_five_hundred_random_changes_raise_nothing_else(self, sound: bytes, folder: Path) -> None:
        """A header with a changed byte may still be sound; it is never anything but read or refused."""
        header = sound.index(b"token_embd.weight") + 400
        outcomes = {"read": 0, "refused": 0}
        for changed in _mutations(sound, header, 500):
            path = folder / "mutated.gguf"
            path.write_bytes(changed)
            try:
                assert isinstance(read(path), GgufHeader)
                outcomes["read"] += 1
            except CorruptModel:
                outcomes["refused"] += 1
        assert outcomes["refused"] > 200


def _mutations(data: bytes, header: int, count: int) -> Iterator[bytes]:
    chance = random.Random(7)
    lies = [2**64 - 1, 2**63, 2**62, 2**32 - 1, 2**31, 65_537, 99, 0]
    for _ in range(count):
        at = chance.randrange(header)
        width = chance.choice([1, 4, 8])
        lie = chance.choice(lies) % 256**width
        changed = data[:at] + lie.to_bytes(width, "little") + data[at + width :]
        yield changed if chance.random() < 0.7 else changed[: chance.randrange(len(changed))]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_refused(data: bytes) -> None:
    class Bytes(LocalFiles):
        def read(self, path: str, start: int, length: int) -> bytes:
            return whole[start : start + length]

    whole = b"GGUF" + struct.pack("<I", 3) + data
    files = Bytes("m", Path(), {"m.gguf": len(whole)}, None)  # type: ignore[arg-type]
    try:
        header = read_gguf(files, "m.gguf")
    except CorruptModel:
        return
    assert header.tensors == 0
