"""Shadow models: what the audit asks of a generator, above both rooms that may not see each other.

The evaluation knows encoded rows, a `Trainer` and a `ShadowModel`; generators know tables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from synthfactory import generators, interruption, seeds
from synthfactory.artifacts import digest_json
from synthfactory.errors import Interrupted
from synthfactory.evaluation import Evaluation, Findings
from synthfactory.evaluation.evidence import Floats
from synthfactory.generators import Generator, Model, NeuralGenerator, Progress
from synthfactory.tables import Encoded, Encoder, Schema, Table

TOGETHER = 4
CHECKPOINT = ".checkpoint.safetensors"

Listen = Callable[[float, str], None]


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
    folder
        Where unfinished fits are kept; None to keep none.  A fit that is kept goes on after an
        interruption, and what it needed is removed when the next fit begins.
    listen
        Called now and then with the share of a fit's models that is trained, and a line of detail.
    """

    def __init__(
        self,
        spec: Generator,
        schema: Schema,
        *,
        device: str = "auto",
        threads: int = 2,
        folder: Path | None = None,
        listen: Listen | None = None,
    ) -> None:
        self._spec, self._device, self._threads = spec, device, threads
        self._encoder = Encoder(schema)
        self._folder, self._listen = folder, listen
        self._written: list[Path] = []

    @property
    def at_once(self) -> int:
        """As many as one step of a GPU trains; on a processor few, so that workers share them.

        One where each is a fit of its own: then each is kept as soon as it is made.
        """
        if not isinstance(self._spec, NeuralGenerator) or not self._spec.trains_together:
            return 1
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
            When the process is asked to stop.  A neural fit that has a folder is kept there; of
            others nothing is.
        """
        self._forget()
        tables = [
            self._encoder.decode(part, seed=seeds.derive(seed, "identifiers"))
            for part, seed in zip(parts, seeds_of, strict=True)
        ]
        return [Shadow(model, threads=self._threads) for model in self._models(tables, seeds_of)]

    def _models(self, tables: Sequence[Table], seeds_of: Sequence[int]) -> Sequence[Model]:
        spec = self._spec
        if isinstance(spec, NeuralGenerator) and self._fits_together(spec, tables):
            checkpoint = self._checkpoint(seeds_of)
            return generators.fit_tables(
                spec,
                tables,
                seeds_of,
                device=self._device,
                threads=self._threads,
                callback=self._callback(checkpoint is not None),
                checkpoint=checkpoint,
            )
        models = []
        for place, (table, seed) in enumerate(zip(tables, seeds_of, strict=True)):
            _stop_when_asked()
            checkpoint = self._checkpoint([seed])
            stops_itself = checkpoint is not None and isinstance(spec, NeuralGenerator)
            models.append(
                spec.fit(
                    table,
                    seed=seed,
                    device=self._device,
                    threads=self._threads,
                    callback=self._callback(stops_itself, place, len(tables)),
                    checkpoint=checkpoint,
                )
            )
        return models

    def _callback(
        self, stops_itself: bool, place: int = 0, of: int = 1
    ) -> Callable[[Progress], None]:
        """What a fit calls now and then, the ``place``-th one of so many.

        A neural fit that has a checkpoint writes it before it stops, so it isn't stopped here.
        """

        def callback(progress: Progress) -> None:
            if not stops_itself:
                _stop_when_asked()
            if self._listen is not None:
                share = (place + progress.step / progress.steps) / of
                self._listen(share, f"step {progress.step:,} of {progress.steps:,}")

        return callback

    def _checkpoint(self, seeds_of: Sequence[int]) -> Path | None:
        """Where the fit of these seeds is kept; what else determines it is told by its content."""
        if self._folder is None:
            return None
        digest = digest_json([str(seed) for seed in seeds_of]).removeprefix("sha256:")
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / f"shadows-{digest[:16]}{CHECKPOINT}"
        self._written.append(path)
        return path

    def _forget(self) -> None:
        """Remove what earlier fits left: what was seen of their models is kept."""
        for path in self._written:
            path.unlink(missing_ok=True)
        self._written.clear()

    @staticmethod
    def _fits_together(spec: NeuralGenerator, tables: Sequence[Table]) -> bool:
        enough = min(table.n_rows for table in tables) >= spec.batch_size
        return enough and len(tables) > 1 and spec.trains_together


def _stop_when_asked() -> None:
    if interruption.asked():
        raise Interrupted("The audit was asked to stop while shadow models trained.")


def steps_of(folder: Path) -> int:
    """Steps of the unfinished fits of shadow models that a folder keeps."""
    return sum(generators.step_of(path) for path in folder.glob(f"*{CHECKPOINT}"))


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
