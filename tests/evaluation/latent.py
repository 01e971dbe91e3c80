"""Tables of one latent factor, on which many measurements are tried."""

from __future__ import annotations

import numpy as np

from synthfactory.tables import Column, Encoded, Schema

LEVELS = tuple("abcdefgh")


def schema_of(n_numeric: int, n_discrete: int) -> Schema:
    """Columns that may all be missing: numbers, then levels."""
    numeric = [
        Column(name=f"x{place}", kind="numerical", dtype="double", nullable=True)
        for place in range(n_numeric)
    ]
    discrete = [
        Column(
            name=f"c{place}", kind="categorical", dtype="string", nullable=True, categories=LEVELS
        )
        for place in range(n_discrete)
    ]
    return Schema(columns=(*numeric, *discrete))


def draw(n: int, chance: np.random.Generator, n_numeric: int = 3, n_discrete: int = 2) -> Encoded:
    """Rows of one latent factor, so that columns depend on each other."""
    factor = chance.normal(size=(n, 1))
    numbers = factor + chance.normal(size=(n, n_numeric))
    codes = np.clip(np.rint(factor + chance.normal(0, 0.7, (n, n_discrete)) + 4), 0, 7)
    return Encoded(numbers=numbers, codes=codes.astype(np.int32))
