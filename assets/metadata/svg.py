"""Lines and bars, as SVG: enough for a page that cannot run a plotting library."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from xml.sax.saxutils import escape

Point = tuple[float, float]

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 80, 24, 48, 56
"""Margins around the plot: room for labels."""
TICKS = 6
"""About so many on an axis."""
NICE = (1, 2, 2.5, 5, 10)
CENTRED = 'text-anchor="middle" font-size="12"'
RIGHTMOST = 'text-anchor="end" font-size="12"'
INK, FAINT, LINE, MARK = "#1f2937", "#e5e7eb", "#4f46e5", "#b45309"
LABELS, BAR, LONGEST_NAME = 180, 14, 24
"""Width of the names beside bars, height of one bar, and characters of a name."""


@dataclass(frozen=True, slots=True)
class Axis:
    """Values from the first tick to the last, spread over pixels."""

    ticks: list[float]
    start: float
    end: float

    def place(self, value: float) -> float:
        """The pixel of a value."""
        first, last = self.ticks[0], self.ticks[-1]
        return self.start + (value - first) / (last - first) * (self.end - self.start)


def line_plot(
    points: Sequence[Point], *, title: str, x_label: str, y_label: str, mark: float | None = None
) -> str:
    """An SVG with the points and the line through them, from left to right.

    `mark`: the x of a dashed line, for what is in force now.
    """
    ordered = sorted(points)
    x = Axis(nice_ticks([at for at, _ in ordered]), LEFT, WIDTH - RIGHT)
    y = Axis(nice_ticks([value for _, value in ordered]), HEIGHT - BOTTOM, TOP)
    parts = [
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(LEFT, TOP / 2, title, 'font-size="16"'),
        *_x_axis(x, x_label),
        *_y_axis(y, y_label),
    ]
    if mark is not None and x.ticks[0] <= mark <= x.ticks[-1]:
        parts += _mark(x.place(mark))
    parts += _line([(x.place(at), y.place(value)) for at, value in ordered])
    return _picture(parts, HEIGHT)


def bar_plot(
    rows: Sequence[tuple[str, Sequence[float]]], *, title: str, series: Sequence[str]
) -> str:
    """An SVG with a group of bars per row, one for each of `series`, from top to bottom."""
    step = BAR * len(series) + 10
    height = TOP + step * max(len(rows), 1) + BOTTOM
    ticks = nice_ticks([0.0, *(value for _, values in rows for value in values)])
    x = Axis(ticks, LABELS, WIDTH - RIGHT)
    parts = [
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        _text(LEFT, TOP / 2, title, 'font-size="16"'),
    ]
    for tick in x.ticks:
        at = x.place(tick)
        parts += [_stroke((at, TOP), (at, height - BOTTOM), FAINT)]
        parts += [_text(at, height - BOTTOM + 18, _number(tick))]
    for number, (name, values) in enumerate(rows):
        top = TOP + number * step + 5
        parts.append(_text(LABELS - 8, top + step / 2 - 1, _shortened(name), RIGHTMOST))
        for bar, (value, color) in enumerate(zip(values, (LINE, MARK), strict=False)):
            parts.append(
                f'<rect x="{LABELS}" y="{top + bar * BAR}" width="{x.place(value) - LABELS:.1f}" '
                f'height="{BAR - 2}" fill="{color}"/>'
            )
    for number, (name, color) in enumerate(zip(series, (LINE, MARK), strict=False)):
        style = f'font-size="12" fill="{color}"'
        parts.append(_text(LABELS + number * 180, height - 12, f"\u25a0 {name}", style))
    return _picture(parts, height)


def _shortened(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "\u2026"


def _picture(parts: Sequence[str], height: int) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" font-family="sans-serif" fill="{INK}">'
        + "".join(parts)
        + "</svg>"
    )


def nice_ticks(values: Sequence[float]) -> list[float]:
    """Round numbers, at even steps, from at most the least to at least the greatest value."""
    least, most = min(values, default=0.0), max(values, default=0.0)
    span = (most - least) or abs(most) or 1.0
    raw = span / (TICKS - 1)
    magnitude = 10.0 ** floor(log10(raw))
    step = next(nice * magnitude for nice in NICE if nice * magnitude >= raw * (1 - 1e-9))
    first, last = floor(least / step + 1e-9), ceil(most / step - 1e-9)
    return [round(number * step, 10) for number in range(first, max(last, first + 1) + 1)]


def _x_axis(axis: Axis, label: str) -> Iterator[str]:
    bottom = HEIGHT - BOTTOM
    for tick in axis.ticks:
        at = axis.place(tick)
        yield _stroke((at, TOP), (at, bottom), FAINT)
        yield _text(at, bottom + 18, _number(tick))
    yield _stroke((LEFT, bottom), (WIDTH - RIGHT, bottom), INK)
    yield _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, label)


def _y_axis(axis: Axis, label: str) -> Iterator[str]:
    for tick in axis.ticks:
        at = axis.place(tick)
        yield _stroke((LEFT, at), (WIDTH - RIGHT, at), FAINT)
        yield _text(LEFT - 8, at + 4, _number(tick), RIGHTMOST)
    yield _stroke((LEFT, TOP), (LEFT, HEIGHT - BOTTOM), INK)
    middle = (TOP + HEIGHT - BOTTOM) / 2
    yield (
        f'<text transform="translate(18 {middle:.1f}) rotate(-90)" text-anchor="middle" '
        f'font-size="12">{escape(label)}</text>'
    )


def _mark(at: float) -> Iterator[str]:
    yield (
        f'<line x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{HEIGHT - BOTTOM}" '
        f'stroke="{MARK}" stroke-dasharray="5 4"/>'
    )
    yield _text(at, TOP - 6, "now", f'{CENTRED} fill="{MARK}"')


def _line(places: Sequence[Point]) -> Iterator[str]:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    yield f'<polyline points="{path}" fill="none" stroke="{LINE}" stroke-width="2"/>'
    for x, y in places:
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{LINE}"/>'


def _stroke(start: Point, end: Point, color: str) -> str:
    (x1, y1), (x2, y2) = start, end
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}"/>'


def _text(x: float, y: float, text: str, style: str = CENTRED) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"
