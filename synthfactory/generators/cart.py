"""Sequential classification and regression trees: each column drawn from the real values of a leaf.

The first column is drawn from the real values; every further one by a tree that was grown on the
columns before it, from the real values of the leaf that a synthetic row falls into.  It is simple
and faithful, and it copies: a leaf of five people hands out five people's values.  It serves as a
reference that the audit must flag.

References
----------
Reiter 2005, "Using CART to generate partially synthetic, public use microdata", J. Off. Stat. 21.
Nowok, Raab and Dibben 2016, https://doi.org/10.18637/jss.v074.i11, whose defaults are followed:
columns in the table's order, leaves of at least five rows, trees that are not pruned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from synthfactory.generators.base import (
    LATENT_SAMPLES,
    MAX_DRAWS_PER_ROW,
    Callback,
    Generator,
    Model,
    check_conditions,
    check_count,
    check_learnable,
    check_shortfall,
    expect_number,
    fall_short,
)
from synthfactory.generators.store import load_weights, save_weights
from synthfactory.seeds import derive, numpy_stream
from synthfactory.tables import Encoded, Encoder, Schema, Table

Codes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MIN_GAIN = 1e-8
MAX_CLASSES = 100
BLOCK = 16_384
HOLDS = (
    "Not whole training rows, but real values: every value of each numerical and date column, and "
    "for each leaf how often each value occurs among its training rows, which may be as few as "
    "min_leaf. Together they can give training rows away; do not share this model."
)


@dataclass(frozen=True, kw_only=True)
class CART(Generator):
    """Sequential trees that draw real values from leaves; faithful, and known to copy.

    Its model holds real values of training people, in small groups, and says so
    (``contains_training_values``); do not share it.

    Parameters
    ----------
    min_leaf
        Training rows of a leaf at least.

    Raises
    ------
    OrderError
        When a value is outside its range.
    """

    name: ClassVar[str] = "cart"
    reference: ClassVar[str] = "https://doi.org/10.18637/jss.v074.i11"

    min_leaf: int = 5

    def __post_init__(self) -> None:
        expect_number("generator", "min_leaf", self.min_leaf, minimum=1, integer=True)

    def fit(
        self,
        table: Table,
        *,
        seed: int,
        device: str = "auto",
        threads: int = 2,
        callback: Callback | None = None,
        checkpoint: Path | None = None,
    ) -> CARTModel:
        """Grow a tree for each column; see `Generator.fit`."""
        check_learnable(table)
        encoded = Encoder(table.schema).encode(table)
        values = tuple(_distinct(column) for column in encoded.numbers.T)
        columns = _columns(table.schema, values)
        codes = _to_codes(encoded, columns, values)
        trees = []
        for place in range(len(columns)):
            chance = derive(seed, "cart", place) % 2**31
            trees.append(grow(codes, columns, place, min_leaf=self.min_leaf, seed=chance))
        return CARTModel(self, table.schema, values, tuple(trees))


@dataclass(frozen=True, kw_only=True)
class _Column:
    """A learnt column: where it stands in the encoded table, and what its codes are."""

    numeric: bool
    place: int
    n_codes: int
    ordered: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Tree:
    """A tree over the columns before, and the real values in its leaves.

    Parameters
    ----------
    feature
        **Shape** (n_nodes,): the column that a node asks for; -1 in a leaf.
    threshold
        **Shape** (n_nodes,): up to this rank, go left.
    left, right
        **Shape** (n_nodes,): the nodes below.
    starts
        **Shape** (n_nodes + 1,): where a leaf's values begin.
    values, counts
        **Shape** (n_values,): the codes in the leaves, and how many training rows have each.
    ranks
        **Shape** (n_levels,): the ranks of the levels of all unordered columns before, joined.
    """

    feature: Codes
    threshold: Floats
    left: Codes
    right: Codes
    starts: Codes
    values: Codes
    counts: Codes
    ranks: Codes

    def leaves(self, ranks: Codes) -> Codes:
        """**Shape** (n_rows,): the leaf of each row, from the ranks of the columns before."""
        node = np.zeros(len(ranks), dtype=np.int64)
        moving = np.arange(len(ranks)) if self.feature[0] >= 0 else np.empty(0, dtype=np.int64)
        while len(moving):
            at = node[moving]
            goes_left = ranks[moving, self.feature[at]] <= self.threshold[at]
            node[moving] = np.where(goes_left, self.left[at], self.right[at])
            moving = moving[self.feature[node[moving]] >= 0]
        return node

    def log_shares(self, leaves: Codes, codes: Codes) -> Floats:
        """**Shape** (n_rows,): log of each code's share of its leaf; -inf where it has none."""
        size = int(self.values.max()) + 1
        owners = np.repeat(np.arange(len(self.feature)), np.diff(self.starts))
        known = owners * size + self.values
        asked = np.where(codes < size, leaves * size + codes, -1)
        place = np.minimum(np.searchsorted(known, asked), len(known) - 1)
        counts = np.where(known[place] == asked, self.counts[place], 0)
        totals = np.bincount(owners, self.counts, len(self.feature))[leaves]
        with np.errstate(divide="ignore"):
            logs: Floats = np.log(counts / totals)
        return logs

    def draw(self, leaves: Codes, chance: np.random.Generator) -> Codes:
        """**Shape** (n_rows,): for each row the code of one of its leaf's training rows."""
        before = np.concatenate([[0], np.cumsum(self.counts)])
        first, last = before[self.starts[leaves]], before[self.starts[leaves + 1]]
        donors = first + chance.integers(last - first)
        drawn: Codes = self.values[np.searchsorted(before, donors, side="right") - 1]
        return drawn


PARTS = ("feature", "threshold", "left", "right", "starts", "values", "counts", "ranks")


def grow(codes: Codes, columns: Sequence[_Column], place: int, *, min_leaf: int, seed: int) -> Tree:
    """The tree of a column on the columns before it.

    Numbers and ordered levels are predicted by their share of smaller rows, least squares; other
    levels as classes, Gini's impurity.  Columns before are ranks; unordered levels are ranked by
    what they predict, so that a split may take any of the sets that matter (Breiman et al. 1984,
    theorem 4.5, for two classes; Coppersmith et al. 1999,
    https://doi.org/10.1023/A:1009869804967, for more).

    Parameters
    ----------
    codes
        **Shape** (n_rows, n_columns).
    columns
        What the codes are.
    place
        The column to predict.
    min_leaf
        Rows of a leaf at least.
    seed
        Breaks ties between splits.
    """
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    target, column = codes[:, place], columns[place]
    if place == 0 or (target == target[0]).all():
        return _single_leaf(target, columns[:place])
    answer = _midranks(target, column.n_codes) if column.ordered else _classes(target)
    ranks = _ranks_by(answer, codes, columns[:place], is_class=not column.ordered)
    kind = DecisionTreeRegressor if column.ordered else DecisionTreeClassifier
    model = kind(min_samples_leaf=min_leaf, min_impurity_decrease=MIN_GAIN, random_state=seed)
    x = _ranked(codes[:, :place], columns, ranks).astype(np.float32)
    fitted = model.fit(x, answer).tree_
    starts, values, counts = _leaf_values(fitted.apply(x), target, fitted.node_count)
    return Tree(
        feature=np.maximum(fitted.feature, -1).astype(np.int64),
        threshold=fitted.threshold.copy(),
        left=fitted.children_left.astype(np.int64),
        right=fitted.children_right.astype(np.int64),
        starts=starts,
        values=values,
        counts=counts,
        ranks=ranks,
    )


class CARTModel(Model):
    """A tree for each column."""

    kind: ClassVar[str] = "cart"

    def __init__(
        self, spec: CART, schema: Schema, values: tuple[Floats, ...], trees: tuple[Tree, ...]
    ) -> None:
        self.spec: CART = spec
        self.schema = schema
        self._values = values
        self._columns = _columns(schema, values)
        self._trees = trees

    def sample(
        self,
        n_rows: int,
        *,
        seed: int,
        shard: int = 0,
        first_row: int = 0,
        conditions: Mapping[str, Any] | None = None,
        threads: int | None = None,
        shortfall: str = "error",
    ) -> Table:
        """Draw rows; see `Model.sample`.  Rows that miss a condition are drawn again."""
        check_count(n_rows)
        check_shortfall(shortfall)
        wanted = check_conditions(self.schema, conditions)
        chance = numpy_stream(seed, "sample", shard)
        kept: list[Codes] = [np.empty((0, len(self._columns)), dtype=np.int64)]
        found = drawn = 0
        while found < n_rows and (not wanted or drawn < MAX_DRAWS_PER_ROW * max(n_rows, 10)):
            rows = self._draw(BLOCK if wanted else min(BLOCK, n_rows - found), chance)
            drawn += len(rows)
            rows = rows[self._meets(rows, wanted)]
            kept.append(rows)
            found += len(rows)
        if found < n_rows:
            fall_short(found, n_rows, drawn, shortfall)
        return Encoder(self.schema).decode(
            self._encoded(np.concatenate(kept)[:n_rows]),
            seed=derive(seed, "identifiers"),
            first_row=first_row,
        )

    def log_likelihood(
        self, table: Table, *, seed: int = 0, samples: int = LATENT_SAMPLES
    ) -> Floats:
        """Exact: the product of the leaves' shares; see `Model.log_likelihood`."""
        encoded = Encoder(self.schema).encode(table)
        codes = _to_codes(encoded, self._columns, self._values)
        total = np.zeros(len(codes))
        for place, tree in enumerate(self._trees):
            leaves = tree.leaves(_ranked(codes[:, :place], self._columns, tree.ranks))
            total += tree.log_shares(leaves, codes[:, place])
        for column in self._columns:
            if column.numeric:
                total[self._is_new(encoded.numbers[:, column.place], column)] = -np.inf
        return total

    def _is_new(self, numbers: Floats, column: _Column) -> npt.NDArray[np.bool_]:
        """Numbers that no training row has."""
        return ~np.isnan(numbers) & ~np.isin(numbers, self._values[column.place])

    def _draw(self, n_rows: int, chance: np.random.Generator) -> Codes:
        codes = np.empty((n_rows, len(self._columns)), dtype=np.int64)
        for place, tree in enumerate(self._trees):
            ranks = _ranked(codes[:, :place], self._columns, tree.ranks)
            codes[:, place] = tree.draw(tree.leaves(ranks), chance)
        return codes

    def _meets(self, rows: Codes, wanted: Mapping[str, int]) -> npt.NDArray[np.bool_]:
        fits = np.ones(len(rows), dtype=bool)
        for place, column in enumerate(self._columns):
            if not column.numeric:
                name = self.schema.discrete[column.place].name
                fits &= rows[:, place] == wanted.get(name, rows[:, place])
        return fits

    def _encoded(self, rows: Codes) -> Encoded:
        numbers = np.empty((len(rows), len(self.schema.numeric)))
        codes = np.empty((len(rows), len(self.schema.discrete)), dtype=np.int32)
        for place, column in enumerate(self._columns):
            if column.numeric:
                known = np.append(self._values[column.place], np.nan)
                numbers[:, column.place] = known[rows[:, place]]
            else:
                codes[:, column.place] = rows[:, place]
        return Encoded(numbers=numbers, codes=codes)

    def save(self, path: str | Path) -> None:
        """Write trees and values beside a document that says what they are; see `Model.save`."""
        arrays = {f"values/{place}": values for place, values in enumerate(self._values)}
        for place, tree in enumerate(self._trees):
            arrays |= {f"tree/{place}/{part}": getattr(tree, part) for part in PARTS}
        save_weights(
            Path(path),
            {
                "kind": self.kind,
                "spec": self.spec.hyperparameters(),
                "schema": self.schema.to_dict(),
                "contains_training_values": True,
                "holds": HOLDS,
                "shapes": {name: list(array.shape) for name, array in arrays.items()},
            },
            {name: torch.from_numpy(array) for name, array in arrays.items()},
        )

    @classmethod
    def load(cls, path: Path, document: Mapping[str, Any]) -> CARTModel:
        """The inverse of `save`."""
        schema = Schema.from_dict(document["schema"])
        shapes = {name: tuple(shape) for name, shape in document["shapes"].items()}
        arrays = {
            name: tensor.numpy() for name, tensor in load_weights(path, document, shapes).items()
        }
        values = tuple(arrays[f"values/{place}"] for place in range(len(schema.numeric)))
        trees = tuple(
            Tree(**{part: arrays[f"tree/{place}/{part}"] for part in PARTS})
            for place in range(len(_columns(schema, values)))
        )
        return cls(CART(**document["spec"]), schema, values, trees)


def _columns(schema: Schema, values: Sequence[Floats]) -> list[_Column]:
    """The learnt columns in the table's order; missing is the last code of each."""
    numeric = {column.name: place for place, column in enumerate(schema.numeric)}
    discrete = {column.name: place for place, column in enumerate(schema.discrete)}
    found = []
    for column in schema.columns:
        if column.name in numeric:
            place = numeric[column.name]
            n_codes = len(values[place]) + 1
            found.append(_Column(numeric=True, place=place, n_codes=n_codes, ordered=True))
        elif column.name in discrete:
            place = discrete[column.name]
            n_codes = len(column.categories) + 1
            ordered = column.kind == "ordinal"
            found.append(_Column(numeric=False, place=place, n_codes=n_codes, ordered=ordered))
    return found


def _distinct(numbers: Floats) -> Floats:
    return np.unique(numbers[~np.isnan(numbers)])


def _to_codes(encoded: Encoded, columns: Sequence[_Column], values: Sequence[Floats]) -> Codes:
    """**Shape** (n_rows, n_columns): places among the distinct values, or codes of levels."""
    codes = np.empty((len(encoded), len(columns)), dtype=np.int64)
    for place, column in enumerate(columns):
        if column.numeric:
            # NaN is sorted behind every number: missing gets the last code.
            codes[:, place] = np.searchsorted(
                values[column.place], encoded.numbers[:, column.place]
            )
        else:
            codes[:, place] = encoded.codes[:, column.place]
    return codes


def _single_leaf(target: Codes, before: Sequence[_Column]) -> Tree:
    starts, values, counts = _leaf_values(np.zeros(len(target), dtype=np.int64), target, 1)
    none = np.empty(0, dtype=np.int64)
    return Tree(
        feature=np.array([-1]),
        threshold=np.zeros(1),
        left=np.array([-1]),
        right=np.array([-1]),
        starts=starts,
        values=values,
        counts=counts,
        ranks=np.concatenate(
            [np.arange(column.n_codes) for column in before if not column.ordered] or [none]
        ),
    )


def _leaf_values(leaves: Codes, target: Codes, n_nodes: int) -> tuple[Codes, Codes, Codes]:
    n_codes = int(target.max()) + 1
    found, counts = np.unique(leaves.astype(np.int64) * n_codes + target, return_counts=True)
    sizes = np.bincount(found // n_codes, minlength=n_nodes)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    return starts, found % n_codes, counts.astype(np.int64)


def _midranks(target: Codes, n_codes: int) -> Floats:
    """The share of rows that are smaller, ties half: no extreme value rules the tree."""
    counts = np.bincount(target, minlength=n_codes)
    shares: Floats = (np.cumsum(counts) - counts / 2) / len(target)
    return shares[target]


def _classes(target: Codes) -> Codes:
    """Codes as classes, the rare ones of very many as one."""
    levels, classes, counts = np.unique(target, return_inverse=True, return_counts=True)
    if len(levels) <= MAX_CLASSES:
        return classes
    order = np.argsort(-counts, kind="stable")
    places = np.empty(len(levels), dtype=np.int64)
    places[order] = np.minimum(np.arange(len(levels)), MAX_CLASSES - 1)
    return places[classes]


def _ranks_by(
    answer: npt.NDArray[Any], codes: Codes, before: Sequence[_Column], *, is_class: bool
) -> Codes:
    """Ranks of the levels of every unordered column before, joined, by what they predict."""
    wide = np.eye(int(answer.max()) + 1)[answer] if is_class else answer[:, None]
    wide = wide - wide.mean(axis=0)
    ranks = [np.empty(0, dtype=np.int64)]
    for place, column in enumerate(before):
        if column.ordered:
            continue
        mine = codes[:, place]
        counts = np.bincount(mine, minlength=column.n_codes)
        sums = np.stack([np.bincount(mine, part, column.n_codes) for part in wide.T], axis=1)
        means = sums / np.maximum(counts, 1)[:, None]
        _, _, directions = np.linalg.svd(np.sqrt(counts)[:, None] * means, full_matrices=False)
        order = np.argsort(means @ directions[0], kind="stable")
        ranks.append(np.argsort(order, kind="stable"))
    return np.concatenate(ranks)


def _ranked(codes: Codes, columns: Sequence[_Column], ranks: Codes) -> Codes:
    """**Shape** as codes: unordered levels replaced by their ranks."""
    ranked = codes.copy()
    first = 0
    for place in range(codes.shape[1]):
        if not columns[place].ordered:
            last = first + columns[place].n_codes
            ranked[:, place] = ranks[first:last][codes[:, place]]
            first = last
    return ranked
