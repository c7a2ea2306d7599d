"""Draws the example pictures of the vision starter: `python -m starter.draw_samples` writes starter/vision/samples."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

from starter.scenes import BACKGROUNDS, COLOURS, Thing, draw

SAMPLES = Path(__file__).parent / "vision" / "samples"
SIZE, FINER = 320, 4  # pixels a side; drawn so many times larger, then made small, for smooth edges
PICTURES: dict[str, tuple[str, tuple[tuple[str, str, float, float, float], ...]]] = {
    "three-shapes": (
        "white",
        (
            ("circle", "red", 0.2, 0.22, 0.14),
            ("square", "blue", 0.5, 0.52, 0.13),
            ("triangle", "green", 0.8, 0.8, 0.15),
        ),
    ),
    "night": (
        "navy",
        (
            ("star", "yellow", 0.17, 0.18, 0.1),
            ("star", "yellow", 0.5, 0.2, 0.13),
            ("circle", "white", 0.82, 0.22, 0.14),
            ("star", "yellow", 0.2, 0.55, 0.12),
        ),
    ),
    "hearts": ("light blue", (("heart", "pink", 0.22, 0.5, 0.16), ("heart", "red", 0.72, 0.5, 0.24))),
    "six": (
        "white",
        (
            ("cross", "red", 0.18, 0.18, 0.12),
            ("diamond", "purple", 0.5, 0.2, 0.13),
            ("circle", "black", 0.82, 0.18, 0.1),
            ("square", "orange", 0.18, 0.8, 0.12),
            ("triangle", "blue", 0.5, 0.8, 0.13),
            ("heart", "brown", 0.82, 0.8, 0.13),
        ),
    ),
}


def sample(name: str) -> Image.Image:
    background, things = PICTURES[name]
    picture = Image.new("RGB", (SIZE * FINER, SIZE * FINER), BACKGROUNDS[background][0])
    for shape, colour, x, y, radius in things:
        draw(ImageDraw.Draw(picture), Thing(shape, colour, x, y, radius, COLOURS[colour][0], 0, False), edge=False)
    return picture.resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def main() -> None:
    SAMPLES.mkdir(parents=True, exist_ok=True)
    for name in PICTURES:
        sample(name).quantize(64).save(SAMPLES / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
