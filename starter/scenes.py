"""Simple drawn scenes for the vision starter: what is in them, and a picture of it made with Pillow.

A scene has up to six things, each in a place of its own on a grid of three by three. Every scene comes from a seed;
those of training and those of the test come from different ones, and the pairs in `HELD_OUT` are never in training.
"""

from __future__ import annotations

import io
import math
import random
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Colour = tuple[int, int, int]  # red, green, blue, 0 to 255

SHAPES = ("circle", "square", "triangle", "star", "heart", "diamond", "cross")
COLOURS: dict[str, tuple[Colour, ...]] = {
    "red": ((255, 0, 0), (220, 40, 40), (205, 20, 45)),
    "orange": ((255, 165, 0), (245, 130, 30)),
    "yellow": ((255, 255, 0), (250, 215, 50)),
    "green": ((0, 128, 0), (0, 235, 0), (50, 165, 70)),
    "blue": ((0, 0, 255), (40, 90, 220), (30, 120, 240)),
    "purple": ((128, 0, 128), (130, 60, 180), (150, 50, 220)),
    "pink": ((255, 182, 198), (255, 105, 180), (250, 145, 190)),
    "brown": ((139, 69, 19), (120, 75, 45)),
    "black": ((0, 0, 0), (32, 32, 34)),
    "white": ((255, 255, 255), (243, 243, 240)),
}
BACKGROUNDS: dict[str, tuple[Colour, ...]] = {
    "white": ((255, 255, 255), (255, 255, 255), (250, 249, 246)),
    "black": ((0, 0, 0), (25, 25, 25)),
    "grey": ((128, 128, 128), (200, 200, 200), (160, 162, 165)),
    "light blue": ((185, 218, 250), (173, 216, 230)),
    "light green": ((204, 236, 200), (190, 230, 185)),
    "navy": ((0, 0, 110), (25, 35, 85)),
}
HELD_OUT = frozenset(
    {("circle", "orange"), ("square", "purple"), ("triangle", "pink"), ("star", "blue"), ("heart", "yellow"),
     ("diamond", "red"), ("cross", "green")}
)  # fmt: skip
MOST = 6  # things in a scene
LARGEST = 0.34  # radius of a thing that is alone
_EDGE = 0.045  # how far from the lines of the grid a thing's centre stays, of the picture's side
_CONTRAST = 95.0  # least distance of a thing's colour from the background's, in RGB


@dataclass(frozen=True, slots=True)
class Thing:
    """One shape: its centre and half its size as shares of the picture's sides, and how it is painted."""

    shape: str
    colour: str
    x: float
    y: float
    radius: float
    paint: Colour
    turn: float  # radians
    hollow: bool

    @property
    def cell(self) -> int:
        """Place on the grid, 0 (top left) to 8 (bottom right)."""
        return min(2, int(self.y * 3)) * 3 + min(2, int(self.x * 3))


@dataclass(frozen=True, slots=True)
class Scene:
    """Things in reading order."""

    things: tuple[Thing, ...]
    background: str
    paint: Colour


def draw_scene(source: random.Random, held_out: bool = False, most: int = MOST) -> Scene:
    """A scene by chance, of `most` things; with `held_out` the first is one of the pairs that training never has."""
    background = source.choices(list(BACKGROUNDS), (8, 2, 2, 2, 2, 1))[0]
    paint = _jitter(source, source.choice(BACKGROUNDS[background]), 4)
    count = source.choices(range(MOST + 1), (1, 4, 5, 5, 4, 3, 2))[0] or (1 if held_out else 0)
    count = count if count <= most else source.randint(1, most)
    alike = source.random() < 0.35  # few shapes and colours, so that there is something to count
    shapes = source.sample(SHAPES, 2) if alike else SHAPES
    colours = source.sample(list(COLOURS), 2) if alike else list(COLOURS)
    things: list[Thing] = []
    for _ in range(40):
        if len(things) == count:
            break
        pair = (source.choice(shapes), source.choice(colours))
        if held_out and not things:
            pair = source.choice(sorted(HELD_OUT))
        elif pair in HELD_OUT:
            continue
        thing = _thing(source, pair, count)
        if math.dist(thing.paint, paint) >= _CONTRAST and not any(_touch(thing, other) for other in things):
            things.append(thing)
    return Scene(tuple(sorted(things, key=lambda thing: thing.cell)), background, paint)


def _thing(source: random.Random, pair: tuple[str, str], count: int) -> Thing:
    largest = {1: LARGEST, 2: 0.24, 3: 0.19}.get(count, 0.155)
    radius = source.uniform(0.1, largest)
    low, high = radius + 0.015, 1 - radius - 0.015
    while True:
        x, y = source.uniform(low, high), source.uniform(low, high)
        if all(abs(at - line) > _EDGE for at in (x, y) for line in (1 / 3, 2 / 3)):
            break
    paint = _jitter(source, source.choice(COLOURS[pair[1]]), 10)
    return Thing(*pair, x, y, radius, paint, source.uniform(-0.2, 0.2), source.random() < 0.12)


def _touch(one: Thing, other: Thing) -> bool:
    apart = max(abs(one.x - other.x), abs(one.y - other.y))
    return one.cell == other.cell or apart < one.radius + other.radius + 0.015


def _jitter(source: random.Random, colour: Colour, by: int) -> Colour:
    red, green, blue = (max(0, min(255, part + source.randint(-by, by))) for part in colour)
    return red, green, blue


def outline(shape: str) -> list[tuple[float, float]]:
    """Corners of the shape around (0, 0), within -1 to 1, y downwards."""
    if shape == "square":
        return [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)]
    if shape == "triangle":
        return [(0, -1), (0.98, 0.8), (-0.98, 0.8)]
    if shape == "diamond":
        return [(0, -1), (0.72, 0), (0, 1), (-0.72, 0)]
    if shape == "cross":
        arm = 0.32
        corner = [(arm, -1), (arm, -arm), (1, -arm)]
        return [point for quarter in range(4) for point in (_turned(each, quarter * math.pi / 2) for each in corner)]
    if shape == "star":
        radii = (1, 0.42)
        return [_turned((0, -radii[step % 2]), step * math.pi / 5) for step in range(10)]
    angles = [step * math.tau / 36 for step in range(36)]
    if shape == "heart":
        return [
            (math.sin(t) ** 3, -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 16)
            for t in angles
        ]
    return [(0.95 * math.cos(t), 0.95 * math.sin(t)) for t in angles]


def _turned(point: tuple[float, float], angle: float) -> tuple[float, float]:
    (x, y), cos, sin = point, math.cos(angle), math.sin(angle)
    return x * cos - y * sin, x * sin + y * cos


def paint(scene: Scene, source: random.Random) -> Image.Image:
    """A picture of the scene, 66 to 240 pixels a side and at times noisy, blurred or compressed."""
    base = source.randint(110, 240)
    narrow = source.uniform(0.75, 1) if source.random() < 0.4 else 1.0
    width, height = (base, round(base * narrow)) if source.random() < 0.5 else (round(base * narrow), base)
    picture = Image.new("RGB", (width, height), scene.paint)
    canvas = ImageDraw.Draw(picture)
    edge = source.random() < 0.15  # a dark line around every thing
    for thing in scene.things:
        draw(canvas, thing, edge)
    return _worn(picture, source)


def draw(canvas: ImageDraw.ImageDraw, thing: Thing, edge: bool) -> None:
    """One thing; `edge` adds a dark line around it."""
    width, height = canvas.im.size
    corners = [_turned(point, thing.turn) for point in outline(thing.shape)]
    points = [((thing.x + thing.radius * x) * width, (thing.y + thing.radius * y) * height) for x, y in corners]
    thick = max(2, round(thing.radius * min(width, height) * 0.24))
    if thing.hollow:
        canvas.line([*points, *points[:2]], fill=thing.paint, width=thick, joint="curve")
        return
    canvas.polygon(points, fill=thing.paint)
    if edge:
        canvas.line([*points, *points[:2]], fill=(40, 40, 40), width=max(1, thick // 4), joint="curve")


def _worn(picture: Image.Image, source: random.Random) -> Image.Image:
    if source.random() < 0.5:  # smooth edges, as of a picture that was drawn larger
        picture = picture.resize((round(picture.width * 0.8), round(picture.height * 0.8)), Image.Resampling.BOX)
    if source.random() < 0.15:
        picture = picture.filter(ImageFilter.GaussianBlur(source.uniform(0.5, 1.5)))
    if source.random() < 0.3:
        pixels = np.asarray(picture, dtype=np.float32)
        noise = np.random.default_rng(source.getrandbits(32)).standard_normal(pixels.shape, dtype=np.float32)
        picture = Image.fromarray((pixels + noise * source.uniform(2, 14)).clip(0, 255).astype(np.uint8))
    if source.random() < 0.15:
        held = io.BytesIO()
        picture.save(held, "JPEG", quality=source.randint(40, 90))
        picture = Image.open(held).convert("RGB")
    return picture


def paint_clutter(source: random.Random) -> Image.Image:
    """A picture that is no simple scene: clouds of colour, grain, stripes or a heap of scraps."""
    random_source = np.random.default_rng(source.getrandbits(32))
    side = source.randint(120, 260)
    kind = source.choice(("clouds", "grain", "stripes", "scraps"))
    if kind in ("clouds", "grain"):
        cells = source.randint(3, 9) if kind == "clouds" else source.randint(30, 100)
        small = Image.fromarray(random_source.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        return small.resize((side, side), Image.Resampling.BICUBIC)
    picture = Image.new("RGB", (side, side), tuple(random_source.integers(0, 256, 3).tolist()))
    canvas = ImageDraw.Draw(picture)
    for _ in range(source.randint(25, 60)):
        points = random_source.integers(-20, side + 20, (2 if kind == "stripes" else 3, 2))
        fill = tuple(random_source.integers(0, 256, 3).tolist())
        corners = [(int(x), int(y)) for x, y in points]
        if kind == "stripes":
            canvas.line(corners, fill=fill, width=source.randint(2, 9))
        else:
            canvas.polygon(corners, fill=fill)
    return picture
