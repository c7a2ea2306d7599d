"""Models that look at images as ONNX graphs, run by onnxruntime: a tower, a table of tokens, and a decoder that reads
what these two embed. They are those that transformers.js runs, by the names that it gives their inputs.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from transformers import AutoConfig
from transformers.image_utils import SizeDict

from core.errors import CorruptModel, LoadFailed
from core.graphs import SeeingGraphs, seeing_graphs_of
from core.types import Image, Task
from core.worker.devices import guarded, pick_device
from core.worker.generation.base import Chunk
from core.worker.generation.images import number_of
from core.worker.runtimes.base import LoadRequest, Progress
from core.worker.runtimes.loading import quiet
from core.worker.runtimes.onnxruntime_decoder import OnnxDecoder
from core.worker.runtimes.onnxruntime_generator import read_codec
from core.worker.runtimes.onnxruntime_graph import DTYPES, Graph, read_graph
from core.worker.runtimes.onnxruntime_session import graph_file, open_session
from core.worker.runtimes.repository import loading_errors, refuse_code
from core.worker.runtimes.transformers_vision import Eyes
from core.worker.runtimes.transformers_vision_processor import Reader, VisionCodec, load_processor

# Of an image that goes through a tower as a whole: a graph keeps the scores of every patch to every other.
MOST_PATCHES = 4096
_TASKS = (Task.IMAGE_TEXT_TO_TEXT, Task.TEXT_GENERATION)
_PIXELS = {"grid_thw": "image_grid_thw"}  # inputs of a tower that have another name than processors give them
_TAKES = frozenset(("pixel_values", "pixel_attention_mask", "image_grid_thw"))
_DEFAULT_FILES = tuple(
    f"{folder}decoder_model_merged{precision}.onnx" for precision in ("", "_quantized") for folder in ("onnx/", "")
)


class Tower:
    """Pixels to rows of numbers."""

    def __init__(self, session: Any, width: int, name: str) -> None:
        """`width` of a row."""
        self.takes = {_PIXELS.get(each.name, each.name): each for each in session.get_inputs()}
        self.width = width
        foreign = [each.name for given, each in self.takes.items() if given not in _TAKES or each.type not in DTYPES]
        if foreign or "pixel_values" not in self.takes:
            raise LoadFailed(
                f"The vision_encoder of {name} takes {', '.join(foreign)[:200] or 'no pixel_values'}, which is not "
                "known here. Choose a repository with safetensors."
            )
        outputs = [each.name for each in session.get_outputs()]
        self._output = "image_features" if "image_features" in outputs else outputs[0]
        self._session = session
        self._name = name

    def __call__(self, pixels: dict[str, torch.Tensor]) -> torch.Tensor:
        """(rows, width) of an image, or of some of its tiles. Raises CorruptModel."""
        feed: dict[str, np.ndarray] = {
            each.name: np.ascontiguousarray(pixels[given].numpy(), DTYPES[each.type])
            for given, each in self.takes.items()
        }
        (found,) = self._session.run([self._output], feed)
        if found.shape[-1] != self.width:
            raise CorruptModel(
                f"The vision_encoder of {self._name} gives rows of {found.shape[-1]:,} numbers, and its decoder takes "
                f"{self.width:,}: its files do not belong together. Download the model again, or tell its author."
            )
        return torch.from_numpy(found.reshape(-1, self.width))


class GraphEyes(Eyes):
    """See `Eyes`."""

    tiles = 1  # at once: a graph keeps the scores of every patch of a tile to every other

    _model: Tower

    def warm(self) -> None:
        """Looks at a grey image. Raises CorruptModel, LoadFailed."""
        data = io.BytesIO()
        PIL.Image.new("RGB", (64, 64), (128, 128, 128)).save(data, "PNG")
        grey: Image = {"data": data.getvalue(), "key": "grey"}
        self.read(grey)  # first, as for a prompt: its pixels would be read again and kept, for nobody
        rows = self._embedded(grey, number_of("grey"))
        self._kept.clear()
        self._at_hand.clear()
        if not torch.isfinite(rows).all():
            raise CorruptModel(
                f"The vision_encoder of {self.reader.name} computes NaN: it is damaged, or too large for its number "
                "format. Fetch it again, or choose another precision."
            )

    def _row_bytes(self) -> int:
        return self._model.width * 4

    def _parameters(self) -> frozenset[str]:
        return frozenset(self._model.takes)

    def _through_the_tower(self, pixels: dict[str, Any]) -> list[torch.Tensor]:
        return [self._model(pixels)]


class Table:
    """Tokens to the rows that stand for them."""

    def __init__(self, session: Any, name: str) -> None:
        inputs, outputs = session.get_inputs(), session.get_outputs()
        if [each.name for each in inputs] != ["input_ids"] or len(outputs) != 1 or inputs[0].type not in DTYPES:
            raise LoadFailed(
                f"The embed_tokens of {name} takes {', '.join(each.name for each in inputs)[:200]} and gives "
                f"{len(outputs)} results; here it can be input_ids and one. Choose a repository with safetensors."
            )
        self._session = session
        self._type = DTYPES[inputs[0].type]

    def __call__(self, ids: Any) -> np.ndarray:
        """(rows, tokens) to (rows, tokens, width)."""
        found: np.ndarray = self._session.run(None, {"input_ids": np.array(ids, self._type)})[0]
        return found


@dataclass(frozen=True, slots=True)
class _Parts:
    tower: Any
    table: Table
    decoder: Any  # a session, as `tower`


class OnnxVision(OnnxDecoder):
    """See the protocol `Generator`."""

    vision: GraphEyes

    def __init__(
        self,
        request: LoadRequest,
        parts: _Parts,
        graph: Graph,
        config: Any,
        codec: VisionCodec,
        processor: Any,
        device: str,
    ) -> None:
        super().__init__(request, parts.decoder, graph, config, codec, device)
        self.info = replace(self.info, tasks=tuple(task for task in request.tasks if task in _TASKS))
        self._table = parts.table
        tower = Tower(parts.tower, self._table([[0]]).shape[-1], request.name)
        reader = Reader(processor, codec, request.name)
        spreads = _spreads(graph, tower, request.name)
        self.vision = GraphEyes(reader, tower, codec.size, device, self.max_cached_tokens, spreads=spreads)

    def step(self, chunks: Sequence[Chunk]) -> list[np.ndarray | None]:
        """See `Generator`."""
        with self.vision.around(chunks):
            return super().step(chunks)

    def trim(self, slot: int, length: int) -> int:
        return self.vision.trimmed(slot, super().trim(slot, length))

    def warm(self) -> None:
        """See `OnnxDecoder`."""
        super().warm()
        self.vision.warm()

    def _feed(
        self, slots: list[int], tokens: list[Sequence[int]], held: np.ndarray, mask: np.ndarray
    ) -> dict[str, np.ndarray]:
        size, lines = self.codec.size, [list(each) for each in tokens]
        embedded = self._table([[token if token < size else 0 for token in line] for line in lines])
        if any(token >= size for line in lines for token in line):
            self.vision.put(lines, torch.from_numpy(embedded))
        if (spread := self.vision.spread) is None:
            return self._graph.feed(embedded, held, mask)
        places = [spread.at(slot, start, len(lines[0])) for slot, start in zip(slots, held.tolist(), strict=True)]
        return self._graph.feed(embedded, held, mask, np.array(places).transpose(1, 0, 2))  # (3, rows, tokens)

    def _run(self, feed: dict[str, np.ndarray], values: Sequence[Any]) -> tuple[list[np.ndarray], Sequence[Any]]:
        logits, grown = super()._run(feed, values)
        return [row[: self.codec.size] for row in logits], grown  # a few are padded; images lie above all of them


def _spreads(graph: Graph, tower: Tower, name: str) -> bool:
    """Whether each token has three positions. Raises LoadFailed where the graphs do not agree."""
    has_grid, has_three = "image_grid_thw" in tower.takes, graph.axes_of_positions == 3
    if has_grid != has_three:
        raise LoadFailed(
            f"The vision_encoder of {name} takes {'a grid' if has_grid else 'no grid'} and its decoder "
            f"{'three positions' if has_three else 'one position'} for each token: these graphs cannot be run together "
            "here. Choose a repository with safetensors."
        )
    return has_three


def load(request: LoadRequest, on_progress: Progress) -> OnnxVision:
    """Reads the files, opens the graphs, and runs them a few times."""
    quiet()
    on_progress("loading", {})
    refuse_code(request)
    device = pick_device(request.device)
    graphs = _graphs(request)
    with loading_errors(request):
        config = AutoConfig.from_pretrained(request.path, local_files_only=True, trust_remote_code=False)
        processor = load_processor(request, config)
        _bound(processor.image_processor)
        _, _, codec = read_codec(request, Path(request.path), VisionCodec, processor.tokenizer)
        text = config.get_text_config(decoder=True)
        codec.size = text.vocab_size  # more than the tokenizer's, often; the model may draw them all
        parts = guarded(lambda: _open(request, graphs, device), device, f"loading {request.name}")
        graph = read_graph(parts.decoder, text, request.name, "inputs_embeds")
        runtime = OnnxVision(request, parts, graph, config, codec, processor, device)
    on_progress("warming", {})
    with loading_errors(request):
        guarded(runtime.warm, device, f"warming {request.name}")
    return runtime


def _graphs(request: LoadRequest) -> SeeingGraphs:
    root = Path(request.path)
    path = graph_file(request, _DEFAULT_FILES)
    there = {each.relative_to(root).as_posix() for each in path.parent.glob("*.onnx") if each.is_file()}
    found = seeing_graphs_of(path.relative_to(root).as_posix(), there)
    if found is None:
        raise LoadFailed(
            f"{request.name} has no vision_encoder.onnx and embed_tokens.onnx with a decoder_model_merged.onnx. "
            "Choose a file that has them, or a repository with safetensors."
        )
    return found


def _open(request: LoadRequest, graphs: SeeingGraphs, device: str) -> _Parts:
    alone = replace(request, passes=1)  # steps follow one another
    tower, table, decoder = (open_session(alone, Path(request.path, each), device) for each in graphs.paths)
    return _Parts(tower, Table(table, request.name), decoder)


def _bound(images: Any) -> None:
    """Has an image that goes through the tower as a whole made smaller, where it would have too many patches."""
    if not hasattr(images, "merge_size"):  # tiles
        return
    size = dict(images.size)
    most = MOST_PATCHES * images.patch_size**2
    images.size = SizeDict(**{**size, "longest_edge": min(size["longest_edge"], most)})
