"""Training or sampling: each side's fitted CTGANs, sampled in either side's way.

    python benchmarks/samplers.py fit      # fits of both sides, kept in a folder
    python benchmarks/samplers.py judge    # rows of each, and a learner of the target from them
    python benchmarks/samplers.py report   # what is recorded, as tables

Needs ``pip install 'synthfactory[sdv]'``.  Both sides have the reference's settings
(`engine.OURS`).  A generator is its weights; a way to sample is

- ``reference``: ``sample`` of ctgan: conditions at logarithmic frequencies, batch normalisation by
  the batch at hand.  Ours take it as `to_ctgan` exports them, with those two set;
- ``log``: our sampler, at logarithmic frequencies; theirs take it by `from_ctgan`;
- ``true``: our sampler, at the levels' true frequencies.

Of ours there are the weights that a fit returns (``average``: moving average, calibrated
marginals), the last step's with calibrated marginals (``last``), and the last step's as they are
(``plain``).  ``auc`` is `compare_sdv.utility`; for ``auc_balanced`` the learner's rows are weighted
so that the target's classes have the shares of the real rows.  Figures are added to
``benchmarks/results/engine/samplers.json``; what is recorded there is not repeated.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from compare_sdv import _features
from engine import (
    OURS,
    _parts,
    fit_reference,
    record,
    recorded,
    sample_reference,
    with_fields,
)

import synthfactory as sf
from synthfactory.generators.ctgan import CTGANModel, Inputs
from synthfactory.generators.drawing import Deck
from synthfactory.generators.exchange import from_ctgan, to_ctgan
from synthfactory.generators.features import Features
from synthfactory.generators.precision import using_precision
from synthfactory.generators.representation import Representation
from synthfactory.generators.training import using_threads
from synthfactory.generators.vault import _from_frame

CPU = torch.device("cpu")
KEPT = Path(tempfile.gettempdir()) / "synthfactory-samplers"
WEIGHTS: dict[str, dict[str, Any]] = {
    "average": {},
    "last": {"average_decay": 0.0},
    "plain": {"average_decay": 0.0, "calibrate": False},
}
# Generator, weights, way to sample.
ARMS = [("reference", "plain", way) for way in ("reference", "log", "true")]
ARMS += [("ours", weights, way) for weights in WEIGHTS for way in ("log", "true")]
ARMS += [("ours", "plain", "reference")]
AS_RELEASED = {"reference": ("plain", "reference"), "ours": ("average", "true")}


def fit(options: argparse.Namespace) -> None:
    """Fit both sides, each once per seed; theirs as an object, ours as weights."""
    options.keep.mkdir(parents=True, exist_ok=True)
    for seed in options.seeds:
        for side, make in (("ours", _fit_ours), ("reference", _fit_theirs)):
            path = _path(options, side, seed)
            if not path.exists():
                with using_threads(1):
                    torch.save(make(options.table, options.epochs, seed), path)
                print(path, flush=True)


def _path(options: argparse.Namespace, side: str, seed: int) -> Path:
    return Path(options.keep) / f"{side}-{options.table}-{options.epochs}-{seed}.pt"


def _fit_theirs(name: str, epochs: int, seed: int) -> Any:
    return fit_reference("CTGAN", _parts(name).train, epochs, seed)


def _fit_ours(name: str, epochs: int, seed: int) -> dict[str, Any]:
    """The last weights and their average: both come of one training."""
    table, spec = _parts(name).train, with_fields(OURS["CTGAN"], epochs=epochs)
    representation = Representation.fit(table)
    rows = representation.encode(table, seed=seed)
    with using_precision(spec.precision, CPU):
        trainer = spec._trainer([representation], Deck([rows], CPU), [seed], CPU)
        spec._train(trainer, spec.steps(len(rows)), None, None, None)
    return {"learnt": trainer.learnt}


def judge(options: argparse.Namespace) -> None:
    """Draw from every fit that is kept, in every way, and judge the rows."""
    keys = ("table", "epochs", "seed", "generator", "weights", "way", "draw")
    known = {tuple(entry[key] for key in keys) for entry in recorded("samplers")}
    parts = _parts(options.table)
    jobs = itertools.product(options.seeds, range(options.draws), ARMS)
    for seed, draw, (side, weights, way) in jobs:
        key = (options.table, options.epochs, seed, side, weights, way, draw)
        path = _path(options, side, seed)
        if key in known or not path.exists():
            continue
        kept = torch.load(path, weights_only=False)
        sample = _sample_theirs if side == "reference" else _sample_ours
        with using_threads(1):
            rows = sample(kept, options, seed, weights, way, 1_000 + seed + 100 * draw)
            figures = utilities(rows, parts)
        record("samplers", {**dict(zip(keys, key, strict=True)), **figures})


def _sample_theirs(
    kept: Any, options: argparse.Namespace, seed: int, weights: str, way: str, chance: int
) -> sf.Table:
    train = _parts(options.table).train
    if way == "reference":
        return _draw_reference(kept, train, chance)
    model = from_ctgan(kept)
    assert isinstance(model, CTGANModel)
    if way == "log":
        _condition_by_logarithms(model)
    frame = model.sample(train.n_rows, seed=chance, threads=1).to_pandas()
    return _from_frame(frame, train.schema, seed=0, first_row=0)


def _sample_ours(
    kept: Any, options: argparse.Namespace, seed: int, weights: str, way: str, chance: int
) -> sf.Table:
    train = _parts(options.table).train
    spec = with_fields(OURS["CTGAN"], epochs=options.epochs, **WEIGHTS[weights])
    representation = Representation.fit(train)
    rows = representation.encode(train, seed=seed)
    model = spec._finish(representation, rows, kept["learnt"], seed, CPU, 1)
    if way == "reference":
        exported = to_ctgan(model)
        logs = np.log1p(exported._data_sampler._discrete_column_category_prob * train.n_rows)
        exported._data_sampler._discrete_column_category_prob = logs / logs.sum(1, keepdims=True)
        exported._generator.train()
        return _draw_reference(exported, train, chance)
    if way == "log":
        _condition_by_logarithms(model)
    table: sf.Table = model.sample(train.n_rows, seed=chance, threads=1)
    return table


def _draw_reference(fitted: Any, train: sf.Table, chance: int) -> sf.Table:
    np.random.seed(chance)  # noqa: NPY002
    torch.manual_seed(chance)
    return sample_reference(fitted, train, train.n_rows)


def _condition_by_logarithms(model: CTGANModel) -> None:
    features = Features(model.layout, CPU)
    n_noise = model.spec.embedding_dim
    model._inputs = Inputs(model.representation, features, n_noise, CPU, as_trained=True)


def utilities(synthetic: sf.Table, parts: Any) -> dict[str, float]:
    """The learner's area under the curve, as the rows are and with the real rows' class shares."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score

    x, target, is_level = _features(synthetic)
    judged, truth, _ = _features(parts.test)
    real, share = float(_features(parts.train)[1].mean()), float(target.mean())
    balanced = np.where(target == 1, real / share, (1.0 - real) / (1.0 - share))
    figures = {"share": round(share, 4)}
    for figure, weights in (("auc", None), ("auc_balanced", balanced)):
        learner = HistGradientBoostingClassifier(
            categorical_features=is_level, early_stopping=False, random_state=0
        ).fit(x, target, sample_weight=weights)
        area = roc_auc_score(truth, learner.predict_proba(judged)[:, 1])
        figures[figure] = round(float(area), 4)
    return figures


def report(options: argparse.Namespace) -> None:
    """Mean ± standard deviation over the seeds, then differences with 95 % intervals."""
    entries = [entry for entry in recorded("samplers") if entry["table"] == options.table]
    print("| generator | weights | way | seeds | share of the class | auc | auc_balanced |")
    print("|---" * 7 + "|")
    for arm in ARMS:
        means = [_by_seed(entries, arm, figure) for figure in ("share", "auc", "auc_balanced")]
        if not means[0]:
            continue
        cells = [f"{np.mean(v):.4f} ± {np.std(v, ddof=1):.4f}" for v in map(_values, means)]
        print("| " + " | ".join([*arm, str(len(means[0])), *cells]) + " |")
    print("\n| difference of auc | seeds | mean | 95 % interval |\n|---|---|---|---|")
    for name, one, other in COMPARED:
        a, b = (_by_seed(entries, arm, "auc") for arm in (one, other))
        if min(len(a), len(b)) > 1:
            print(f"| {name} | {len(a)}, {len(b)} | {_difference(a, b, one[0] == other[0])} |")


OURS_RELEASED, THEIRS_RELEASED = ((side, *AS_RELEASED[side]) for side in ("ours", "reference"))
COMPARED: list[tuple[str, tuple[str, str, str], tuple[str, str, str]]] = [
    ("as released: ours - reference", OURS_RELEASED, THEIRS_RELEASED),
    ("training: ours - reference, plain, log", ("ours", "plain", "log"),
     ("reference", "plain", "log")),
    ("training: ours - reference, plain, true", ("ours", "plain", "true"),
     ("reference", "plain", "true")),
    ("training: ours - reference, plain, reference", ("ours", "plain", "reference"),
     THEIRS_RELEASED),
    ("average - last weights, true", OURS_RELEASED, ("ours", "last", "true")),
    ("average - last weights, log", ("ours", "average", "log"), ("ours", "last", "log")),
    ("calibrated - plain, last, true", ("ours", "last", "true"), ("ours", "plain", "true")),
    ("calibrated - plain, last, log", ("ours", "last", "log"), ("ours", "plain", "log")),
    ("true - log, average", OURS_RELEASED, ("ours", "average", "log")),
    ("true - log, last", ("ours", "last", "true"), ("ours", "last", "log")),
    ("true - log, reference's weights", ("reference", "plain", "true"),
     ("reference", "plain", "log")),
    ("our sampler at log - reference's, reference's weights", ("reference", "plain", "log"),
     THEIRS_RELEASED),
    ("our sampler at log - reference's, our weights", ("ours", "plain", "log"),
     ("ours", "plain", "reference")),
]  # fmt: skip


def _values(by_seed: dict[int, float]) -> list[float]:
    return list(by_seed.values())


def _by_seed(
    entries: Sequence[dict[str, Any]], arm: tuple[str, str, str], figure: str
) -> dict[int, float]:
    """Each seed's mean over its draws."""
    mine = [e for e in entries if (e["generator"], e["weights"], e["way"]) == arm]
    seeds = sorted({entry["seed"] for entry in mine})
    return {seed: float(np.mean([e[figure] for e in mine if e["seed"] == seed])) for seed in seeds}


def _difference(a: dict[int, float], b: dict[int, float], paired: bool) -> str:
    """Mean and interval: of pairs where both are of one training, else Welch's."""
    from scipy import stats

    if paired:
        both = sorted(a.keys() & b.keys())
        test = stats.ttest_rel([a[seed] for seed in both], [b[seed] for seed in both])
        mean = float(np.mean([a[seed] - b[seed] for seed in both]))
    else:
        test = stats.ttest_ind(_values(a), _values(b), equal_var=False)
        mean = float(np.mean(_values(a)) - np.mean(_values(b)))
    low, high = test.confidence_interval(0.95)
    return f"{mean:+.4f} | {low:+.4f} to {high:+.4f}"


MODES: dict[str, Callable[[argparse.Namespace], None]] = {
    mode.__name__: mode for mode in (fit, judge, report)
}


def main() -> None:
    """Run the mode that was asked for."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mode", choices=list(MODES))
    parser.add_argument("--table", default="adult", choices=["adult", "bank"])
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--seeds", type=lambda text: [int(part) for part in text.split(",")],
                        default=list(range(10)))  # fmt: skip
    parser.add_argument("--draws", type=int, default=2, help="tables drawn from each fit")
    parser.add_argument("--keep", type=Path, default=KEPT, help="folder of the fits")
    options = parser.parse_args()
    MODES[options.mode](options)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
