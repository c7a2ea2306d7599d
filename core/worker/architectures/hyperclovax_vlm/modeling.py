"""The model. Its modules bear the names that the released checkpoint's weights have."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.generation.utils import GenerationMixin
from transformers.modeling_outputs import BaseModelOutputWithPooling, CausalLMOutputWithPast
from transformers.models.siglip.modeling_siglip import SiglipVisionModel

from core.worker.architectures.hyperclovax_vlm.configuration import HCXVisionConfig
from core.worker.architectures.hyperclovax_vlm.projectors import CAbstractor, Mlp
from core.worker.architectures.hyperclovax_vlm.tiling import Tiling

TILES = 4  # through the tower at once: all together take memory and no less time


class Tower(nn.Module):
    """SigLIP up to the layer whose hidden states are taken, without the norm and the head behind it."""

    def __init__(self, config: HCXVisionConfig) -> None:
        super().__init__()
        shortened = deepcopy(config.vision_config)
        shortened.num_hidden_layers, shortened.vision_use_head = config.tower_layers, False  # type: ignore[union-attr]
        self.vision_model = SiglipVisionModel._from_config(shortened)
        self.vision_model.post_layernorm = nn.Identity()

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(tiles, 3, edge, edge) to (tiles, patches, width)."""
        features: Tensor = self.vision_model(pixel_values).last_hidden_state
        return features


def projector(config: HCXVisionConfig) -> nn.Module:
    width = config.vision_config.hidden_size  # type: ignore[union-attr]
    out = config.text_config.hidden_size  # type: ignore[union-attr]
    if config.mm_projector_type == "linear":
        return nn.Linear(width, out)
    if config.mm_projector_type == "cabstractor":
        return CAbstractor(
            config.patches**2, config.side**2, width, out, positions=config.proj_pos_emb, prenorm=config.proj_prenorm
        )
    return Mlp(width, width * (2 if config.mm_projector_type == "inverted_mlp" else 1), out)


class HCXVisionForCausalLM(PreTrainedModel, GenerationMixin):
    """Takes images as LLaVA-NeXT does: `pixel_values` (images, tiles, 3, edge, edge), filled up with tiles that are
    not looked at, and `image_sizes` (images, 2), the height and width of each image before anything was done to it."""

    config_class = HCXVisionConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    input_modalities = ["image", "text"]
    _no_split_modules = ["SiglipEncoderLayer", "LlamaDecoderLayer"]
    _skip_keys_device_placement = ["past_key_values"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True

    def __init__(self, config: HCXVisionConfig) -> None:
        super().__init__(config)
        self.vision_model = Tower(config)
        self.mm_projector = projector(config)
        if config.anyres:
            self.image_newline = nn.Parameter(torch.zeros(config.text_config.hidden_size))  # type: ignore[union-attr]
        self.language_model = AutoModelForCausalLM.from_config(config.text_config)
        first = config.tower_layers
        last = config.vision_config.num_hidden_layers  # type: ignore[union-attr]
        unused = ["post_layernorm", "head", *(f"encoder.layers.{index}" for index in range(first, last))]
        self._keys_to_ignore_on_load_unexpected = [
            rf"^vision_model\.vision_model\.{name.replace('.', chr(92) + '.')}\." for name in unused
        ]
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, CAbstractor):
            module.reset_positions()
        if isinstance(module, HCXVisionForCausalLM) and self.config.anyres:
            nn.init.normal_(module.image_newline, std=self.config.text_config.hidden_size**-0.5)

    def get_input_embeddings(self) -> nn.Module:
        embeddings: nn.Module = self.language_model.get_input_embeddings()
        return embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        embeddings: nn.Module = self.language_model.get_output_embeddings()
        return embeddings

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.language_model.set_output_embeddings(new_embeddings)

    def get_image_features(
        self, pixel_values: Tensor, image_sizes: Tensor | None = None, **_: Any
    ) -> BaseModelOutputWithPooling:
        """The images as rows of the text model's width: `pooler_output`, one (tokens, width) an image.

        `image_sizes` may be left out where every image is one tile.
        """
        tilings = [self.config.tiling((int(height), int(width))) for height, width in _sizes(image_sizes, pixel_values)]
        counts = [1 if each is None else each.tiles for each in tilings]
        tiles = torch.cat([image[:count] for image, count in zip(pixel_values, counts, strict=True)])
        features = torch.cat([self.vision_model(some) for some in tiles.split(TILES)])
        projected = torch.cat([self.mm_projector(some) for some in features.split(TILES)])
        rows = [self.assembled(each, tiled) for each, tiled in zip(projected.split(counts), tilings, strict=True)]
        return BaseModelOutputWithPooling(last_hidden_state=features, pooler_output=rows)  # type: ignore[arg-type]

    def assembled(self, tokens: Tensor, tiled: Tiling | None) -> Tensor:
        """(tiles, side², width) to (tokens, width): the whole image's tile, then its canvas row by row."""
        if tiled is None:
            return tokens[0]
        grid = tokens[1:].unflatten(0, (tiled.rows, tiled.columns)).unflatten(2, (tiled.side, tiled.side))
        if not tiled.has_newlines:  # tiles of a row of tiles lie beside each other
            return torch.cat((tokens[0], grid.transpose(1, 2).flatten(0, 3)))
        canvas = grid.transpose(1, 2).flatten(2, 3).flatten(0, 1)
        height, width = tiled.shown
        shown = canvas[tiled.top : tiled.top + height, tiled.left : tiled.left + width]
        newlines = self.image_newline.expand(height, 1, -1).to(shown.dtype)
        return torch.cat((tokens[0], torch.cat((shown, newlines), 1).flatten(0, 1)))

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_sizes: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """As any causal model; where `input_ids` holds `image_token_id`, the images' rows stand, in their order.

        Raises ValueError when there are more or fewer of those than rows, and without exactly one of `input_ids` and
        `inputs_embeds`.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("exactly one of `input_ids` and `inputs_embeds` is needed")
        if input_ids is not None:
            inputs_embeds = self.get_input_embeddings()(input_ids)
            if pixel_values is not None and len(pixel_values):
                rows = torch.cat(list(self.get_image_features(pixel_values, image_sizes).pooler_output or ()))
                inputs_embeds = self._placed(input_ids, inputs_embeds, rows)
        elif pixel_values is not None:
            raise ValueError("images can be placed among `input_ids` only")
        outputs: CausalLMOutputWithPast = self.language_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            labels=labels,
            use_cache=use_cache,
            logits_to_keep=logits_to_keep,
            **kwargs,
        )
        return outputs

    def _placed(self, input_ids: Tensor, embedded: Tensor, rows: Tensor) -> Tensor:
        places = input_ids == self.config.image_token_id
        if int(places.sum()) != len(rows):
            raise ValueError(f"the prompt has {int(places.sum())} image tokens, and the images {len(rows)}")
        return embedded.masked_scatter(places.unsqueeze(-1), rows.to(embedded))


def _sizes(image_sizes: Tensor | None, pixel_values: Tensor) -> list[list[int]]:
    if image_sizes is None:
        edge = pixel_values.shape[-1]
        return [[edge, edge]] * len(pixel_values)
    sizes: list[list[int]] = image_sizes.tolist() if isinstance(image_sizes, Tensor) else list(image_sizes)
    return sizes
