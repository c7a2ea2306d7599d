"""How `data/hyperclovax_vlm.npz` was made: two public implementations run on the tiny model of tests/fakes.

    python -m tests.core.worker.architectures.reference VLLM PROCESSING

VLLM: the folder `vllm` of vLLM 0.23.0's source distribution (sha256 760269db3d9611e12e524681df1bca09…), of which the
projectors, `forward_images` and what they call are run as they are, on a CPU; timm 1.0.31 and einops 0.8.2 carry them.
PROCESSING: `src/transformers/models/hyperclovax_vision/image_processing_hyperclovax_vision.py` of the pull request that
the makers' own image processor was brought to transformers with, huggingface/transformers at commit
26ad483909341d58842b3ef2a6132753bf742ab8, of which `HyperClovaXVisionImageProcessor` and what it calls are run.

Weights and images come from numpy and from arithmetic, so that the tests have the same without these sources. The
tower before `forward_images` is transformers' SigLIP with all of its layers, at the next to last hidden states.
"""

from __future__ import annotations

import ast
import importlib.util
import math
import sys
import types
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from tests.fakes import hyperclovax as tiny

DATA = Path(__file__).parent / "data" / "hyperclovax_vlm.npz"
SIZES = ((42, 42), (50, 90), (90, 50), (30, 260), (260, 30), (84, 84), (123, 77), (20, 21), (300, 301), (1, 40))
PICTURES = SIZES[1:5] + SIZES[6:8]  # whose pixels are kept, of (height, width)
SCALES = ((42, 9), (378, 9), (378, 4))  # edge of a tile, tiles: what tokens are counted for
PROJECTORS = (("cabstractor", False), ("cabstractor", True), ("mlp", False), ("inverted_mlp", False), ("linear", False))
STEP = 6  # of the pixels that are kept
EVERY = 4  # of the columns of an image's rows that are kept, but for one image
WHOLE = (PICTURES[0], True)  # and unpad


def picture(size: tuple[int, int]) -> np.ndarray:
    """(height, width, 3) of 8 bits, with edges, slopes and colour."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    red, green = rows * 7 + columns * 3, (rows // 5 + columns // 9) % 2 * 200
    return np.stack((red % 256, green, (rows * columns) % 256), -1).astype(np.uint8)


def features(tiles: int) -> np.ndarray:
    return tiny.seeded("features", (tiles, tiny.PATCHES, int(tiny.VISION["hidden_size"]))) * 3


def tiles_of(size: tuple[int, int], count: int) -> np.ndarray:
    """Seeded pixels of `count` tiles, (tiles, 3, edge, edge)."""
    edge = int(tiny.VISION["image_size"])
    return tiny.seeded(f"tiles of {size}", (count, 3, edge, edge)) * 2


def shapes_of_images() -> Iterator[tuple[int, int]]:
    """Heights and widths of all proportions, for counting: 125."""
    for height in (1, 7, 40, 100, 377, 378, 379, 640, 1000, 1080, 2500):
        for width in (1, 9, 39, 123, 378, 500, 756, 1001, 1920, 3402, 9000):
            yield height, width
    yield from ((410, 492), (440, 264), (492, 410), (49, 441))  # whose proportions are lost by a bit of a float


def _taken(sources: dict[Path, set[str]], folder: str) -> Any:
    """A module in `folder` of what the sources call these names, and of their imports as far as those succeed here."""
    lines = ["from __future__ import annotations"]
    for path, names in sources.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import | ast.ImportFrom) and not getattr(node, "level", 0):
                lines += [f"try:\n    {ast.unparse(node)}\nexcept ImportError:\n    pass"]
            elif isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in names:
                lines += [ast.unparse(_alone(node))]
    written = Path(folder) / "taken.py"
    written.write_text("\n\n".join(lines), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("taken", written)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _alone(node: ast.FunctionDef | ast.ClassDef) -> ast.stmt:
    """vLLM's model without its registration and bases, which only its server gives."""
    if isinstance(node, ast.ClassDef) and node.name == "HCXVisionForCausalLM":
        node.bases, node.decorator_list = [], []
        node.body = [each for each in node.body if getattr(each, "name", "") == "forward_images"]
    if isinstance(node, ast.FunctionDef):
        node.decorator_list = []
    return node


def _vllm(root: Path, folder: str) -> Any:
    sys.modules["torchvision._meta_registrations"] = types.ModuleType("none")  # its operators are not there on a CPU
    models = root / "model_executor" / "models"
    names = {"HCXVisionMlp", "HCXVisionCAbstractor", "HCXVisionForCausalLM", "unpad_image", "select_best_resolution"}
    names |= {"get_anyres_image_grid_shape", "reshape_and_unpad_image_features", "anyres_postprocessing"}
    return _taken({models / "utils.py": {"flatten_bn"}, models / "hyperclovax_vision.py": names}, folder)


def _projector(vllm: Any, kind: str, prenorm: bool) -> Any:
    width, out = int(tiny.VISION["hidden_size"]), int(tiny.TEXT["hidden_size"])
    if kind == "cabstractor":
        made = vllm.HCXVisionCAbstractor(tiny.QUERIES, tiny.PATCHES, width, width, out, prenorm=prenorm)
    elif kind == "linear":
        made = torch.nn.Linear(width, out)
        made.dtype = torch.float32
    else:
        made = vllm.HCXVisionMlp(kind, width, hidden_features=width, out_features=out)
    shapes = tiny.projector_shapes(kind, prenorm=prenorm)
    state = {name: torch.from_numpy(tiny.seeded(f"mm_projector.{name}", shape)) for name, shape in shapes.items()}
    made.load_state_dict(state)
    return made.eval()


def _rows(vllm: Any, unpad: bool) -> dict[str, np.ndarray]:
    tower, edge = tiny.tower(), int(tiny.VISION["image_size"])
    canvases = [
        [rows * edge, columns * edge]
        for rows in range(1, tiny.TILES + 1)
        for columns in range(1, tiny.TILES + 1)
        if 1 < rows * columns <= tiny.TILES
    ]
    model = types.SimpleNamespace(
        vision_config=types.SimpleNamespace(model_type="siglip_vision_model", patch_size=7, image_size=edge),
        vision_model=lambda pixels: tower(pixels, output_hidden_states=True).hidden_states[-2],
        mm_projector=_projector(vllm, "cabstractor", False),
        image_newline=torch.from_numpy(tiny.seeded("image_newline", (int(tiny.TEXT["hidden_size"]),))),
        config=types.SimpleNamespace(
            num_queries_vis_abstractor_image=tiny.QUERIES, unpad=unpad, possible_resolutions=canvases
        ),
    )
    found = {}
    for size in PICTURES:
        best = vllm.select_best_resolution(size, canvases)
        count = 1 + best[0] * best[1] // edge**2
        pixels = torch.from_numpy(tiles_of(size, count))
        forward_images = vllm.HCXVisionForCausalLM.forward_images
        (rows,) = forward_images(model, [pixels], torch.tensor([size[::-1]]))
        found[f"rows {size} {unpad}"] = rows.numpy() if (size, unpad) == WHOLE else rows.numpy()[:, ::EVERY]
    return found


def _of_processor(path: Path, folder: str) -> dict[str, np.ndarray]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    theirs = _taken(
        {path: {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}}, folder
    )
    found = {}
    for edge, most in SCALES:
        canvases = theirs.determine_possible_resolutions(True, most, edge)
        count = partial(theirs.determine_anyres_num_vision_patches, 0, grid_size=edge, patch_size=edge // 6)
        found[f"canvases {edge} {most}"] = np.array(canvases)
        shapes = list(shapes_of_images())
        found[f"shapes {edge} {most}"] = np.array(shapes, np.int32)
        for unpad in (True, False):
            counts = [
                count(image_size=size, possible_resolutions=canvases, anyres=True, unpad=unpad, **_QUERIES)
                for size in shapes
            ]
            found[f"counts {edge} {most} {unpad}"] = np.array(counts, np.int32)
    edge = int(tiny.VISION["image_size"])
    processor = theirs.HyperClovaXVisionImageProcessor(
        size={"shortest_edge": edge}, crop_size={"height": edge, "width": edge}, anyres=True, unpad=True,
        possible_resolutions=theirs.determine_possible_resolutions(True, tiny.TILES, edge), patch_size=7,
        num_queries_vis_abstractor=tiny.QUERIES, image_mean=[0.5] * 3, image_std=[0.5] * 3, resample=2,
    )  # fmt: skip
    for size in PICTURES:
        given = processor.preprocess(picture(size), **dict.fromkeys(_FROM_PROCESSOR))
        pixels = given["pixel_values"][0].numpy()
        found[f"pixels {size}"] = pixels[:, :, ::STEP, ::STEP].astype(np.float32)
        found[f"means {size}"] = pixels.mean((2, 3), dtype=np.float64).astype(np.float32)
        found[f"count {size}"] = np.array(given["vision_query_lengths"])
    return found


_QUERIES = {"num_queries_vis_abstractor": 81}
_FROM_PROCESSOR = (  # None has them taken from the processor, as the revision on the Hub does without being told
    "do_resize", "anyres", "unpad", "possible_resolutions", "pad_to_square", "do_center_crop", "do_rescale",
    "do_normalize", "do_convert_rgb",
)  # fmt: skip


def main(vllm_root: Path, processing: Path) -> None:
    found = {}
    with torch.inference_mode(), TemporaryDirectory() as folder:
        vllm = _vllm(vllm_root, folder)
        for kind, prenorm in PROJECTORS:
            made = _projector(vllm, kind, prenorm)
            found[f"{kind} {prenorm}"] = made(torch.from_numpy(features(2))).numpy()
        found |= _rows(vllm, True) | _rows(vllm, False)
    with TemporaryDirectory() as folder:
        found |= _of_processor(processing, folder)
    np.savez_compressed(DATA, **found)
    print(f"{DATA.name}: {len(found)} arrays, {math.ceil(DATA.stat().st_size / 1024)} KB")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
