"""Our models from those of the ``ctgan`` package; the package says what differs.

Legend: B batch rows, M numeric columns, S spans, W width of the logits, O width of the output
layer, I width of the input, Q width of the conditions' features, C levels of all discrete columns,
H a hidden width.
"""

from __future__ import annotations

import dataclasses
import math
import pickle
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor, nn

from synthfactory.errors import OrderError, ReleaseError
from synthfactory.generators.ctgan import CTGAN, CTGANModel
from synthfactory.generators.exchange.theirs import (
    STATISTICS_ROWS,
    import_ctgan,
    spans,
    their_rows,
)
from synthfactory.generators.layout import WIDE, Layout
from synthfactory.generators.modes import ColumnModes
from synthfactory.generators.representation import Representation
from synthfactory.generators.sampling import Wanted
from synthfactory.generators.tvae import SIGMA, TVAE, TVAEModel
from synthfactory.seeds import torch_stream
from synthfactory.tables import Column, Schema
from synthfactory.tables.schema import Kind, Level

# Logarithms of frequencies, as whole numbers of a millionth.
RESOLUTION = 1_000_000
# Their discriminator always drops half of its units.
THEIR_DROPOUT = 0.5


def from_ctgan(source: str | Path | Any) -> CTGANModel | TVAEModel:
    """Our model from a fitted ``ctgan.CTGAN`` or ``ctgan.TVAE``.

    .. warning::
        A file of the ``ctgan`` package is a pickle: **reading it runs code that it contains**.
        Read only files that you made, or whose maker you trust as you trust a program's.

    The model samples as ours do: conditions at the levels' true frequencies, batch normalisation
    with statistics that were computed once (those of training), TVAE's levels drawn by their
    probabilities.  ``ctgan`` itself samples at logarithmic frequencies, normalises each batch by
    itself and takes TVAE's likeliest level; the rows differ by that.

    Parameters
    ----------
    source
        A file that ``save`` of the ``ctgan`` package wrote, or its object; of a synthesizer of
        SDV, its ``_model``, which makes rows as they are before SDV's own decoding.

    Returns
    -------
    CTGANModel or TVAEModel
        Saved with `Model.save`, it is a folder without a pickle.

    Raises
    ------
    ReleaseError
        When the file cannot be read.
    OrderError
        When ``ctgan`` is not installed, the object is another, is not fitted, or has a column of
        more than 512 levels, which our networks embed.
    """
    package = import_ctgan("synthesizers")
    came = _read(Path(source)) if isinstance(source, (str, Path)) else source
    if not isinstance(came, (package.CTGAN, package.TVAE)):
        raise OrderError(
            f"Expected a ctgan.CTGAN or ctgan.TVAE, or a file of one, got {type(came).__name__}; "
            "of a synthesizer of SDV pass its _model."
        )
    is_gan = isinstance(came, package.CTGAN)
    if getattr(came, "_generator" if is_gan else "decoder", None) is None:
        raise OrderError(
            f"Expected a fitted ctgan.{type(came).__name__}, got one without a network: call its "
            "fit first."
        )
    try:
        return _import_gan(came) if is_gan else _import_vae(came)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError) as error:
        raise ReleaseError(
            f"Expected a ctgan.{type(came).__name__} as version 0.12 makes it, got one that lacks "
            f"something: {error}. Load and save it with that version, or fit again."
        ) from error


def _read(path: Path) -> Any:
    """What a file holds; this runs code of the file."""
    try:
        return torch.load(path, map_location="cpu", weights_only=False)
    except (
        OSError,
        EOFError,
        pickle.UnpicklingError,
        AttributeError,
        ImportError,
        LookupError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        raise ReleaseError(
            f"Expected a file that save of ctgan.CTGAN or ctgan.TVAE wrote, but {path} cannot be "
            f"read: {error}. Check the path, and that its version of ctgan is installed."
        ) from error


@dataclass(frozen=True, kw_only=True)
class _Found:
    """A column of theirs.

    Parameters
    ----------
    column
        As ours.
    codes
        For each of our codes theirs.
    modes
        Of a numeric column.
    """

    column: Column
    codes: tuple[int, ...]
    modes: ColumnModes | None = None


@dataclass(frozen=True, kw_only=True)
class _Theirs:
    """Their columns as ours, and where everything of ours stands in theirs.

    Parameters
    ----------
    schema, modes
        As ours.
    layout
        Of our logits.
    codes
        By span: for each of our codes theirs.
    """

    schema: Schema
    modes: tuple[ColumnModes, ...]
    layout: Layout
    codes: Mapping[int, tuple[int, ...]]

    @property
    def rows(self) -> Tensor:
        """**Shape** (W,): for each of our logits theirs."""
        return their_rows(self.layout, self.schema, self.codes)

    @property
    def discrete(self) -> list[tuple[int, ...]]:
        """For each discrete column and each of our codes theirs."""
        n_numeric = self.layout.n_numeric
        return [self.codes[n_numeric + place] for place in range(len(self.layout.level_sizes))]

    @property
    def conditions(self) -> Tensor:
        """**Shape** (C,): for each of our levels of all levels theirs."""
        firsts = np.cumsum([0, *self.layout.level_sizes])
        rows = [
            first + code
            for first, codes in zip(firsts, self.discrete, strict=False)
            for code in codes
        ]
        return torch.tensor(rows, dtype=torch.int64)

    def representation(self, counts: Iterable[Sequence[int]]) -> Representation:
        """With these frequencies of their levels."""
        own = tuple(
            tuple(int(levels[code]) for code in codes)
            for levels, codes in zip(counts, self.discrete, strict=True)
        )
        return Representation(schema=self.schema, modes=self.modes, level_counts=own)


def _columns(transformer: Any) -> _Theirs:
    found = [
        _read_numeric(info, transformer._column_raw_dtypes[info.column_name])
        if info.column_type == "continuous"
        else _read_discrete(info)
        for info in transformer._column_transform_info_list
    ]
    schema = Schema(columns=tuple(one.column for one in found))
    modes = tuple(one.modes for one in found if one.modes is not None)
    codes = {span: one.codes for (_, span), one in zip(spans(schema), found, strict=True)}
    empty = [[0] * len(codes[len(modes) + place]) for place in range(len(schema.discrete))]
    layout = Layout.of(
        [
            Representation(
                schema=schema, modes=modes, level_counts=tuple(tuple(part) for part in empty)
            )
        ]
    )
    if layout.wide:
        name, size = next(
            (one.column.name, len(one.codes)) for one in found if len(one.codes) > WIDE
        )
        raise OrderError(
            f"Column '{name}': expected at most {WIDE} levels, got {size}. Our networks embed "
            "wider columns, which these weights cannot be turned into; fit again with sf.CTGAN or "
            "sf.TVAE."
        )
    return _Theirs(schema=schema, modes=modes, layout=layout, codes=codes)


def _read_numeric(info: Any, dtype: Any) -> _Found:
    normalizer = info.transform
    valid = np.asarray(normalizer.valid_component_indicator, dtype=bool)
    mixture = normalizer._bgm_transformer
    weights = np.asarray(mixture.weights_, dtype=np.float64)[valid]
    means = np.asarray(mixture.means_, dtype=np.float64).reshape(-1)[valid]
    stds = np.sqrt(np.asarray(mixture.covariances_, dtype=np.float64).reshape(-1)[valid])
    # Ours stand in this order: Gaussians, exact values, "missing".
    sorts = np.where(np.isnan(means), 2, np.where(stds == 0.0, 1, 0))
    order = np.argsort(sorts, kind="stable")
    gaussian, spike, missing = (np.flatnonzero(sorts == sort) for sort in range(3))
    if len(missing) > 1:
        raise OrderError(
            f"Column '{info.column_name}': expected at most one component for missing values, got "
            f"{len(missing)}; fit again."
        )
    modes = ColumnModes(
        weights=weights[gaussian] / max(float(weights[gaussian].sum()), 1e-300),
        means=means[gaussian],
        stds=stds[gaussian],
        spikes=means[spike],
        nullable=len(missing) == 1,
    )
    column = Column(
        name=str(info.column_name),
        kind="numerical",
        dtype=_arrow_name(dtype),
        nullable=modes.nullable,
        minimum=_bound(normalizer, "_min_value"),
        maximum=_bound(normalizer, "_max_value"),
        decimals=_decimals(normalizer, dtype),
    )
    return _Found(column=column, codes=tuple(order.tolist()), modes=modes)


def _arrow_name(dtype: Any) -> str:
    kind = np.dtype(dtype) if isinstance(dtype, np.dtype) else np.dtype(np.float64)
    return str(pa.from_numpy_dtype(kind)) if kind.kind in "iuf" else "double"


def _bound(normalizer: Any, name: str) -> float | None:
    value = getattr(normalizer, name)
    if not normalizer.enforce_min_max_values or value is None or not math.isfinite(value):
        return None
    return float(value)


def _decimals(normalizer: Any, dtype: Any) -> int | None:
    digits = normalizer._rounding_digits if normalizer.learn_rounding_scheme else None
    if digits is None and isinstance(dtype, np.dtype) and dtype.kind in "iu":
        return 0
    return None if digits is None else int(digits)


def _read_discrete(info: Any) -> _Found:
    dummies = list(info.transform.dummies)
    present = [place for place, level in enumerate(dummies) if not _is_missing(level)]
    levels = read_levels([dummies[place] for place in present])
    column = Column(
        name=str(info.column_name),
        kind=levels.kind,
        dtype=levels.dtype,
        nullable=len(present) < len(dummies),
        categories=levels.values,
    )
    absent = [place for place in range(len(dummies)) if place not in set(present)]
    codes = [present[place] for place in levels.order] + absent
    return _Found(column=column, codes=tuple(codes))


def _is_missing(level: Any) -> bool:
    return level is None or (isinstance(level, float) and math.isnan(level))


@dataclass(frozen=True, kw_only=True)
class Levels:
    """Levels of a discrete column as a schema wants them.

    Parameters
    ----------
    values
        Sorted.
    order
        For each of them its place among those that were read.
    dtype, kind
        Of the column.
    """

    values: tuple[Level, ...]
    order: tuple[int, ...]
    dtype: str
    kind: Kind


def read_levels(levels: Sequence[Any]) -> Levels:
    """Different values of any type; of mixed or other types their texts are taken.

    Raises
    ------
    OrderError
        When different values have the same text.

    >>> read_levels(["b", "a"]).order
    (1, 0)
    >>> read_levels([1, "a"]).values
    ('1', 'a')
    """
    plain = [level.item() if isinstance(level, np.generic) else level for level in levels]
    types = {type(level) for level in plain}
    dtype = _LEVEL_TYPES.get(next(iter(types)), "string") if len(types) == 1 else "string"
    if dtype == "string":
        plain = [str(level) for level in plain]
    if len(set(plain)) < len(plain):
        twice = next(text for text in plain if plain.count(text) > 1)
        raise OrderError(
            f"Expected levels of different names, got two that read '{twice}'; give them one type."
        )
    order = sorted(range(len(plain)), key=plain.__getitem__)
    values = tuple(plain[place] for place in order)
    kind: Kind = "boolean" if values == (False, True) and dtype == "bool" else "categorical"
    return Levels(values=values, order=tuple(order), dtype=dtype, kind=kind)


_LEVEL_TYPES = {bool: "bool", int: "int64", float: "double", str: "string"}


@torch.no_grad()
def _import_gan(came: Any) -> CTGANModel:
    theirs = _columns(came._transformer)
    representation = theirs.representation(_frequencies(came._data_sampler, came._log_frequency))
    spec = CTGAN(
        epochs=max(1, came._epochs),
        batch_size=came._batch_size,
        embedding_dim=came._embedding_dim,
        calibrate=False,
        pac=came.pac,
        generator_dims=tuple(came._generator_dim),
        discriminator_dims=tuple(came._discriminator_dim),
        generator_lr=came._generator_lr,
        discriminator_lr=came._discriminator_lr,
        generator_decay=came._generator_decay,
        dropout=THEIR_DROPOUT,
        discriminator_steps=came._discriminator_steps,
        average_decay=0.0,
    )
    *blocks, out = came._generator.seq
    conditions = theirs.conditions
    weights: dict[str, Tensor] = {}
    for place, block in enumerate(blocks):
        weights[f"layer.{place}.weight"] = _reorder(block.fc.weight, conditions)
        weights[f"layer.{place}.bias"] = _plain(block.fc.bias)
    weights["out.weight"] = _reorder(out.weight, conditions)[theirs.rows]
    weights["head.bias"] = _plain(out.bias)[theirs.rows]
    weights = _check(weights, spec, representation)
    # The network knows the statistics of its training, whose conditions had these frequencies.
    trained = dataclasses.replace(
        representation, level_counts=_training_counts(representation, came._log_frequency)
    )
    inputs_IB = CTGANModel(spec, trained, weights).inputs(
        STATISTICS_ROWS, torch_stream(0, "batch statistics of an import"), Wanted()
    )
    folded = _fold(weights, [block.bn for block in blocks], inputs_IB)
    return CTGANModel(spec, representation, folded)


def _training_counts(
    representation: Representation, logarithmic: bool
) -> tuple[tuple[int, ...], ...]:
    """Frequencies of levels as conditions of training had them."""
    if not logarithmic:
        return representation.level_counts
    return tuple(
        tuple(round(RESOLUTION * math.log1p(count)) for count in counts)
        for counts in representation.level_counts
    )


def _plain(value: Tensor) -> Tensor:
    return value.detach().cpu().float().clone()


def _reorder(matrix: Tensor, conditions: Tensor) -> Tensor:
    """A matrix whose last inputs are their conditions, for ours."""
    plain = _plain(matrix)
    split = plain.shape[1] - len(conditions)
    return torch.cat([plain[:, :split], plain[:, split:][:, conditions]], dim=1)


def _check(
    weights: dict[str, Tensor], spec: CTGAN | TVAE, representation: Representation
) -> dict[str, Tensor]:
    """Refuse weights that are not of the network that was described."""
    kind = CTGANModel if isinstance(spec, CTGAN) else TVAEModel
    empty: Any = kind.__new__(kind)
    empty.spec, empty.layout = spec, Layout.of([representation])
    came = {name: tuple(value.shape) for name, value in weights.items()}
    if came != empty.shapes:
        differing = sorted(
            name for name in {*came, *empty.shapes} if came.get(name) != empty.shapes.get(name)
        )
        raise ReleaseError(
            f"Expected weights of the network that the object describes, but "
            f"{', '.join(differing[:3])} differ; fit again."
        )
    return weights


def _fold(
    weights: Mapping[str, Tensor], norms: Sequence[nn.BatchNorm1d], inputs_IB: Tensor
) -> dict[str, Tensor]:
    """Weights without batch normalisation.

    A network in training mode would normalise by its batch, and its running statistics are those
    of whatever was drawn last, one condition perhaps: the statistics of these inputs are taken.  A
    network in evaluation mode keeps its own.
    """
    folded, buffer = dict(weights), inputs_IB
    for place, norm in enumerate(norms):
        weight, bias = folded[f"layer.{place}.weight"], folded[f"layer.{place}.bias"]
        if norm.training or norm.running_mean is None or norm.running_var is None:
            sums = torch.addmm(bias.unsqueeze(1), weight, buffer)
            mean, variance = sums.mean(dim=1), sums.var(dim=1, correction=0)
        else:
            mean, variance = _plain(norm.running_mean), _plain(norm.running_var)
        scale = _plain(norm.weight) * (variance + norm.eps).rsqrt()
        weight = weight * scale.unsqueeze(1)
        bias = (bias - mean) * scale + _plain(norm.bias)
        folded[f"layer.{place}.weight"], folded[f"layer.{place}.bias"] = weight, bias
        sums = torch.addmm(bias.unsqueeze(1), weight, buffer)
        buffer = torch.cat([sums.clamp_min_(0.0), buffer])
    return folded


def _frequencies(sampler: Any, logarithmic: bool) -> list[list[int]]:
    """How often each of their levels occurred.

    Raises
    ------
    OrderError
        When only logarithmic frequencies are left.
    """
    if sampler._rid_by_cat_cols:
        return [[len(rows) for rows in column] for column in sampler._rid_by_cat_cols]
    sizes = sampler._discrete_column_n_category
    if len(sizes) and logarithmic:
        raise OrderError(
            "Expected the row numbers of each level in the data sampler, from which true "
            "frequencies are counted, got none; fit again."
        )
    shares: npt.NDArray[np.float64] = sampler._discrete_column_category_prob
    n_rows = sampler._data_length
    return [
        np.rint(shares[place, :size] * n_rows).astype(int).tolist()
        for place, size in enumerate(sizes)
    ]


@torch.no_grad()
def _import_vae(came: Any) -> TVAEModel:
    theirs = _columns(came.transformer)
    spec = TVAE(
        epochs=max(1, came.epochs),
        batch_size=max(2, came.batch_size),
        embedding_dim=came.embedding_dim,
        calibrate=False,
        encoder_dims=tuple(came.compress_dims),
        decoder_dims=tuple(came.decompress_dims),
        weight_decay=came.l2scale,
        loss_factor=came.loss_factor,
    )
    linear = _linear_layers(came.decoder.seq)
    weights: dict[str, Tensor] = {}
    for place, layer in enumerate(linear):
        weights[f"decoder.{place}.weight"] = _plain(layer.weight)
        weights[f"decoder.{place}.bias"] = _plain(layer.bias)
    last, rows = f"decoder.{len(linear) - 1}", theirs.rows
    weights[f"{last}.weight"] = weights[f"{last}.weight"][rows]
    weights["head.bias"] = weights.pop(f"{last}.bias")[rows]
    weights["sigma"] = _plain(came.decoder.sigma)[rows[: theirs.layout.n_numeric]]
    weights["sigma"] = torch.where(weights["sigma"] > 0.0, weights["sigma"], SIGMA)
    unknown = theirs.representation([len(codes) * [0] for codes in theirs.discrete])
    weights = _check(weights, spec, unknown)
    counts = _counts(TVAEModel(spec, unknown, weights))
    known = Representation(schema=unknown.schema, modes=unknown.modes, level_counts=counts)
    return TVAEModel(spec, known, weights)


def _linear_layers(sequence: Iterable[nn.Module]) -> list[nn.Linear]:
    """The decoder's layers; our own last one is left out, because our models draw by softmax."""
    linear = []
    for layer in sequence:
        if isinstance(layer, nn.Linear):
            linear.append(layer)
        elif not isinstance(layer, nn.ReLU) and not hasattr(layer, "is_code"):
            raise OrderError(
                f"Expected a decoder of Linear and ReLU, got {type(layer).__name__}; only networks "
                "as ctgan makes them can be read."
            )
    return linear


def _counts(model: TVAEModel) -> tuple[tuple[int, ...], ...]:
    """How often each level occurs in drawn rows: their TVAE does not keep it of the data."""
    stream = torch_stream(0, "frequencies of an import")
    layout = model.layout
    logits_WB = model.logits(model.inputs(STATISTICS_ROWS, stream, Wanted()))
    counts = []
    for span in range(layout.n_numeric, len(layout.sizes)):
        mine = slice(layout.starts[span], layout.starts[span] + layout.sizes[span])
        shares = torch.softmax(logits_WB[mine], dim=0).sum(dim=1)
        counts.append(tuple(shares.round().long().tolist()))
    return tuple(counts)
