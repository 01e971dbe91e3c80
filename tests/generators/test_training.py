"""The training loop, and what survives an interruption."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from generators.examples import SMALL_GAN, SMALL_VAE, as_table, mixed, n_slow
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import synthfactory as sf
from synthfactory.errors import OrderError, TrainingError
from synthfactory.generators import NeuralGenerator, Progress, fit_ensemble, training
from synthfactory.generators.drawing import Conditions, Deck
from synthfactory.generators.flat import Adam
from synthfactory.generators.neural import NeuralTrainer, fit_tables
from synthfactory.generators.representation import Representation
from synthfactory.generators.training import Checkpoint, Runner, Trainer, train, using_threads

CPU = torch.device("cpu")
BY_NAME = pytest.mark.parametrize("spec", [SMALL_GAN, SMALL_VAE], ids=lambda spec: spec.name)


@pytest.fixture
def table(tmp_path: Path) -> sf.Table:
    return as_table(mixed(600), tmp_path)


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps without the processor's compiled loops."""
    for module in ("tvae", "features"):
        monkeypatch.setattr(f"synthfactory.generators.{module}.fuses", lambda tensor: False)
    monkeypatch.setattr("synthfactory.generators.ctgan.loops_of", lambda *_: None)


class Counter(Trainer):
    """Adds its learning rate at each step; its loss is what `losses_at` says."""

    loss_names = ("loss",)

    def __init__(self, loss_at: Callable[[int, float], float] = lambda step, rate: 1.0) -> None:
        self.value = torch.zeros(())
        self.steps = torch.zeros(())
        self.rate = 1.0
        self.losses = torch.zeros(1, 1)
        self._loss_at = loss_at

    def prepare(self, step: int) -> None:
        assert step == int(self.steps)

    def step(self, slot: int) -> None:
        self.steps += 1.0
        self.value += self.rate
        self.losses += self._loss_at(int(self.steps), self.rate)

    @property
    def tensors(self) -> dict[str, Tensor]:
        rate = torch.tensor(self.rate)
        return {"value": self.value, "steps": self.steps, "losses": self.losses, "rate": rate}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        self.value.copy_(tensors["value"])
        self.steps.copy_(tensors["steps"])
        self.losses.copy_(tensors["losses"])
        self.rate = float(tensors["rate"])

    @property
    def learnt(self) -> dict[str, Tensor]:
        return {"value": self.value}

    def slow_down(self, factor: float) -> None:
        self.rate *= factor


def test_every_step_is_made_once() -> None:
    trainer = Counter()
    course = train(trainer, steps=1_234)
    assert course.step == int(trainer.value) == 1_234
    assert course.reports[-1]["step"] == 1_234
    assert all(report["losses"] == {"loss": 1.0} for report in course.reports)


def test_a_loss_that_is_no_number_goes_back_and_slows_down() -> None:
    trainer = Counter(lambda step, rate: float("nan") if step > 600 and rate > 0.3 else 1.0)
    course = train(trainer, steps=1_000)
    assert course.step == 1_000
    # A half was still too fast; a quarter was not.
    assert course.rollbacks == 2
    assert trainer.rate == 0.25
    steps = [report["step"] for report in course.reports]
    assert steps == sorted(set(steps))


def test_a_loss_that_never_is_a_number_ends_the_fit() -> None:
    trainer = Counter(lambda step, rate: float("nan"))
    with pytest.raises(TrainingError, match=r"loss is no finite number at step 1, even at ever"):
        train(trainer, steps=30)


def test_a_deadline_ends_the_fit() -> None:
    course = train(Counter(), steps=10**9, max_minutes=0.001)
    assert 0 < course.step < 10**9


def test_the_best_is_kept_when_nothing_improves() -> None:
    trainer = Counter()
    scores: list[float] = []

    def judge() -> float:
        scores.append(-abs(float(trainer.value) - 400.0))
        return scores[-1]

    course = train(trainer, steps=1_000, judge=judge, patience=3)
    assert course.best_step == 400
    assert course.step == 520
    assert float(trainer.value) == 400.0
    assert len(scores) == 13


def test_the_number_of_threads_is_put_back() -> None:
    before = torch.get_num_threads()
    with using_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


class Killed(Exception):
    """Stands for a time limit."""


@BY_NAME
@pytest.mark.parametrize("patience", [0, 5])
def test_an_interrupted_fit_ends_with_the_same_bytes(
    spec: NeuralGenerator, patience: int, table: sf.Table, tmp_path: Path, monkeypatch: Any
) -> None:
    spec = type(spec)(**{**spec.hyperparameters(), "epochs": 8, "patience": patience})
    monkeypatch.setattr(Checkpoint, "every_s", 0.0)
    monkeypatch.setattr(Checkpoint.__init__, "__kwdefaults__", {"every_s": 0.0})
    path = tmp_path / "fit.safetensors"
    whole: list[Progress] = []
    spec.fit(table, seed=3, threads=1, callback=whole.append).save(tmp_path / "whole")

    def kill_at(step: int) -> Callable[[Progress], None]:
        def listen(progress: Progress) -> None:
            if progress.step >= step:
                raise Killed

        return listen

    for share in (0.2, 0.5, 0.8):
        step = max(2, int(share * whole[-1].step))
        with pytest.raises(Killed):
            spec.fit(table, seed=3, threads=1, checkpoint=path, callback=kill_at(step))
        assert path.exists()
    seen: list[Progress] = []
    spec.fit(table, seed=3, threads=1, checkpoint=path, callback=seen.append).save(
        tmp_path / "resumed"
    )
    for name in ("weights.safetensors", "model.json"):
        assert (tmp_path / "resumed" / name).read_bytes() == (
            tmp_path / "whole" / name
        ).read_bytes()
    assert [(p.step, p.losses) for p in seen] == [(p.step, p.losses) for p in whole]


def test_a_checkpoint_of_another_fit_is_not_continued(table: sf.Table, tmp_path: Path) -> None:
    path = tmp_path / "fit.safetensors"
    first = SMALL_GAN.fit(table, seed=1, threads=1)
    path.write_bytes(b"no checkpoint at all")
    again = SMALL_GAN.fit(table, seed=1, threads=1, checkpoint=path)
    assert first.sample(50, seed=0).digest == again.sample(50, seed=0).digest


def test_a_checkpoint_holds_no_training_row(
    table: sf.Table, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(Checkpoint.__init__, "__kwdefaults__", {"every_s": 0.0})
    path = tmp_path / "fit.safetensors"
    for spec in (SMALL_GAN, SMALL_VAE):
        spec.fit(table, seed=1, threads=1, checkpoint=path)
        tensors = safetensors_of(path)
        n_rows = table.n_rows
        assert not any(n_rows in value.shape for value in tensors.values())
        assert not any(person.encode() in path.read_bytes() for person in people(table))
        path.unlink()


def safetensors_of(path: Path) -> dict[str, Tensor]:
    import safetensors.torch

    loaded: dict[str, Tensor] = safetensors.torch.load(path.read_bytes())
    return loaded


def people(table: sf.Table) -> list[str]:
    return [str(person) for person in table.to_pandas()["person"]]


def _trainer(spec: NeuralGenerator, tables: list[sf.Table], seeds: list[int]) -> NeuralTrainer:
    members = [Representation.fit(part) for part in tables]
    each = zip(members, tables, seeds, strict=True)
    rows = [member.encode(part, seed=seed) for member, part, seed in each]
    return spec._trainer(members, Deck(rows, CPU), seeds, CPU)


@BY_NAME
def test_a_member_follows_its_single_fit(spec: NeuralGenerator, tmp_path: Path) -> None:
    everything = as_table(mixed(1_500), tmp_path)
    chosen = [np.arange(0, 600), np.arange(500, 1_100), np.arange(900, 1_500)]
    tables, seeds = [everything.take(rows) for rows in chosen], [5, 6, 7]
    modes = {tuple(column.n_modes for column in Representation.fit(t).modes) for t in tables}
    assert len(modes) > 1, "members must differ in their modes for this test to say something"
    together = _trainer(spec, tables, seeds)
    alone = [_trainer(spec, [part], [seed]) for part, seed in zip(tables, seeds, strict=True)]
    with using_threads(1):
        for step in range(100):
            for trainer in (together, *alone):
                trainer.prepare(step)
                trainer.step(0)
            if step in (0, 9, 99):
                for member, single in enumerate(alone):
                    torch.testing.assert_close(
                        together.losses[:, member], single.losses[:, 0], rtol=2e-3, atol=2e-3
                    )
    for member, single in enumerate(alone):
        ours, theirs = together.finish(member), single.finish(0)
        assert ours.schema == theirs.schema
        torch.testing.assert_close(
            ours.weights["head.bias"], theirs.weights["head.bias"], rtol=0.05, atol=0.05
        )


@BY_NAME
def test_an_ensemble_gives_a_model_for_each_member(spec: NeuralGenerator, table: sf.Table) -> None:
    members = [(range(0, 400), 1), (range(100, 600), 2), (range(200, 500), 3)]
    for at_once in (1, 2, 3):
        models = fit_ensemble(spec, table, members, threads=1, at_once=at_once)
        rows = [model.sample(50, seed=1) for model in models]
        assert len({part.digest for part in rows}) == 3
        assert all(part.schema == table.schema for part in rows)


def test_a_member_that_diverges_is_fitted_alone(table: sf.Table, monkeypatch: Any) -> None:
    trainer_class = type(_trainer(SMALL_GAN, [table], [1]))
    plain = trainer_class.step

    def step(self: Any, slot: int) -> None:
        plain(self, slot)
        if self.losses.shape[1] > 1:
            self.generator.value["head.bias"][1] = float("nan")

    monkeypatch.setattr(trainer_class, "step", step)
    models = fit_tables(SMALL_GAN, [table, table], [1, 2], threads=1)
    single = SMALL_GAN.fit(table, seed=2, threads=1)
    assert models[1].sample(50, seed=1).digest == single.sample(50, seed=1).digest


def test_wrong_ensembles_are_named(table: sf.Table) -> None:
    with pytest.raises(OrderError, match="expected at least one pair"):
        fit_ensemble(SMALL_GAN, table, [])
    with pytest.raises(OrderError, match="fewer than batch_size=100"):
        fit_ensemble(SMALL_GAN, table, [(range(50), 1), (range(300), 2)], at_once=2)


def test_conditions_are_drawn_by_log_frequency_and_rows_have_them(table: sf.Table) -> None:
    member = Representation.fit(table)
    deck = Deck([member.encode(table, seed=0)], CPU)
    conditions = Conditions([member], deck, CPU)
    n = 200_000
    uniform = torch.rand(1, n, generator=torch.Generator().manual_seed(0))
    pairs = conditions.draw(uniform)
    counts = np.bincount(pairs[0].numpy(), minlength=sum(member.level_sizes)) / n
    expected = np.concatenate(
        [np.log1p(levels) / np.log1p(levels).sum() for levels in map(np.array, member.level_counts)]
    ) / len(member.level_counts)
    np.testing.assert_allclose(counts, expected, atol=0.005)
    rows = conditions.rows_with(pairs, torch.rand(1, 2, n))
    codes, _ = deck.take(rows)
    sizes = torch.tensor(member.level_sizes)
    columns = torch.bucketize(pairs[0], sizes.cumsum(0), right=True)
    levels = pairs[0] - (sizes.cumsum(0) - sizes)[columns]
    columns += member.n_numeric
    assert torch.equal(codes[0].gather(0, columns.unsqueeze(0))[0], levels)
    # Every row with a level is drawn, and equally often.
    first = rows[0][pairs[0] == pairs[0].max()]
    seen = np.bincount(first.numpy(), minlength=table.n_rows)
    hits = seen[seen > 0]
    assert len(hits) == member.level_counts[-1][-1]
    assert hits.min() > 0.5 * hits.mean()


@BY_NAME
def test_a_wide_column_is_embedded(spec: NeuralGenerator, tmp_path: Path) -> None:
    import pandas as pd

    chance = np.random.default_rng(0)
    codes = np.minimum(chance.geometric(0.004, 3_000), 1_000) - 1
    frame = pd.DataFrame({"code": [f"c{code:04d}" for code in codes], "x": codes * 0.5})
    wide = as_table(frame, tmp_path, columns={"code": {"kind": "categorical"}})
    trainer = _trainer(spec, [wide], [0])
    largest = max(
        value.numel() for value in trainer.tensors.values() if value.dtype.is_floating_point
    )
    assert largest < 1_000 * 400, "no weight grows with the square of the levels"
    model = spec.fit(wide, seed=0, threads=1)
    assert model.sample(200, seed=1).n_rows == 200


@pytest.mark.parametrize(
    "fields",
    [{}, {"dropout": 0.5, "discriminator_steps": 2}, {"dropout": 0.5, "precision": "bf16"}],
    ids=["plain", "dropout", "bf16"],
)
def test_compiled_loops_of_the_gan_follow_the_plain_operations(
    table: sf.Table, request: pytest.FixtureRequest, fields: dict[str, Any]
) -> None:
    spec = type(SMALL_GAN)(**{**SMALL_GAN.hyperparameters(), **fields})
    tables, seeds = [table, table.take(np.arange(300))], [3, 4]
    compiled = _trainer(spec, tables, seeds)
    request.getfixturevalue("as_on_a_gpu")
    plain = _trainer(spec, tables, seeds)
    with using_threads(1):
        for trainer in (compiled, plain):
            trainer.prepare(0)
            trainer.step(0)
        torch.testing.assert_close(compiled.losses, plain.losses, rtol=1e-4, atol=1e-4)
        for mine, theirs in (
            (compiled.generator, plain.generator),
            (compiled.critic, plain.critic),
        ):
            torch.testing.assert_close(mine.grads, theirs.grads, rtol=1e-2, atol=1e-4)
        for step in range(1, 50):
            for trainer in (compiled, plain):
                trainer.prepare(step)
                trainer.step(0)
    torch.testing.assert_close(compiled.losses, plain.losses, rtol=0.05, atol=0.2)
    kinds = {type(trainer._features).__name__ for trainer in (compiled, plain)}
    assert kinds == {"FusedFeatures", "Features"}, "two ways are compared"


@pytest.mark.parametrize("spec", [SMALL_GAN], ids=["gan"])
def test_what_is_no_number_passes_through_the_gans_loops(
    table: sf.Table, spec: NeuralGenerator
) -> None:
    trainer = _trainer(spec, [table], [0])
    trainer.generator.values.fill_(torch.nan)
    trainer.prepare(0)
    trainer.step(0)
    assert trainer.losses[[0, 2, 3]].isnan().all(), "all that the generator moves"


def test_compiled_loops_follow_the_plain_operations(
    table: sf.Table, request: pytest.FixtureRequest
) -> None:
    tables, seeds = [table, table.take(np.arange(300))], [3, 4]
    compiled = _trainer(SMALL_VAE, tables, seeds)
    request.getfixturevalue("as_on_a_gpu")
    plain = _trainer(SMALL_VAE, tables, seeds)
    with using_threads(1):
        for step in range(50):
            for trainer in (compiled, plain):
                trainer.prepare(step)
                trainer.step(0)
            if step == 0:
                torch.testing.assert_close(compiled.losses, plain.losses, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(compiled.losses, plain.losses, rtol=1e-3, atol=1e-3)
    kinds = {type(trainer._latent).__name__ for trainer in (compiled, plain)}
    assert kinds == {"FusedLatent", "Latent"}, "two ways are compared"


@BY_NAME
def test_long_fits_keep_to_numbers_that_a_processor_is_fast_with(
    spec: NeuralGenerator, table: sf.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What belongs to a unit that nobody uses decays: its weights, and moments of gradients."""

    def n_left() -> int:
        trainer = _trainer(spec, [table], [0])
        flat = trainer.generator if spec is SMALL_GAN else trainer.flat
        unused = "layer.0.bias" if spec is SMALL_GAN else "encoder.0.bias"
        flat.value[unused][:, 0] = -1e3
        with using_threads(1):
            for step in range(2_500):
                trainer.prepare(step)
                trainer.step(0)
        means = (value for name, value in trainer.tensors.items() if "means" in name)
        return sum(n_slow(tensor) for tensor in (flat.values, *means))

    assert n_left() == 0
    monkeypatch.setattr(Adam, "tidy", lambda *_: None)
    assert n_left() > 0, "otherwise there are some"


def test_bf16_learns_what_float32_learns(tmp_path: Path) -> None:
    table = as_table(mixed(1_000), tmp_path)
    means = {}
    for precision in ("float32", "bf16"):
        spec = type(SMALL_VAE)(
            **{**SMALL_VAE.hyperparameters(), "epochs": 40, "precision": precision}
        )
        frame = spec.fit(table, seed=0, threads=1).sample(2_000, seed=1).to_pandas()
        means[precision] = frame.groupby("group")["size"].mean()
    assert abs(means["float32"]["b"] - means["bf16"]["b"]) < 10
    with pytest.raises(OrderError, match="precision: expected one of auto, float32, bf16"):
        sf.CTGAN(precision="half")


class Waits(TorchDispatchMode):
    """Notes operations for whose result the processor would have to wait on a GPU."""

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "item", "equal")

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func).split(".")[1]
        if name in self.WAITING or "uniform" in name or "normal_" in name or "rand" in name:
            self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


@BY_NAME
@pytest.mark.usefixtures("as_on_a_gpu")
def test_a_step_waits_for_no_number_and_draws_none(spec: NeuralGenerator, table: sf.Table) -> None:
    for tables in ([table], [table, table.take(np.arange(300))]):
        trainer = _trainer(spec, tables, list(range(len(tables))))
        trainer.prepare(0)
        trainer.step(0)
        trainer.prepare(1)
        with Waits() as waits:
            trainer.step(0)
        assert not waits.seen
        with Waits() as waits:
            float(trainer.losses[0, 0])
        assert waits.seen, "the instrument sees a wait"


@BY_NAME
@pytest.mark.usefixtures("as_on_a_gpu")
def test_a_recorded_block_is_replayed_as_if_it_were_made(
    spec: NeuralGenerator, table: sf.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("ctgan", "tvae"):
        monkeypatch.setattr(f"synthfactory.generators.{module}.block_of", lambda *numbers: 4)
    recorded: list[int] = []

    def capture(body: Callable[[], None]) -> Callable[[], None]:
        # As a CUDA graph is made: the body runs some times, and again when it is replayed.
        for _ in range(3):
            body()
        recorded.append(1)
        return body

    plain, graph = (_trainer(spec, [table], [1]) for _ in range(2))
    assert plain.block == 4
    runners = Runner(plain), Runner(graph, capture=capture)
    for done, count in ((0, 4), (4, 4), (8, 3), (11, 1), (12, 4)):
        for runner in runners:
            runner(done, count)
    assert recorded == [1], "a block is recorded once"
    for name, value in plain.tensors.items():
        assert torch.equal(value, graph.tensors[name]), name


@BY_NAME
def test_an_ensemble_is_kept_between_blocks(
    spec: NeuralGenerator, table: sf.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shorter member may end within a block, whose chance is drawn at once."""
    for module in ("ctgan", "tvae"):
        monkeypatch.setattr(f"synthfactory.generators.{module}.block_of", lambda numbers, device: 4)
    tables = [table, table.take(range(300))]
    whole = fit_tables(spec, tables, [1, 2], threads=1, device="cpu")

    class StoppedError(Exception):
        pass

    written: list[int] = []

    def write(checkpoint: Any, trainer: Any, course: Any, *others: Any) -> None:
        keep(checkpoint, trainer, course, *others)
        written.append(course.step)
        if course.step > 6:
            raise StoppedError

    path = tmp_path / "fit.safetensors"
    keep = training._write
    with monkeypatch.context() as patched:
        patched.setattr(training, "CHECKPOINT_S", (0.0, 0.0))
        patched.setattr(training, "_write", write)
        with pytest.raises(StoppedError):
            fit_tables(spec, tables, [1, 2], threads=1, device="cpu", checkpoint=path)
    assert written
    assert all(step % 4 == 0 for step in written)
    again = fit_tables(spec, tables, [1, 2], threads=1, device="cpu", checkpoint=path)
    for one, other in zip(again, whole, strict=True):
        for name, value in one.weights.items():
            assert torch.equal(value, other.weights[name]), name
