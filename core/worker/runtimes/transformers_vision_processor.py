"""Images and text to tokens by a model's own processor: which tokens an image becomes is the processor's to say."""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import PIL.Image
import torch
from transformers import AutoImageProcessor, AutoTokenizer, ProcessorMixin
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING, processor_class_from_name
from transformers.models.smolvlm import processing_smolvlm

from core.errors import InvalidRequest, LoadFailed, TemplateFailed
from core.types import Image, Message, Preview
from core.worker.devices import out_of_memory
from core.worker.generation.codec import HFCodec
from core.worker.generation.images import images_of, parts_of, places
from core.worker.runtimes.base import LoadRequest
from core.worker.runtimes.repository import read_json
from core.worker.runtimes.transformers_vision_previews import views

PIXEL_BYTES = 64 * 1024 * 1024  # of images that are read and not yet embedded; one at least is kept
_LAYOUTS = 4096  # images whose layout is remembered
_FILES = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json")
_OF_TEXT = frozenset(("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids", "text_replacement_offsets"))
_FORMATS = ("PNG", "JPEG")


class VisionCodec(HFCodec):
    """The codec of a model that sees: chats are written in parts where its template takes them."""

    image_token = ""  # what the processor puts as many tokens in the place of as an image takes
    image_part: Mapping[str, str] = {}  # what else the template is told of an image

    def render(self, messages: Sequence[Message]) -> str:
        return self._template.render([{"role": each["role"], "content": self._content(each)} for each in messages])

    def encode_chat(self, text: str) -> list[int]:
        """As processors do: BOS is added unless the template wrote it."""
        begins = self._tokenizer.bos_token
        return self._encode(text, special=not (begins and text.startswith(begins)))

    def _content(self, message: Message) -> str | list[dict[str, str]]:
        broken = f"{self.image_token[:1]}\u200b{self.image_token[1:]}"  # no words of a user are an image
        parts = [
            part.replace(self.image_token, broken) if isinstance(part, str) else part for part in parts_of(message)
        ]
        if self._template.takes_parts:
            image = {"type": "image", **self.image_part}
            return [{"type": "text", "text": part} if isinstance(part, str) else image for part in parts]
        return "".join(part if isinstance(part, str) else f"{self.image_token}\n" for part in parts)


@dataclass(frozen=True, slots=True)
class Layout:
    """What stands for an image in a prompt."""

    text: str  # with as many image tokens in it as the image has places
    places: int
    grid: tuple[int, int] | None  # rows and columns of its places, where positions follow them


class Reader:
    """Images as the model's processor reads them. Layouts are remembered; pixels only until they are embedded."""

    def __init__(self, processor: Any, codec: VisionCodec, name: str) -> None:
        self._processor = processor
        self._codec = codec
        self.name = name
        self._token: str = processor.image_token
        self._token_id = int(processor.tokenizer.convert_tokens_to_ids(self._token))
        self._layouts: OrderedDict[str, Layout] = OrderedDict()
        self._pixels: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._held = 0  # bytes of _pixels
        self._lock = Lock()  # guards the three before it: two threads read images
        codec.image_token = self._token
        codec.image_part = getattr(processor, "image_part", {})

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """See `Vision`."""
        images = images_of(messages)
        layouts = [self.layout(image) for image in images]
        around = self._codec.render(messages).split(self._token)
        if len(around) != len(images) + 1:
            raise TemplateFailed(
                f"The chat template of {self.name} writes {len(around) - 1} of the {len(images)} images of this chat. "
                "Send images in the user's messages only, or choose another model."
            )
        text = around[0] + "".join(layout.text + after for layout, after in zip(layouts, around[1:], strict=True))
        ids = self._codec.encode_chat(text)
        count = sum(layout.places for layout in layouts)
        if ids.count(self._token_id) != count:
            raise TemplateFailed(f"{self.name} reads its own image tokens in another number than it wrote: {count:,}.")
        of_images = self._places(images, layouts)
        return [next(of_images) if each == self._token_id else each for each in ids]

    def _places(self, images: Sequence[Image], layouts: Sequence[Layout]) -> Iterator[int]:
        for image, layout in zip(images, layouts, strict=True):
            yield from places(self._codec.size, image["key"], layout.places)

    def layout(self, image: Image) -> Layout:
        with self._lock:
            found = self._layouts.get(image["key"])
            if found is not None:
                self._layouts.move_to_end(image["key"])
                return found
        return self._read(image)

    def take_pixels(self, image: Image) -> dict[str, Any]:
        """What the model embeds the image from, by the names of its parameters; forgotten here."""
        with self._lock:
            found = self._pixels.pop(image["key"], None)
            if found is not None:
                self._held -= _bytes_of(found)
                return found
        return _pixels_in(self._processed(image))  # with no text: the tokenizer is the other thread's

    def preview(self, image: Image) -> Preview:
        """See `Vision`. The image is read anew, and nothing of it is kept."""
        layout, pixels = self._laid_out(image)
        with PIL.Image.open(io.BytesIO(image["data"]), formats=_FORMATS) as opened:
            size = opened.size
        return {
            "views": views(self._processor.image_processor, pixels, size),
            "tokens": layout.places,
            "is_exact": True,
        }

    def _laid_out(self, image: Image) -> tuple[Layout, dict[str, Any]]:
        found = self._processed(image, text=[self._token], return_text_replacement_offsets=True)
        text = str(found["text_replacement_offsets"][0][0]["replacement"])
        pixels = _pixels_in(found)
        return Layout(text, text.count(self._token), self._grid(pixels)), pixels

    def _read(self, image: Image) -> Layout:
        layout, pixels = self._laid_out(image)
        with self._lock:
            self._layouts[image["key"]] = layout
            if len(self._layouts) > _LAYOUTS:
                self._layouts.popitem(last=False)
            if image["key"] not in self._pixels:
                self._pixels[image["key"]] = pixels
                self._held += _bytes_of(pixels)
            while self._held > PIXEL_BYTES and len(self._pixels) > 1:
                self._held -= _bytes_of(self._pixels.popitem(last=False)[1])
        return layout

    def _processed(self, image: Image, **more: Any) -> Any:
        """What the processor makes of it. Raises InvalidRequest, InsufficientMemory."""
        picture = self._opened(image)
        try:
            return self._processor(images=[picture], return_tensors="pt", **more)
        except MemoryError:
            raise out_of_memory("cpu", f"an image for {self.name} was read") from None
        except Exception as error:
            said = " ".join(str(error).split())[:200]
            raise InvalidRequest(
                f"{self.name} cannot look at an image of {picture.width:,}×{picture.height:,} pixels: {said}"
            ) from error

    def _opened(self, image: Image) -> PIL.Image.Image:
        try:
            with PIL.Image.open(io.BytesIO(image["data"]), formats=_FORMATS) as opened:
                return opened.convert("RGB")
        except Exception as error:
            raise InvalidRequest(f"{self.name} was sent an image that is no sound PNG or JPEG file.") from error

    def _grid(self, pixels: dict[str, Any]) -> tuple[int, int] | None:
        if "image_grid_thw" not in pixels:
            return None
        _, rows, columns = (int(each) for each in pixels["image_grid_thw"][0])
        merged = self._processor.image_processor.merge_size
        return rows // merged, columns // merged


def load_processor(request: LoadRequest, config: Any) -> Any:
    """The model's own processor, for images and text alone: what reads films needs a library more.

    Raises LoadFailed when the repository has none that transformers knows.
    """
    where = {"local_files_only": True, "trust_remote_code": False}
    ours: Any = PROCESSOR_MAPPING.get(type(config), None)
    if ours is not None and ours.__module__.startswith("core."):  # of an architecture of our own
        return ours.from_pretrained(request.path)
    kind, names = _processor_class(request, config)
    parts = {
        "tokenizer": AutoTokenizer.from_pretrained(request.path, **where),
        "image_processor": AutoImageProcessor.from_pretrained(request.path, **where),
    }
    settings, _ = kind.get_processor_dict(request.path, local_files_only=True)
    if vars(processing_smolvlm)["num2words"] is None:  # it counts the frames of films; SmolVLM's asks for it always
        vars(processing_smolvlm)["num2words"] = str
    processor = kind.from_args_and_dict([parts.get(name) for name in names], settings)
    if processor.chat_template:
        parts["tokenizer"].chat_template = processor.chat_template
    return processor


def _processor_class(request: LoadRequest, config: Any) -> tuple[Any, list[str]]:
    """A class that wants nothing for films, and the names of all parts that it takes."""
    stated = (_stated(request, name) for name in _FILES)
    found = next((kind for name in stated if name and (kind := processor_class_from_name(name))), None)
    if found is None and type(config) in PROCESSOR_MAPPING:
        found = PROCESSOR_MAPPING[type(config)]
    if found is None or not issubclass(found, ProcessorMixin):
        raise LoadFailed(f"{request.name} has no processor of images that transformers knows. Choose another model.")
    names = list(found.get_attributes())
    still = [name for name in names if "video" not in name]
    if set(still) != {"tokenizer", "image_processor"}:
        raise LoadFailed(f"{request.name} reads {', '.join(still)}; here it can be images and text only.")
    return type(found.__name__, (found,), {"get_attributes": classmethod(lambda cls: list(still))}), names


def _stated(request: LoadRequest, file: str) -> str | None:
    stated = (read_json(Path(request.path) / file, request.name) or {}).get("processor_class")
    return stated if isinstance(stated, str) else None


def _pixels_in(found: Any) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name not in _OF_TEXT}


def _bytes_of(pixels: dict[str, Any]) -> int:
    return sum(value.nbytes for value in pixels.values() if isinstance(value, torch.Tensor))
