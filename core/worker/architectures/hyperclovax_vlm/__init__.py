"""HyperCLOVAX-SEED-Vision-Instruct-3B: a SigLIP tower, a C-Abstractor and a LLaMA.

Written from what is public about it (see docs/vision.md) so that the released checkpoint loads by the names of its
own weights. None of the repository's code is run.
"""

from __future__ import annotations

from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor

from core.worker.architectures.hyperclovax_vlm.configuration import HCXVisionConfig
from core.worker.architectures.hyperclovax_vlm.image_processing import HCXVisionImageProcessor
from core.worker.architectures.hyperclovax_vlm.modeling import HCXVisionForCausalLM
from core.worker.architectures.hyperclovax_vlm.processing import HCXVisionProcessor

__all__ = [
    "HCXVisionConfig",
    "HCXVisionForCausalLM",
    "HCXVisionImageProcessor",
    "HCXVisionProcessor",
    "register",
]


def register() -> None:
    """Tells transformers' Auto classes of this architecture; may be called again."""
    AutoConfig.register(HCXVisionConfig.model_type, HCXVisionConfig, exist_ok=True)
    AutoModelForImageTextToText.register(HCXVisionConfig, HCXVisionForCausalLM, exist_ok=True)
    AutoImageProcessor.register(
        HCXVisionConfig, image_processor_classes={"pil": HCXVisionImageProcessor}, exist_ok=True
    )
    AutoProcessor.register(HCXVisionConfig, HCXVisionProcessor, exist_ok=True)
