"""Test that plots have round ticks, and shapes at the places of their values."""

import xml.etree.ElementTree as ET

import pytest

from assets.metadata.svg import HEIGHT, LABELS, WIDTH, bar_plot, line_plot, nice_ticks

TAG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.4, 0.95], [0.4, 0.6, 0.8, 1.0]),
        ([3, 41], [0, 10, 20, 30, 40, 50]),
        ([220, 220], [200, 250]),
        ([], [0.0, 0.2]),
    ],
)
def test_ticks_are_round_and_hold_all_values(values: list[float], ticks: list[float]) -> None:
    assert nice_ticks(values) == pytest.approx(ticks)


def test_a_plot_is_svg_with_a_point_for_each_value_inside_the_frame() -> None:
    points = [(0.9, 1200.0), (0.4, 100.0), (0.7, 900.0)]
    plot = ET.fromstring(  # noqa: S314 - our own
        line_plot(points, title="a < b", x_label="x", y_label="y", mark=0.9)
    )
    tag = "{http://www.w3.org/2000/svg}"
    circles = plot.findall(f"{tag}circle")
    assert len(circles) == 3
    across = [float(circle.attrib["cx"]) for circle in circles]
    down = [float(circle.attrib["cy"]) for circle in circles]
    assert across == sorted(across)
    assert down == sorted(down, reverse=True)
    assert all(0 < x < WIDTH for x in across)
    assert all(0 < y < HEIGHT for y in down)
    labels = [text.text for text in plot.iter(f"{tag}text")]
    assert {"a < b", "x", "y", "now", "0.4", "1,000"} <= set(labels)
    assert "now" not in line_plot([], title="", x_label="", y_label="", mark=7)


def test_bars_are_as_long_as_their_values_and_named() -> None:
    rows = [("a & b", [10.0, 5.0]), ("a topic with a name that is far too long", [0.0, 20.0])]
    plot = ET.fromstring(bar_plot(rows, title="Topics", series=["one", "other"]))  # noqa: S314 - our own
    bars = [bar for bar in plot.iter(f"{TAG}rect") if bar.get("x") == str(LABELS)]
    widths = [float(bar.attrib["width"]) for bar in bars]
    assert widths == pytest.approx([widths[3] / 2, widths[3] / 4, 0, widths[3]])
    assert len({bar.attrib["fill"] for bar in bars}) == 2
    labels = [text.text or "" for text in plot.iter(f"{TAG}text")]
    assert {"Topics", "a & b", "0", "20"} <= set(labels)
    assert "a topic with a name that\u2026"[:10] in "".join(labels)
    assert all(len(label) < 30 for label in labels)


def test_no_bars_are_an_empty_plot() -> None:
    assert "<svg" in bar_plot([], title="Topics", series=["one"])
