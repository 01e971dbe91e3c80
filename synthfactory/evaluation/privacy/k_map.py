"""k-map: how many people of the population share the rarest combination that the release shows?

A release is k-map protected when each combination of quasi-identifiers in it fits at least k people
of the population (Sweeney 2002, https://doi.org/10.1142/S0218488502001648; El Emam and Dankar 2008,
https://doi.org/10.1197/jamia.M2716).  Combinations of a synthetic table that fit nobody identify
nobody: they are counted, and left out of the minimum.

Numbers count by their declared values (rounded to the declared decimals), because who knows an age
knows it exactly; with the bins of the real rows instead, classes are larger, and that k stands
among the details.  The population table is complete, so its counts have no sampling error and the
bounds equal the value.

Without a population table nothing can be said: k-map is then listed as not assessed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from synthfactory.errors import EvaluationError
from synthfactory.evaluation.evidence import Evidence
from synthfactory.evaluation.measurement import Measurement
from synthfactory.evaluation.suite import Found, Suite
from synthfactory.tables import OTHER, Column, Encoded, Encoder, Schema, read_columns, row_numbers

Places = npt.NDArray[np.int64]

ID = "privacy.k_map"
FEW = 5
NOT_ASSESSED = (
    "No population table was given (evaluation.population), so nobody can tell how many people "
    "share a combination of quasi-identifiers."
)


def quasi_identifiers(schema: Schema) -> tuple[Column, ...]:
    """The quasi-identifiers that are released as they are: numeric ones, then discrete ones."""
    return tuple(
        column
        for column in (*schema.numeric, *schema.discrete)
        if column.name in schema.quasi_identifiers
    )


def read_population(path: str | Path, schema: Schema) -> Encoded:
    """The quasi-identifiers of everybody, numeric ones first; other columns are not read.

    Parameters
    ----------
    path
        A table with a row for each person of the population.
    schema
        Of the train table.  A level that it does not know counts as ``(other)`` where it put
        rare levels together, and else gets a code beyond its missing one.  Numbers beyond its
        range stay as they are: who was clipped is counted as fitting fewer people.

    Raises
    ------
    TableError
        When the file cannot be read.
    SchemaError
        When a quasi-identifier is absent, or does not fit its column.
    """
    known = quasi_identifiers(schema)
    table = read_columns(path, known)
    rows = Encoder(table.schema).encode(table)
    codes = rows.codes.copy()
    discrete = [column for column in known if column.is_discrete]
    for place, (ours, theirs) in enumerate(zip(discrete, table.schema.discrete, strict=True)):
        n_ours, n_theirs = len(ours.categories), len(theirs.categories)
        missing = rows.codes[:, place] == n_theirs
        further = ours.categories.index(OTHER) if OTHER in ours.categories else n_ours + 1
        codes[~missing & (rows.codes[:, place] >= n_ours), place] = further
        codes[missing, place] = n_ours
    return Encoded(numbers=rows.numbers, codes=codes)


def class_sizes(released: Places, population: Places) -> Places:
    """**Shape** (n_rows,): how many people of the population each released row fits.

    Parameters
    ----------
    released, population
        The number of each row's class; see `synthfactory.tables.row_numbers`.
    """
    n_classes = int(max(released.max(initial=0), population.max(initial=0))) + 1
    sizes: Places = np.bincount(population, minlength=n_classes)[released]
    return sizes


def k_of(sizes: Places) -> int | None:
    """The least size of a class that occurs in the population; None when none does.

    >>> k_of(np.array([7, 3, 0, 12])), k_of(np.array([0]))
    (3, None)
    """
    present = sizes[sizes > 0]
    return int(present.min()) if len(present) else None


def measure(evidence: Evidence) -> Measurement:
    """The k of the synthetic rows; the control is the k of the test rows.

    Raises
    ------
    EvaluationError
        When no quasi-identifier is declared, or the population is not of these people.
    """
    assert evidence.population is not None
    names = [column.name for column in quasi_identifiers(evidence.schema)]
    if not names:
        raise EvaluationError(
            "A population table was given, but no quasi-identifier is declared to look up in it: "
            "declare dataset.quasi_identifiers."
        )
    synthetic, control = _sizes(evidence, binned=False)
    k = k_of(synthetic)
    if k is None:
        raise EvaluationError(
            "No synthetic combination of quasi-identifiers occurs in the population table: check "
            f"that it describes the same people with the same values of {names}."
        )
    k_control = k_of(control)
    coarse, _ = _sizes(evidence, binned=True)
    return Measurement(
        id=ID,
        family="privacy",
        estimate=float(k),
        lcb=float(k),
        ucb=float(k),
        n=len(synthetic),
        baseline=None,
        control=None if k_control is None else float(k_control),
        unit="people",
        better="higher",
        confidence=evidence.confidence,
        method="least number of people of the population who share a synthetic row's "
        "quasi-identifiers, over combinations that occur in the population; numbers by value",
        details={
            "quasi_identifiers": names,
            "population": len(evidence.population),
            **_describe(synthetic),
            "numbers_in_bins": {"k": k_of(coarse), **_describe(coarse)},
        },
    )


def _sizes(evidence: Evidence, *, binned: bool) -> tuple[Places, Places]:
    """Class sizes of the synthetic rows and of the test rows."""
    assert evidence.population is not None
    tables = [_known_columns(rows, evidence.schema) for rows in (evidence.synthetic, evidence.test)]
    coarsen = _in_bins if binned else _by_value
    numbers = row_numbers(*(coarsen(rows, evidence) for rows in (*tables, evidence.population)))
    return class_sizes(numbers[0], numbers[2]), class_sizes(numbers[1], numbers[2])


def _known_columns(rows: Encoded, schema: Schema) -> Encoded:
    numeric, discrete = (
        [place for place, column in enumerate(columns) if column.name in schema.quasi_identifiers]
        for columns in (schema.numeric, schema.discrete)
    )
    return Encoded(numbers=rows.numbers[:, numeric], codes=rows.codes[:, discrete])


def _by_value(rows: Encoded, evidence: Evidence) -> Encoded:
    numbers = rows.numbers.copy()
    columns = [column for column in quasi_identifiers(evidence.schema) if column.is_numeric]
    for place, column in enumerate(columns):
        if column.decimals is not None:
            numbers[:, place] = np.round(numbers[:, place], column.decimals)
    return Encoded(numbers=numbers, codes=rows.codes)


def _in_bins(rows: Encoded, evidence: Evidence) -> Encoded:
    numbers = np.full(rows.numbers.shape, np.nan)
    known = [edges for edges, column in zip(evidence.binning.edges, evidence.schema.numeric,
                                            strict=True)
             if column.name in evidence.schema.quasi_identifiers]  # fmt: skip
    for place, edges in enumerate(known):
        present = ~np.isnan(rows.numbers[:, place])
        numbers[present, place] = np.searchsorted(edges, rows.numbers[present, place], side="right")
    return Encoded(numbers=numbers, codes=rows.codes)


def _describe(sizes: Places) -> dict[str, Any]:
    present = sizes[sizes > 0]
    return {
        "rows_that_fit_nobody": float((sizes == 0).mean()),
        f"rows_that_fit_fewer_than_{FEW}": float(((sizes > 0) & (sizes < FEW)).mean()),
        "mean_chance_of_the_right_person": float((1 / present).mean()) if len(present) else 0.0,
    }


def measure_if_known(evidence: Evidence) -> Found:
    """The measurement where a population is given; else nothing, which the protocol says."""
    if evidence.population is None:
        return Found()
    return Found(measurements=[measure(evidence)])


SUITE = Suite.of(ID, measure_if_known, ids=(ID,), weight=0.5)
