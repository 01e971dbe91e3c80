"""Our CTGAN and TVAE beside SDV's, at equal epochs on the same training rows.

    python benchmarks/compare_sdv.py --epochs 50 --seeds 0,1,2

Needs ``pip install 'synthfactory[sdv]'`` for SDV's models and for SDMetrics.  Every fit is judged
by the same five figures:

- ``sdmetrics``: SDMetrics' QualityReport against the training rows, overall score;
- ``shapes``: mean over columns of 1 - Kolmogorov-Smirnov or total variation distance, missing
  values being a level of their own;
- ``pairs``: mean over *all* pairs of columns of 1 - total variation distance of their joint table,
  numbers on the deciles of the real rows;
- ``auc``: gradient boosting trained on synthetic rows, tested on real test rows;
- ``seconds``: wall time of the fit.

Results are kept in one file per model below ``benchmarks/results/compare_sdv``, after each fit;
fits that are there already are not repeated.  Each model has its own defaults unless
``--batch-size`` sets it for all: ours takes 200 rows a step and SDV 500, so that an epoch of ours
has more steps.  Generators take turns within a seed, so that a busy
machine slows all of them.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import os
import platform
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import synthfactory as sf
from synthfactory.artifacts import read_json, write_json
from synthfactory.tables import Encoder, Parts

HOME = Path(__file__).resolve().parent / "results" / "compare_sdv"
SPECS = {
    "ctgan": sf.CTGAN,
    "sdv_ctgan": sf.SDVCTGAN,
    "tvae": sf.TVAE,
    "sdv_tvae": sf.SDVTVAE,
}
TARGETS = {"adult": "income", "shoppers": "Revenue", "bank": "y"}
DATA = Path(sf.__file__).parent / "tables" / "data"
FIGURES = ("sdmetrics", "shapes", "pairs", "auc", "seconds")
N_BINS = 10

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]


def main() -> None:
    """Fit what is missing, then print the table of everything that is recorded."""
    options = _options()
    for name in options.datasets:
        parts = sf.split(sf.read_table(DATA / f"{name}.parquet", target=TARGETS[name]), seed=0)
        for seed, model in itertools.product(options.seeds, options.models):
            spec = _spec(model, options.epochs, options.batch_size)
            _run_once(name, parts, spec, seed, options.threads, options.results)
    print(markdown(_recorded(options.results), options.epochs))


def _spec(model: str, epochs: int, batch_size: int | None) -> Any:
    own = {"epochs": epochs}
    return SPECS[model](**(own if batch_size is None else {**own, "batch_size": batch_size}))


def _run_once(name: str, parts: Parts, spec: Any, seed: int, threads: int, home: Path) -> None:
    path = home / f"{spec.name}.json"
    key: dict[str, Any] = {
        "dataset": name,
        "epochs": spec.epochs,
        "batch_size": spec.batch_size,
        "seed": seed,
    }
    if any(all(run[part] == key[part] for part in key) for run in _runs(path)):
        return
    began_s = time.perf_counter()
    fitted = spec.fit(parts.train, seed=seed, device="cpu", threads=threads)
    seconds = time.perf_counter() - began_s
    synthetic = fitted.sample(parts.train.n_rows, seed=1_000 + seed)
    run: dict[str, Any] = {
        **key,
        "seconds": round(seconds, 1),
        "threads": threads,
        "rows": parts.train.n_rows,
        **{figure: round(value, 4) for figure, value in judge(parts, synthetic).items()},
        "machine": describe_machine(),
    }
    write_json(path, {"model": spec.name, "runs": [*_runs(path), run]})
    print(spec.name, {part: run[part] for part in (*key, *FIGURES) if part in run}, flush=True)


def _runs(path: Path) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = read_json(path)["runs"] if path.exists() else []
    return runs


def judge(parts: Parts, synthetic: sf.Table) -> dict[str, float]:
    """The figures of one synthetic table."""
    figures = {
        "shapes": column_shapes(parts.train, synthetic),
        "pairs": pair_trends(parts.train, synthetic),
        "auc": utility(synthetic, parts.test),
        "auc_of_real": utility(parts.train, parts.test),
    }
    try:
        figures["sdmetrics"] = sdmetrics_score(parts.train, synthetic)
    except ImportError:
        print("SDMetrics is not installed: its score is left out.")
    return figures


def column_shapes(real: sf.Table, synthetic: sf.Table) -> float:
    """Mean over columns of 1 - KS (numbers) or 1 - TVD (levels)."""
    encoder = Encoder(real.schema)
    ours, theirs = encoder.encode(real), encoder.encode(synthetic)
    scores = [
        1.0 - _kolmogorov_smirnov(ours.numbers[:, place], theirs.numbers[:, place])
        for place in range(ours.numbers.shape[1])
    ]
    scores += [
        1.0 - _total_variation(ours.codes[:, place], theirs.codes[:, place])
        for place in range(ours.codes.shape[1])
    ]
    return float(np.mean(scores))


def pair_trends(real: sf.Table, synthetic: sf.Table) -> float:
    """Mean over all pairs of columns of 1 - TVD of their joint table on the real rows' bins."""
    encoder = Encoder(real.schema)
    ours, theirs = encoder.encode(real), encoder.encode(synthetic)
    columns: list[tuple[Codes, Codes]] = []
    for place in range(ours.numbers.shape[1]):
        edges = _edges(ours.numbers[:, place])
        columns.append((_bin(ours.numbers[:, place], edges), _bin(theirs.numbers[:, place], edges)))
    for place in range(ours.codes.shape[1]):
        columns.append(
            (ours.codes[:, place].astype(np.int64), theirs.codes[:, place].astype(np.int64))
        )
    scores = []
    for (a, b), (c, d) in itertools.combinations(columns, 2):
        size = int(max(c.max(), d.max())) + 1
        scores.append(1.0 - _total_variation(a * size + c, b * size + d))
    return float(np.mean(scores))


def utility(train: sf.Table, test: sf.Table) -> float:
    """Area under the ROC curve on real rows of a classifier of the target."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score

    features, target, is_level = _features(train)
    judged, truth, _ = _features(test)
    if len(np.unique(target)) < 2:
        return 0.5
    learner = HistGradientBoostingClassifier(
        categorical_features=is_level, early_stopping=False, random_state=0
    ).fit(features, target)
    return float(roc_auc_score(truth, learner.predict_proba(judged)[:, 1]))


def sdmetrics_score(real: sf.Table, synthetic: sf.Table) -> float:
    """SDMetrics' QualityReport, overall."""
    from sdmetrics.reports.single_table import (  # type: ignore[import-not-found, unused-ignore]
        QualityReport,
    )

    kinds = {"numerical": "numerical", "datetime": "datetime", "boolean": "boolean"}
    metadata = {
        "columns": {
            column.name: {"sdtype": kinds.get(column.kind, "categorical")}
            for column in real.schema.columns
        }
    }
    report = QualityReport()
    report.generate(real.to_pandas(), synthetic.to_pandas(), metadata, verbose=False)
    return float(report.get_score())


def markdown(runs: Sequence[dict[str, Any]], epochs: int) -> str:
    """Mean and standard deviation over the seeds, a row per dataset, model and batch size."""
    lines = [
        "| dataset | model | batch | seeds | " + " | ".join(FIGURES) + " |",
        "|---" * (4 + len(FIGURES)) + "|",
    ]
    chosen = [run for run in runs if run["epochs"] == epochs]
    batches = sorted({run["batch_size"] for run in chosen})
    for row in itertools.product(TARGETS, SPECS, batches):
        mine = [run for run in chosen if (run["dataset"], run["model"], run["batch_size"]) == row]
        if mine:
            cells = [_cell([run[figure] for run in mine if figure in run]) for figure in FIGURES]
            lines.append("| " + " | ".join([*map(str, row), str(len(mine)), *cells]) + " |")
    return "\n".join(lines)


def _cell(values: Sequence[float]) -> str:
    if not values:
        return "-"
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}" if max(values) < 2 else f"{np.mean(values):.0f}"


def _kolmogorov_smirnov(real: Floats, other: Floats) -> float:
    # Missing values are a point of their own, below all numbers.
    x, y = (np.sort(np.where(np.isnan(values), -np.inf, values)) for values in (real, other))
    grid = np.concatenate([x, y])
    shares = [np.searchsorted(v, grid, side="right") / len(v) for v in (x, y)]
    return float(np.abs(shares[0] - shares[1]).max())


def _total_variation(real: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    levels, places = np.unique(np.concatenate([real, other]), return_inverse=True)
    p = np.bincount(places[: len(real)], minlength=len(levels)) / len(real)
    q = np.bincount(places[len(real) :], minlength=len(levels)) / len(other)
    return float(0.5 * np.abs(p - q).sum())


def _edges(values: Floats) -> Floats:
    present = values[~np.isnan(values)]
    if len(present) == 0:
        return np.empty(0)
    edges: Floats = np.unique(np.quantile(present, np.arange(1, N_BINS) / N_BINS))
    return edges


def _bin(values: Floats, edges: Floats) -> Codes:
    bins = np.searchsorted(edges, values, side="left").astype(np.int64)
    return np.where(np.isnan(values), len(edges) + 1, bins)


def _features(table: sf.Table) -> tuple[Floats, Codes, list[bool]]:
    encoded = Encoder(table.schema).encode(table)
    names = [column.name for column in table.schema.discrete]
    place = names.index(str(table.schema.target))
    levels = np.delete(encoded.codes, place, axis=1).astype(np.float64)
    is_level = [False] * encoded.numbers.shape[1] + [True] * levels.shape[1]
    return np.hstack([encoded.numbers, levels]), encoded.codes[:, place].astype(np.int64), is_level


def _recorded(home: Path) -> list[dict[str, Any]]:
    documents = [read_json(path) for path in sorted(home.glob("*.json"))]
    return [
        {**run, "model": document["model"]} for document in documents for run in document["runs"]
    ]


def describe_machine() -> dict[str, Any]:
    packages = ("synthfactory", "torch", "numpy", "scikit-learn", "sdv", "ctgan", "sdmetrics")
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in packages},
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines: Iterable[str] = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), ""
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=_words(SPECS), default=list(SPECS))
    parser.add_argument("--datasets", type=_words(TARGETS), default=["adult", "shoppers"])
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--seeds", type=lambda text: [int(part) for part in text.split(",")])
    parser.add_argument("--batch-size", type=int, help="for every model; default: its own")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--results", type=Path, default=HOME)
    parser.set_defaults(seeds=[0, 1, 2])
    return parser.parse_args()


def _words(known: Iterable[str]) -> Any:
    def words(text: str) -> list[str]:
        unknown = [word for word in text.split(",") if word not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown {unknown[0]!r}; known: {', '.join(known)}")
        return text.split(",")

    return words


if __name__ == "__main__":
    main()
