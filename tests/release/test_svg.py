"""Charts are pure functions: numbers in, escaped markup out."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthfactory.release import svg
from synthfactory.release.svg import Interval

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)


def parse(markup: str) -> ElementTree.Element:
    return ElementTree.fromstring(markup)


def coordinates(markup: str) -> list[float]:
    return [float(text) for text in re.findall(r'(?:x|y|cx|cy|width|height)="([-\d.]+)"', markup)]


def test_a_chart_is_an_image_with_a_label() -> None:
    drawn = parse(svg.interval_plot(Interval(estimate=0.5, lcb=0.4, ucb=0.6), title="Nearness"))
    assert drawn.get("role") == "img"
    assert drawn.get("aria-label") == "Nearness. synthetic 0.500 (0.400 to 0.600)"


def test_the_label_says_every_mark_that_is_drawn() -> None:
    label = parse(
        svg.interval_plot(
            Interval(estimate=0.503, lcb=0.496, ucb=0.51),
            title="Nearness",
            control=0.499,
            baseline=0.5,
            threshold=0.52,
            unit="share",
        )
    ).get("aria-label")
    assert label is not None
    for said in ("50.3 %", "49.6 % to 51.0 %", "control 49.9 %", "chance 50 %", "threshold 52 %"):
        assert said in label.replace("\u00a0", " ")


@pytest.mark.parametrize(("better", "left_is_refused"), [("higher", True), ("lower", False)])
def test_the_refused_side_follows_the_direction(better: str, left_is_refused: bool) -> None:
    drawn = svg.interval_plot(
        Interval(estimate=0.5), title="t", threshold=0.5, baseline=0.0, better=better
    )
    zone = re.search(r'class="refused-zone" x="([\d.]+)"', drawn)
    assert zone is not None
    assert (float(zone[1]) == 10.0) == left_is_refused


@settings(deadline=None)
@given(NUMBERS, NUMBERS, NUMBERS, st.none() | NUMBERS)
def test_any_interval_stays_inside_its_drawing(
    estimate: float, low: float, high: float, threshold: float | None
) -> None:
    drawn = svg.interval_plot(
        Interval(estimate=estimate, lcb=low, ucb=high), title="t", threshold=threshold
    )
    parse(drawn)
    assert all(math.isfinite(at) and -1 <= at <= 341 for at in coordinates(drawn))


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9))
def test_ticks_are_few_and_inside(low: float, width: float) -> None:
    ticks = svg.nice_ticks(low, low + width, 5)
    assert len(ticks) <= 11
    room = 1e-3 * width + 1e-9 * abs(low)
    assert all(low - room <= tick <= low + width + room for tick in ticks)


@given(st.text(max_size=60))
def test_any_text_stays_text(text: str) -> None:
    drawn = [
        svg.level_bars([text], [0.5], [0.5], title=text),
        svg.heat_map([[1.0]], [text], title=text),
        svg.dumbbells([(text, Interval(estimate=1.0), Interval(estimate=0.5))], title=text),
        svg.line_chart([(text, [1.0, 2.0])], [0, 1], title=text),
        svg.histogram([1.0], [1.0], [text, text], title=text),
        svg.sparkline([1.0], [1.0], title=text),
    ]
    for markup in drawn:
        tags = {element.tag for element in parse(markup).iter()}
        assert tags <= {"svg", "g", "path", "rect", "circle", "text"}


def test_a_heat_map_of_many_columns_stays_small() -> None:
    matrix = [[(row * column % 11) / 10 for column in range(30)] for row in range(30)]
    assert len(svg.heat_map(matrix, [f"c{at}" for at in range(30)], title="t")) < 25_000


def test_a_missing_cell_is_not_drawn_as_zero() -> None:
    drawn = svg.heat_map([[None, 0.0], [0.0, math.nan]], ["a", "b"], title="t")
    assert 'class="missing" d="M0 0h1v1h-1zM1 1h1v1h-1z"' in drawn


def test_negative_differences_have_a_class_of_their_own() -> None:
    drawn = svg.heat_map([[-0.5, 0.25]], ["a"], title="t", diverging=True, full_scale=0.5)
    assert 'class="n10"' in drawn
    assert 'class="h5"' in drawn


def test_a_curve_has_a_gap_where_a_loss_is_missing() -> None:
    drawn = svg.line_chart([("loss", [1.0, None, 2.0, 3.0])], [0, 1, 2, 3], title="t")
    path = re.search(r'class="series series-0" d="([^"]+)"', drawn)
    assert path is not None
    assert path[1].count("M") == 2


def test_a_constant_curve_can_be_drawn() -> None:
    parse(svg.line_chart([("loss", [1.0, 1.0])], [5, 5], title="t"))


def test_empty_histograms_can_be_drawn() -> None:
    parse(svg.sparkline([], [], title="t"))
    parse(svg.histogram([0.0, 0.0], [0.0, 0.0], ["0", "1", "2"], title="t"))


def test_no_chart_carries_a_style_or_a_script() -> None:
    drawn = svg.interval_plot(Interval(estimate=1.0), title="t") + svg.heat_map(
        [[1.0]], ["a"], title="t"
    )
    assert "style=" not in drawn
    assert "<script" not in drawn
