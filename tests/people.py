"""Made-up tables and a policy that many tests share."""

from __future__ import annotations

import decimal

import numpy as np
import pandas as pd
import pyarrow as pa


def make_people(n_rows: int, seed: int = 0) -> pd.DataFrame:
    """A table with every kind of column, associations, and a target that can be predicted."""
    chance = np.random.default_rng(seed)
    age = chance.integers(18, 90, n_rows)
    region = chance.choice(["north", "south", "east", "west"], n_rows, p=[0.5, 0.3, 0.15, 0.05])
    smoker = chance.random(n_rows) < 0.3
    pressure = 100 + 0.5 * age + 15 * smoker + chance.normal(0, 8, n_rows)
    ill = chance.random(n_rows) < 1 / (1 + np.exp(-(pressure - 140) / 6))
    frame = pd.DataFrame(
        {
            "patient": [f"P{number:06d}" for number in range(n_rows)],
            "age": age,
            "region": region,
            "smoker": smoker,
            "pressure": pressure.round(1),
            "visit": pd.Timestamp("2024-01-01")
            + pd.to_timedelta(chance.integers(0, 500, n_rows), unit="D"),
            "outcome": np.where(ill, "ill", "well"),
        }
    )
    frame.loc[chance.random(n_rows) < 0.05, "pressure"] = np.nan
    return frame


LENIENT = {
    "id": "test-lenient",
    "version": "1",
    "title": "A policy that a short fit satisfies",
    "use_class": "restricted",
    "rules": [
        {
            "id": "no-copies",
            "metric": "privacy.exact_match",
            "bound": "ucb",
            "op": "<=",
            "value": 0.05,
            "why": "tests need a certified release within seconds",
        }
    ],
}


HOSTILE = {
    "age": 'age "<script>alert(1)</script>',
    "region": "région / π, {x} #1\u202e",
    "smoker": "@id",
    "pressure": "~20~",
    "outcome": "out come'; DROP",
}


def hostile_table(n_rows: int = 3_000) -> pa.Table:
    """People under names that break naive readers, with every type of column and nulls in it."""
    chance = np.random.default_rng(1)
    table = pa.Table.from_pandas(make_people(n_rows).rename(columns=HOSTILE))
    absent = chance.random(n_rows) < 0.1
    whole = chance.integers(3_000, 9_000, n_rows).astype(np.int32)
    cents = [decimal.Decimal(int(value)).scaleb(-2) for value in chance.integers(0, 9_999, n_rows)]
    further = {
        "count, whole": pa.array(whole, pa.int64(), mask=absent),
        "born": pa.array(whole, pa.int32(), mask=absent).cast(pa.date32()),
        "price": pa.array(cents, pa.decimal128(10, 2)),
        "flag": pa.array(chance.random(n_rows) < 0.4, pa.bool_(), mask=absent),
        "kind": pa.array(chance.choice(list("abc"), n_rows), mask=absent).dictionary_encode(),
        "single": pa.array(chance.normal(size=n_rows), pa.float32()),
        "zoned": pa.array(chance.integers(10**9, 2 * 10**9, n_rows), pa.timestamp("s", "UTC")),
    }
    for name, values in further.items():
        table = table.append_column(name, values)
    return table
