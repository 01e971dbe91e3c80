"""Aggregates that the report draws: no value of a person, no extreme, no rare level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from synthfactory.evaluation.evidence import Evidence
from synthfactory.evaluation.people import FEWEST_SHOWN
from synthfactory.tables import Column, Encoded

N_BARS = 24
CLIP = (0.01, 0.99)
MAX_LEVELS = 24


def column_charts(evidence: Evidence, scores: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A histogram or bar chart of every column, worst first."""
    charts = []
    n_numeric = len(evidence.schema.numeric)
    for scored in scores:
        place = evidence.names.index(scored["name"])
        column = evidence.schema.column(scored["name"])
        if place < n_numeric:
            drawn = _histogram(evidence.train, evidence.synthetic, place)
        else:
            drawn = _bars(evidence.train, evidence.synthetic, place - n_numeric, column)
        reach = 1.96 * scored["error"]
        charts.append(
            {
                "name": column.name,
                "kind": column.kind,
                "score": scored["score"],
                "reference": scored["reference"],
                "lcb": max(scored["score"] - reach, 0.0),
                "ucb": min(scored["score"] + reach, 1.0),
                **drawn,
            }
        )
    return charts


def _histogram(real: Encoded, other: Encoded, place: int) -> dict[str, Any]:
    """Shares in equal bins between the 1 % and 99 % quantiles; what lies outside is in the ends."""
    sides = [rows.numbers[:, place] for rows in (real, other)]
    missing = [float(np.isnan(values).mean()) for values in sides]
    missing[0] = _shown(int(np.isnan(sides[0]).sum()), len(sides[0]))
    present = [values[~np.isnan(values)] for values in sides]
    if len(present[0]) < FEWEST_SHOWN:
        return {"edges": [0.0, 1.0], "real": [0.0], "synthetic": [0.0],
                "missing": {"real": missing[0], "synthetic": missing[1]}}  # fmt: skip
    low, high = np.quantile(present[0], CLIP)
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, N_BARS + 1)
    shares = [
        (np.histogram(np.clip(values, low, high), edges)[0] / max(len(values), 1)).tolist()
        for values in present
    ]
    counts = np.array(shares[0]) * len(present[0])
    shares[0] = np.where(counts < FEWEST_SHOWN, 0.0, shares[0]).tolist()
    return {
        "edges": edges.tolist(),
        "real": shares[0],
        "synthetic": shares[1],
        "missing": {"real": missing[0], "synthetic": missing[1]} if any(missing) else None,
    }


def _shown(count: int, n_rows: int) -> float:
    """The share of some real rows; 0 where they are too few to be shown."""
    return count / n_rows if count >= FEWEST_SHOWN else 0.0


def _bars(real: Encoded, other: Encoded, place: int, column: Column) -> dict[str, Any]:
    """Shares of the common levels; all others together."""
    n_levels = len(column.categories)
    counts, others = (
        np.bincount(rows.codes[:, place], minlength=n_levels + 1) for rows in (real, other)
    )
    levels, real_bars, other_bars = [], [], []
    shown = np.argsort(-counts[:n_levels], kind="stable")[:MAX_LEVELS]
    shown = np.array([code for code in shown if counts[code] >= FEWEST_SHOWN], dtype=np.int64)
    if column.kind == "ordinal":
        shown = np.sort(shown)
    for code in shown:
        levels.append(str(column.categories[code]))
        real_bars.append(counts[code] / len(real))
        other_bars.append(others[code] / len(other))
    rest = np.setdiff1d(np.arange(n_levels), shown)
    if len(rest):
        levels.append("(all others)")
        real_bars.append(_shown(counts[rest].sum(), len(real)))
        other_bars.append(others[rest].sum() / len(other))
    missing = _shown(counts[n_levels], len(real)), others[n_levels] / len(other)
    return {
        "levels": levels,
        "real": real_bars,
        "synthetic": other_bars,
        "missing": {"real": missing[0], "synthetic": missing[1]} if column.nullable else None,
    }
