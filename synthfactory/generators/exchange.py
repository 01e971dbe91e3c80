"""Models of the ``ctgan`` package from ours, and ours from theirs.

``ctgan`` is under the Business Source Licence 1.1.  It is no dependency: nothing of it is imported
before one of the two functions below is called, and its form was read from its objects.

Both sides have the same networks and the same mode-specific normalisation, so that most of a model
is carried over as it stands.  What differs, and how it is expressed:

==========================  ====================================================================
ours                        theirs
==========================  ====================================================================
an exact value              a component of width 0
"missing" of a number       a component whose mean is NaN, on which their decoding comes out as NaN
folded batch normalisation  linear layers, and normalisations that do nothing to what comes in
spans by size               spans by column
a factored softmax          its product, which is large: levels times width of the last layer
a level drawn by softmax    CTGAN: the same; TVAE: the largest, and so a last layer adds the noise
                            whose largest is such a draw
==========================  ====================================================================

Legend: B batch rows, M numeric columns, S spans, W width of the logits, O width of the output
layer, I width of the input, Q width of the conditions' features, C levels of all discrete columns,
H a hidden width.
"""

from __future__ import annotations

import dataclasses
import importlib
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
from synthfactory.generators.features import Features, Heads
from synthfactory.generators.layout import WIDE, Layout
from synthfactory.generators.modes import ColumnModes
from synthfactory.generators.representation import Representation
from synthfactory.generators.sampling import NeuralModel, Wanted
from synthfactory.generators.tvae import SIGMA, TVAE, TVAEModel
from synthfactory.seeds import torch_stream
from synthfactory.tables import Column, Schema
from synthfactory.tables.encode import arrow_type
from synthfactory.tables.schema import Kind, Level

STATISTICS_ROWS = 8_192
# Frequencies of zero would move their conditions out of step: they skip what never occurs.
NEVER = 1e-12
# Logits pass a hyperbolic tangent before the largest is taken: far from where it is flat.
SHRINKING = 1.0 / 256.0
# Logarithms of frequencies, as whole numbers of a millionth.
RESOLUTION = 1_000_000
# Their discriminator always drops half of its units.
THEIR_DROPOUT = 0.5


def to_ctgan(model: NeuralModel) -> Any:
    """A fitted model as an object of the ``ctgan`` package.

    It samples, saves and loads there.  It holds no training row, and no row numbers: fitting goes
    on in ``ctgan`` only from the start.  Identifier columns are left out, datetimes are seconds
    since 1970, integers with missing values are floats.

    Parameters
    ----------
    model
        A fitted CTGAN or TVAE.

    Returns
    -------
    ctgan.CTGAN or ctgan.TVAE

    Raises
    ------
    OrderError
        When ``ctgan`` is not installed, or the model is of another kind.
    """
    if isinstance(model, CTGANModel):
        return _export_ctgan(model)
    if isinstance(model, TVAEModel):
        return _export_tvae(model)
    raise OrderError(
        f"Expected a fitted CTGAN or TVAE, got {type(model).__name__}: the ctgan package has no "
        "other models. Fit sf.CTGAN or sf.TVAE."
    )


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
    package = _import_ctgan("synthesizers")
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


def _import_ctgan(module: str) -> Any:
    try:
        return importlib.import_module(f"ctgan.{module}")
    except ImportError as error:
        raise OrderError(
            "Exchanging models needs the package ctgan: pip install 'synthfactory[sdv]'. Read its "
            "Business Source Licence first: it excludes offering a synthetic-data service to "
            "others."
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


def _spans(schema: Schema) -> list[tuple[Column, int]]:
    """Each learnt column in the table's order, with the number of its span in ours."""
    order = {column.name: place for place, column in enumerate((*schema.numeric, *schema.discrete))}
    return [(column, order[column.name]) for column in schema.columns if column.name in order]


def _their_rows(layout: Layout, schema: Schema, codes: Mapping[int, Sequence[int]]) -> Tensor:
    """**Shape** (W,): for each of our logits where theirs stands.

    Parameters
    ----------
    codes
        By span: for each of our codes theirs; without an entry they are the same.
    """
    rows = torch.empty(layout.width, dtype=torch.int64)
    start = 0
    for column, span in _spans(schema):
        if column.is_numeric:
            rows[span] = start
            start += 1
        size = layout.sizes[span]
        own = torch.tensor(codes.get(span, range(size)), dtype=torch.int64)
        rows[layout.starts[span] : layout.starts[span] + size] = start + own
        start += size
    return rows


def _export_ctgan(model: CTGANModel) -> Any:
    package, spec = _import_ctgan("synthesizers.ctgan"), model.spec
    weights = {name: value.detach().cpu() for name, value in model.weights.items()}
    model = CTGANModel(spec, model.representation, weights)
    theirs = package.CTGAN(
        embedding_dim=spec.embedding_dim,
        generator_dim=spec.generator_dims,
        discriminator_dim=spec.discriminator_dims,
        generator_lr=spec.generator_lr,
        generator_decay=spec.generator_decay,
        discriminator_lr=spec.discriminator_lr,
        discriminator_decay=0.0,
        batch_size=spec.batch_size + spec.batch_size % 2,
        discriminator_steps=spec.discriminator_steps,
        log_frequency=False,
        epochs=spec.epochs,
        pac=spec.pac,
    )
    theirs._transformer = _transformer(model.representation)
    theirs._data_sampler = _data_sampler(model.representation)
    theirs._generator = _generator(model, package)
    theirs.set_device(theirs._device)
    return theirs


@torch.no_grad()
def _generator(model: CTGANModel, package: Any) -> nn.Module:
    """Their generator with our weights.

    They sample in whatever mode the network is: it is left in evaluation mode.  Where somebody
    switches it to training mode, the normalisations undo themselves in expectation.
    """
    layout, weights, spec = model.layout, model.weights, model.spec
    levels_QC = _conditions(layout)
    generator: nn.Module = package.Generator(
        spec.embedding_dim + layout.n_levels, spec.generator_dims, layout.width
    )
    *blocks, out = generator.seq  # type: ignore[misc]
    for place, (block, (mean_H, variance_H)) in enumerate(
        zip(blocks, _statistics(model), strict=True)
    ):
        block.fc.weight.copy_(_one_hot(weights[f"layer.{place}.weight"], levels_QC))
        block.fc.bias.copy_(weights[f"layer.{place}.bias"])
        block.bn.running_mean.copy_(mean_H)
        block.bn.running_var.copy_(variance_H)
        block.bn.weight.copy_((variance_H + block.bn.eps).sqrt())
        block.bn.bias.copy_(mean_H)
    order = _their_rows(layout, model.schema, {})
    out.weight[order] = _one_hot(_logits(layout, weights["out.weight"], weights), levels_QC)
    out.bias[order] = weights["head.bias"]
    return generator.eval()


def _conditions(layout: Layout) -> Tensor:
    """**Shape** (Q, C): the features of every level."""
    features = Features(layout, torch.device("cpu"))
    levels_QC = torch.zeros(1, features.n_conditions, layout.n_levels)
    if layout.n_levels:
        features.of_conditions(torch.arange(layout.n_levels).unsqueeze(0), levels_QC)
    return levels_QC[0]


def _one_hot(matrix: Tensor, levels_QC: Tensor) -> Tensor:
    """A matrix whose last Q inputs are conditions' features, for one-hot conditions."""
    split = matrix.shape[1] - len(levels_QC)
    return torch.cat([matrix[:, :split], matrix[:, split:] @ levels_QC], dim=1)


def _logits(layout: Layout, matrix: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    """The last matrix, **shape** (O, n), with the wide spans' heads multiplied out: (W, n)."""
    heads = {**weights, "head.bias": torch.zeros(layout.width)}
    return Heads(layout, torch.device("cpu")).apply(heads, matrix.clone())


def _statistics(model: CTGANModel) -> list[tuple[Tensor, Tensor]]:
    """Mean and variance of each hidden unit before its ReLU, **shape** (H,) each."""
    stream = torch_stream(0, "batch statistics of an export")
    buffer = model.inputs(STATISTICS_ROWS, stream, Wanted())
    seen = []
    for place in range(len(model.spec.generator_dims)):
        bias, weight = model.weights[f"layer.{place}.bias"], model.weights[f"layer.{place}.weight"]
        sums = torch.addmm(bias.unsqueeze(1), weight, buffer)
        seen.append((sums.mean(dim=1), sums.var(dim=1, correction=0)))
        buffer = torch.cat([sums.clamp_min(0.0), buffer])
    return seen


@torch.no_grad()
def _export_tvae(model: TVAEModel) -> Any:
    package, spec, layout = _import_ctgan("synthesizers.tvae"), model.spec, model.layout
    weights = {name: value.detach().cpu() for name, value in model.weights.items()}
    theirs = package.TVAE(
        embedding_dim=spec.embedding_dim,
        compress_dims=spec.encoder_dims,
        decompress_dims=spec.decoder_dims,
        l2scale=spec.weight_decay,
        batch_size=spec.batch_size,
        epochs=spec.epochs,
        loss_factor=spec.loss_factor,
    )
    theirs.transformer = _transformer(model.representation)
    decoder = package.Decoder(spec.embedding_dim, spec.decoder_dims, layout.width)
    linear = [layer for layer in decoder.seq if isinstance(layer, nn.Linear)]
    for place, layer in enumerate(linear[:-1]):
        layer.weight.copy_(weights[f"decoder.{place}.weight"])
        layer.bias.copy_(weights[f"decoder.{place}.bias"])
    order = _their_rows(layout, model.schema, {})
    last = weights[f"decoder.{len(linear) - 1}.weight"]
    linear[-1].weight[order] = _logits(layout, last, weights)
    linear[-1].bias[order] = weights["head.bias"]
    decoder.sigma[order[: layout.n_numeric]] = weights["sigma"]
    is_code = torch.ones(layout.width)
    is_code[order[: layout.n_numeric]] = 0.0
    decoder.seq.append(_softmax_draw(is_code))
    theirs.decoder = decoder.eval()
    theirs.set_device(theirs._device)
    return theirs


def _softmax_draw(is_code: Tensor) -> nn.Module:
    """A layer after which the largest logit is a draw by their softmax: it adds Gumbel noise.

    Jang et al. 2017, arXiv 1611.01144, equation 1.  It is written as a graph, whose pickle needs
    torch but not this package.

    Parameters
    ----------
    is_code
        **Shape** (W,): 1 for logits of codes, 0 for scalars.
    """
    graph = torch.fx.Graph()
    x_BW: Any = torch.fx.Proxy(graph.placeholder("x_BW"))
    noisy: Any = torch.fx.Proxy(graph.get_attr("is_code"))
    scale: Any = torch.fx.Proxy(graph.get_attr("scale"))
    # A uniform draw may be exactly 0, whose double logarithm is infinite.
    exponential = -torch.log(torch.rand_like(x_BW).clamp_min(1e-20))
    gumbel = -torch.log(exponential.clamp_min(1e-20))
    graph.output(((x_BW + noisy * gumbel) * scale).node)
    buffers = {"is_code": is_code, "scale": torch.where(is_code > 0, SHRINKING, 1.0)}
    return torch.fx.GraphModule(buffers, graph, "SoftmaxDraw")


def _transformer(representation: Representation) -> Any:
    """Their ``DataTransformer``, as if fitted."""
    import pandas as pd

    package = _import_ctgan("data_transformer")
    schema, transformer = representation.schema, package.DataTransformer()
    columns = [
        _numeric_info(package, column, representation.modes[span])
        if column.is_numeric
        else _discrete_info(package, column)
        for column, span in _spans(schema)
    ]
    transformer.dataframe = True
    transformer._column_transform_info_list = columns
    transformer.output_info_list = [info.output_info for info in columns]
    transformer.output_dimensions = sum(info.output_dimensions for info in columns)
    transformer._column_raw_dtypes = pd.Series(
        {column.name: _numpy_type(column) for column, _ in _spans(schema)}, dtype=object
    )
    return transformer


def _numpy_type(column: Column) -> np.dtype[Any]:
    """What pandas would hold the column in, the missing values included."""
    if column.kind == "datetime":
        return np.dtype(np.float64)
    kind = np.dtype(arrow_type(column).to_pandas_dtype())
    if kind == np.bool_:
        return np.dtype(object) if column.nullable else kind
    if kind.kind in "iu" and column.nullable:
        return np.dtype(np.float64)
    return kind if kind.kind in "iuf" else np.dtype(object)


def _numeric_info(package: Any, column: Column, modes: ColumnModes) -> Any:
    n_modes = modes.n_modes
    normalizer = package.ClusterBasedNormalizer(
        learn_rounding_scheme=True,
        enforce_min_max_values=True,
        max_clusters=n_modes,
        missing_value_generation=None,
    )
    normalizer._dtype = _numpy_type(column)
    normalizer._rounding_digits = column.decimals
    normalizer._min_value = -math.inf if column.minimum is None else column.minimum
    normalizer._max_value = math.inf if column.maximum is None else column.maximum
    nulls = importlib.import_module("rdt.transformers.null").NullTransformer(
        missing_value_replacement="mean", missing_value_generation=None
    )
    # Missing values come from a component of their own.
    nulls.nulls = False
    normalizer.null_transformer = nulls
    normalizer._bgm_transformer = _mixture(modes)
    normalizer.valid_component_indicator = np.ones(n_modes, dtype=bool)
    _name(normalizer, column.name)
    return package.ColumnTransformInfo(
        column_name=column.name,
        column_type="continuous",
        transform=normalizer,
        output_info=[package.SpanInfo(1, "tanh"), package.SpanInfo(n_modes, "softmax")],
        output_dimensions=1 + n_modes,
    )


def _mixture(modes: ColumnModes) -> Any:
    """Their mixture: our Gaussians, exact values as width 0, and NaN for "missing"."""
    from sklearn.mixture import BayesianGaussianMixture

    n_points = len(modes.spikes) + modes.nullable
    mixture = BayesianGaussianMixture(n_components=modes.n_modes)
    mixture.means_ = np.concatenate([modes.means, modes.spikes, [np.nan] * modes.nullable])
    mixture.means_ = mixture.means_.reshape(-1, 1)
    mixture.covariances_ = np.concatenate([modes.stds**2, np.zeros(n_points)]).reshape(-1, 1, 1)
    mixture.weights_ = np.concatenate([modes.weights, np.zeros(n_points)])
    return mixture


def _discrete_info(package: Any, column: Column) -> Any:
    levels = list(column.categories)
    encoder = package.OneHotEncoder()
    encoder.dtype = _numpy_type(column)
    encoder._uniques = levels
    encoder._num_dummies = len(levels)
    encoder._indexer = list(range(len(levels)))
    encoder._dummy_na = column.nullable
    encoder._dummy_encoded = encoder.dtype.kind not in "iuf"
    encoder.dummies = levels + [np.nan] * column.nullable
    encoder.output_properties = {
        f"value{place}": {"sdtype": "float", "next_transformer": None}
        for place in range(len(encoder.dummies))
    }
    _name(encoder, column.name)
    return package.ColumnTransformInfo(
        column_name=column.name,
        column_type="discrete",
        transform=encoder,
        output_info=[package.SpanInfo(len(encoder.dummies), "softmax")],
        output_dimensions=len(encoder.dummies),
    )


def _name(transformer: Any, name: str) -> None:
    """Tell a transformer which column it belongs to."""
    transformer.columns = [name]
    transformer.column_prefix = name
    transformer.output_columns = transformer.get_output_columns()
    transformer.reset_randomization()


def _data_sampler(representation: Representation) -> Any:
    """Their sampler of conditions: frequencies, and none of the rows that it usually holds."""
    package = _import_ctgan("data_sampler")
    sampler = package.DataSampler.__new__(package.DataSampler)
    sizes = representation.level_sizes
    shares = np.zeros((len(sizes), max(sizes, default=0)))
    for place, counts in enumerate(representation.level_counts):
        share = np.asarray(counts, dtype=np.float64) / max(1, sum(counts))
        shares[place, : len(counts)] = np.maximum(share, NEVER)
    firsts = np.cumsum([0, *sizes])[: len(sizes)].astype(np.int32)
    sampler._discrete_column_category_prob = shares
    sampler._discrete_column_cond_st = firsts
    # Where a condition on one column stands; theirs would always be 0.
    sampler._discrete_column_matrix_st = firsts.copy()
    sampler._discrete_column_n_category = np.asarray(sizes, dtype=np.int32)
    sampler._n_discrete_columns = len(sizes)
    sampler._n_categories = sum(sizes)
    sampler._data_length = sum(representation.level_counts[0]) if sizes else 0
    sampler._rid_by_cat_cols = []
    return sampler


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
        return _their_rows(self.layout, self.schema, self.codes)

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
    codes = {span: one.codes for (_, span), one in zip(_spans(schema), found, strict=True)}
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
