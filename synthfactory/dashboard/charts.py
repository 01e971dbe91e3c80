"""The site's charts as inline SVG, with a fixed colour and marker for each generator.

The site's script draws the same charts for other choices of a reader; it takes marks from here.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from synthfactory.dashboard.boards import Axis, Cell
from synthfactory.dashboard.records import Record
from synthfactory.release import svg
from synthfactory.release.svg import coordinate, nice_ticks, padded, scale, text
from synthfactory.release.words import measured, number, short

# Paths around (0, 0); a marker tells generators apart where colour cannot.
MARKERS = (
    "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z",
    "M-4.5 -4.5h9v9h-9z",
    "M0 -6l6 6l-6 6l-6 -6z",
    "M0 -6l5.5 10h-11z",
    "M0 6l5.5 -10h-11z",
    "M-1.8 -5.5h3.6v3.7h3.7v3.6h-3.7v3.7h-3.6v-3.7h-3.7v-3.6h3.7z",
    "M0 -6.5l1.8 4.2l4.6 .3l-3.5 2.9l1.1 4.4l-4 -2.4l-4 2.4l1.1 -4.4l-3.5 -2.9l4.6 -.3z",
    "M-3 -5.2h6l3 5.2l-3 5.2h-6l-3 -5.2z",
)
N_COLOURS = 8
_KNOWN = (
    "ctgan", "tvae", "independent", "bootstrap", "sdv_ctgan", "sdv_tvae", "sdv_gaussian_copula",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A generator's colour (of 8) and marker (of 8)."""

    colour: int
    marker: int


def mark_of(label: str) -> Mark:
    """The mark of a generator, the same on every page, in every site and whatever is shown.

    A tuned variant keeps its generator's colour and has a marker of its own.

    >>> mark_of("ctgan"), mark_of("ctgan").colour == mark_of("ctgan (epochs=5)").colour
    (Mark(colour=0, marker=0), True)
    """
    name, _, variant = label.partition(" (")
    chance = hashlib.sha256(label.encode()).digest()
    if name in _KNOWN:
        colour = _KNOWN.index(name)
        return Mark(colour=colour, marker=chance[1] % len(MARKERS) if variant else colour)
    colour = hashlib.sha256(name.encode()).digest()[0] % N_COLOURS
    return Mark(colour=colour, marker=chance[1] % len(MARKERS))


def mark_svg(label: str) -> Markup:
    """A generator's mark beside its name in a table; the name says it to a screen reader."""
    mark = mark_of(label)
    return Markup(
        '<svg class="mark-icon" viewBox="-8 -8 16 16" aria-hidden="true">'
        '<use class="mk g{}" href="#mk{}"/></svg>'
    ).format(mark.colour, mark.marker)


def pareto_chart(
    runs: Sequence[Record], front: Iterable[str], x: Axis, y: Axis, *, labels: Mapping[str, str]
) -> Markup:
    """Every run as a point at its bounds on two axes.

    Parameters
    ----------
    runs
        Those with a value on both axes are drawn.
    front
        Names of the runs that no other run beats: drawn large, and joined by a line.
    labels
        The generator's label by run.
    """
    placed = [
        (run, at_x, at_y)
        for run in runs
        if (at_x := x.bound(run)) is not None and (at_y := y.bound(run)) is not None
    ]
    frame = _Frame.around(
        [at_x for _, at_x, _ in placed], [at_y for _, _, at_y in placed], x.unit, y.unit
    )
    body = frame.axes(f"{x.title}, {_bound_words(x)}", f"{y.title}, {_bound_words(y)}")
    on_front = set(front)
    steps = sorted(
        (frame.x(at_x), frame.y(at_y)) for run, at_x, at_y in placed if run.run in on_front
    )
    if len(steps) > 1:
        path = "L".join(f"{coordinate(a)} {coordinate(b)}" for a, b in steps)
        body.append(Markup(f'<path class="front" d="M{path}"/>'))
    for run, at_x, at_y in sorted(placed, key=lambda item: item[0].run in on_front):
        body.append(
            _point(labels[run.run], frame.x(at_x), frame.y(at_y), big=run.run in on_front,
                   title=f"{run.run}: {measured(at_x, x.unit)}, {measured(at_y, y.unit)}")
        )  # fmt: skip
    return svg.figure(
        body,
        width=_Frame.width,
        height=_Frame.height,
        title=f"{y.title} against {x.title}",
        description=f"{len(placed)} runs, {len(steps)} on the front; the table below lists them",
        css_class="scatter",
    )


def heat_grid(
    cells: Mapping[tuple[str, str], Cell],
    failed: Mapping[tuple[str, str], int],
    datasets: Sequence[str],
    generators: Sequence[str],
    *,
    title: str,
    unit: str,
    better: str,
) -> Markup:
    """Tables by generators; full colour is the best of the map, hatched is failed or missing.

    Each cell holds the worse end of its interval.

    Parameters
    ----------
    cells
        What was measured, by table and generator.
    failed
        How many runs failed, by table and generator, where nothing was measured.
    """
    width, height, top = 104.0, 38.0, 64.0
    left = 16 + 7.0 * max((min(len(name), 22) for name in datasets), default=0)
    values = [cell.bound(better) for cell in cells.values()]
    low, high = min(values, default=0.0), max(values, default=1.0)
    body: list[Markup | str] = [hatches()]
    for column, label in enumerate(generators):
        x = left + width * (column + 0.5)
        mark = mark_of(label)
        body.append(
            f'<use class="mk g{mark.colour}" href="#mk{mark.marker}" x="{coordinate(x)}" y="18"/>'
        )
        name, _, variant = label.partition(" (")
        body.append(text(x, 42, short(name, 15), "label", anchor="middle"))
        if variant:
            body.append(text(x, 56, short(variant.rstrip(")"), 17), "tick", anchor="middle"))
    for row, dataset in enumerate(datasets):
        y = top + height * row
        body.append(text(left - 10, y + height / 2 + 4, short(dataset, 22), "label", anchor="end"))
        for column, generator in enumerate(generators):
            x = left + width * column
            cell = cells.get((dataset, generator))
            n_failed = failed.get((dataset, generator), 0)
            if cell is None:
                shade, said = ("failed", f"✕ {n_failed} failed") if n_failed else ("gap", "–")
            else:
                share = _share_of_best(cell.bound(better), low, high, better)
                shade = f"h{round(1 + 5 * share)}"
                said = ("≥ " if better == "higher" else "≤ ") + measured(cell.bound(better), unit)
            body.append(
                Markup(
                    '<rect class="cell {}" x="{}" y="{}" width="{}" height="{}"><title>{}</title>'
                    "</rect>"
                ).format(
                    shade,
                    coordinate(x + 1),
                    coordinate(y + 1),
                    coordinate(width - 2),
                    coordinate(height - 2),
                    f"{generator} on {dataset}: {said}",
                )
            )
            body.append(text(x + width / 2, y + height / 2 + 4, said, "label", anchor="middle"))
    return svg.figure(
        body,
        width=left + width * len(generators) + 4,
        height=top + height * len(datasets) + 4,
        title=title,
        description="the table below holds the same numbers",
        css_class=f"heat-grid {_breadth(len(generators))}".strip(),
    )


def _share_of_best(value: float, low: float, high: float, better: str) -> float:
    """How near a value is to the best of the map, from 0 to 1."""
    if not high > low:
        return 1.0
    share = (value - low) / (high - low)
    return share if better == "higher" else 1 - share


def _breadth(n_columns: int) -> str:
    """A class that keeps the cells of many columns large enough to read; the map then scrolls."""
    return "" if n_columns <= 5 else "wide" if n_columns <= 10 else "widest"


def hatches() -> Markup:
    """The patterns of failed and missing cells; the style sheet refers to them by name."""
    return Markup(
        '<defs><pattern id="hatch-failed" width="7" height="7" patternUnits="userSpaceOnUse"'
        ' patternTransform="rotate(45)"><path class="hatch-failed" d="M0 0V7"/></pattern>'
        '<pattern id="hatch-gap" width="7" height="7" patternUnits="userSpaceOnUse"'
        ' patternTransform="rotate(-45)"><path class="hatch-gap" d="M0 0V7"/></pattern></defs>'
    )


def trend_chart(
    series: Mapping[str, Mapping[str, tuple[float, float, float]]],
    categories: Sequence[str],
    *,
    title: str,
    unit: str,
) -> Markup:
    """A generator's result over versions: a mark with its interval in each, joined by a line.

    Parameters
    ----------
    series
        By generator, then by category: estimate, lower and upper bound.
    categories
        In their order.
    """
    found = [value for points in series.values() for value in points.values()]
    frame = _Frame.around(
        [], [number for item in found for number in item], "", unit, categories=categories
    )
    body = frame.axes("version", title)
    marks: list[Markup] = []
    for place, (generator, points) in enumerate(sorted(series.items())):
        shift = (place - (len(series) - 1) / 2) * min(14.0, 60.0 / max(len(series), 1))
        mark = mark_of(generator)
        at = [
            (frame.category(categories.index(name)) + shift, value)
            for name, value in sorted(points.items(), key=lambda item: categories.index(item[0]))
        ]
        if len(at) > 1:
            path = "L".join(f"{coordinate(x)} {coordinate(frame.y(v[0]))}" for x, v in at)
            body.append(f'<path class="curve s{mark.colour}" d="M{path}"/>')
        for x, (estimate, lcb, ucb) in at:
            body.append(
                f'<path class="curve s{mark.colour}" d="M{coordinate(x)} {coordinate(frame.y(lcb))}'
                f'V{coordinate(frame.y(ucb))}"/>'
            )
            marks.append(
                _point(generator, x, frame.y(estimate), big=False,
                       title=f"{generator}: {measured(estimate, unit)}")
            )  # fmt: skip
    return svg.figure(
        [*body, *marks],
        width=_Frame.width,
        height=_Frame.height,
        title=title,
        description="the table below holds the same numbers",
        css_class="scatter",
    )


def resource_bars(
    rows: Sequence[tuple[str, float | None, float | None]], *, title: str, unit: str
) -> Markup:
    """What was held (outlined) and what was used (filled), one pair of bars for each stage.

    Parameters
    ----------
    rows
        ``(stage, held, used)``; None is unmeasured and says so.
    """
    row_height, left, right, width = 34.0, 84.0, 520.0, 640.0
    highest = max((value or 0.0 for _, *pair in rows for value in pair), default=0.0) or 1.0
    x = scale((0.0, highest), (0.0, right - left))
    body: list[Markup | str] = []
    for index, (stage, held, used) in enumerate(rows):
        y = 4 + row_height * index
        body.append(text(left - 10, y + 18, short(stage, 12), "label", anchor="end"))
        for shift, value, css in ((2, held, "held-bar"), (15, used, "used-bar")):
            if value is not None:
                body.append(
                    f'<rect class="{css}" x="{coordinate(left)}" y="{coordinate(y + shift)}"'
                    f' width="{coordinate(max(x(value), 0.75))}" height="11"/>'
                )
        said = f"{_or_unmeasured(used, unit)} of {_or_unmeasured(held, unit)}"
        body.append(text(left + x(max(held or 0, used or 0)) + 8, y + 18, said, "tick"))
    return svg.figure(
        body,
        width=width,
        height=8 + row_height * len(rows),
        title=title,
        description="; ".join(
            f"{stage}: used {_or_unmeasured(used, unit)} of {_or_unmeasured(held, unit)}"
            for stage, held, used in rows
        ),
        css_class="bars",
    )


def _or_unmeasured(value: float | None, unit: str) -> str:
    return "unmeasured" if value is None else f"{number(value)} {unit}"


def _bound_words(axis: Axis) -> str:
    if axis.metric is None:
        return f"{axis.unit} (less is better)"
    end = "lower bound (more is better)" if axis.better == "higher" else "upper bound"
    return end if axis.better == "higher" else f"{end} (less is better)"


def markers() -> Markup:
    """The markers, once in a page: what is drawn refers to them."""
    paths = "".join(f'<path id="mk{place}" d="{path}"/>' for place, path in enumerate(MARKERS))
    return Markup(f'<svg class="hidden" width="0" height="0" aria-hidden="true">{paths}</svg>')


def _point(label: str, x: float, y: float, *, big: bool, title: str) -> Markup:
    mark = mark_of(label)
    return Markup(
        '<use class="mk g{}{}" href="#mk{}" x="{}" y="{}"><title>{}</title></use>'
    ).format(
        mark.colour,
        " on-front" if big else "",
        mark.marker,
        coordinate(x),
        coordinate(y),
        f"{label} · {title}",
    )


class _Frame:
    """Axes of a chart: a box of 640 by 400 with ticks on both sides."""

    width, height = 640.0, 400.0
    left, top, right, bottom = 62.0, 14.0, 626.0, 346.0

    def __init__(
        self,
        x_domain: tuple[float, float],
        y_domain: tuple[float, float],
        x_unit: str,
        y_unit: str,
        categories: Sequence[str],
    ) -> None:
        self.x = scale(x_domain, (self.left, self.right))
        self.y = scale(y_domain, (self.bottom, self.top))
        self.x_unit, self.y_unit, self.categories = x_unit, y_unit, categories

    @classmethod
    def around(
        cls,
        xs: Sequence[float],
        ys: Sequence[float],
        x_unit: str,
        y_unit: str,
        *,
        categories: Sequence[str] = (),
    ) -> _Frame:
        return cls(_domain(xs), _domain(ys), x_unit, y_unit, categories)

    def category(self, index: int) -> float:
        """Where a category stands."""
        return self.left + (self.right - self.left) * (index + 0.5) / max(len(self.categories), 1)

    def axes(self, x_title: str, y_title: str) -> list[Markup | str]:
        """Grid lines, ticks and titles."""
        body: list[Markup | str] = []
        for tick in nice_ticks(*self.y.domain, 5):
            at = coordinate(self.y(tick))
            body.append(f'<path class="gridline" d="M{self.left:g} {at}H{self.right:g}"/>')
            body.append(
                text(self.left - 8, self.y(tick) + 4, number(tick, self.y_unit), "tick",
                     anchor="end")
            )  # fmt: skip
        x_ticks = [] if self.categories else nice_ticks(*self.x.domain, 6)
        for tick in x_ticks:
            at = coordinate(self.x(tick))
            body.append(f'<path class="gridline" d="M{at} {self.top:g}V{self.bottom:g}"/>')
            body.append(
                text(self.x(tick), self.bottom + 18, number(tick, self.x_unit), "tick",
                     anchor="middle")
            )  # fmt: skip
        for index, name in enumerate(self.categories):
            body.append(
                text(self.category(index), self.bottom + 18, short(name, 14), "tick",
                     anchor="middle")
            )  # fmt: skip
        body.append(f'<path class="axis" d="M{self.left:g} {self.bottom:g}H{self.right:g}"/>')
        middle = (self.left + self.right) / 2
        body.append(text(middle, self.bottom + 42, x_title, "label", anchor="middle"))
        body.append(
            Markup(
                '<text class="label" text-anchor="middle" transform="translate(14 {}) rotate(-90)">'
                "{}</text>"
            ).format(coordinate((self.top + self.bottom) / 2), y_title)
        )
        return body


def _domain(values: Sequence[float]) -> tuple[float, float]:
    finite = [value for value in values if math.isfinite(value)]
    spread = max(map(abs, finite), default=1.0)
    return padded(finite, share=0.08, least=max(spread * 0.02, 1e-9))
