"""Our engine under the programming interface of SDV (the Synthetic Data Vault), version 2.

    from synthfactory.sdv import CTGANSynthesizer      # instead of sdv.single_table

SDV keeps what it does around a network: metadata, keys and personal data, constraints, conditions,
sampling in batches, saving.  Training and drawing are `synthfactory.CTGAN` and
`synthfactory.TVAE`.  ``sdv`` is under the Business Source Licence 1.1 and no dependency; where it
is absent, this module can be imported, and making a synthesizer says what to install.

What SDV fills and scatters again at random, missing numbers and dates, reaches our engine as it is:
"missing" is a state that it learns.  Discrete conditions go into the conditional vector, and
numeric ones are met by the engine's own drawing; SDV checks every row once more.
"""

from __future__ import annotations

import copy
import math
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa

from synthfactory.errors import OrderError, ShortfallWarning, TableError, did_you_mean
from synthfactory.generators import CTGAN, TVAE, NeuralGenerator, Progress
from synthfactory.generators.exchange import read_levels
from synthfactory.seeds import derive
from synthfactory.tables import Column, Encoder, Schema, Table
from synthfactory.tables.encode import arrow_type

try:
    from sdv.single_table.base import BaseSingleTableSynthesizer
    from sdv.single_table.ctgan import LossValuesMixin
    from sdv.single_table.utils import detect_discrete_columns
except ImportError as error:
    _absence: ImportError | None = error

    class BaseSingleTableSynthesizer:  # type: ignore[no-redef]
        """Stands where SDV's class would."""

        def __init__(self, **_: Any) -> None:
            raise OrderError(
                "synthfactory.sdv needs the package sdv, version 2: pip install "
                "'synthfactory[sdv]'. Read its Business Source Licence first: it excludes offering "
                "a synthetic-data service to others. sf.CTGAN and sf.TVAE are the same engine and "
                "need nothing."
            ) from _absence

    class LossValuesMixin:  # type: ignore[no-redef]
        """Stands where SDV's class would."""


# How far from a wanted float SDV lets a row be, before it writes the wanted one.
TOLERANCE = 0.01
# SDV passes a message that begins so on as it is.
UNABLE = "Unable to sample any rows for the given conditions"
WITHOUT_COUNTERPART = {
    "discriminator_decay": "the discriminator learns without weight decay",
    "log_frequency": "training draws levels at logarithmic frequencies, sampling at true ones",
    "cuda": "say enable_gpu",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Codec:
    """How a frame that SDV has processed becomes a table of ours, and back.

    Parameters
    ----------
    schema
        Of the table.
    dtypes
        Of the frame, by column.
    levels
        For each discrete column the frame's values, in the order of its categories.
    """

    schema: Schema
    dtypes: Mapping[str, Any]
    levels: Mapping[str, list[Any]]

    @classmethod
    def read(cls, frame: pd.DataFrame, discrete: Sequence[str], *, exact: bool) -> Codec:
        """Describe a frame.

        Parameters
        ----------
        discrete
            Its discrete columns; others are numbers.
        exact
            Whether numbers are kept within their range and, when all are whole, whole.

        Raises
        ------
        TableError
            For an infinite number.
        """
        columns, levels = [], {}
        for name in frame.columns:
            if name in discrete:
                column, levels[name] = _describe_levels(name, frame[name])
            else:
                column = _describe_numbers(name, frame[name], exact=exact)
            columns.append(column)
        return cls(schema=Schema(columns=tuple(columns)), dtypes=dict(frame.dtypes), levels=levels)

    def encode(self, frame: pd.DataFrame) -> Table:
        """The frame as a table."""
        arrays = {}
        for column in self.schema.columns:
            values = frame[column.name]
            if column.name in self.levels:
                codes = pd.Index(self.levels[column.name], dtype=object).get_indexer(
                    pd.Index(values, dtype=object)
                )
                categories = pa.array(column.categories, arrow_type(column))
                arrays[column.name] = categories.take(pa.array(codes, mask=codes < 0))
            else:
                numbers = _numbers(values)
                arrays[column.name] = pa.array(numbers, mask=np.isnan(numbers))
        return Table(data=pa.table(arrays), schema=self.schema)

    def decode(self, table: Table) -> pd.DataFrame:
        """The table as a frame."""
        encoder = Encoder(self.schema)
        encoded = encoder.encode(table)
        series: dict[str, Any] = {}
        for place, column in enumerate(encoder.numeric):
            series[column.name] = encoded.numbers[:, place]
        for place, column in enumerate(encoder.discrete):
            values = np.empty(len(column.categories) + 1, dtype=object)
            values[:-1], values[-1] = self.levels[column.name], np.nan
            series[column.name] = values[encoded.codes[:, place]]
        return pd.DataFrame(
            {name: pd.Series(series[name]).astype(self.dtypes[name]) for name in self.dtypes}
        )

    def wanted(self, conditions: Mapping[str, Any], floats: Sequence[str]) -> dict[str, Any]:
        """SDV's conditions as ours; those on columns that are not learnt are left to SDV.

        Parameters
        ----------
        conditions
            Values by column, processed.
        floats
            Numeric columns that may be off by `TOLERANCE`; others must be met exactly.

        Raises
        ------
        OrderError
            For a level that did not occur.
        """
        wanted: dict[str, Any] = {}
        for column in self.schema.columns:
            value = conditions.get(column.name)
            if value is None or value != value:
                continue
            if column.name in self.levels:
                wanted[column.name] = self._category(column, value)
            else:
                reach = abs(value) * TOLERANCE if column.name in floats else 0.0
                wanted[column.name] = (value - reach, value + reach)
        return wanted

    def _category(self, column: Column, value: Any) -> Any:
        levels = self.levels[column.name]
        if value not in levels:
            hint = did_you_mean(str(value), [str(level) for level in levels])
            raise OrderError(f"{UNABLE}: column '{column.name}' has no level '{value}'{hint}")
        return column.categories[levels.index(value)]


def _describe_levels(name: str, values: pd.Series[Any]) -> tuple[Column, list[Any]]:
    present = pd.unique(values.dropna().astype(object)).tolist()
    levels = read_levels(present)
    column = Column(
        name=str(name),
        kind=levels.kind,
        dtype=levels.dtype,
        nullable=bool(values.isna().any()),
        categories=levels.values,
    )
    return column, [present[place] for place in levels.order]


def _describe_numbers(name: str, values: pd.Series[Any], *, exact: bool) -> Column:
    numbers = _numbers(values)
    present = numbers[~np.isnan(numbers)]
    if np.isinf(present).any():
        raise TableError(
            f"Column '{name}': expected finite numbers, got an infinite one; clean it, or make it "
            "missing."
        )
    is_whole = bool(np.array_equal(present, np.rint(present)))
    has_range = exact and len(present) > 0
    return Column(
        name=str(name),
        kind="numerical",
        dtype="double",
        nullable=len(present) < len(numbers),
        minimum=float(present.min()) if has_range else None,
        maximum=float(present.max()) if has_range else None,
        decimals=0 if is_whole and (exact or values.dtype.kind in "iu") else None,
    )


def _numbers(values: pd.Series[Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return values.to_numpy(dtype=np.float64, na_value=np.nan)


class Learnt:
    """A fitted model as SDV's base class wants one.

    Parameters
    ----------
    model
        Ours.
    codec
        How its rows become SDV's.
    loss_values
        The losses while it was fitted.
    """

    def __init__(self, model: Any, codec: Codec, loss_values: pd.DataFrame) -> None:
        self.model, self.codec, self.loss_values = model, codec, loss_values
        self.set_random_state(0)

    def set_random_state(self, random_state: Any) -> None:
        """Begin the rows of a seed: a number, a pair of generators as SDV has them, or None."""
        if random_state is None:
            random_state = int(np.random.default_rng().integers(2**31))
        elif isinstance(random_state, tuple):
            random_state = int(random_state[0].randint(2**31))
        self._seed, self._n_draws = random_state, 0

    def sample(self, n_rows: int, conditions: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """The next rows; fewer, where the conditions are met too rarely."""
        seed = derive(self._seed, "sdv", self._n_draws)
        self._n_draws += 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ShortfallWarning)
            table = self.model.sample(n_rows, seed=seed, conditions=conditions, shortfall="warn")
        return self.codec.decode(table)


class _Synthesizer(LossValuesMixin, BaseSingleTableSynthesizer):  # type: ignore[misc]
    """What the two synthesizers share: SDV's hooks."""

    # SDV's word for "leave it as it is".
    _model_sdtype_transformers: ClassVar[dict[str, None]] = {
        "categorical": None,
        "boolean": None,
        "ordinal": None,
    }
    _model: Learnt | None
    _gave_up: bool = False
    _spec: NeuralGenerator

    enable_gpu: bool
    seed: int
    threads: int
    verbose: bool

    @property
    def model(self) -> Any:
        """Our fitted model; it draws rows as they are before SDV decodes them.

        Raises
        ------
        OrderError
            Before ``fit``.
        """
        if self._model is None:
            raise OrderError("Expected a fitted synthesizer, got a new one: call fit first.")
        return self._model.model

    def get_parameters(self) -> dict[str, Any]:
        """The arguments that would make this synthesizer again, its metadata apart."""
        parameters: dict[str, Any] = super().get_parameters()
        del parameters["others"]
        return parameters

    def add_constraints(self, constraints: list[Any]) -> None:
        """Add constraints of ``sdv.cag``."""
        super().add_constraints(constraints)
        # SDV has made a new data processor, which encodes levels as numbers by default.
        self._update_default_transformers()

    def _update_default_transformers(self) -> None:
        super()._update_default_transformers()
        processor = self._data_processor
        for sdtype in ("numerical", "datetime"):
            transformer = copy.deepcopy(processor._transformers_by_sdtype[sdtype])
            transformer.missing_value_replacement = None
            transformer.missing_value_generation = None
            processor._update_transformers_by_sdtypes(sdtype, transformer)

    def _fit(self, processed_data: pd.DataFrame) -> None:
        transformers = self._data_processor._hyper_transformer.field_transformers
        discrete = detect_discrete_columns(self.metadata, processed_data, transformers)
        exact = self.enforce_rounding and self.enforce_min_max_values
        codec = Codec.read(processed_data, discrete, exact=exact)
        history: list[Progress] = []

        def note(progress: Progress) -> None:
            history.append(progress)
            if self.verbose:
                print(
                    f"step {progress.step} of {progress.steps}: {progress.in_words}",
                    file=sys.stderr,
                )

        model = self._spec.fit(
            codec.encode(processed_data),
            seed=self.seed,
            device="auto" if self.enable_gpu else "cpu",
            threads=self.threads,
            callback=note,
        )
        self._model = Learnt(model, codec, self._loss_values(history))

    def _loss_values(self, history: Sequence[Progress]) -> pd.DataFrame:
        raise NotImplementedError

    def _sample(self, num_rows: int, conditions: Mapping[str, Any] | None = None) -> pd.DataFrame:
        assert self._model is not None
        if conditions is None:
            return self._model.sample(num_rows)
        wanted = self._model.codec.wanted(self._but_datetimes(conditions), self._floats())
        if self._gave_up or not wanted:
            # SDV's word for "draw without conditions, and keep what fits".
            raise NotImplementedError
        rows = self._model.sample(num_rows, wanted)
        self._gave_up = len(rows) < num_rows
        if not len(rows):
            raise NotImplementedError
        return rows

    def _sample_batch(self, *args: Any, **arguments: Any) -> Any:
        # Conditions that were met too rarely are not tried again in the same batch.
        self._gave_up = False
        return super()._sample_batch(*args, **arguments)

    def _but_datetimes(self, conditions: Mapping[str, Any]) -> dict[str, Any]:
        """Dates are compared as they are written, which SDV does after decoding."""
        sdtypes = self._data_processor.get_sdtypes()
        return {
            name: value for name, value in conditions.items() if sdtypes.get(name) != "datetime"
        }

    def _floats(self) -> list[str]:
        dtypes = self._data_processor._dtypes
        return [name for name, kind in dtypes.items() if pd.api.types.is_float_dtype(kind)]


class CTGANSynthesizer(_Synthesizer):
    """SDV's ``CTGANSynthesizer`` with our CTGAN.

    Parameters
    ----------
    metadata, enforce_min_max_values, enforce_rounding, locales
        As SDV has them.
    embedding_dim, generator_dim, discriminator_dim, generator_lr, generator_decay,
    discriminator_lr, batch_size, discriminator_steps, epochs, pac
        As SDV has them, with the defaults of `synthfactory.CTGAN`.
    verbose
        Write the losses to standard error now and then.
    enable_gpu
        Use a GPU when there is one.
    seed
        Of the fit; equal seeds give equal models.
    threads
        Processor threads of the fit.

    Raises
    ------
    OrderError
        When ``sdv`` is not installed, for an argument that is unknown or has no counterpart
        (``discriminator_decay``, ``log_frequency``), or a value outside its range.
    """

    def __init__(
        self,
        metadata: Any,
        enforce_min_max_values: bool = True,
        enforce_rounding: bool = True,
        locales: Sequence[str] | str = ("en_US",),
        embedding_dim: int = CTGAN.embedding_dim,
        generator_dim: Sequence[int] = CTGAN.generator_dims,
        discriminator_dim: Sequence[int] = CTGAN.discriminator_dims,
        generator_lr: float = CTGAN.generator_lr,
        generator_decay: float = CTGAN.generator_decay,
        discriminator_lr: float = CTGAN.discriminator_lr,
        batch_size: int = CTGAN.batch_size,
        discriminator_steps: int = CTGAN.discriminator_steps,
        verbose: bool = False,
        epochs: int = CTGAN.epochs,
        pac: int = CTGAN.pac,
        enable_gpu: bool = True,
        *,
        seed: int = 0,
        threads: int = 2,
        **others: Any,
    ) -> None:
        _refuse(type(self), others)
        super().__init__(
            metadata=metadata,
            enforce_min_max_values=enforce_min_max_values,
            enforce_rounding=enforce_rounding,
            locales=locales if isinstance(locales, str) else list(locales),
        )
        self.embedding_dim, self.generator_dim = embedding_dim, generator_dim
        self.discriminator_dim, self.generator_lr = discriminator_dim, generator_lr
        self.generator_decay, self.discriminator_lr = generator_decay, discriminator_lr
        self.batch_size, self.discriminator_steps = batch_size, discriminator_steps
        self.verbose, self.epochs, self.pac, self.enable_gpu = verbose, epochs, pac, enable_gpu
        self.seed, self.threads = seed, threads
        self._spec = CTGAN(
            epochs=epochs,
            batch_size=batch_size,
            embedding_dim=embedding_dim,
            pac=pac,
            generator_dims=tuple(generator_dim),
            discriminator_dims=tuple(discriminator_dim),
            generator_lr=generator_lr,
            discriminator_lr=discriminator_lr,
            generator_decay=generator_decay,
            discriminator_steps=discriminator_steps,
        )

    def _loss_values(self, history: Sequence[Progress]) -> pd.DataFrame:
        return _losses(
            history,
            self.epochs,
            {"Generator Loss": "generator loss", "Discriminator Loss": "critic loss"},
        )


class TVAESynthesizer(_Synthesizer):
    """SDV's ``TVAESynthesizer`` with our TVAE.

    Parameters
    ----------
    metadata, enforce_min_max_values, enforce_rounding, locales
        As SDV has them.
    embedding_dim, compress_dims, decompress_dims, l2scale, batch_size, epochs, loss_factor
        As SDV has them, with the defaults of `synthfactory.TVAE`.
    verbose, enable_gpu, seed, threads
        As in `CTGANSynthesizer`.

    Raises
    ------
    OrderError
        When ``sdv`` is not installed, for an unknown argument, or a value outside its range.
    """

    def __init__(
        self,
        metadata: Any,
        enforce_min_max_values: bool = True,
        enforce_rounding: bool = True,
        embedding_dim: int = TVAE.embedding_dim,
        compress_dims: Sequence[int] = TVAE.encoder_dims,
        decompress_dims: Sequence[int] = TVAE.decoder_dims,
        l2scale: float = TVAE.weight_decay,
        batch_size: int = TVAE.batch_size,
        verbose: bool = False,
        epochs: int = TVAE.epochs,
        loss_factor: float = TVAE.loss_factor,
        enable_gpu: bool = True,
        *,
        locales: Sequence[str] | str = ("en_US",),
        seed: int = 0,
        threads: int = 2,
        **others: Any,
    ) -> None:
        _refuse(type(self), others)
        super().__init__(
            metadata=metadata,
            enforce_min_max_values=enforce_min_max_values,
            enforce_rounding=enforce_rounding,
            locales=locales if isinstance(locales, str) else list(locales),
        )
        self.embedding_dim, self.compress_dims = embedding_dim, compress_dims
        self.decompress_dims, self.l2scale = decompress_dims, l2scale
        self.batch_size, self.verbose, self.epochs = batch_size, verbose, epochs
        self.loss_factor, self.enable_gpu = loss_factor, enable_gpu
        self.seed, self.threads = seed, threads
        self._spec = TVAE(
            epochs=epochs,
            batch_size=batch_size,
            embedding_dim=embedding_dim,
            encoder_dims=tuple(compress_dims),
            decoder_dims=tuple(decompress_dims),
            weight_decay=l2scale,
            loss_factor=loss_factor,
        )

    def _loss_values(self, history: Sequence[Progress]) -> pd.DataFrame:
        return _losses(history, self.epochs, {"Loss": "reconstruction", "Divergence": "divergence"})


def _refuse(kind: type, others: Mapping[str, Any]) -> None:
    """Refuse arguments that there are not."""
    for name in others:
        if name in WITHOUT_COUNTERPART:
            raise OrderError(
                f"{kind.__name__}: '{name}' has no counterpart in this engine: "
                f"{WITHOUT_COUNTERPART[name]}. Leave it out."
            )
        known = [
            argument
            for argument in kind.__init__.__annotations__  # type: ignore[misc]
            if argument not in ("others", "return")
        ]
        raise OrderError(f"{kind.__name__} has no argument '{name}'{did_you_mean(name, known)}")


def _losses(history: Sequence[Progress], epochs: int, names: Mapping[str, str]) -> pd.DataFrame:
    """Losses over epochs under SDV's names."""
    return pd.DataFrame(
        {
            "Epoch": [math.ceil(epochs * part.step / part.steps) - 1 for part in history],
            **{theirs: [part.losses[ours] for part in history] for theirs, ours in names.items()},
        }
    )
