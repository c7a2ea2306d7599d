"""The configuration, as the released config.json writes it."""

from __future__ import annotations

from math import isqrt
from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from core.worker.architectures.hyperclovax_vlm.tiling import Size, Tiling, canvases, tiling

IMAGE_TOKEN_ID = 100271  # of the released tokenizer
_PROJECTORS = ("linear", "mlp", "inverted_mlp", "cabstractor")


@strict
class HCXVisionConfig(PreTrainedConfig):
    """Both published forms are understood: the first wrote `language_config`, `img_start_id` and
    `num_queries_vis_abstractor` for what is now `text_config`, `image_token_id` and `num_queries_vis_abstractor_image`.
    What only training and videos need is kept as it is and not used. Raises ValueError for a tower, a projector or a
    number of queries that this implementation does not have.
    """

    model_type = "hyperclovax_vlm"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values"]
    sub_configs_defaults: ClassVar[dict[str, SubConfigSpec]] = {
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="llama"),
        "vision_config": SubConfigSpec(config_class=AutoConfig, model_type="siglip_vision_model"),
    }

    text_config: dict[str, Any] | PreTrainedConfig | None = None
    vision_config: dict[str, Any] | PreTrainedConfig | None = None
    image_token_id: int | None = None
    mm_projector_type: str = "cabstractor"
    use_nth_layer: int = -2  # whose hidden states are taken from the tower; -1 is the last, before its norm
    anyres: bool = False
    unpad: bool = False
    max_num_grids: int = -1
    use_1x1_grid: bool = False
    possible_resolutions: list[Any] | None = None
    num_queries_vis_abstractor_image: int | None = None  # tokens of a tile, a square number
    proj_pos_emb: bool = True
    proj_prenorm: bool = False
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        first_form = kwargs.pop("language_config", None)
        self.text_config = first_form if self.text_config is None else self.text_config
        placeholder = kwargs.pop("img_start_id", IMAGE_TOKEN_ID)
        self.image_token_id = placeholder if self.image_token_id is None else self.image_token_id
        queries = kwargs.pop("num_queries_vis_abstractor", None)
        if self.num_queries_vis_abstractor_image is None:
            self.num_queries_vis_abstractor_image = queries
        super().__post_init__(**kwargs)
        self._check()

    @property
    def tile(self) -> int:
        """Pixels along the edge of a tile."""
        return int(self.vision_config.image_size)  # type: ignore[union-attr]

    @property
    def patches(self) -> int:
        """Patches along the edge of a tile, as the tower sees it."""
        return self.tile // int(self.vision_config.patch_size)  # type: ignore[union-attr]

    @property
    def side(self) -> int:
        """Tokens along the edge of a tile, as the text model sees it."""
        queries = self.num_queries_vis_abstractor_image or 0
        return isqrt(queries) if self.mm_projector_type == "cabstractor" and queries > 0 else self.patches

    @property
    def tower_layers(self) -> int:
        """Layers of the tower that have to run."""
        layers = int(self.vision_config.num_hidden_layers)  # type: ignore[union-attr]
        return self.use_nth_layer if self.use_nth_layer >= 0 else layers + 1 + self.use_nth_layer

    @property
    def canvases(self) -> list[Size]:
        """Canvases of tiles, empty where every image is one tile."""
        if not self.anyres:
            return []
        if self.possible_resolutions:
            return [(int(height), int(width)) for height, width in self.possible_resolutions]
        return canvases(self.max_num_grids, self.tile, with_single=self.use_1x1_grid)

    def tiling(self, size: Size) -> Tiling | None:
        """How an image of `size` is cut, None where it is one tile."""
        return tiling(size, self.canvases, self.tile, self.side, unpad=self.unpad) if self.anyres else None

    def _check(self) -> None:
        kind = self.vision_config.model_type  # type: ignore[union-attr]
        if kind != "siglip_vision_model":
            raise ValueError(f"its tower is a {kind}; of this architecture only SigLIP towers can be run")
        if self.mm_projector_type not in _PROJECTORS:
            raise ValueError(f"its projector is {self.mm_projector_type!r}; it can be {', '.join(_PROJECTORS)}")
        queries = self.num_queries_vis_abstractor_image or 0
        if self.mm_projector_type == "cabstractor" and (queries < 1 or isqrt(queries) ** 2 != queries):
            raise ValueError(f"its C-Abstractor gives {queries} tokens a tile, which is no square number")
        if self.anyres and not self.canvases:
            raise ValueError("it cuts images into tiles, but `max_num_grids` allows for none")
