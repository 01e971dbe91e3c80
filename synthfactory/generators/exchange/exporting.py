"""Models of the ``ctgan`` package from ours; the package says what differs.

Legend: B batch rows, M numeric columns, S spans, W width of the logits, O width of the output
layer, I width of the input, Q width of the conditions' features, C levels of all discrete columns,
H a hidden width.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from synthfactory.errors import OrderError
from synthfactory.generators.ctgan import CTGANModel
from synthfactory.generators.exchange.theirs import (
    STATISTICS_ROWS,
    import_ctgan,
    spans,
    their_rows,
)
from synthfactory.generators.features import Features, Heads
from synthfactory.generators.layout import Layout
from synthfactory.generators.modes import ColumnModes
from synthfactory.generators.representation import Representation
from synthfactory.generators.sampling import NeuralModel, Wanted
from synthfactory.generators.tvae import TVAEModel
from synthfactory.seeds import torch_stream
from synthfactory.tables import Column
from synthfactory.tables.encode import arrow_type

# Frequencies of zero would move their conditions out of step: they skip what never occurs.
NEVER = 1e-12
# Logits pass a hyperbolic tangent before the largest is taken: far from where it is flat.
SHRINKING = 1.0 / 256.0


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


def _export_ctgan(model: CTGANModel) -> Any:
    package, spec = import_ctgan("synthesizers.ctgan"), model.spec
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
    order = their_rows(layout, model.schema, {})
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
    package, spec, layout = import_ctgan("synthesizers.tvae"), model.spec, model.layout
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
    order = their_rows(layout, model.schema, {})
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

    package = import_ctgan("data_transformer")
    schema, transformer = representation.schema, package.DataTransformer()
    columns = [
        _numeric_info(package, column, representation.modes[span])
        if column.is_numeric
        else _discrete_info(package, column)
        for column, span in spans(schema)
    ]
    transformer.dataframe = True
    transformer._column_transform_info_list = columns
    transformer.output_info_list = [info.output_info for info in columns]
    transformer.output_dimensions = sum(info.output_dimensions for info in columns)
    transformer._column_raw_dtypes = pd.Series(
        {column.name: _numpy_type(column) for column, _ in spans(schema)}, dtype=object
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
    package = import_ctgan("data_sampler")
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
