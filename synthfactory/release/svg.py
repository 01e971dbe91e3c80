"""Charts as inline SVG text: pure functions from numbers to markup.

No chart library and no script: a chart is readable wherever the page is, prints sharply, and is
covered by the page's content security policy.  Colours come from the page's style sheet through
classes, so light and dark follow the reader; nothing is said by colour alone.

Every text is escaped: a column named ``<img src=x onerror=alert(1)>`` stays a text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from synthfactory.release.words import measured, number, plain_text, short


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A point estimate with its interval; the bounds are None where none was measured."""

    estimate: float
    lcb: float | None = None
    ucb: float | None = None

    @property
    def values(self) -> tuple[float, ...]:
        """The finite numbers that a chart must make room for."""
        given = (self.estimate, self.lcb, self.ucb)
        return tuple(value for value in given if value is not None and math.isfinite(value))


def figure(
    body: Iterable[Markup | str],
    *,
    width: float,
    height: float,
    title: str,
    description: str = "",
    css_class: str = "",
) -> Markup:
    """An ``<svg role="img">`` with an accessible title and description.

    Parameters
    ----------
    body
        Markup, already escaped.
    width, height
        Of the view box, in user units; the style sheet decides the size on the page.
    title, description
        What a screen reader says.

    >>> print(figure([], width=2, height=1, title="<b>"))
    <svg class="chart" viewBox="0 0 2 1" role="img" aria-label="&lt;b&gt;"></svg>
    """
    label = f"{title}. {description}" if description else title
    return Markup('<svg class="{}" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        f"chart {css_class}".strip(),
        _n(width),
        _n(height),
        plain_text(label),
        Markup("").join(Markup(part) for part in body),
    )


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers that cover ``[low, high]``, about ``count`` of them.

    >>> nice_ticks(0.0, 1.0, 4)
    [0.0, 0.25, 0.5, 0.75, 1.0]
    >>> nice_ticks(0.47, 0.53, 4)
    [0.48, 0.5, 0.52]
    """
    if not high - low > 1e-9 * max(abs(low), abs(high)):
        return [low]
    rough = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(
        factor * power for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if rough <= factor * power * 1.0001
    )
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def padded(
    values: Iterable[float], *, share: float = 0.12, least: float = 0.01
) -> tuple[float, float]:
    """A domain with room around ``values``.

    >>> padded([0.4, 0.6], share=0.5)
    (0.3, 0.7)
    >>> padded([])
    (0.0, 1.0)
    """
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return 0.0, 1.0
    low, high = min(finite), max(finite)
    room = max((high - low) * share, least)
    return round(low - room, 12), round(high + room, 12)


def interval_plot(
    synthetic: Interval,
    *,
    title: str,
    control: float | None = None,
    baseline: float | None = None,
    threshold: float | None = None,
    better: str = "higher",
    unit: str = "",
) -> Markup:
    """One measurement on its own scale: the synthetic data's interval, control and threshold.

    The side of the threshold that the policy refuses is hatched.  The synthetic estimate is a
    filled dot on its interval, the control (real data never seen) a hollow diamond, the baseline
    (chance) a dotted line, the threshold a dashed line: shapes, not colours, tell them apart.

    Parameters
    ----------
    synthetic
        The estimate and its interval.
    control
        What real, never seen data reach.
    baseline
        What chance or no leak would give.
    threshold
        The policy's bound, on the same scale.
    better
        ``higher`` or ``lower``.
    unit
        Unit of all of them; shares are written in percent.
    """
    width, height, left, right = 340.0, 58.0, 10.0, 330.0
    marks = [value for value in (control, baseline, threshold) if value is not None]
    low, high = padded((*synthetic.values, *marks), least=0.004)
    x = _scale((low, high), (left, right))
    middle = 22.0
    body: list[Markup | str] = []
    if threshold is not None:
        refused = (x(threshold), right) if better == "lower" else (left, x(threshold))
        body.append(
            f'<rect class="refused-zone" x="{_n(refused[0])}" y="4"'
            f' width="{_n(max(refused[1] - refused[0], 0))}" height="32"/>'
        )
    body.append(f'<path class="axis" d="M{_n(left)} 36H{_n(right)}"/>')
    for tick in nice_ticks(low, high, 4):
        body.append(f'<path class="axis" d="M{_n(x(tick))} 36v4"/>')
        body.append(
            _text(x(tick), 52, number(tick, unit), "tick", anchor=_anchor(x(tick), left, right))
        )
    if baseline is not None:
        body.append(f'<path class="baseline" d="M{_n(x(baseline))} 4V36"/>')
    if threshold is not None:
        body.append(f'<path class="threshold" d="M{_n(x(threshold))} 1V36"/>')
    if control is not None:
        body.append(_diamond(x(control), middle))
    body.append(_interval_mark(synthetic, x, middle))
    spoken = [f"synthetic {_spoken(synthetic, unit)}"]
    spoken += [
        f"{name} {number(value, unit)}"
        for name, value in (("control", control), ("chance", baseline), ("threshold", threshold))
        if value is not None
    ]
    return figure(
        body,
        width=width,
        height=height,
        title=title,
        description="; ".join(spoken),
        css_class="interval",
    )


def strip(
    synthetic: Interval,
    domain: tuple[float, float],
    *,
    control: float | None = None,
    baseline: float | None = None,
    threshold: float | None = None,
    better: str = "higher",
) -> Markup:
    """One measurement as a line of a list, on a scale that its neighbours share.

    The marks are those of `interval_plot`.  The numbers stand beside it in the text, so the drawing
    itself is hidden from screen readers.

    Parameters
    ----------
    synthetic
        The estimate and its interval.
    domain
        The ends of the common scale; what lies outside is not drawn.
    control, baseline, threshold, better
        As for `interval_plot`.
    """
    x = _scale(domain, (_STRIP[1], _STRIP[2]))
    middle, height = 13.0, 26.0

    def inside(value: float | None) -> bool:
        return value is not None and domain[0] <= value <= domain[1]

    body: list[Markup | str] = [_grid(domain, height)]
    if threshold is not None and inside(threshold):
        ends = (x(threshold), _STRIP[2]) if better == "lower" else (_STRIP[1], x(threshold))
        body.append(
            f'<rect class="refused-zone" x="{_n(ends[0])}" y="0"'
            f' width="{_n(max(ends[1] - ends[0], 0))}" height="{_n(height)}"/>'
        )
    if baseline is not None and inside(baseline):
        body.append(f'<path class="baseline" d="M{_n(x(baseline))} 0V{_n(height)}"/>')
    if threshold is not None and inside(threshold):
        body.append(f'<path class="threshold" d="M{_n(x(threshold))} 0V{_n(height)}"/>')
    if control is not None and inside(control):
        body.append(_diamond(x(control), middle))
    if inside(synthetic.estimate):
        body.append(_interval_mark(synthetic, x, middle))
    return Markup(
        '<svg class="chart strip" viewBox="0 0 {} {}" aria-hidden="true">{}</svg>'
    ).format(_n(_STRIP[0]), _n(height), Markup("").join(Markup(part) for part in body))


def strip_scale(domain: tuple[float, float], unit: str) -> Markup:
    """The numbers of the scale that the strips below it share."""
    x = _scale(domain, (_STRIP[1], _STRIP[2]))
    body = [
        _text(x(tick), 13, number(tick, unit), "tick", anchor=_anchor(x(tick), *_STRIP[1:]))
        for tick in nice_ticks(*domain, _STRIP_TICKS)
    ]
    return Markup(
        '<svg class="chart strip" viewBox="0 0 {} 16" aria-hidden="true">{}</svg>'
    ).format(_n(_STRIP[0]), Markup("").join(body))


# Width of a strip, and the left and right end of its scale.
_STRIP = (300.0, 8.0, 292.0)
_STRIP_TICKS = 4


def _grid(domain: tuple[float, float], height: float) -> str:
    x = _scale(domain, (_STRIP[1], _STRIP[2]))
    lines = "".join(f"M{_n(x(tick))} 0V{_n(height)}" for tick in nice_ticks(*domain, _STRIP_TICKS))
    return f'<path class="gridline" d="{lines}"/>'


def dumbbells(
    rows: Sequence[tuple[str, Interval, Interval]], *, title: str, chance: float | None = None
) -> Markup:
    """Train-on-real (hollow) against train-on-synthetic (filled), one row per learner.

    Parameters
    ----------
    rows
        ``(learner, trained on real rows, trained on synthetic rows)``; both are scored on the same
        real rows.
    chance
        The score of guessing, drawn as a dotted line.
    """
    width, row_height, top = 640.0, 40.0, 8.0
    height = top + row_height * len(rows) + 26
    left, right = 170.0, 626.0
    values = [value for _, real, synthetic in rows for value in (*real.values, *synthetic.values)]
    low, high = padded([*values, *([chance] if chance is not None else [])], share=0.08)
    x = _scale((low, high), (left, right))
    bottom = top + row_height * len(rows)
    body: list[Markup | str] = [f'<path class="axis" d="M{_n(left)} {_n(bottom)}H{_n(right)}"/>']
    for tick in nice_ticks(low, high, 6):
        body.append(f'<path class="gridline" d="M{_n(x(tick))} {_n(top)}V{_n(bottom)}"/>')
        body.append(_text(x(tick), bottom + 18, number(tick), "tick", anchor="middle"))
    if chance is not None:
        body.append(f'<path class="baseline" d="M{_n(x(chance))} {_n(top)}V{_n(bottom)}"/>')
    for index, (name, real, synthetic) in enumerate(rows):
        y = top + row_height * (index + 0.5)
        body.append(_text(left - 12, y + 4, short(name, 24), "label", anchor="end"))
        ends = x(real.estimate), x(synthetic.estimate)
        body.append(f'<path class="bridge" d="M{_n(ends[1])} {_n(y)}H{_n(ends[0])}"/>')
        body.append(_whisker(real, x, y - 5, "real"))
        body.append(_whisker(synthetic, x, y + 5, "synthetic"))
        body.append(f'<circle class="real-mark" cx="{_n(ends[0])}" cy="{_n(y - 5)}" r="5"/>')
        body.append(f'<circle class="synthetic-mark" cx="{_n(ends[1])}" cy="{_n(y + 5)}" r="5"/>')
    spoken = "; ".join(
        f"{name}: trained on real {_spoken(real)}, trained on synthetic {_spoken(synthetic)}"
        for name, real, synthetic in rows
    )
    return figure(
        body, width=width, height=height, title=title, description=spoken, css_class="dumbbells"
    )


def sparkline(real: Sequence[float], synthetic: Sequence[float], *, title: str) -> Markup:
    """Two overlaid histograms without axes: real as a filled area, synthetic as a line.

    Parameters
    ----------
    real, synthetic : sequence of shape (n_bins,)
        Shares of rows per bin.
    """
    width, height = 120.0, 32.0
    return figure(
        _overlaid(real, synthetic, box=(0.5, 1.0, width - 1, height - 2)),
        width=width,
        height=height,
        title=title,
        css_class="spark",
    )


def histogram(
    real: Sequence[float],
    synthetic: Sequence[float],
    edge_labels: Sequence[str],
    *,
    title: str,
) -> Markup:
    """Overlaid histograms on common bins, with the shares of rows as the vertical axis.

    Parameters
    ----------
    real, synthetic : sequence of shape (n_bins,)
        Shares of rows per bin.
    edge_labels : sequence of shape (n_bins + 1,)
        What to write at the bins' edges; as many are drawn as there is room for.
    """
    width, height = 340.0, 170.0
    box = (40.0, 8.0, 292.0, 132.0)
    highest = max((*real, *synthetic, 1e-9))
    body: list[Markup | str] = []
    for tick in nice_ticks(0, highest, 3):
        y = box[1] + box[3] * (1 - tick / highest)
        body.append(f'<path class="gridline" d="M{_n(box[0])} {_n(y)}h{_n(box[2])}"/>')
        body.append(_text(box[0] - 5, y + 3.5, number(tick, "share"), "tick", anchor="end"))
    body.extend(_overlaid(real, synthetic, box=box))
    n_bins = max(len(real), 1)
    right = box[0] + box[2]
    fitting = 2 if max((len(label) for label in edge_labels), default=0) > 8 else 4
    for index in range(0, min(n_bins + 1, len(edge_labels)), max(1, math.ceil(n_bins / fitting))):
        x = box[0] + box[2] * index / n_bins
        body.append(
            _text(
                x,
                height - 12,
                short(edge_labels[index], 12),
                "tick",
                anchor="end" if right - x < 1 else "start" if index == 0 else "middle",
            )
        )
    return figure(body, width=width, height=height, title=title, css_class="histogram")


def level_bars(
    levels: Sequence[str], real: Sequence[float], synthetic: Sequence[float], *, title: str
) -> Markup:
    """Shares of each level of a discrete column: real above (outlined), synthetic below (filled).

    Parameters
    ----------
    levels, real, synthetic : sequence of shape (n_levels,)
    """
    row_height, top = 24.0, 4.0
    written = [short(level, 20) for level in levels]
    width, right = 340.0, 292.0
    left = 12 + 6.0 * max((len(level) for level in written), default=0)
    height = top + row_height * len(levels) + 4
    x = _scale((0.0, max((*real, *synthetic, 1e-9))), (0.0, right - left))
    body: list[Markup | str] = []
    for index, (level, real_share, synthetic_share) in enumerate(
        zip(written, real, synthetic, strict=True)
    ):
        y = top + row_height * index
        body.append(_text(left - 8, y + 14, level, "label", anchor="end"))
        body.append(_bar("real-bar", left, y + 2, x(real_share)))
        body.append(_bar("synthetic-bar", left, y + 11, x(synthetic_share)))
        at = left + x(max(real_share, synthetic_share)) + 5
        body.append(_text(at, y + 14, number(synthetic_share, "share"), "tick"))
    return figure(body, width=width, height=height, title=title, css_class="levels")


def heat_map(
    matrix: Sequence[Sequence[float | None]],
    labels: Sequence[str],
    *,
    title: str,
    diverging: bool = False,
    full_scale: float = 1.0,
) -> Markup:
    """A square matrix as cells; one path per shade, so that 30 columns stay a few kilobytes.

    Parameters
    ----------
    matrix : sequence of shape (n_columns, n_columns)
        Values from 0 to ``full_scale`` (or from minus to plus it, when ``diverging``); None is
        drawn hatched.
    labels : sequence of shape (n_columns,)
    diverging
        Whether negative values have a colour of their own.
    full_scale
        The value that is drawn in full colour.
    """
    n = len(labels)
    # Few columns get larger cells, so that their names do not outgrow them.
    cell, top = min(max(12.0, 200.0 / max(n, 1)), 30.0), 6.0
    written = [short(label, 18) for label in labels]
    left = 14 + 6.2 * max((len(label) for label in written), default=0)
    size = cell * n
    shades: dict[str, list[str]] = {}
    for row, values in enumerate(matrix):
        for column, value in enumerate(values):
            at = f"M{column} {row}h1v1h-1z"
            shades.setdefault(_shade(value, full_scale, diverging=diverging), []).append(at)
    body: list[Markup | str] = [
        f'<g transform="translate({_n(left)} {_n(top)}) scale({_n(cell)})">',
        *(
            f'<path class="{shade}" d="{"".join(cells)}"/>'
            for shade, cells in sorted(shades.items())
        ),
        "</g>",
        f'<path class="frame" d="M{_n(left)} {_n(top)}h{_n(size)}v{_n(size)}h{_n(-size)}z"/>',
    ]
    for index, label in enumerate(written):
        middle = cell * (index + 0.5)
        body.append(_text(left - 5, top + middle + 3.5, label, "label", anchor="end"))
        x, y = left + middle + 3.5, top + size + 5
        body.append(
            Markup(
                '<text class="label" x="{0}" y="{1}" text-anchor="end"'
                ' transform="rotate(-90 {0} {1})">{2}</text>'
            ).format(_n(x), _n(y), label)
        )
    return figure(
        body, width=left + size + 6, height=top + size + left, title=title, css_class="heat"
    )


def line_chart(
    series: Sequence[tuple[str, Sequence[float | None]]],
    steps: Sequence[float],
    *,
    title: str,
) -> Markup:
    """Curves over common steps, each labelled at its end (used for training losses).

    Parameters
    ----------
    series
        ``(name, values)``; every sequence of values is as long as ``steps``; None is a gap.
    steps : sequence of shape (n_steps,)
    """
    width, height = 640.0, 240.0
    left, top, right, bottom = 52.0, 10.0, 520.0, 206.0
    finite = [value for _, values in series for value in values if _finite(value)]
    low, high = padded((value for value in finite if value is not None), share=0.06)
    y = _scale((low, high), (bottom, top))
    x = _scale((min(steps, default=0), max(steps, default=1)), (left, right))
    body: list[Markup | str] = []
    for tick in nice_ticks(low, high, 5):
        body.append(f'<path class="gridline" d="M{_n(left)} {_n(y(tick))}H{_n(right)}"/>')
        body.append(_text(left - 6, y(tick) + 3.5, number(tick), "tick", anchor="end"))
    for tick in nice_ticks(min(steps, default=0), max(steps, default=1), 5):
        body.append(_text(x(tick), bottom + 18, number(tick), "tick", anchor="middle"))
    body.append(f'<path class="axis" d="M{_n(left)} {_n(bottom)}H{_n(right)}"/>')
    body.append(_text((left + right) / 2, height - 2, "step", "tick", anchor="middle"))
    ends: list[tuple[float, int, str]] = []
    for index, (name, values) in enumerate(series):
        body.append(f'<path class="series series-{index % 4}" d="{_line(steps, values, x, y)}"/>')
        last = next((value for value in reversed(values) if _finite(value)), None)
        if last is not None:
            ends.append((y(last), index, name))
    for at, index, name in _spread(sorted(ends), least=14.0):
        body.append(
            Markup('<text class="label series-text-{}" x="{}" y="{}">{}</text>').format(
                index % 4, _n(right + 8), _n(at + 3.5), short(name, 18)
            )
        )
    return figure(body, width=width, height=height, title=title, css_class="lines")


def _overlaid(
    real: Sequence[float], synthetic: Sequence[float], *, box: tuple[float, float, float, float]
) -> list[Markup | str]:
    """Real as a filled step area, synthetic as a stepped line, on a common scale."""
    highest = max((*real, *synthetic, 1e-9))
    return [
        f'<path class="real-area" d="{_steps(real, highest, box, closed=True)}"/>',
        f'<path class="synthetic-line" d="{_steps(synthetic, highest, box, closed=False)}"/>',
    ]


def _steps(
    shares: Sequence[float],
    highest: float,
    box: tuple[float, float, float, float],
    *,
    closed: bool,
) -> str:
    """The outline of a histogram as an SVG path."""
    left, top, width, height = box
    base = top + height
    each = width / max(len(shares), 1)
    path = [f"M{_n(left)} {_n(base)}"]
    for index, share in enumerate(shares):
        path.append(f"V{_n(base - height * share / highest)}H{_n(left + each * (index + 1))}")
    path.append(f"V{_n(base)}")
    return "".join(path) + ("z" if closed else "")


def _line(steps: Sequence[float], values: Sequence[float | None], x: _Scale, y: _Scale) -> str:
    path, pen = [], "M"
    for step, value in zip(steps, values, strict=True):
        if value is None or not math.isfinite(value):
            pen = "M"
            continue
        path.append(f"{pen}{_n(x(step))} {_n(y(value))}")
        pen = "L"
    return "".join(path)


def _spread(
    items: Sequence[tuple[float, int, str]], *, least: float
) -> Iterable[tuple[float, int, str]]:
    """Move labels apart so that none covers another."""
    previous = -math.inf
    for at, index, name in items:
        previous = max(at, previous + least)
        yield previous, index, name


def _interval_mark(interval: Interval, x: _Scale, y: float) -> str:
    return (
        _whisker(interval, x, y, "synthetic", cap=8.0)
        + f'<circle class="synthetic-mark" cx="{_n(x(interval.estimate))}" cy="{_n(y)}" r="4.5"/>'
    )


def _whisker(interval: Interval, x: _Scale, y: float, name: str, cap: float = 4.0) -> str:
    if interval.lcb is None or interval.ucb is None:
        return ""
    low, high = x(interval.lcb), x(interval.ucb)
    return (
        f'<path class="{name}-whisker" d="M{_n(low)} {_n(y)}H{_n(high)}'
        f'M{_n(low)} {_n(y - cap)}v{_n(2 * cap)}M{_n(high)} {_n(y - cap)}v{_n(2 * cap)}"/>'
    )


def _diamond(x: float, y: float) -> str:
    return f'<path class="real-mark" d="M{_n(x)} {_n(y - 7)}l7 7l-7 7l-7 -7z"/>'


def _bar(css_class: str, x: float, y: float, width: float) -> str:
    return (
        f'<rect class="{css_class}" x="{_n(x)}" y="{_n(y)}"'
        f' width="{_n(max(width, 0.75))}" height="8"/>'
    )


def _shade(value: float | None, full_scale: float, *, diverging: bool) -> str:
    """The CSS class of a cell: ``h0`` to ``h10``, ``n1`` to ``n10`` for negative, ``missing``."""
    if value is None or not math.isfinite(value):
        return "missing"
    level = min(10, round(10 * abs(value) / full_scale)) if full_scale > 0 else 0
    return f"n{level}" if diverging and value < 0 and level else f"h{level}"


def _text(x: float, y: float, text: str, css_class: str, *, anchor: str = "start") -> Markup:
    return Markup('<text class="{}" x="{}" y="{}"{}>{}</text>').format(
        css_class,
        _n(x),
        _n(y),
        Markup(' text-anchor="{}"').format(anchor) if anchor != "start" else "",
        escape(text),
    )


def _anchor(x: float, left: float, right: float) -> str:
    """Keep a tick's text inside the drawing."""
    if x - left < 14:
        return "start"
    return "end" if right - x < 14 else "middle"


class _Scale:
    """A linear map from a domain to a range of user units; a point domain maps to the middle."""

    def __init__(self, domain: tuple[float, float], to: tuple[float, float]) -> None:
        self.domain, self.to = domain, to

    def __call__(self, value: float) -> float:
        low, high = self.domain
        share = (value - low) / (high - low) if high > low else 0.5
        return self.to[0] + (self.to[1] - self.to[0]) * share


def _scale(domain: tuple[float, float], to: tuple[float, float]) -> _Scale:
    return _Scale(domain, to)


def _spoken(interval: Interval, unit: str = "") -> str:
    if interval.lcb is None or interval.ucb is None:
        return measured(interval.estimate, unit)
    return (
        f"{measured(interval.estimate, unit)}"
        f" ({measured(interval.lcb, unit)} to {measured(interval.ucb, unit)})"
    )


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _n(value: float) -> str:
    """A coordinate with at most two digits after the point.

    >>> _n(3.0), _n(0.126), _n(-0.001)
    ('3', '0.13', '0')
    """
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


# What charts of other pages are made of.
coordinate, text, scale = _n, _text, _scale
