"""The learners that measurements train, with a fixed number of threads.

Gradient boosting is XGBoost (Chen and Guestrin 2016, https://doi.org/10.1145/2939672.2939785): the
judge of two samples, the attacker who infers attributes and the headline of utility.  The other
learners are there to be ranked beside it.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.special import expit, softmax
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

Floats = npt.NDArray[np.float64]

BOOSTING = "gradient boosting"
LINEAR = "linear model"
FOREST = "random forest"
NETWORK = "neural network"
NEIGHBOURS = "nearest neighbours"
LEARNERS = (BOOSTING, LINEAR, FOREST, NETWORK, NEIGHBOURS)

ITERATIONS = 100
N_TREES = 100
EPOCHS = 20
N_NEIGHBOURS = 25
MAX_ONE_HOT = 2_000
# Cells times classes for which another thread is worth its wait: threads of OpenMP wait for each
# other by spinning, which is slow where other processes want the same cores.
GRAIN = 1_000_000
# Trees work in float32, of which this is well inside.
LARGEST = 1e30

_threads: ContextVar[int] = ContextVar("threads", default=1)


@contextlib.contextmanager
def few_threads(threads: int) -> Iterator[None]:
    """Hold the number of threads fixed: it can change the last bits of sums.

    The suites ask for one.  Threads of OpenMP wait for each other by spinning, which makes a fit of
    a second take minutes where other processes want the same cores; pieces of suites that run side
    by side use the cores without waiting.
    """
    before = _threads.set(threads)
    try:
        with threadpool_limits(limits=threads):
            yield
    finally:
        _threads.reset(before)


@dataclass(frozen=True, kw_only=True, eq=False)
class Trees:
    """Boosted trees that were grown, as a function of rows."""

    booster: Any
    origin: Floats
    types: tuple[str, ...]
    threads: int

    @classmethod
    def grow(
        cls,
        x: Floats,
        labels: npt.NDArray[Any],
        categorical: Sequence[bool],
        seed: int,
        **objective: Any,
    ) -> Self:
        """Grow `ITERATIONS` rounds of trees.

        Parameters
        ----------
        x
            **Shape** (n, n_features): numbers, NaN where missing, and codes of levels.
        labels
            **Shape** (n,).
        categorical
            **Shape** (n_features,): which features are codes of levels.
        seed
            Kept for completeness: nothing is drawn.
        objective
            XGBoost's parameters of the objective.
        """
        import xgboost

        types = tuple("c" if is_level else "q" for is_level in categorical)
        origin = np.where(categorical, 0.0, np.nan_to_num(np.fmin.reduce(x, axis=0)))
        threads = min(_threads.get(), 1 + x.size * objective.get("num_class", 1) // GRAIN)
        data = xgboost.QuantileDMatrix(
            _bounded(x - origin),
            label=labels,
            feature_types=list(types),
            enable_categorical=True,
            nthread=threads,
        )
        settings = {
            "tree_method": "hist", "device": "cpu", "nthread": threads, "seed": seed,
            "eta": 0.1, "max_depth": 6, "verbosity": 0,
        }  # fmt: skip
        booster = xgboost.train(settings | objective, data, num_boost_round=ITERATIONS)
        return cls(booster=booster, origin=origin, types=types, threads=threads)

    def __call__(self, x: Floats) -> Floats:
        """Margins, **shape** (n,), or (n, n_classes) of more than two classes."""
        import xgboost

        data = xgboost.DMatrix(
            _bounded(x - self.origin),
            feature_types=list(self.types),
            enable_categorical=True,
            nthread=self.threads,
        )
        return np.asarray(self.booster.predict(data, output_margin=True), dtype=np.float64)


class BoostedClassifier:
    """Gradient-boosted trees for classes, with scikit-learn's words.

    Parameters
    ----------
    categorical
        **Shape** (n_features,): which features are codes of levels.
    seed
        For the learner's chance.
    """

    def __init__(self, categorical: Sequence[bool], seed: int) -> None:
        self.categorical = tuple(categorical)
        self.seed = seed

    def fit(self, x: Floats, y: npt.NDArray[Any]) -> Self:
        """Learn; a single class is learnt too, as a certainty."""
        self.classes_, labels = np.unique(y, return_inverse=True)
        n_classes = len(self.classes_)
        if n_classes == 1:
            self._margins: Any = lambda rows: np.full(len(rows), np.inf)
            return self
        objective = (
            {"objective": "binary:logistic"}
            if n_classes == 2
            else {"objective": "multi:softprob", "num_class": n_classes}
        )
        self._margins = Trees.grow(
            np.asarray(x, dtype=np.float64), labels, self.categorical, self.seed, **objective
        )
        return self

    def decision_function(self, x: Floats) -> Floats:
        """Margins: **shape** (n,), or (n, n_classes) of more than two classes."""
        margins: Floats = self._margins(np.asarray(x, dtype=np.float64))
        return margins

    def predict_proba(self, x: Floats) -> Floats:
        """**Shape** (n, n_classes): the probability of each of `classes_`."""
        margins = self.decision_function(x)
        if len(self.classes_) == 1:
            return np.ones((len(margins), 1))
        if margins.ndim == 1:
            return np.column_stack([expit(-margins), expit(margins)])
        return np.asarray(softmax(margins, axis=1), dtype=np.float64)

    def predict(self, x: Floats) -> npt.NDArray[Any]:
        """**Shape** (n,): the most probable class."""
        likeliest: npt.NDArray[Any] = self.classes_[self.predict_proba(x).argmax(axis=1)]
        return likeliest


class BoostedRegressor:
    """Gradient-boosted trees for numbers, with scikit-learn's words; see `BoostedClassifier`."""

    def __init__(self, categorical: Sequence[bool], seed: int) -> None:
        self.categorical = tuple(categorical)
        self.seed = seed

    def fit(self, x: Floats, y: Floats) -> Self:
        """Learn; the numbers are standardised first, which keeps dates exact in float32."""
        self._mean, self._spread = float(np.mean(y)), float(np.std(y)) or 1.0
        self._trees = Trees.grow(
            np.asarray(x, dtype=np.float64),
            (y - self._mean) / self._spread,
            self.categorical,
            self.seed,
            objective="reg:squarederror",
        )
        return self

    def predict(self, x: Floats) -> Floats:
        """**Shape** (n,)."""
        return self._trees(np.asarray(x, dtype=np.float64)) * self._spread + self._mean


def boosted_classifier(categorical: Sequence[bool], seed: int) -> Any:
    """A `BoostedClassifier`; missing values and levels as they are."""
    return BoostedClassifier(categorical, seed)


def boosted_regressor(categorical: Sequence[bool], seed: int) -> Any:
    """A `BoostedRegressor`; missing values and levels as they are."""
    return BoostedRegressor(categorical, seed)


def train(
    name: str,
    x: Floats,
    y: npt.NDArray[Any],
    *,
    classes: bool,
    categorical: Sequence[bool],
    seed: int,
) -> Any:
    """Train one of `LEARNERS`.

    Parameters
    ----------
    name
        Which one.
    x
        **Shape** (n, n_features): numbers, NaN where missing, and codes of levels.
    y
        **Shape** (n,): labels or numbers; at least two different labels.
    classes
        Whether ``y`` are labels.
    categorical
        **Shape** (n_features,): which features are codes of levels.
    seed
        For the learner's chance.

    Returns
    -------
    object
        With ``predict``, and for labels ``classes_`` and ``predict_proba``.
    """
    model = _make(name, len(y), classes=classes, categorical=categorical, seed=seed)
    # Matrices of a batch are too small for two threads.
    few = threadpool_limits(limits=1) if name in (LINEAR, NETWORK) else contextlib.nullcontext()
    with few, warnings.catch_warnings():
        # A fixed number of steps is the definition of the learner here, not a defect.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(_bounded(x), y)
    if name == FOREST:
        # Threads would add the trees' votes in the order in which they finish.
        (model if classes else model.regressor_).n_jobs = 1
    return model


def predicted(model: Any, x: Floats, *, classes: bool) -> Floats:
    """Of a trained model: **shape** (n,) numbers, or (n, n_classes) probabilities."""
    foretell = model.predict_proba if classes else model.predict
    return np.asarray(foretell(_bounded(x)), dtype=np.float64)


def _make(name: str, n_rows: int, *, classes: bool, categorical: Sequence[bool], seed: int) -> Any:
    if name == BOOSTING:
        return (boosted_classifier if classes else boosted_regressor)(categorical, seed)
    model = _head(name, n_rows, classes=classes, seed=seed)
    if name != FOREST:
        model = make_pipeline(_prepared(categorical), model)
    return model if classes else TransformedTargetRegressor(model, transformer=StandardScaler())


def _head(name: str, n_rows: int, *, classes: bool, seed: int) -> Any:
    if name == LINEAR:
        return LogisticRegression(max_iter=300, tol=1e-3) if classes else Ridge()
    if name == FOREST:
        forest = RandomForestClassifier if classes else RandomForestRegressor
        return forest(
            N_TREES, min_samples_leaf=5, max_features="sqrt", n_jobs=_threads.get(),
            random_state=seed,
        )  # fmt: skip
    if name == NETWORK:
        network = MLPClassifier if classes else MLPRegressor
        return network(
            hidden_layer_sizes=(64,), max_iter=EPOCHS, n_iter_no_change=EPOCHS, random_state=seed
        )
    if name == NEIGHBOURS:
        neighbours = KNeighborsClassifier if classes else KNeighborsRegressor
        return neighbours(min(N_NEIGHBOURS, n_rows), algorithm="brute", n_jobs=_threads.get())
    raise ValueError(f"Expected a learner among {', '.join(LEARNERS)}, got '{name}'.")


def _prepared(categorical: Sequence[bool]) -> ColumnTransformer:
    """Standardised numbers, missing ones at the median; levels one-hot, rare ones pooled."""
    numbers = [place for place, is_level in enumerate(categorical) if not is_level]
    levels = [place for place, is_level in enumerate(categorical) if is_level]
    fill = SimpleImputer(strategy="median", keep_empty_features=True)
    one_hot = OneHotEncoder(
        handle_unknown="infrequent_if_exist",
        min_frequency=10,
        max_categories=max(2, MAX_ONE_HOT // max(len(levels), 1)),
    )
    return ColumnTransformer(
        [("numbers", make_pipeline(fill, StandardScaler()), numbers), ("levels", one_hot, levels)],
        sparse_threshold=0.0,
    )


def _bounded(x: Floats) -> Floats:
    return np.clip(x, -LARGEST, LARGEST)
