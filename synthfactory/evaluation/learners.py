"""The learners that measurements train, with a fixed number of threads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

ITERATIONS = 100


def boosted_classifier(categorical: Sequence[bool], seed: int) -> Any:
    """Gradient-boosted trees for classes; missing values and levels as they are."""
    return HistGradientBoostingClassifier(
        max_iter=ITERATIONS,
        early_stopping=False,
        categorical_features=list(categorical),
        random_state=seed,
    )


def boosted_regressor(categorical: Sequence[bool], seed: int) -> Any:
    """Gradient-boosted trees for numbers."""
    return HistGradientBoostingRegressor(
        max_iter=ITERATIONS,
        early_stopping=False,
        categorical_features=list(categorical),
        random_state=seed,
    )


@contextlib.contextmanager
def few_threads(threads: int) -> Iterator[None]:
    """Hold the number of threads fixed: it can change the last bits of sums."""
    with threadpool_limits(limits=threads):
        yield
