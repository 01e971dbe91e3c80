"""The path of fits on a GPU, on a simulated one: what would fail or wait there fails here."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from generators.examples import SMALL_GAN, SMALL_VAE, of_columns, related_tables
from simulated_gpu import GPU, GpuTensor, SimulatedError, SimulatedGpu, simulated_gpu

import synthfactory as sf
from synthfactory.evaluation.neighbours import Points, nearest_k
from synthfactory.generators import noise
from synthfactory.generators.drawing import Deck
from synthfactory.generators.neural import NeuralTrainer, fit_ensemble
from synthfactory.generators.precision import using_precision
from synthfactory.generators.representation import Representation
from synthfactory.generators.training import Runner, train

SPECS = [SMALL_GAN, SMALL_VAE]
WIDE_GAN = dataclasses.replace(
    SMALL_GAN, dropout=0.5, discriminator_steps=2, average_decay=0.99, discriminator_dims=(32, 16)
)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedGpu]:
    monkeypatch.setattr(noise, "BLOCK", 4)
    with simulated_gpu(monkeypatch) as device:
        yield device


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[sf.Table]:
    return related_tables(tmp_path_factory)


def _trainer(spec: Any, tables: list[sf.Table], device: torch.device = GPU) -> NeuralTrainer:
    members = [Representation.fit(table) for table in tables]
    rows = [member.encode(table, seed=1) for member, table in zip(members, tables, strict=True)]
    seeds = list(range(1, len(tables) + 1))
    made: NeuralTrainer = spec._trainer(members, Deck(rows, device), seeds, device)
    return made


@pytest.mark.parametrize("precision", ["auto", "bf16"])
@pytest.mark.parametrize("n_members", [1, 3])
@pytest.mark.parametrize("spec", [*SPECS, WIDE_GAN], ids=["ctgan", "tvae", "ctgan-all"])
def test_a_step_waits_for_nothing(
    spec: Any, n_members: int, precision: str, tables: list[sf.Table], gpu: SimulatedGpu
) -> None:
    spec = dataclasses.replace(spec, precision=precision)
    schema = tables[0].schema
    same = [table for table in tables if table.schema == schema][:n_members]
    trainer = _trainer(spec, same)
    trainer.prepare(0)
    trainer.step(0)
    gpu.forget()
    trainer.step(1)
    assert not gpu.waits
    assert gpu.launched["bmm"] >= 10
    assert gpu.launched.total() < 1082 // 2, "the reference's step launches 1,082 operations"
    assert all(value.device == GPU for value in trainer.learnt.values())


@pytest.mark.parametrize("n_members", [1, 3])
@pytest.mark.parametrize("spec", [*SPECS, WIDE_GAN], ids=["ctgan", "tvae", "ctgan-all"])
def test_replayed_graphs_train_the_same_weights(
    spec: Any, n_members: int, tables: list[sf.Table], gpu: SimulatedGpu
) -> None:
    plain, graph = (_trainer(spec, tables[:n_members]) for _ in range(2))
    block = plain.block
    assert block > 1
    runners = Runner(plain, capture=lambda body: body), Runner(graph)
    # Whole blocks are replayed; a report or an end within a block is reached step by step.
    parts = [(0, block), (block, block), (2 * block, 3), (2 * block + 3, block - 3)]
    for runner in runners:
        runner(0, block)
    gpu.forget()
    for done, count in [*parts[1:], (3 * block, block)]:
        for runner in runners:
            runner(done, count)
    assert gpu.replays == 3
    assert not gpu.waits, "neither a step nor the chance of a block waits"
    _expect_equal(plain, graph)


def test_a_lower_rate_is_recorded_anew(tables: list[sf.Table], gpu: SimulatedGpu) -> None:
    plain, graph = (_trainer(SMALL_GAN, tables[:1]) for _ in range(2))
    for trainer, capture in ((plain, lambda body: body), (graph, None)):
        for done in (0, trainer.block):
            Runner(trainer, capture=capture)(done, trainer.block)
            trainer.slow_down(0.5)
    assert gpu.replays == 2
    _expect_equal(plain, graph)


def _expect_equal(one: NeuralTrainer, other: NeuralTrainer) -> None:
    for name, value in one.tensors.items():
        assert torch.equal(value.cpu(), other.tensors[name].cpu()), name


@pytest.mark.parametrize("spec", SPECS, ids=["ctgan", "tvae"])
def test_a_whole_fit(spec: Any, tables: list[sf.Table], gpu: SimulatedGpu) -> None:
    table = tables[0]
    spec = dataclasses.replace(spec, epochs=8)
    told: list[int] = []
    model = spec.fit(table, seed=3, device="cuda:0", callback=lambda made: told.append(made.step))
    assert gpu.replays > 5
    assert told[-1] == spec.steps(table.n_rows)
    rows, real = model.sample(2_000, seed=1).to_pandas(), table.to_pandas()
    assert abs(rows["group"].eq("a").mean() - real["group"].eq("a").mean()) < 0.05
    assert abs(rows["size"].isna().mean() - real["size"].isna().mean()) < 0.05


@pytest.mark.parametrize("spec", SPECS, ids=["ctgan", "tvae"])
def test_a_member_follows_the_single_fit(
    spec: Any, tables: list[sf.Table], gpu: SimulatedGpu
) -> None:
    together = _trainer(spec, tables)
    alone = [_trainer_of(spec, tables[place], place + 1) for place in range(3)]
    Runner(together)(0, together.block)
    for trainer in alone:
        runner = Runner(trainer)
        for step in range(together.block):
            if step % trainer.block == 0:
                trainer.prepare(step)
            runner._steps(step % trainer.block, 1)
    losses = together.losses.cpu() / together.block
    for place, trainer in enumerate(alone):
        own = trainer.losses.cpu()[:, 0] / together.block
        torch.testing.assert_close(losses[:, place], own, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("spec", SPECS, ids=["ctgan", "tvae"])
def test_a_member_is_finished_in_few_operations(
    spec: Any, gpu: SimulatedGpu, tmp_path: Path
) -> None:
    launched = []
    for n_columns in (2, 20):
        chance = np.random.default_rng(n_columns)
        columns = {f"c{k}": chance.choice(list("abcdefghi")[: 2 + k % 6], 600) for k in range(18)}
        frame = {"x": chance.normal(size=600), **columns}
        few = dict(list(frame.items())[:n_columns])
        trainer = _trainer(spec, [of_columns(few, tmp_path)])
        gpu.forget()
        model = trainer.finish(0)
        launched.append(gpu.launched.total())
        assert gpu.waits.total() <= 20
        assert gpu.launched["_softmax"] == 30, "all columns in each round of the calibration"
        assert model.weights["head.bias"].device == GPU
    assert launched[1] - launched[0] <= 8 * 10, "an operation serves all columns of one size"
    assert launched[1] < 500


@pytest.mark.parametrize("spec", SPECS, ids=["ctgan", "tvae"])
def test_more_members_wait_no_longer_before_the_first_step(
    spec: Any, tables: list[sf.Table], gpu: SimulatedGpu
) -> None:
    representation = Representation.fit(tables[0])
    rows = [representation.encode(tables[0], seed=seed) for seed in range(8)]
    waits = []
    for count in (2, 8):
        deck = Deck(rows[:count], GPU)
        gpu.forget()
        spec._trainer([representation] * count, deck, list(range(count)), GPU)
        waits.append(gpu.waits.total())
    assert waits[0] == waits[1] <= 25


def test_batch_statistics_of_one_pass_are_those_of_many(
    tables: list[sf.Table], gpu: SimulatedGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = dataclasses.replace(SMALL_GAN, calibrate=False)
    trainer = _trainer(spec, tables[:1])
    one_pass = trainer.finish(0)
    gpu.forget()
    monkeypatch.setattr("synthfactory.generators.ctgan.MAX_NUMBERS", 1)
    many = trainer.finish(0)
    assert gpu.launched["normal_"] == 50
    for name, value in one_pass.weights.items():
        torch.testing.assert_close(value.cpu(), many.weights[name].cpu(), rtol=0.1, atol=0.02)


def _trainer_of(spec: Any, table: sf.Table, seed: int) -> NeuralTrainer:
    member = Representation.fit(table)
    rows = member.encode(table, seed=1)
    made: NeuralTrainer = spec._trainer([member], Deck([rows], GPU), [seed], GPU)
    return made


def test_ensembles_are_one_graph(tables: list[sf.Table], gpu: SimulatedGpu) -> None:
    table = tables[0]
    spec = dataclasses.replace(SMALL_VAE, epochs=8)
    members = [(range(start, start + 300), start) for start in (0, 200, 400)]
    models = fit_ensemble(spec, table, members, device="cuda:0")
    assert len(models) == 3
    assert gpu.replays
    assert len({model.sample(50, seed=1).digest for model in models}) == 3


@pytest.mark.slow
def test_an_interrupted_fit_goes_on(
    tables: list[sf.Table], gpu: SimulatedGpu, tmp_path: Path
) -> None:
    spec = dataclasses.replace(SMALL_GAN, epochs=6)
    whole = spec.fit(tables[0], seed=3, device="cuda:0")

    class StoppedError(Exception):
        pass

    def stop(made: sf.Progress) -> None:
        if made.step >= 20:
            raise StoppedError

    path = tmp_path / "fit.safetensors"
    with pytest.MonkeyPatch.context() as always:
        always.setattr("synthfactory.generators.training.CHECKPOINT_S", (0.0, 0.0))
        with pytest.raises(StoppedError):
            spec.fit(tables[0], seed=3, device="cuda:0", callback=stop, checkpoint=path)
    assert path.exists()
    again = spec.fit(tables[0], seed=3, device="cuda:0", checkpoint=path)
    for name, value in whole.weights.items():
        assert torch.equal(value.cpu(), again.weights[name].cpu()), name


def test_a_graph_of_one_step_reads_the_rows_of_each(
    tables: list[sf.Table], gpu: SimulatedGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("synthfactory.generators.ctgan.block_of", lambda numbers, device: 1)
    plain, graph = (_trainer(SMALL_GAN, tables[:1]) for _ in range(2))
    runners = Runner(plain, capture=lambda body: body), Runner(graph)
    for runner in runners:
        for done in range(5):
            runner(done, 1)
    assert gpu.replays == 5
    _expect_equal(plain, graph)


@pytest.mark.parametrize("spec", SPECS, ids=["ctgan", "tvae"])
def test_embedded_columns_beside_narrow_ones(spec: Any, gpu: SimulatedGpu, tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).permutation(1_200)
    columns = {
        "code": [f"c{number % 600:04d}" for number in numbers],
        "kind": np.where(numbers % 3 == 0, "a", "b"),
        "amount": numbers / 7.0,
    }
    table = of_columns(columns, tmp_path, columns={"code": {"kind": "categorical"}})
    model = spec.fit(table, seed=3, device="cuda:0")
    assert gpu.replays
    assert model.sample(50, seed=1).n_rows == 50


def test_losses_that_are_no_numbers_are_gone_back_from(
    tables: list[sf.Table], gpu: SimulatedGpu
) -> None:
    trainer = _trainer(SMALL_VAE, tables[:1])
    spoilt = [2 * trainer.block]
    prepare = trainer.prepare

    def spoil(step: int) -> None:
        if step in spoilt:
            spoilt.clear()
            next(iter(trainer.learnt.values())).fill_(torch.nan)
        prepare(step)

    trainer.prepare = spoil  # type: ignore[method-assign]
    course = train(trainer, steps=6 * trainer.block)
    assert course.rollbacks == 1
    assert not spoilt
    assert all(bool(torch.isfinite(value).all()) for value in trainer.learnt.values())


@pytest.mark.slow
def test_rows_are_drawn_on_the_gpu(tables: list[sf.Table], gpu: SimulatedGpu) -> None:
    table = tables[0]
    for spec in SPECS:
        model = spec.fit(table, seed=3, device="cpu").to(GPU)
        gpu.forget()
        rows = model.sample(3_000, seed=1)
        assert gpu.launched["bmm"] + gpu.launched["addmm"] + gpu.launched["mm"]
        assert rows.digest == model.sample(3_000, seed=1).digest
        some = model.sample(100, seed=1, conditions={"group": "b"}).to_pandas()
        assert some["group"].eq("b").all()


def test_neighbours_are_the_processors(gpu: SimulatedGpu) -> None:
    chance = np.random.default_rng(0)
    ours, theirs = (
        Points(
            numbers=chance.normal(size=(n_rows, 3)).astype(np.float32),
            codes=chance.integers(0, 4, (n_rows, 2)).astype(np.int32),
        )
        for n_rows in (300, 400)
    )
    there = nearest_k(ours, theirs, 3, threads=1, device="cuda:0")
    here = nearest_k(ours, theirs, 3, threads=1)
    np.testing.assert_allclose(there[0], here[0], rtol=1e-5)
    np.testing.assert_array_equal(there[1], here[1])
    assert gpu.launched.total()


# The simulated GPU itself: it refuses what a real one refuses.


def test_tensors_of_two_places_do_not_meet(gpu: SimulatedGpu) -> None:
    there = torch.ones(3, device=GPU)
    assert isinstance(there, GpuTensor)
    with pytest.raises(SimulatedError, match="on the processor beside"):
        there + torch.ones(3)
    assert (there + torch.tensor(1.0)).cpu().tolist() == [2.0, 2.0, 2.0], "a single number may"


def test_a_graph_neither_waits_nor_draws_nor_runs_python(gpu: SimulatedGpu) -> None:
    there, calls = torch.zeros(3, device=GPU), []
    stream = torch.Generator()

    def count() -> None:
        calls.append(1)
        there.add_(float(len(calls)))

    replay = gpu.record(count, GPU)
    there.zero_()
    replay()
    replay()
    assert len(calls) == 3, "two warm-ups and the recording"
    assert there.cpu().tolist() == [6.0, 6.0, 6.0], "the number that was recorded, twice"
    for body, word in (
        (lambda: float(there.sum()), "waits"),
        (lambda: there.copy_(torch.ones(3)), "waits"),
        (lambda: torch.rand(3, device=GPU, generator=stream), "draws"),
        (lambda: there[there > 0], "waits"),
    ):
        with pytest.raises(SimulatedError, match=word):
            gpu.record(body, GPU)  # type: ignore[arg-type]


def test_waits_are_counted(gpu: SimulatedGpu) -> None:
    there = torch.arange(4, device=GPU)
    gpu.forget()
    float(there.sum())
    there.cpu()
    torch.nonzero(there)
    there.add_(1)
    assert gpu.waits.total() == 3
    with using_precision("auto", GPU):
        assert torch.get_float32_matmul_precision() == "high"
