"""What sees for a GGUF model: its mmproj file, by llama.cpp's multimodal library (mtmd).

An image is laid out as text tokens and tiles. A tile is read as one: its rows of numbers go into the cache together,
at places that need not count one for each row (M-RoPE). Laying out may be done by any thread, all else by the model
thread.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path

import llama_cpp
import numpy as np
from llama_cpp import mtmd_cpp

from core.errors import InsufficientMemory, InvalidRequest, LoadFailed
from core.worker.generation.images import Span
from core.worker.runtimes import llama_log
from core.worker.runtimes.base import LoadRequest
from core.worker.runtimes.llama_errors import projector_error, reason

_FAR = 1 << 20  # a place that tells which dimensions of a tile's places move with the tile


class _Chunks:
    """What mtmd makes of one image, with the pixels; given back when nothing refers to it."""

    def __init__(self) -> None:
        self.raw = mtmd_cpp.mtmd_input_chunks_init()

    def __iter__(self) -> object:
        return (mtmd_cpp.mtmd_input_chunks_get(self.raw, at) for at in range(mtmd_cpp.mtmd_input_chunks_size(self.raw)))

    def __del__(self) -> None:
        mtmd_cpp.mtmd_input_chunks_free(self.raw)


@dataclass(eq=False)
class Tile:
    """Rows of an image that are read together."""

    first: int  # of its rows among those of the image
    count: int
    span: int  # places that it takes in the sequence
    places: np.ndarray  # int32 (1 or 4, count): of a tile at place 0
    moves: np.ndarray  # int32, the same shape: 1 where the place is counted from the tile's own, 0 where from 0
    is_seen_whole: bool  # its rows look at each other, not only back
    chunk: int | None  # its pixels, until they are encoded
    rows: np.ndarray | None = None  # float32 (count, width)

    def places_at(self, start: int) -> np.ndarray:
        return self.places + self.moves * start


@dataclass(eq=False)
class Picture:
    """An image as the model reads it: text tokens, and in their midst the rows of its tiles."""

    layout: tuple[int | None, ...]  # None: a row
    tiles: tuple[Tile, ...]
    _chunks: _Chunks | None

    @property
    def count(self) -> int:
        """Rows."""
        return sum(tile.count for tile in self.tiles)

    def ending(self, span: Span) -> list[Tile]:
        """The tiles whose last row is among the rows of `span`."""
        return [tile for tile in self.tiles if span.place < tile.first + tile.count <= span.place + span.count]

    def release(self) -> None:
        """Gives the pixels back once all of it is encoded."""
        if all(tile.rows is not None for tile in self.tiles):
            self._chunks = None


class Projector:
    """An mmproj file, opened for one text model."""

    def __init__(self, request: LoadRequest, model: llama_cpp.llama_model_p, device: str, threads: int) -> None:
        """Raises LoadFailed, CorruptModel or InsufficientMemory."""
        self._name = request.name
        self.width = int(llama_cpp.llama_model_n_embd_inp(model))
        mtmd_cpp.mtmd_helper_log_set(llama_log.callback, ctypes.c_void_p(0))
        params = mtmd_cpp.mtmd_context_params_default()
        params.use_gpu = device != "cpu"
        params.print_timings = False
        params.n_threads = threads
        path = Path(request.path) / str(request.projector)
        raw = mtmd_cpp.mtmd_init_from_file(str(path).encode(), model, params)
        if raw is None:
            raise projector_error(request, path)
        self._raw = raw
        if not mtmd_cpp.mtmd_support_vision(raw):
            self.close()
            raise LoadFailed(f"{request.projector} of {request.name} sees no images. Load it for text-generation.")
        self._has_planes = bool(mtmd_cpp.mtmd_decode_use_mrope(raw))
        self._marker = mtmd_cpp.mtmd_default_marker()

    def lay_out(self, pixels: np.ndarray) -> Picture:
        """An image of uint8 (height, width, 3). Raises InvalidRequest when mtmd cannot prepare it."""
        chunks = self._tokenize(np.ascontiguousarray(pixels, np.uint8))
        layout: list[int | None] = []
        tiles: list[Tile] = []
        for chunk in chunks:  # type: ignore[attr-defined]
            if mtmd_cpp.mtmd_input_chunk_get_type(chunk) == mtmd_cpp.MTMD_INPUT_CHUNK_TYPE_TEXT:
                layout += self._text_of(chunk)
            else:
                tile = self._tile(chunk, sum(each.count for each in tiles))
                layout += [None] * tile.count
                tiles.append(tile)
        return Picture(tuple(layout), tuple(tiles), chunks)

    def encode(self, picture: Picture, tile: Tile) -> np.ndarray:
        """The rows of a tile, computed when first asked for. Raises InsufficientMemory."""
        if tile.rows is None:
            llama_log.forget()
            if mtmd_cpp.mtmd_encode_chunk(self._raw, tile.chunk) != 0:
                raise InsufficientMemory(
                    f"{self._name} has no memory to look at this image: {_said()}. Send a smaller one."
                )
            found = mtmd_cpp.mtmd_get_output_embd(self._raw)
            tile.rows = np.ctypeslib.as_array(found, (tile.count, self.width)).copy()
            tile.chunk = None
            picture.release()
        return tile.rows

    def close(self) -> None:
        mtmd_cpp.mtmd_free(self._raw)

    def _tokenize(self, pixels: np.ndarray) -> _Chunks:
        height, width, _ = pixels.shape
        data = pixels.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        bitmap = mtmd_cpp.mtmd_bitmap_init(width, height, data)
        chunks = _Chunks()
        llama_log.forget()
        text = mtmd_cpp.mtmd_input_text(self._marker, len(self._marker), False, True)
        try:
            bitmaps = (mtmd_cpp.mtmd_bitmap_p_ctypes * 1)(bitmap)
            status = mtmd_cpp.mtmd_tokenize(self._raw, chunks.raw, ctypes.byref(text), bitmaps, 1)
        finally:
            mtmd_cpp.mtmd_bitmap_free(bitmap)
        if status != 0:
            raise InvalidRequest(
                f"{self._name} cannot look at an image of {width:,} × {height:,} pixels: {_said()}. "
                "Send it in another size."
            )
        return chunks

    def _text_of(self, chunk: int) -> list[int]:
        count = ctypes.c_size_t()
        found = mtmd_cpp.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(count))
        return list(found[: count.value]) if found else []

    def _tile(self, chunk: int, first: int) -> Tile:
        count = int(mtmd_cpp.mtmd_input_chunk_get_n_tokens(chunk))
        if self._has_planes:
            places, far = self._planes(chunk, count, 0), self._planes(chunk, count, _FAR)
            moves = (far - places) // _FAR
        else:
            places = np.arange(count, dtype=np.int32)[None]
            moves = np.ones_like(places)
        return Tile(
            first=first,
            count=count,
            span=int(mtmd_cpp.mtmd_input_chunk_get_n_pos(chunk)),
            places=places,
            moves=moves,
            is_seen_whole=bool(mtmd_cpp.mtmd_decode_use_non_causal(self._raw, chunk)),
            chunk=chunk,
        )

    def _planes(self, chunk: int, count: int, start: int) -> np.ndarray:
        """Places of a tile that begins at `start`, int32 (4, count), in the order in which llama_batch takes them."""
        found = (mtmd_cpp.mtmd_decoder_pos * count)()
        tokens = mtmd_cpp.mtmd_input_chunk_get_tokens_image(chunk)
        mtmd_cpp.mtmd_helper_image_get_decoder_pos(tokens, start, found)
        fields = ctypes.cast(found, ctypes.POINTER(ctypes.c_int32))
        return np.ascontiguousarray(np.ctypeslib.as_array(fields, (count, 4))[:, [0, 2, 1, 3]].T)


def _said() -> str:
    return reason(llama_log.complaint())
