"""Draw lines and bars as SVG, for a page that cannot run a plotting library.

Lines show numbers over numbers (the sweep), bars numbers per name (topics, lengths).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from xml.sax.saxutils import escape

Point = tuple[float, float]
"""Across and down: values before `Axis.place`, pixels after it."""

WIDTH, HEIGHT = 720, 400
"""Pixels of a line plot; a bar plot is as high as its bars need."""
LEFT, RIGHT, TOP, BOTTOM = 80, 24, 48, 56
"""Margins around the plot in pixels, as room for labels."""
TICKS = 6
"""About so many ticks are on an axis."""
NICE = (1, 2, 2.5, 5, 10)
"""Steps between ticks, times a power of ten."""
CENTRED = 'text-anchor="middle" font-size="12"'
RIGHTMOST = 'text-anchor="end" font-size="12"'
INK, FAINT, LINE, MARK = "#1f2937", "#e5e7eb", "#4f46e5", "#b45309"
COLORS = (LINE, MARK)
"""Colours of the bars of a row."""
LABELS, BAR, LONGEST_NAME = 180, 14, 24
"""Pixels for the names beside bars, pixels of a bar's height, and characters of a name."""


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis: its ticks, and the pixels of the first and the last one."""

    ticks: list[float]
    start: float
    end: float

    def place(self, value: float) -> float:
        """Return the pixel of a value."""
        first, last = self.ticks[0], self.ticks[-1]
        return self.start + (value - first) / (last - first) * (self.end - self.start)


def line_plot(
    points: Sequence[Point], *, title: str, x_label: str, y_label: str, mark: float | None = None
) -> str:
    """Draw the points and the line through them, from left to right.

    `mark` is the x of a dashed line that shows the value in force now. Off the axis it is left out.
    """
    ordered = sorted(points)
    x = Axis(nice_ticks([at for at, _ in ordered]), LEFT, WIDTH - RIGHT)
    y = Axis(nice_ticks([value for _, value in ordered]), HEIGHT - BOTTOM, TOP)
    bottom = HEIGHT - BOTTOM
    parts = [*_grid(x, bottom), *_y_axis(y, y_label)]
    parts += [_stroke((LEFT, bottom), (WIDTH - RIGHT, bottom), INK)]
    parts += [_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, x_label)]
    if mark is not None and x.ticks[0] <= mark <= x.ticks[-1]:
        parts += _mark(x.place(mark))
    parts += _line([(x.place(at), y.place(value)) for at, value in ordered])
    return _picture(title, parts, HEIGHT)


def bar_plot(
    rows: Sequence[tuple[str, Sequence[float]]], *, title: str, series: Sequence[str]
) -> str:
    """Draw a group of bars per row (its name, its values) from top to bottom.

    A row has one value for each of `series`, of which there are at most two.
    """
    step = BAR * len(series) + 10
    height = TOP + step * max(len(rows), 1) + BOTTOM
    ticks = nice_ticks([0.0, *(value for _, values in rows for value in values)])
    x = Axis(ticks, LABELS, WIDTH - RIGHT)
    parts = [*_grid(x, height - BOTTOM)]
    for number, (name, values) in enumerate(rows):
        parts += _bars(x, TOP + number * step + 5, name, values)
    for number, (name, color) in enumerate(zip(series, COLORS, strict=False)):
        style = f'font-size="12" fill="{color}"'
        parts.append(_text(LABELS + number * 180, height - 12, f"\u25a0 {name}", style))
    return _picture(title, parts, height)


def nice_ticks(values: Sequence[float]) -> list[float]:
    """Return evenly spaced round numbers that enclose all values, at least two."""
    least, most = min(values, default=0.0), max(values, default=0.0)
    span = (most - least) or abs(most) or 1.0
    raw = span / (TICKS - 1)
    magnitude = 10.0 ** floor(log10(raw))
    step = next(nice * magnitude for nice in NICE if nice * magnitude >= raw * (1 - 1e-9))
    first, last = floor(least / step + 1e-9), ceil(most / step - 1e-9)
    return [round(number * step, 10) for number in range(first, max(last, first + 1) + 1)]


def _picture(title: str, parts: Sequence[str], height: int) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" font-family="sans-serif" fill="{INK}">'
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>'
        + _text(LEFT, TOP / 2, title, 'font-size="16"')
        + "".join(parts)
        + "</svg>"
    )


def _grid(axis: Axis, bottom: float) -> Iterator[str]:
    """Draw a vertical line at each tick, with its number below."""
    for tick in axis.ticks:
        at = axis.place(tick)
        yield _stroke((at, TOP), (at, bottom), FAINT)
        yield _text(at, bottom + 18, _number(tick))


def _bars(axis: Axis, top: float, name: str, values: Sequence[float]) -> Iterator[str]:
    """Draw one row of a bar plot: its name, and a bar per value."""
    shown = name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "\u2026"
    yield _text(LABELS - 8, top + (BAR * len(values) + 10) / 2 - 1, shown, RIGHTMOST)
    for number, (value, color) in enumerate(zip(values, COLORS, strict=False)):
        yield (
            f'<rect x="{LABELS}" y="{top + number * BAR}" width="{axis.place(value) - LABELS:.1f}" '
            f'height="{BAR - 2}" fill="{color}"/>'
        )


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
