"""What a generator promises, as checks for the tests of whoever writes one.

One test is enough, of an installed package::

    from synthfactory.testing import check_generator

    def test_my_generator_keeps_its_promises():
        check_generator(MyGenerator(epochs=1))

or a test for each promise::

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_my_generator(check):
        check(Subject(MyGenerator(epochs=1), example_table()))

The shipped generators are held to the same checks.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import pickle
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from synthfactory.errors import (
    OrderError,
    PluginError,
    ReleaseError,
    SynthfactoryError,
    TrainingError,
)
from synthfactory.generators import (
    Generator,
    Model,
    check_drawn,
    check_fitted,
    check_provided,
    load_model,
)
from synthfactory.generators.base import MODEL_FILE
from synthfactory.tables import Column, Schema, Table, read_table

DRAWN = 300
SAFE_SUFFIXES = (".json", ".safetensors")
# A model that says so may hold rows, or come in a format of another library.
HOLDS_ROWS = "contains_training_rows"

_DRAW_ELSEWHERE = """
import json, sys
from synthfactory.generators import load_model
model = load_model(sys.argv[1])
print(json.dumps([model.sample(int(sys.argv[2]), seed=7, shard=shard).digest for shard in (1, 0)]))
"""


class Subject:
    """A generator and a table to check it with; what several checks need is made once.

    Parameters
    ----------
    spec
        With hyperparameters that make its fit short.
    table
        Something that it can learn.
    """

    def __init__(self, spec: Generator, table: Table) -> None:
        self.spec, self.table = spec, table

    @functools.cached_property
    def model(self) -> Model:
        """Fitted with seed 3."""
        return self.fit()

    def fit(self, table: Table | None = None) -> Model:
        """A fit with seed 3 and one thread, of another table where one is given."""
        learnt = self.table if table is None else table
        model = self.spec.fit(learnt, seed=3, device="cpu", threads=1)
        check_fitted(model, self.spec, learnt)
        return model

    def sample(self, n_rows: int = DRAWN, **more: Any) -> Table:
        """Rows of the model, of the right shape."""
        rows = self.model.sample(n_rows, **{"seed": 7, **more})
        check_drawn(self.model, rows, n_rows)
        return rows

    @contextlib.contextmanager
    def saved(self) -> Iterator[Path]:
        """A folder that holds the model."""
        with tempfile.TemporaryDirectory() as folder:
            self.model.save(Path(folder) / "model")
            yield Path(folder) / "model"

    def broken(self, promise: str) -> PluginError:
        """The error that names a promise."""
        kind = type(self.spec)
        return PluginError(f"{kind.__module__}.{kind.__qualname__}: {promise}")


Check = Callable[[Subject], None]


def check_generator(spec: Generator, table: Table | None = None) -> list[str]:
    """Hold a generator to everything that runs rely on.

    Parameters
    ----------
    spec
        With hyperparameters that make its fit short: it is fitted a dozen times.
    table
        Something that it can learn; None for `example_table`.

    Returns
    -------
    list of str
        Names of the checks, all of which passed.

    Raises
    ------
    PluginError
        With every promise that is broken.
    """
    subject = Subject(spec, example_table() if table is None else table)
    broken = []
    for check in CHECKS:
        try:
            check(subject)
        except Exception as error:  # noqa: BLE001 - told below, with all others
            told = str(error) if isinstance(error, SynthfactoryError) else repr(error)
            broken.append(f"{check.__name__}: {told}")
    if broken:
        raise PluginError(
            f"{len(broken)} of {len(CHECKS)} checks of the generator '{spec.name}' failed:\n- "
            + "\n- ".join(broken)
        )
    return [check.__name__ for check in CHECKS]


def example_table(n_rows: int = 600, seed: int = 0) -> Table:
    """A small made-up table: an identifier, numbers with gaps, levels of which one is rare, dates.

    >>> example_table(50).column_names
    ('person', 'group', 'size', 'gain', 'member', 'visit')
    """
    chance = np.random.default_rng(seed)
    group = chance.choice(["a", "b", "c"], n_rows, p=[0.7, 0.25, 0.05])
    size = np.where(group == "a", chance.normal(0, 1, n_rows), chance.normal(50, 5, n_rows))
    gain = np.where(chance.random(n_rows) < 0.8, 0, chance.integers(1_000, 90_000, n_rows))
    days = chance.integers(0, 500, n_rows).astype("timedelta64[D]")
    return _read(
        {
            "person": [f"id-{number:05d}-{seed}" for number in range(n_rows)],
            "group": group,
            "size": pa.array(size.round(3), mask=chance.random(n_rows) < 0.1),
            "gain": gain,
            "member": chance.random(n_rows) < 0.4,
            "visit": np.datetime64("2024-01-01", "D") + days,
        }
    )


def _read(columns: Mapping[str, Any]) -> Table:
    """Columns, read as a user's file is read."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.parquet"
        pq.write_table(pa.table(columns), path)
        return read_table(path)


def specification_is_plain(subject: Subject) -> None:
    """A frozen dataclass of JSON-able hyperparameters, which workers receive unchanged."""
    spec, kind = subject.spec, type(subject.spec)
    if not dataclasses.is_dataclass(spec) or not kind.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise subject.broken("expected a frozen dataclass: @dataclass(frozen=True, kw_only=True).")
    name = getattr(spec, "name", None)
    if not isinstance(name, str) or not name.isidentifier() or not name.isascii():
        raise subject.broken(f"name: expected a word of letters, digits and _, got {name!r}.")
    if not isinstance(spec.licence, str) or not spec.licence:
        raise subject.broken("licence: expected the licence's SPDX identifier as a text.")
    told = json.loads(json.dumps(spec.hyperparameters()))
    if kind(**told) != spec:
        raise subject.broken(f"made anew from its hyperparameters {told} it is another one.")
    if pickle.loads(pickle.dumps(spec)) != spec:
        raise subject.broken("it is another one after a journey to a worker (pickle).")


def package_offers_it(subject: Subject) -> None:
    """An installed package offers the generator, and its model's kind."""
    check_provided(subject.spec)
    check_fitted(subject.model, subject.spec, subject.table)


def fit_leaves_the_table_alone(subject: Subject) -> None:
    """Fitting and sampling change no row."""
    before = subject.table.digest
    Subject(subject.spec, subject.table).sample()
    if subject.table.digest != before:
        raise subject.broken("fit changed the table that it learnt.")


def same_seed_gives_the_same_rows(subject: Subject) -> None:
    """A fit and a sample depend on their seeds alone, whatever else draws from global chance."""
    expected = subject.sample().digest
    for number in (1, 2):
        _disturb(number)
        if subject.sample().digest != expected:
            raise subject.broken(
                "the same seed and shard gave other bytes when they were drawn again: draw from "
                "numpy_stream(seed, purpose, shard), never from a global generator."
            )
    _disturb(3)
    if Subject(subject.spec, subject.table).sample().digest != expected:
        raise subject.broken(
            "a second fit with the same seed gave other rows: draw from numpy_stream(seed, "
            "purpose), never from a global generator, and let the device's threads be `threads`."
        )


def _disturb(seed: int) -> None:
    import torch

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)


def other_addresses_give_other_rows(subject: Subject) -> None:
    """Another seed, and another shard, draw other rows."""
    learnt = [column.name for column in subject.table.schema.columns if column.kind != "identifier"]
    expected = subject.sample().data.select(learnt)
    for what, rows in (("seed", subject.sample(seed=8)), ("shard", subject.sample(shard=1))):
        if rows.data.select(learnt).equals(expected):
            raise subject.broken(f"another {what} gave the same rows.")


def shards_do_not_depend_on_each_other(subject: Subject) -> None:
    """A shard's rows are the same, whichever were drawn before it."""
    forward = [subject.sample(shard=shard).digest for shard in (0, 1, 2)]
    backward = [subject.sample(shard=shard).digest for shard in (2, 1, 0)]
    if forward != backward[::-1]:
        raise subject.broken("a shard gave other rows after other shards: keep no state between.")


def threads_do_not_change_rows(subject: Subject) -> None:
    """Sampling with more threads gives the same bytes."""
    if subject.sample(threads=1).digest != subject.sample(threads=2).digest:
        raise subject.broken("sampling with two threads gave other bytes than with one.")


def rows_are_those_asked_for(subject: Subject) -> None:
    """As many rows as were asked for, of the schema's types, levels and gaps."""
    for n_rows in (0, 1, DRAWN):
        rows = subject.sample(n_rows)
        for column in subject.table.schema.columns:
            _check_values(subject, column, rows.data.column(column.name))
    for wrong in (-1, 1.5):
        if not _refuses(OrderError, subject.model.sample, wrong, seed=7):
            raise subject.broken(f"asked for {wrong} rows it raised no OrderError (check_count).")


def _refuses(
    expected: type[Exception], call: Callable[..., Any], *arguments: Any, **more: Any
) -> bool:
    """Whether a call ends with this error; another error is not a refusal."""
    try:
        call(*arguments, **more)
    except expected:
        return True
    except Exception:  # noqa: BLE001 - it is no refusal, which is what was asked
        return False
    return False


def _check_values(subject: Subject, column: Column, values: pa.ChunkedArray) -> None:
    if values.null_count and not column.nullable:
        raise subject.broken(f"column '{column.name}' has gaps, which the table has not.")
    if column.categories:
        found = {str(value) for value in values.drop_null().unique().to_pylist()}
        strange = found - {str(level) for level in column.categories}
        if strange:
            raise subject.broken(f"column '{column.name}' has levels of its own: {strange}.")


def identifiers_are_new_and_unique(subject: Subject) -> None:
    """Identifiers count over all shards, and are none of the table's."""
    parts = [subject.sample(DRAWN, shard=shard, first_row=DRAWN * shard) for shard in (0, 1)]
    rows = Table.concat(parts)
    for column in subject.table.schema.columns:
        if column.kind != "identifier":
            continue
        drawn = rows.data.column(column.name).to_pylist()
        if len(set(drawn)) < len(drawn):
            raise subject.broken(f"identifier '{column.name}' repeats: count from first_row.")
        if set(drawn) & set(subject.table.data.column(column.name).to_pylist()):
            raise subject.broken(f"identifier '{column.name}' repeats values of the table.")


def conditions_are_met_or_refused(subject: Subject) -> None:
    """A condition holds in every row, or is refused with an `OrderError`; never ignored."""
    for column in subject.table.schema.discrete:
        level = column.categories[0]
        try:
            rows = subject.sample(50, conditions={column.name: level})
        except OrderError:
            continue
        if {str(value) for value in rows.data.column(column.name).to_pylist()} != {str(level)}:
            raise subject.broken(f"the condition {column.name}={level} does not hold in all rows.")
    if not _refuses(OrderError, subject.model.sample, 5, seed=7, conditions={"no such column": 1}):
        raise subject.broken(
            "a condition on a column that is not there raised no OrderError (check_conditions)."
        )


def saved_model_draws_the_same_rows(subject: Subject) -> None:
    """Loaded in another process, the model has the same specification and draws the same rows."""
    expected = [subject.sample(shard=shard).digest for shard in (1, 0)]
    with subject.saved() as folder:
        loaded = load_model(folder)
        if loaded.spec != subject.spec:
            raise subject.broken(f"the loaded model's spec is {loaded.spec!r}.")
        here = [loaded.sample(DRAWN, seed=7, shard=shard).digest for shard in (1, 0)]
        if here != expected:
            raise subject.broken("the saved and loaded model draws other rows: save everything.")
        done = subprocess.run(
            [sys.executable, "-c", _DRAW_ELSEWHERE, str(folder), str(DRAWN)],
            env={**os.environ, "PYTHONHASHSEED": "4711", "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise subject.broken(f"another process cannot load the model: {done.stderr[-500:]}")
    if json.loads(done.stdout.splitlines()[-1]) != expected:
        raise subject.broken(
            "another process draws other rows from the saved model: does anything depend on the "
            "order of a set, or on hash()?"
        )


def files_are_safe_and_hold_no_rows(subject: Subject) -> None:
    """JSON and safetensors only, without an identifier of the table.

    A model that says ``contains_training_rows`` in its ``model.json`` is let off: it must stay
    with the confidential table.
    """
    with subject.saved() as folder:
        document = json.loads((folder / MODEL_FILE).read_bytes())
        if document.get(HOLDS_ROWS) is True:
            return
        paths = [path for path in folder.rglob("*") if path.is_file()]
        unsafe = [path.name for path in paths if path.suffix not in SAFE_SUFFIXES]
        if unsafe:
            raise subject.broken(
                f"the model's folder holds {', '.join(unsafe)}: save JSON (save_document) and "
                "safetensors (save_weights), never a pickle."
            )
        content = b"".join(path.read_bytes() for path in paths)
    for column in subject.table.schema.columns:
        if column.kind == "identifier":
            for value in subject.table.data.column(column.name).drop_null().to_pylist():
                if len(str(value)) > 4 and str(value).encode() in content:
                    raise subject.broken(f"'{column.name}' of a training row is in its files.")


def changed_description_is_refused(subject: Subject) -> None:
    """A ``model.json`` that somebody changed is not loaded (`save_document` writes a digest)."""
    with subject.saved() as folder:
        path = folder / MODEL_FILE
        document = json.loads(path.read_bytes())
        path.write_text(json.dumps({**document, "note": "changed"}))
        if not _refuses(ReleaseError, load_model, folder):
            raise subject.broken("a changed model.json was loaded: write it with save_document.")


def odd_tables_are_learnt_or_refused(subject: Subject) -> None:
    """Tables without numbers, levels or variety are learnt, or refused with a `TrainingError`."""
    steps = np.arange(60) * 1.37
    odd: dict[str, dict[str, Any]] = {
        "without discrete columns": {"x": steps, "y": steps[::-1] * 0.7 + 0.1},
        "without numeric columns": {"g": ["u", "v", "w"] * 20, "h": ["p", "q"] * 30},
        "with constant columns": {"g": ["u"] * 60, "x": [3.5] * 60, "h": ["p", "q"] * 30},
        "with a column of gaps": {"x": pa.nulls(60, pa.float64()), "h": ["p", "q"] * 30},
        "with a huge value": {"x": [*steps[:59], 1e15], "h": ["p", "q"] * 30},
    }
    for what, columns in odd.items():
        table = _read(columns)
        try:
            model = subject.fit(table)
        except TrainingError:
            continue
        except Exception as error:
            raise subject.broken(f"a table {what} was neither learnt nor refused.") from error
        rows = model.sample(50, seed=7)
        check_drawn(model, rows, 50)
        for column in table.schema.columns:
            _check_values(subject, column, rows.data.column(column.name))


def nothing_to_learn_is_refused(subject: Subject) -> None:
    """No rows, or identifiers alone, are refused with a `TrainingError` (`check_learnable`)."""
    alone = Schema(columns=(Column(name="person", kind="identifier", dtype="string"),))
    people = Table(data=pa.table({"person": ["x1", "x2"]}), schema=alone)
    for what, table in (("no rows", subject.table.head(0)), ("identifiers alone", people)):
        if not _refuses(TrainingError, subject.spec.fit, table, seed=3, device="cpu", threads=1):
            raise subject.broken(f"{what} raised no TrainingError (check_learnable).")


CHECKS: tuple[Check, ...] = (
    specification_is_plain,
    package_offers_it,
    fit_leaves_the_table_alone,
    same_seed_gives_the_same_rows,
    other_addresses_give_other_rows,
    shards_do_not_depend_on_each_other,
    threads_do_not_change_rows,
    rows_are_those_asked_for,
    identifiers_are_new_and_unique,
    conditions_are_met_or_refused,
    saved_model_draws_the_same_rows,
    files_are_safe_and_hold_no_rows,
    changed_description_is_refused,
    odd_tables_are_learnt_or_refused,
    nothing_to_learn_is_refused,
)
