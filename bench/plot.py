"""Lines over one axis as SVG, for the pictures of docs/images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 64, 176, 24, 48  # room for what is written around the lines
COLOURS = ("#2f6fdb", "#d9822b", "#2c8c5a", "#b23b5e")

Points = Sequence[tuple[float, float]]


def lines(title: str, x_label: str, y_label: str, series: Mapping[str, Points]) -> str:
    """Both axes begin at nought. Each of `series` has its name at the end of its line."""
    most_x = max(x for points in series.values() for x, _ in points)
    most_y = max(y for points in series.values() for _, y in points) * 1.05
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        return LEFT + wide * x / most_x, TOP + high * (1 - y / most_y)

    parts = [f'<text x="{LEFT}" y="14" font-weight="600">{escape(title)}</text>']
    for step in range(5):
        x, y = most_x * step / 4, most_y * step / 4
        at_x, at_y = place(x, y)
        parts.append(f'<path d="M{LEFT} {at_y:.1f}h{wide}" stroke="#8884"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at_y + 4:.1f}" text-anchor="end">{y:,.0f}</text>')
        parts.append(f'<text x="{at_x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{x:,.0f}</text>')
    parts.append(f'<text x="{LEFT + wide / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>')
    parts.append(f'<text x="14" y="{TOP + high / 2}" text-anchor="middle" '
                 f'transform="rotate(-90 14 {TOP + high / 2})">{escape(y_label)}</text>')  # fmt: skip
    for colour, (name, points) in zip(COLOURS, series.items(), strict=False):
        placed = [place(x, y) for x, y in sorted(points)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in placed]
        x, y = placed[-1]
        parts.append(f'<text x="{x + 8:.1f}" y="{y + 4:.1f}" fill="{colour}">{escape(name)}</text>')
    style = 'font-family="system-ui, sans-serif" font-size="12" fill="#888"'
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {style}>\n  '
            + "\n  ".join(parts) + "\n</svg>\n")  # fmt: skip
