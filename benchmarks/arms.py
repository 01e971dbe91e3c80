"""Why our CTGAN at the reference's settings is a little less useful than the reference: arms.

    python benchmarks/arms.py fit --device cuda --folder F           # many seeds of every arm
    python benchmarks/arms.py judge --folder F                       # their utility, on any machine

`engine.py quality` records that at equal settings (`OURS`), 50 epochs, on Adult, a classifier that
learns from our rows ranks real people a little worse than one that learns from the reference's.
Each arm undoes one difference between the two, or all of them (``twin``).  An arm is a training
(`TRAININGS`) and a way of sampling what was trained (`SAMPLINGS`); arms of the same training share
its fits.  The seeds of a training are one ensemble: seconds on a GPU.

``fit`` writes Parquet files of at most 15 MiB, a row group for each arm and seed, with as many rows
as the training part has; of so many seeds that all files together stay below ``--max-mb``.
``judge`` computes the figure ``auc`` of `compare_sdv.judge`,
compares each arm's mean with the recorded seeds of the reference (Welch) and, seed by seed, with
``plain``.  Sampling conditions, batches and truncation as the reference has them are here to
explain a figure; the package has none of them.  ``fit`` heeds SYNTHFACTORY_UNTIL as `engine.py`
does; what it leaves out then, it says.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from compare_sdv import utility
from engine import (
    END_S,
    OURS,
    Attempts,
    OutOfTime,
    _parts,
    described,
    recorded,
    with_fields,
    within,
)
from threadpoolctl import threadpool_limits

import synthfactory as sf
from synthfactory.artifacts import read_json, write_json
from synthfactory.generators import ctgan, modes, neural
from synthfactory.generators.ctgan import CTGANModel, CTGANTrainer, Inputs
from synthfactory.generators.drawing import Deck
from synthfactory.generators.features import Features, Heads
from synthfactory.generators.layout import Layout
from synthfactory.generators.modes import ColumnModes
from synthfactory.generators.precision import using_precision
from synthfactory.generators.representation import Representation, Rows
from synthfactory.generators.sampling import draw_codes
from synthfactory.generators.training import find_device, using_threads
from synthfactory.seeds import derive, torch_stream
from synthfactory.tables import Encoded, Encoder

EPOCHS = 50
BATCH = 500
DECAY = 1e-6
VOLUME_MB = 15.0


# Trainings.


class Fresh(CTGANTrainer):
    """The generator's step takes rows of its own, not those that the critic has just seen.

    It draws for two steps of the critic and leaves out the second one, whose rows the generator
    then takes.
    """

    def __init__(self, spec: Any, *args: Any, **more: Any) -> None:
        super().__init__(with_fields(spec, discriminator_steps=2), *args, **more)
        self.turn = 0
        self._kept: Any = None

    def step(self, slot: int) -> None:
        """See `Trainer.step`."""
        self.turn = 0
        super().step(slot)

    def _critic_step(self, *args: Any) -> Any:
        self.turn += 1
        if self.turn == 1:
            self._kept = super()._critic_step(*args)
        return self._kept


class Decayed(CTGANTrainer):
    """The critic's weights decay, as the generator's do."""

    def __init__(self, spec: Any, *args: Any, **more: Any) -> None:
        super().__init__(spec, *args, **more)
        assert self._critic_adam._weight_decay == 0.0
        self._critic_adam._weight_decay = DECAY


class Twin(Fresh, Decayed):
    """Both."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """How an ensemble is trained.

    Parameters
    ----------
    trainer
        Makes the steps.
    epochs
        Times the epochs that are asked for.
    modes
        Of numeric columns: "ours"; "mixture" as the reference's, Bayesian mixtures, and no value of
        its own for a spike; "spikeless", ours without those; "few", ours with at most four
        Gaussians where there is a spike.
    """

    trainer: type[CTGANTrainer] = CTGANTrainer
    epochs: int = 1
    modes: str = "ours"


TRAININGS: dict[str, Training] = {
    "ours": Training(),
    "fresh": Training(trainer=Fresh),
    "decay": Training(trainer=Decayed),
    "mixture": Training(modes="mixture"),
    "spikeless": Training(modes="spikeless"),
    "few": Training(modes="few"),
    "long": Training(epochs=2),
    "twin": Training(trainer=Twin, modes="mixture"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
    """How rows are drawn from what was trained.

    Parameters
    ----------
    average, calibrate
        As our hyperparameters: averaged weights, corrected marginals.
    logs
        Draw conditions at the logarithmic frequencies of training.
    batch
        Normalise by the statistics of each batch of 500 rows.
    cut
        Cut whole numbers' decimals off instead of rounding.
    """

    average: bool = False
    calibrate: bool = False
    logs: bool = False
    batch: bool = False
    cut: bool = False


SAMPLINGS: dict[str, Sampling] = {
    "base": Sampling(average=True, calibrate=True),
    "last": Sampling(calibrate=True),
    "plain": Sampling(),
    "average": Sampling(average=True),
    "logs": Sampling(logs=True),
    "batch": Sampling(logs=True, batch=True),
    "cut": Sampling(logs=True, batch=True, cut=True),
}

# The most telling first.
ARMS: dict[str, tuple[str, str]] = {
    "base": ("ours", "base"),
    "plain": ("ours", "plain"),
    "logs": ("ours", "logs"),
    "batch": ("ours", "batch"),
    "cut": ("ours", "cut"),
    "last": ("ours", "last"),
    "average": ("ours", "average"),
    "twin": ("twin", "cut"),
    "twin plain": ("twin", "plain"),
    "fresh": ("fresh", "plain"),
    "mixture": ("mixture", "plain"),
    "spikeless": ("spikeless", "plain"),
    "few": ("few", "plain"),
    "few last": ("few", "last"),
    "few average": ("few", "average"),
    "few base": ("few", "base"),
    "decay": ("decay", "plain"),
    "long": ("long", "plain"),
}


# Fitting.


def fit(options: argparse.Namespace) -> None:
    """Train every training that an arm needs, and write the arms' rows."""
    options.folder.mkdir(parents=True, exist_ok=True)
    if any(options.folder.glob("rows-*.parquet")):
        raise SystemExit(f"{options.folder} holds rows already; choose another --folder.")
    attempts = Attempts()
    volumes = Volumes(options.folder, options.max_mb / len(options.arms))
    try:
        with within(max(1.0, END_S - time.time())):
            for name in dict.fromkeys(ARMS[arm][0] for arm in options.arms):
                mine = [arm for arm in options.arms if ARMS[arm][0] == name]
                attempts(name, functools.partial(_fit_arms, name, mine, volumes, options))
    except OutOfTime:
        print("stopped for lack of time", flush=True)
    finally:
        volumes.close()
    attempts.check()


def _fit_arms(
    name: str, arms: Sequence[str], volumes: Volumes, options: argparse.Namespace
) -> None:
    ensemble = Ensemble(name, options)
    attempts = Attempts()
    for arm in arms:
        attempts(arm, functools.partial(_write_arm, arm, ensemble, volumes, options))
    attempts.check()


class Volumes:
    """The rows of all arms, in files of limited size.

    Parameters
    ----------
    folder
        Where they are.
    arm_mb
        The most that one arm may take.
    """

    def __init__(self, folder: Path, arm_mb: float) -> None:
        self._folder, self._arm_mb = folder, arm_mb
        self._n_files = self._n_written = 0
        self._bytes = self._before = 0
        self._writer: pq.ParquetWriter | None = None
        self._path = folder

    @property
    def most(self) -> int:
        """How many members an arm may have, as far as their size is known."""
        if not self._n_written:
            return 1
        return max(1, int(self._arm_mb * 2**20 * self._n_written / self._bytes))

    def write(self, arm: str, member: int, data: pa.Table) -> None:
        """Add one member's rows as a row group."""
        n_rows = data.num_rows
        data = data.append_column("arm", pa.array([arm] * n_rows).dictionary_encode())
        data = data.append_column("member", pa.array(np.full(n_rows, member, dtype=np.int16)))
        if self._writer is None:
            self._path = self._folder / f"rows-{self._n_files}.parquet"
            self._n_files += 1
            self._before = self._bytes
            self._writer = pq.ParquetWriter(
                self._path, data.schema, compression="zstd", compression_level=12
            )
        self._writer.write_table(data, row_group_size=n_rows)
        self._n_written += 1
        in_file = self._path.stat().st_size
        self._bytes = self._before + in_file
        if in_file + 2 * self._bytes / self._n_written > VOLUME_MB * 2**20:
            self.close()

    def close(self) -> None:
        """End the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class Ensemble:
    """All members of a training, trained."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        began_s = time.perf_counter()
        training, table = TRAININGS[name], _parts("adult").train
        self._place = find_device(options.device)
        self._spec = with_fields(OURS["CTGAN"], epochs=training.epochs * options.epochs)
        self._threads = options.threads
        self.seeds = list(range(options.seeds))
        representation = _representation(training.modes)
        with ThreadPoolExecutor(options.workers) as pool:
            rows = list(pool.map(lambda seed: representation.encode(table, seed=seed), self.seeds))
        representations = [representation] * len(self.seeds)
        with using_threads(self._threads), using_precision("auto", self._place):
            self.trainer = training.trainer(
                self._spec, Layout.of(representations), representations, Deck(rows, self._place),
                self.seeds, self._place,
            )  # fmt: skip
            course = neural.train(self.trainer, steps=self._spec.steps(table.n_rows))
        if isinstance(self.trainer, Fresh) and self.trainer.turn != 2:
            raise RuntimeError("The trainer's step no longer calls what `Fresh` overrides.")
        self.members = [member for member in self.seeds if member not in course.failed]
        print(f"{name}: {len(self.members)} of {options.seeds} members trained in "
              f"{time.perf_counter() - began_s:.1f} s", flush=True)  # fmt: skip

    def sample(self, member: int, sampling: Sampling, n_rows: int) -> sf.Table:
        """Rows of one member."""
        trainer, seed = self.trainer, self.seeds[member]
        trainer._spec = with_fields(
            self._spec,
            calibrate=sampling.calibrate,
            average_decay=self._spec.average_decay if sampling.average else 0.0,
        )
        with using_threads(self._threads), using_precision("auto", self._place):
            model = trainer.finish(member)
        if not sampling.logs:
            return model.sample(n_rows, seed=1_000 + seed, threads=self._threads)
        with (
            torch.no_grad(),
            using_threads(self._threads),
            using_precision("auto", self._place),
        ):
            stream = torch_stream(1_000 + seed, "rows of an arm", device=self._place)
            logits_WB = self._logits(member, model, sampling, n_rows, stream)
            logits_WB = logits_WB[:, :n_rows]
            scalars_MB = model.scalars(logits_WB, stream)
            codes_SB = draw_codes(model.layout, logits_WB, stream)
            rows = Rows(scalars_BM=scalars_MB.t(), codes_BS=codes_SB.t())
        encoded = model.representation.encoded(rows)
        if sampling.cut:
            whole = [column.decimals == 0 for column in Encoder(model.schema).numeric]
            numbers = np.where(whole, np.trunc(encoded.numbers), encoded.numbers)
            encoded = Encoded(numbers=numbers, codes=encoded.codes)
        return Encoder(model.schema).decode(encoded, seed=derive(seed, "identifiers"))

    def _logits(
        self, member: int, model: CTGANModel, sampling: Sampling, n_rows: int,
        stream: torch.Generator,
    ) -> torch.Tensor:  # fmt: skip
        """**Shape** (W, at least n_rows), of conditions drawn as in training."""
        layout, n_noise = model.layout, self._spec.embedding_dim
        features = Features(layout, self._place)
        inputs = Inputs(model.representation, features, n_noise, self._place, as_trained=True)
        if not sampling.batch:
            return model.logits(inputs.draw(n_rows, stream))
        flat = self.trainer._own_weights(member, layout)
        network = ctgan._generator(self._spec, layout, features.n_conditions)
        heads = Heads(layout, self._place)
        batches = []
        for _ in range(-(-n_rows // BATCH)):
            network.input(flat, BATCH)[0] = inputs.draw(BATCH, stream)
            batches.append(heads.forward(flat, network.forward(flat))[0].clone())
        return torch.cat(batches, dim=1)


@functools.cache
def _representation(sort: str) -> Representation:
    """Ours of the training part, or the same with another sort of modes."""
    table = _parts("adult").train
    ours = Representation.fit(table)
    if sort == "ours":
        return ours
    if sort == "spikeless":
        with mock.patch.object(modes, "_spikes", return_value=np.empty(0)):
            return Representation.fit(table)
    if sort == "few":
        with mock.patch.object(modes, "MAX_MODES", 4):
            fewer = Representation.fit(table).modes
        pairs = zip(ours.modes, fewer, strict=True)
        return dataclasses.replace(
            ours, modes=tuple(few if len(own.spikes) else own for own, few in pairs)
        )
    numbers = Encoder(table.schema).encode(table).numbers
    with threadpool_limits(1), ThreadPoolExecutor() as pool:
        return dataclasses.replace(ours, modes=tuple(pool.map(bayesian_modes, numbers.T)))


def bayesian_modes(values: Any) -> ColumnModes:
    """A column's Gaussians by scikit-learn's Bayesian mixture, light ones dropped."""
    import warnings

    from sklearn.mixture import BayesianGaussianMixture

    warnings.simplefilter("ignore")
    found = BayesianGaussianMixture(
        n_components=10,
        weight_concentration_prior_type="dirichlet_process",
        weight_concentration_prior=0.001,
        random_state=0,
    ).fit(values.reshape(-1, 1))
    kept = found.weights_ > 0.005
    return ColumnModes(
        weights=found.weights_[kept] / found.weights_[kept].sum(),
        means=found.means_[kept, 0],
        stds=np.sqrt(found.covariances_[kept, 0, 0]),
        spikes=np.empty(0),
        nullable=False,
    )


def _write_arm(arm: str, ensemble: Ensemble, volumes: Volumes, options: argparse.Namespace) -> None:
    """The rows of as many members as there is room and time for."""
    began_s = time.perf_counter()
    sampling, n_rows = SAMPLINGS[ARMS[arm][1]], _parts("adult").train.n_rows
    written: list[int] = []
    for member in ensemble.members:
        if len(written) >= volumes.most:
            break
        volumes.write(arm, member, ensemble.sample(member, sampling, n_rows).data)
        written.append(member)
    path = options.folder / "arms.json"
    known = read_json(path)["arms"] if path.exists() else []
    training = TRAININGS[ARMS[arm][0]]
    about = {
        "arm": arm,
        "training": {**dataclasses.asdict(training), "trainer": training.trainer.__name__},
        "sampling": dataclasses.asdict(sampling),
        "epochs": ensemble._spec.epochs,
        "members": written,
        "device": options.device,
        **described(),
    }
    write_json(path, {"arms": [*known, about]})
    print(f"{arm}: {len(written)} members, {time.perf_counter() - began_s:.1f} s", flush=True)


# Judging.


def judge(options: argparse.Namespace) -> None:
    """The utility of every member of every arm in the folder, and what it says."""
    known: dict[str, dict[str, float]] = {}
    path = options.folder / "judged.json"
    if path.exists():
        known = read_json(path)
    for arm, member, read in _members(options.folder):
        mine = known.setdefault(arm, {})
        if arm in options.arms and str(member) not in mine:
            mine[str(member)] = round(utility(read(), _parts("adult").test), 4)
            write_json(path, known)
    print("\n".join("| " + " | ".join(row) + " |" for row in _rows(known)))


def _members(folder: Path) -> Iterator[tuple[str, int, Callable[[], sf.Table]]]:
    """Every arm and member, and what reads its rows."""
    train = _parts("adult").train

    def read(source: pq.ParquetFile, group: int) -> sf.Table:
        data = source.read_row_group(group, columns=list(train.schema.names))
        return sf.Table(data=data.cast(train.data.schema), schema=train.schema)

    for file in sorted(folder.glob("rows-*.parquet")):
        source = pq.ParquetFile(file)
        for group in range(source.num_row_groups):
            head = source.read_row_group(group, columns=["arm", "member"]).slice(0, 1).to_pylist()
            yield head[0]["arm"], head[0]["member"], functools.partial(read, source, group)


def _rows(known: dict[str, dict[str, float]]) -> list[list[str]]:
    """Mean and deviation of each arm, its difference to the reference, and to ``plain``."""
    theirs = [
        entry["auc"]
        for entry in recorded("quality")
        if (entry["table"], entry["model"], entry["arm"], entry["epochs"])
        == ("adult", "CTGAN", "reference", EPOCHS)
    ]
    rows = [
        ["arm", "seeds", "auc", "minus the reference's", "minus plain's, seed by seed"],
        ["---"] * 5,
        ["reference, as recorded", str(len(theirs)), _mean(theirs), "-", "-"],
    ]
    plain = known.get("plain", {})
    for arm in (arm for arm in ARMS if known.get(arm)):
        mine = list(known[arm].values())
        pairs = [known[arm][seed] - plain[seed] for seed in known[arm] if seed in plain]
        rows.append(
            [
                arm,
                str(len(mine)),
                _mean(mine),
                _difference(mine, theirs),
                "-" if arm == "plain" else _within(pairs),
            ]
        )
    return rows


def _mean(values: Sequence[float]) -> str:
    spread = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
    return f"{np.mean(values):.4f}{spread}" if values else "-"


def _difference(ours: Sequence[float], theirs: Sequence[float]) -> str:
    from scipy import stats

    if min(len(ours), len(theirs)) < 2:
        return "too few seeds"
    found = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
    return f"{np.mean(ours) - np.mean(theirs):+.4f} ({found.low:+.4f} to {found.high:+.4f})"


def _within(pairs: Sequence[float]) -> str:
    from scipy import stats

    if len(pairs) < 2:
        return "too few seeds"
    found = stats.ttest_1samp(pairs, 0.0).confidence_interval(0.95)
    return f"{np.mean(pairs):+.4f} ({found.low:+.4f} to {found.high:+.4f})"


VERBS: dict[str, Callable[[argparse.Namespace], None]] = {"fit": fit, "judge": judge}


def main() -> None:
    """Fit or judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("verb", choices=list(VERBS))
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--arms", type=_arms, default=list(ARMS))
    parser.add_argument("--seeds", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=8, help="encode the seeds' rows")
    parser.add_argument("--max-mb", type=float, default=60.0, help="most of all files together")
    options = parser.parse_args()
    VERBS[options.verb](options)


def _arms(text: str) -> list[str]:
    unknown = [arm for arm in text.split(",") if arm not in ARMS]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown {unknown[0]!r}; known: {', '.join(ARMS)}")
    return text.split(",")


if __name__ == "__main__":
    main()
