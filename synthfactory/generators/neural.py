"""What CTGAN and TVAE have in common: a table becomes codes, a trainer, a model."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from synthfactory import __version__
from synthfactory.artifacts import digest_json
from synthfactory.errors import OrderError
from synthfactory.generators.base import (
    Callback,
    Generator,
    Model,
    check_learnable,
    expect_flag,
    expect_number,
)
from synthfactory.generators.distributed import devices_of, train_on_ranks
from synthfactory.generators.drawing import Deck
from synthfactory.generators.fusing import describe_loops
from synthfactory.generators.holdout import Judge, hold_out
from synthfactory.generators.layout import Layout
from synthfactory.generators.members import first_equals, represent, take_each
from synthfactory.generators.peers import ALONE, Peers
from synthfactory.generators.precision import (
    describe_products,
    expect_precision,
    using_precision,
)
from synthfactory.generators.representation import Representation, Rows
from synthfactory.generators.training import (
    Checkpoint,
    Trainer,
    find_device,
    train,
    using_threads,
)
from synthfactory.tables import Table

# Batch normalisation needs two rows to compare.
MIN_BATCH = 2


class NeuralTrainer(Trainer):
    """A trainer that becomes models."""

    @abc.abstractmethod
    def finish(self, member: int, rows: Rows | None = None) -> Model:
        """The model of one member, as it is now.

        Parameters
        ----------
        rows
            Those whose marginals it is to have; None for those that it is trained on.
        """


@dataclass(frozen=True, kw_only=True)
class NeuralGenerator(Generator):
    """A generator that is trained by gradients.

    Parameters
    ----------
    epochs
        Passes over the rows; an epoch has ``max(1, n_rows // batch_size)`` steps.
    max_minutes
        Stop the fit after this wall time; the result then depends on the machine's speed.
    batch_size
        Rows of a step.
    embedding_dim
        Width Z of the noise.
    calibrate
        Correct the fitted network's marginals (`synthfactory.generators.calibration`).
    precision
        How exactly matrices are multiplied (`synthfactory.generators.precision`).
    patience
        Stop after this many of 25 judgements on held-out rows without improvement, and return to
        the best; 0 to train to the end on every row.
    ranks
        Processes of this machine that train the one model together, each with its share of the
        rows on a GPU of its own (`synthfactory.generators.distributed`): for tables that are too
        large for one GPU.  Each takes ``batch_size / ranks`` rows of a step, and its part of the
        threads; another number changes the result.
    """

    trainer: ClassVar[Any]

    epochs: int
    max_minutes: float | None = None
    batch_size: int = 200
    embedding_dim: int = 128
    calibrate: bool = True
    precision: str = "auto"
    patience: int = 0
    ranks: int = 1

    def __post_init__(self) -> None:
        for name in ("epochs", "embedding_dim"):
            expect_number("generator", name, getattr(self, name), minimum=1, integer=True)
        expect_number("generator", "batch_size", self.batch_size, minimum=MIN_BATCH, integer=True)
        if self.max_minutes is not None:
            expect_number("generator", "max_minutes", self.max_minutes, minimum=0, above=True)
        expect_flag("generator", "calibrate", self.calibrate)
        expect_precision("generator", self.precision)
        expect_number("generator", "patience", self.patience, minimum=0, integer=True)
        expect_number("generator", "ranks", self.ranks, minimum=1, integer=True)
        if self.batch_size % self.ranks or self.batch_size < MIN_BATCH * self.ranks:
            share = max(MIN_BATCH, self.batch_size // self.ranks)
            raise OrderError(
                f"generator.batch_size: expected a multiple of ranks={self.ranks}, with at least "
                f"{MIN_BATCH} rows for each, got {self.batch_size}; use {share * self.ranks}."
            )

    @property
    def trains_together(self) -> bool:
        """Whether one step can train several models: all equally long, in one process."""
        return self.patience == 0 and self.ranks == 1

    def steps(self, n_rows: int) -> int:
        """Steps of a fit on this many rows."""
        return self.epochs * max(1, n_rows // self.batch_size)

    def fit(
        self,
        table: Table,
        *,
        seed: int,
        device: str = "auto",
        threads: int = 2,
        callback: Callback | None = None,
        checkpoint: Path | None = None,
    ) -> Any:
        """Learn ``table``; see `Generator.fit`."""
        check_learnable(table)
        places = devices_of(device, self.ranks)
        learnt, held = hold_out(table, seed=seed) if self.patience else (table, None)
        self._check_shares(learnt)
        representation = Representation.fit(learnt)
        rows = representation.encode(learnt, seed=seed)
        judge = None if held is None else Judge(held, seed=seed)
        kept = None
        if checkpoint is not None:
            kept = self._checkpoint(checkpoint, [learnt.digest], [seed], places[0], threads)
        if self.ranks > 1:
            weights = train_on_ranks(
                self,
                representation,
                rows,
                seed=seed,
                devices=places,
                threads=threads,
                callback=callback,
                checkpoint=kept,
                judge=judge,
            )
            return self._finish(representation, rows, weights, seed, places[0], threads)
        with using_threads(threads), using_precision(self.precision, places[0]):
            deck = Deck([rows], places[0])
            trainer = self._trainer([representation], deck, [seed], places[0])
            self._train(trainer, self.steps(len(rows)), callback, kept, judge)
            return trainer.finish(0)

    def _train(
        self,
        trainer: NeuralTrainer,
        steps: int,
        callback: Callback | None,
        checkpoint: Checkpoint | None,
        judge: Judge | None,
        peers: Peers = ALONE,
    ) -> None:
        train(
            trainer,
            steps=steps,
            max_minutes=self.max_minutes,
            callback=callback,
            checkpoint=checkpoint,
            judge=None if judge is None else lambda: judge(trainer.finish(0)),
            patience=self.patience,
            peers=peers,
        )

    def _check_shares(self, table: Table) -> None:
        if self.ranks > 1 and table.n_rows < self.batch_size:
            raise OrderError(
                f"generator.ranks: expected a table of at least batch_size={self.batch_size} rows "
                f"to divide among {self.ranks} ranks, got {table.n_rows}; set ranks=1."
            )

    def _finish(
        self,
        representation: Representation,
        rows: Rows,
        weights: Mapping[str, Tensor],
        seed: int,
        device: torch.device,
        threads: int,
    ) -> Any:
        """The model of weights that ranks have trained, with the marginals of all rows.

        It is finished on the processor, where all rows are, and then taken to the first GPU.
        """
        cpu = torch.device("cpu")
        few = Rows(
            scalars_BM=rows.scalars_BM[: self.batch_size],
            codes_BS=rows.codes_BS[: self.batch_size],
        )
        with using_threads(threads), using_precision(self.precision, cpu):
            trainer = self._trainer([representation], Deck([few], cpu), [seed], cpu)
            trainer.restore({**trainer.tensors, **weights})
            model: Any = trainer.finish(0, rows)
        return model.to(device)

    def _trainer(
        self,
        representations: Sequence[Representation],
        deck: Deck,
        seeds: Sequence[int],
        device: torch.device,
        peers: Peers = ALONE,
    ) -> NeuralTrainer:
        layout = Layout.of(representations)
        made: NeuralTrainer = self.trainer(
            self, layout, representations, deck, seeds, device, peers
        )
        return made

    def _checkpoint(
        self,
        path: Path,
        tables: Sequence[str],
        seeds: Sequence[int],
        device: torch.device,
        threads: int,
    ) -> Checkpoint:
        """Where a fit of tables with these digests is kept."""
        key = digest_json(
            {
                "generator": {"name": self.name, **self.hyperparameters()},
                "tables": list(tables),
                "seeds": [str(seed) for seed in seeds],
                "device": device.type,
                "threads": threads,
                "torch": torch.__version__,
                "synthfactory": __version__,
            }
        )
        return Checkpoint(path=path, key=key)


def describe_engine(spec: Generator, device: str, threads: int) -> dict[str, Any]:
    """What a fit runs on, for its record: nothing of it may be known from the order alone."""
    if not isinstance(spec, NeuralGenerator):
        return {}
    place = find_device(device)
    gpu = torch.cuda.get_device_name(place) if place.type == "cuda" else None
    return {
        "device": place.type,
        "gpu": gpu,
        "threads": threads,
        "products": describe_products(spec.precision, place),
        "loops": describe_loops(place, spec.batch_size // spec.ranks),
        "torch": torch.__version__,
    }


MEMBERS_ON_GPU = 16


def members_at_once(device: str) -> int:
    """How many models one step trains by default: many on a GPU, one on a processor."""
    return MEMBERS_ON_GPU if find_device(device).type == "cuda" else 1


def fit_ensemble(
    spec: NeuralGenerator,
    table: Table,
    members: Sequence[tuple[Sequence[int] | npt.NDArray[np.integer], int]],
    *,
    device: str = "auto",
    threads: int = 2,
    callback: Callback | None = None,
    at_once: int | None = None,
) -> list[Any]:
    """Fit one model per member, many of them in each step.

    A member follows the single fit of its rows and seed up to rounding: it has the representation
    of its rows, a stream of chance and losses of its own.  Members of one step with equal row
    numbers, such as a sweep of seeds, share one table and one fitted representation.  A member
    whose loss is no number is fitted again on its own, where the loop can go back and slow down.

    Parameters
    ----------
    spec
        The hyperparameters, the same for all.
    table
        The rows that members choose from.
    members
        For each its row numbers and its seed.
    device, threads, callback
        As for `Generator.fit`.
    at_once
        Members of one step; None for all of them on a GPU and one after the other on a processor,
        where batching gains nothing.

    Returns
    -------
    list of Model
        In the members' order.

    Raises
    ------
    OrderError
        For no members, with ``patience``, which would stop each at another step, or with
        ``ranks``, by which many processes train one model.
    """
    if not members:
        raise OrderError("members: expected at least one pair of row numbers and seed, got none.")
    if spec.patience:
        raise OrderError("An ensemble trains all members equally long: set patience=0.")
    _check_one_process(spec)
    place = find_device(device)
    size = at_once or (len(members) if place.type == "cuda" else 1)
    expect_number("ensemble", "at_once", size, minimum=1, integer=True)
    models: list[Any] = []
    for start in range(0, len(members), size):
        together = members[start : start + size]
        tables = take_each(table, [rows for rows, _ in together])
        seeds = [seed for _, seed in together]
        models += fit_tables(spec, tables, seeds, device=device, threads=threads, callback=callback)
    return models


def fit_tables(
    spec: NeuralGenerator,
    tables: Sequence[Table],
    seeds: Sequence[int],
    *,
    device: str = "auto",
    threads: int = 2,
    callback: Callback | None = None,
    checkpoint: Path | None = None,
) -> list[Any]:
    """Fit one model per table, all in one step; the tables have one schema.

    What is fitted to rows alone is made once for tables that are the same object, and with a
    checkpoint, whose key names them by digest, for equal ones.

    Parameters
    ----------
    threads
        As for `Generator.fit`; before the first step, how many tables are prepared at once.
    checkpoint
        As in `Generator.fit`; one file for all members.

    Raises
    ------
    OrderError
        When the tables' schemas differ, one of them has fewer rows than a batch, or with
        ``ranks``.
    """
    _check_one_process(spec)
    if len(tables) == 1:
        only = spec.fit(
            tables[0],
            seed=seeds[0],
            device=device,
            threads=threads,
            callback=callback,
            checkpoint=checkpoint,
        )
        return [only]
    for first in sorted(set(first_equals(tables))):
        table = tables[first]
        check_learnable(table)
        if table.schema != tables[0].schema:
            raise OrderError("The members of an ensemble have one schema; fit them separately.")
        if table.n_rows < spec.batch_size:
            raise OrderError(
                f"A member has {table.n_rows} rows, fewer than batch_size={spec.batch_size}; "
                "fit it on its own, or choose a smaller batch."
            )
    place = find_device(device)
    kept = digests = None
    if checkpoint is not None:
        digests = _digests(tables)
        kept = spec._checkpoint(checkpoint, digests, seeds, place, threads)
    representations, rows = represent(tables, seeds, threads=threads, digests=digests)
    with using_threads(threads), using_precision(spec.precision, place):
        trainer = spec._trainer(representations, Deck(rows, place), seeds, place)
        steps = [spec.steps(len(part)) for part in rows]
        models = _train_members(trainer, steps, spec, callback, kept)
    return [
        spec.fit(tables[member], seed=seeds[member], device=device, threads=threads)
        if model is None
        else model
        for member, model in enumerate(models)
    ]


def _digests(tables: Sequence[Table]) -> list[str]:
    """The digest of each; that of the same object is computed once."""
    firsts = first_equals(tables)
    known = {first: tables[first].digest for first in set(firsts)}
    return [known[first] for first in firsts]


def _check_one_process(spec: NeuralGenerator) -> None:
    if spec.ranks > 1:
        raise OrderError(
            f"An ensemble is many models in one process, ranks={spec.ranks} is one model in many "
            "processes: set ranks=1, or fit each model on its own."
        )


def _train_members(
    trainer: NeuralTrainer,
    steps: Sequence[int],
    spec: NeuralGenerator,
    callback: Callback | None,
    checkpoint: Checkpoint | None,
) -> list[Any]:
    """Train to the longest member's end; a shorter one is what it was when its own was reached.

    Returns
    -------
    list of Model or None
        None for a member whose loss was no number.
    """
    longest = max(steps)
    ends: dict[int, dict[str, Tensor]] = {own: {} for own in steps if own < longest}
    course = train(
        trainer,
        steps=longest,
        max_minutes=spec.max_minutes,
        callback=callback,
        checkpoint=checkpoint,
        aside=ends,
    )
    models: dict[int, Any] = {}
    # The longest first, which the trainer is now; then each other end is gone back to once.
    for end in sorted(set(steps), reverse=True):
        if ends.get(end):
            trainer.restore({**trainer.tensors, **ends[end]})
        for member, own in enumerate(steps):
            if own == end:
                models[member] = None if member in course.failed else trainer.finish(member)
    return [models[member] for member in range(len(steps))]
