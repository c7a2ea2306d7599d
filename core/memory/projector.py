"""What sees for a GGUF model takes beside it: its mmproj file, the passes of images, and the images that are kept."""

from __future__ import annotations

from dataclasses import replace

from core.types import Inspection, Need

KEPT_BYTES = 64 * 1024 * 1024  # as `llama_sight` has it; a test holds them against each other
LARGEST_SHARE = 0.5  # of a context, that one image may take; likewise
_PROCESS = 16 * 1024 * 1024  # its library, Pillow and what they write
# Arrays of a pass that live at once, of the layers' inner width and of a patch's width. Measured: docs/vision.md.
_INNER, _OUTER = 3, 4


def with_projector(inspection: Inspection, needs: tuple[Need, ...], context: int, sequences: int) -> tuple[Need, ...]:
    """`needs` of a text model, and those of what sees for it: where the text is computed, images are kept on the host.

    `context`: tokens of one prompt and its answer.
    """
    anatomy = inspection.anatomy
    if inspection.projector is None:
        return needs
    largest = int(context * LARGEST_SHARE)  # tokens of an image
    patches = min(anatomy.image_patches, largest * max(anatomy.image_merge, 1))
    of_pass = patches * (_INNER * anatomy.image_intermediate + _OUTER * anatomy.image_hidden) * 4
    kept = min(KEPT_BYTES, sequences * largest * anatomy.hidden * 4)
    first, *others = needs
    first = replace(first, weights=first.weights + anatomy.image_bytes, activations=first.activations + of_pass)
    found = (first, *others)
    return tuple(
        replace(need, cache=need.cache + kept, overhead=need.overhead + _PROCESS) if need.device == "cpu" else need
        for need in found
    )
