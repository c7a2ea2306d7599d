"""Texts and images together: the chat template, and a place in the prompt for each token of an image."""

from __future__ import annotations

from os import PathLike
from typing import Any, ClassVar

from transformers import AutoTokenizer
from transformers.processing_utils import ProcessorMixin

from core.worker.architectures.hyperclovax_vlm.configuration import HCXVisionConfig
from core.worker.architectures.hyperclovax_vlm.image_processing import HCXVisionImageProcessor
from core.worker.architectures.hyperclovax_vlm.tiling import Size


class HCXVisionProcessor(ProcessorMixin):
    """Called with images and with texts that hold the image token once for each image, it writes the token as often
    as the image has rows."""

    # what the template is told of an image beside its place; only services of its makers would fill it in
    image_part: ClassVar[dict[str, str]] = {"filename": "", "ocr": "", "lens_keywords": "", "lens_local_keywords": ""}

    def __init__(
        self,
        image_processor: HCXVisionImageProcessor,
        tokenizer: Any,
        config: HCXVisionConfig,
        chat_template: str | None = None,
    ) -> None:
        self.image_token_id = int(config.image_token_id or 0)
        self.image_token = str(tokenizer.convert_ids_to_tokens(self.image_token_id))
        self._tiling = config.tiling
        self._tokens_of_tile = config.side**2
        image_processor.follow(config)
        super().__init__(image_processor, tokenizer, chat_template=chat_template or tokenizer.chat_template)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: str | PathLike[str], **_: Any
    ) -> HCXVisionProcessor:
        """The processor of a model's directory, whatever class its files name: code in it is not looked at."""
        path = str(pretrained_model_name_or_path)
        config = HCXVisionConfig.from_pretrained(path, local_files_only=True)
        image_processor = HCXVisionImageProcessor.from_pretrained(path, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(path, config=config, local_files_only=True, trust_remote_code=False)
        return cls(image_processor, tokenizer, config)

    def count(self, size: Size) -> int:
        """Places in the prompt that an image of `size` (height, width in pixels) takes."""
        tiled = self._tiling(size)
        return self._tokens_of_tile if tiled is None else tiled.tokens

    def replace_image_token(self, image_inputs: dict[str, Any], image_idx: int, **_: Any) -> str:
        height, width = image_inputs["image_sizes"][image_idx]
        return self.image_token * self.count((int(height), int(width)))

    def apply_chat_template(self, conversation: Any, *args: Any, **kwargs: Any) -> Any:
        """As of any processor; images of which nothing more is said get the empty fields that the template names."""
        return super().apply_chat_template(_completed(conversation, self.image_part), *args, **kwargs)


def _completed(value: Any, fields: dict[str, str]) -> Any:
    """`value`, a chat or several, with all of `fields` in each part that is an image."""
    if isinstance(value, list | tuple):
        return [_completed(each, fields) for each in value]
    if not isinstance(value, dict):
        return value
    if value.get("type") == "image":
        return {**fields, **value}
    return {**value, "content": _completed(value["content"], fields)} if "content" in value else value
