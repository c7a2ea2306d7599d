"""Models of the transformers library that read images and text, beside others that read text alone.

An image's rows of numbers are put where its places are among the embedded tokens; from there on it is a prompt as any
other, over the same keys and values.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from core.errors import CorruptModel, LoadFailed
from core.types import Image, Message, Preview
from core.worker.devices import guarded
from core.worker.generation.base import Chunk
from core.worker.generation.images import number_of, spans
from core.worker.runtimes.base import LoadRequest, Progress
from core.worker.runtimes.generator_loading import cached_tokens, generation_length, load_generator
from core.worker.runtimes.loading import quiet
from core.worker.runtimes.repository import loading_errors, read_json, refuse_code
from core.worker.runtimes.transformers_decoder import TransformersDecoder, keeps_keys_and_values, warm
from core.worker.runtimes.transformers_forward import Forward
from core.worker.runtimes.transformers_vision_positions import Positions
from core.worker.runtimes.transformers_vision_processor import Reader, VisionCodec, load_processor
from core.worker.runtimes.transformers_vision_tower import Passage, in_tiles

# Architectures of our own, by model type: modules whose `register` tells the Auto classes of them.
OWN = {"hyperclovax_vlm": "core.worker.architectures.hyperclovax_vlm"}
MAX_IMAGES = 256  # in one prompt; the settings allow no more
EMBEDDED_BYTES = 64 * 1024 * 1024  # of images that are kept for prompts to come; one at least is
# Of an image that is split, through the tower at once: others wait for them, and more take no less time.
TILES = {"cpu": 1, "cuda": 4}


class Eyes:
    """See the protocol `Vision`. An image is embedded once, for as long as it is kept or a slot has it to read."""

    max_images = MAX_IMAGES

    def __init__(self, reader: Reader, model: Any, size: int, device: str, kept_tokens: int, *, spreads: bool) -> None:
        """`size` of the vocabulary; `kept_tokens`: as many rows of images are kept at most; `spreads`: each token has
        three positions, which follow the grids of images."""
        self.reader = reader
        self._model = model
        self._size = size  # of the vocabulary
        self._device = device
        self._room = min(EMBEDDED_BYTES, kept_tokens * self._row_bytes())
        self._takes = self._parameters()
        self._kept: OrderedDict[int, torch.Tensor] = OrderedDict()  # by the image's number
        self._slots: dict[int, dict[int, Image]] = {}
        self._at_hand: dict[int, torch.Tensor] = {}  # what the step under way reads, or a slot is in the middle of
        self._under_way: dict[int, Passage] = {}  # through the tower
        self.spread = Positions(self.grid, size) if spreads else None

    @property
    def tiles(self) -> int:
        """Of an image that is split, through the tower at once."""
        return TILES[self._device.partition(":")[0]]

    def read(self, image: Image) -> None:
        self.reader.layout(image)

    def encode(self, messages: Sequence[Message]) -> list[int]:
        return self.reader.encode(messages)

    def preview(self, image: Image) -> Preview:
        return self.reader.preview(image)

    def show(self, slot: int, images: Sequence[Image]) -> None:
        self._slots[slot] = {number_of(image["key"]): image for image in images}
        shown = {number for each in self._slots.values() for number in each}
        for kept in (self._at_hand, self._under_way):
            for number in kept.keys() - shown:
                del kept[number]

    def grid(self, slot: int, number: int) -> tuple[int, int]:
        """Rows and columns of an image's places, of a model whose positions follow them."""
        grid = self.reader.layout(self._slots[slot][number]).grid
        assert grid is not None
        return grid

    def look(self, chunk: Chunk) -> None:
        """Embeds all images that `chunk` names, where nobody waits. Raises InsufficientMemory, CorruptModel."""
        while not self.look_on(chunk):
            pass

    def look_on(self, chunk: Chunk, *, may_embed: bool = True) -> bool:
        """See `Vision`. Raises InsufficientMemory, CorruptModel."""
        for span in spans(chunk.tokens, self._size):
            if span.number in self._kept and span.number not in self._at_hand:
                self._kept.move_to_end(span.number)
                self._at_hand[span.number] = self._kept[span.number]
            if span.number not in self._at_hand:
                if not may_embed:
                    return False
                image = self._slots[chunk.slot][span.number]
                with torch.inference_mode():
                    guarded(
                        functools.partial(self._embed_on, image, span.number),
                        self._device,
                        f"{self.reader.name} was looking at an image",
                    )
                return False
        return True

    @contextlib.contextmanager
    def around(self, chunks: Sequence[Chunk]) -> Iterator[None]:
        """The step that reads `chunks`, with the images that they name."""
        for chunk in chunks:
            self.look(chunk)
        if self.spread:
            self.spread.note(chunks)
        yield
        self._leave(chunks)

    def trimmed(self, slot: int, held: int) -> int:
        """`held`: the tokens that the slot still has. Returns it."""
        if self.spread:
            self.spread.trim(slot, held)
        return held

    def _leave(self, chunks: Sequence[Chunk]) -> None:
        """`chunks` are read: an image whose last place was among them is not kept for its slot any more."""
        for chunk in chunks:
            for span in spans(chunk.tokens, self._size):
                rows = self._at_hand.get(span.number)
                if rows is not None and span.place + span.count == len(rows):
                    del self._at_hand[span.number]

    def put(self, tokens: list[list[int]], embedded: torch.Tensor) -> None:
        """Writes the rows of images into `embedded`, (rows, tokens, width)."""
        for row, line in enumerate(tokens):
            for span in spans(line, self._size):
                rows = self._at_hand[span.number][span.place : span.place + span.count]
                embedded[row, span.start : span.start + span.count] = rows.to(embedded.dtype)

    def _embedded(self, image: Image, number: int) -> torch.Tensor:
        """(places, width) of an image, in one go."""
        while number not in self._kept:
            self._embed_on(image, number)
        return self._kept[number]

    def _embed_on(self, image: Image, number: int) -> None:
        """A part of the image goes through the tower; with the last one it is at hand."""
        if number not in self._under_way:
            self._under_way[number] = self._passage(image)
        rows = self._under_way[number].go_on()
        if rows is None:
            return
        del self._under_way[number]
        places = self.reader.layout(image).places
        if len(rows) != places:
            raise CorruptModel(
                f"{self.reader.name} embeds an image as {len(rows):,} rows and its processor leaves {places:,} places: "
                "its files do not belong together. Download the model again, or tell its author."
            )
        self._at_hand[number] = self._kept[number] = rows
        while sum(each.nbytes for each in self._kept.values()) > self._room and len(self._kept) > 1:
            self._kept.popitem(last=False)

    def _passage(self, image: Image) -> Passage:
        pixels = self.reader.take_pixels(image)
        given = {name: value for name, value in pixels.items() if name in self._takes}
        in_parts = in_tiles(self._model, given, self._device, self.tiles)
        return in_parts or Passage(_tiles(given, self.tiles), self._encoded)

    def _encoded(self, pixels: dict[str, Any]) -> torch.Tensor:
        return torch.cat(self._through_the_tower(pixels))

    def _row_bytes(self) -> int:
        """What a row of an image takes."""
        return int(self._model.get_input_embeddings().weight.shape[1] * self._model.dtype.itemsize)

    def _parameters(self) -> frozenset[str]:
        """What the tower takes."""
        return frozenset(inspect.signature(self._model.get_image_features).parameters)

    def _through_the_tower(self, pixels: dict[str, Any]) -> list[torch.Tensor]:
        given = {name: value.to(self._device) for name, value in pixels.items()}
        found = self._model.get_image_features(**given, return_dict=True).pooler_output
        return [each.reshape(-1, each.shape[-1]) for each in found]


def _tiles(pixels: dict[str, Any], most: int) -> list[dict[str, Any]]:
    """The tiles of an image, some at a time, where they do not see each other: they have a mask each then."""
    if "pixel_attention_mask" not in pixels:
        return [pixels]
    count = pixels["pixel_values"].shape[1]
    return [{name: value[:, at : at + most] for name, value in pixels.items()} for at in range(0, count, most)]


class SeeingForward(Forward):
    """A forward pass over embedded tokens where images are among them."""

    def __init__(self, model: Any, device: str, eyes: Eyes, size: int) -> None:
        super().__init__(model, device)
        self._eyes = eyes
        self._spread = eyes.spread
        self._size = size
        self._embed = model.get_input_embeddings()

    def positions(self, slot: int, start: int, count: int) -> list[Any]:
        return self._spread.at(slot, start, count) if self._spread else super().positions(slot, start, count)

    def _inputs(self, tokens: list[list[int]]) -> dict[str, torch.Tensor]:
        if all(token < self._size for line in tokens for token in line):
            return super()._inputs(tokens)
        ids = torch.tensor([[token if token < self._size else 0 for token in line] for line in tokens])
        embedded = self._embed(ids.to(self.device))
        self._eyes.put(tokens, embedded)
        return {"inputs_embeds": embedded}

    def _placed(self, positions: torch.Tensor) -> torch.Tensor:
        """(rows, tokens), or of a model with three positions for each token (3, rows, tokens)."""
        return positions.permute(1, 0, 2) if self._spread else positions


class TransformersVision(TransformersDecoder):
    """See the protocol `Generator`."""

    vision: Eyes

    def __init__(self, request: LoadRequest, model: Any, codec: VisionCodec, processor: Any, device: str) -> None:
        if not keeps_keys_and_values(model):
            raise LoadFailed(f"{request.name} keeps no keys and values of what it has read. Choose another model.")
        context = generation_length(request, model.config)
        kept = cached_tokens(request, model, context, device)
        # M-RoPE: the model says so by reckoning positions from the grids of images itself
        spreads = hasattr(model.base_model, "get_rope_index")
        eyes = Eyes(Reader(processor, codec, request.name), model, codec.size, device, kept, spreads=spreads)
        super().__init__(request, model, codec, device, SeeingForward(model, device, eyes, codec.size))
        self.vision = eyes

    def step(self, chunks: Sequence[Chunk]) -> list[np.ndarray | None]:
        """See `Generator`."""
        with self.vision.around(chunks):
            return super().step(chunks)

    def trim(self, slot: int, length: int) -> int:
        return self.vision.trimmed(slot, super().trim(slot, length))


def load(request: LoadRequest, on_progress: Progress) -> TransformersVision:
    """Reads the files, puts the model on its device, and writes two tokens."""
    quiet()
    refuse_code(request)
    stated = read_json(Path(request.path) / "config.json", request.name) or {}
    if isinstance(stated, dict) and (own := OWN.get(stated.get("model_type", ""))) is not None:
        importlib.import_module(own).register()
    with loading_errors(request):
        config = AutoConfig.from_pretrained(request.path, local_files_only=True, trust_remote_code=False)
        processor = load_processor(request, config)
    model, codec, device = load_generator(
        request, on_progress, AutoModelForImageTextToText, VisionCodec, processor.tokenizer
    )
    # many models have more rows than their tokenizer has tokens, and may draw them: images lie above them all
    codec.size = model.get_input_embeddings().weight.shape[0]
    decoder = TransformersVision(request, model, codec, processor, device)
    on_progress("warming", {})
    warm(decoder)
    return decoder
