"""Shadow models: what the audit asks of a generator, above both rooms that may not see each other.

The evaluation knows encoded rows, a `Trainer` and a `ShadowModel`; generators know tables.
"""

from __future__ import annotations

from collections.abc import Sequence

from synthfactory import generators, interruption, seeds
from synthfactory.errors import Interrupted
from synthfactory.evaluation import Evaluation, Findings
from synthfactory.evaluation.evidence import Floats
from synthfactory.generators import Generator, Model, NeuralGenerator, Progress
from synthfactory.tables import Encoded, Encoder, Schema, Table

TOGETHER = 4


class Shadow:
    """A fitted model as the membership attacks see it (`ShadowModel`).

    Parameters
    ----------
    model
        The model.
    threads
        Processor threads of sampling.
    """

    def __init__(self, model: Model, *, threads: int = 2) -> None:
        self._model, self._threads = model, threads
        self._encoder = Encoder(model.schema)

    def sample(self, n_rows: int, *, seed: int) -> Encoded:
        """Synthetic rows."""
        return self._encoder.encode(self._model.sample(n_rows, seed=seed, threads=self._threads))

    def log_likelihood(self, rows: Encoded) -> Floats | None:
        """**Shape** (n_rows,), estimated with the same chance for every model; None without."""
        return self._model.log_likelihood(self._encoder.decode(rows, seed=0), seed=0)


class ShadowTrainer:
    """Trains models as the judged one was trained (`Trainer`).

    Parameters
    ----------
    spec
        The generator, with its hyperparameters.
    schema
        Of the rows.
    device, threads
        As for `Generator.fit`.
    """

    def __init__(
        self, spec: Generator, schema: Schema, *, device: str = "auto", threads: int = 2
    ) -> None:
        self._spec, self._device, self._threads = spec, device, threads
        self._encoder = Encoder(schema)

    @property
    def at_once(self) -> int:
        """As many as one step of a GPU trains; on a processor few, so that workers share them."""
        if not isinstance(self._spec, NeuralGenerator):
            return TOGETHER
        return max(TOGETHER, generators.members_at_once(self._device))

    @property
    def claim(self) -> tuple[float, float] | None:
        """Epsilon and delta of the specification, where it has them."""
        epsilon = getattr(self._spec, "epsilon", None)
        if epsilon is None:
            return None
        return float(epsilon), float(getattr(self._spec, "delta", None) or 0.0)

    def fit(self, parts: Sequence[Encoded], seeds_of: Sequence[int]) -> list[Shadow]:
        """A model for each part, trained as one ensemble where the generator can.

        Raises
        ------
        Interrupted
            When the process is asked to stop; nothing of the fits is kept.
        """
        tables = [
            self._encoder.decode(part, seed=seeds.derive(seed, "identifiers"))
            for part, seed in zip(parts, seeds_of, strict=True)
        ]
        return [Shadow(model, threads=self._threads) for model in self._models(tables, seeds_of)]

    def _models(self, tables: Sequence[Table], seeds_of: Sequence[int]) -> Sequence[Model]:
        spec = self._spec
        if isinstance(spec, NeuralGenerator) and self._fits_together(spec, tables):
            return generators.fit_tables(
                spec,
                tables,
                seeds_of,
                device=self._device,
                threads=self._threads,
                callback=_stop_when_asked,
            )
        models = []
        for table, seed in zip(tables, seeds_of, strict=True):
            _stop_when_asked()
            models.append(
                spec.fit(
                    table,
                    seed=seed,
                    device=self._device,
                    threads=self._threads,
                    callback=_stop_when_asked,
                )
            )
        return models

    @staticmethod
    def _fits_together(spec: NeuralGenerator, tables: Sequence[Table]) -> bool:
        enough = min(table.n_rows for table in tables) >= spec.batch_size
        return enough and spec.patience == 0 and spec.ranks == 1


def _stop_when_asked(progress: Progress | None = None) -> None:
    """Called now and then during a fit."""
    if interruption.asked():
        raise Interrupted("The audit was asked to stop while shadow models trained.")


def evaluate(
    *,
    train: Table,
    control: Table,
    test: Table,
    synthetic: Table,
    seed: int,
    evaluation: Evaluation | None = None,
    threads: int = 2,
    generator: Generator | None = None,
    model: Model | None = None,
    device: str = "auto",
) -> Findings:
    """Measure fidelity, privacy leakage and utility; see `Evaluation.run`.

    Parameters
    ----------
    train, control, test, synthetic, seed, threads
        As in `Evaluation.run`.
    evaluation
        Which measurements; the default ones when None.
    generator
        The specification that was fitted; needed for shadow models.  The model's when None.
    model
        The model that made the synthetic rows.
    device
        Where shadow models are trained.

    Returns
    -------
    Findings
        With what could not be measured, and why, among its failures.
    """
    spec = generator if generator is not None or model is None else model.spec
    return (evaluation or Evaluation()).run(
        train=train,
        control=control,
        test=test,
        synthetic=synthetic,
        seed=seed,
        threads=threads,
        trainer=None
        if spec is None
        else ShadowTrainer(spec, train.schema, device=device, threads=threads),
        model=None if model is None else Shadow(model, threads=threads),
    )
