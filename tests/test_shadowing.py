"""Shadow models that are asked to stop go on where they were, to the same bits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from simulated_gpu import simulated_gpu

import synthfactory as sf
from synthfactory import interruption
from synthfactory.errors import Interrupted
from synthfactory.generators import fit_tables, noise, step_of
from synthfactory.shadowing import Shadow, ShadowTrainer, steps_of
from synthfactory.tables import Column, Encoded, Encoder, Schema

SCHEMA = Schema(
    columns=(
        Column(name="x", kind="numerical", dtype="double"),
        Column(name="c", kind="categorical", dtype="string", categories=tuple("abc")),
    )
)
SMALL = sf.TVAE(epochs=30, batch_size=50, encoder_dims=(16,), decoder_dims=(16,), embedding_dim=8)
GAN = sf.CTGAN(epochs=30, batch_size=50, generator_dims=(16,), discriminator_dims=(16,))
SEEDS = (7, 8, 9)


@pytest.fixture(autouse=True)
def afresh() -> Iterator[None]:
    interruption.forget()
    yield
    interruption.forget()


def table(n_rows: int, seed: int = 0) -> sf.Table:
    chance = np.random.default_rng(seed)
    frame = pd.DataFrame({
        "x": chance.normal(size=n_rows), "c": chance.choice(list("abc"), n_rows),
    })  # fmt: skip
    return sf.Table(data=pa.Table.from_pandas(frame, preserve_index=False), schema=SCHEMA)


def parts(*sizes: int) -> list[Encoded]:
    encoder = Encoder(SCHEMA)
    return [encoder.encode(table(n_rows, seed)) for seed, n_rows in enumerate(sizes)]


class Listener:
    """Notes what a trainer tells, and asks to stop at a share of the fit."""

    def __init__(self, stop_at: float = 2.0) -> None:
        self.shares: list[float] = []
        self._stop_at = stop_at

    def __call__(self, share: float, doing: str) -> None:
        assert doing.startswith("step ")
        self.shares.append(share)
        if share >= self._stop_at:
            interruption.ask()


def trainer(
    spec: Any, folder: Path | None, listen: Listener | None = None, device: str = "cpu"
) -> ShadowTrainer:
    return ShadowTrainer(
        spec, SCHEMA, device=device, threads=1, folder=folder, listen=listen or Listener()
    )


def drawn(shadows: list[Shadow]) -> list[bytes]:
    return [shadow.sample(40, seed=1).numbers.tobytes() for shadow in shadows]


@pytest.mark.parametrize("spec", [SMALL, GAN], ids=["tvae", "ctgan"])
@pytest.mark.parametrize("sizes", [(200, 200, 200), (160, 260, 210)], ids=["equal", "unequal"])
def test_group_that_was_asked_to_stop_goes_on_to_the_same_bits(
    spec: Any, sizes: tuple[int, ...], tmp_path: Path
) -> None:
    if len(set(sizes)) > 1:
        assert len({spec.steps(n_rows) for n_rows in sizes}) == 3
    whole = drawn(trainer(spec, None).fit(parts(*sizes), SEEDS))
    # After the shortest member has ended, and before the longest has.
    with pytest.raises(Interrupted, match="it goes on from step"):
        trainer(spec, tmp_path, Listener(stop_at=0.75)).fit(parts(*sizes), SEEDS)
    interruption.forget()
    (kept,) = tmp_path.iterdir()
    assert step_of(kept) == steps_of(tmp_path) >= 0.75 * spec.steps(max(sizes))
    later = Listener()
    again = trainer(spec, tmp_path, later)
    assert drawn(again.fit(parts(*sizes), SEEDS)) == whole
    # What was told before is told again, and nothing is trained twice.
    assert later.shares == sorted(set(later.shares))
    assert later.shares[-1] == 1.0
    assert kept.exists(), "the models are not yet looked at"
    again.fit(parts(60, 60), (1, 2))
    assert not kept.exists()


@pytest.mark.parametrize("spec", [SMALL, GAN], ids=["tvae", "ctgan"])
def test_group_on_a_gpu_goes_on_to_the_same_bits(
    spec: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noise, "BLOCK", 4)
    people = parts(30)[0]
    with simulated_gpu(monkeypatch) as gpu:
        sizes = (80, 130, 105)
        whole = trainer(spec, None, device="cuda:0").fit(parts(*sizes), SEEDS)
        assert gpu.replays, "the members are one graph"
        with pytest.raises(Interrupted, match="it goes on from step"):
            trainer(spec, tmp_path, Listener(stop_at=0.7), "cuda:0").fit(parts(*sizes), SEEDS)
        interruption.forget()
        again = trainer(spec, tmp_path, device="cuda:0").fit(parts(*sizes), SEEDS)
        assert drawn(again) == drawn(whole)
        for one, other in zip(again, whole, strict=True):
            seen, before = one.log_likelihood(people), other.log_likelihood(people)
            assert (seen is None) == (before is None)
            if seen is not None and before is not None:
                np.testing.assert_array_equal(seen, before)


def test_steps_are_not_made_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    kind = SMALL.trainer
    plain = kind.step

    def step(self: Any, slot: int) -> None:
        made.append(slot)
        plain(self, slot)

    monkeypatch.setattr(kind, "step", step)
    with pytest.raises(Interrupted):
        trainer(SMALL, tmp_path, Listener(stop_at=0.5)).fit(parts(200, 200), (1, 2))
    interruption.forget()
    trainer(SMALL, tmp_path).fit(parts(200, 200), (1, 2))
    assert len(made) == SMALL.steps(200)


def test_other_rows_or_seeds_do_not_go_on(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        trainer(SMALL, tmp_path, Listener(stop_at=0.5)).fit(parts(200, 200), (1, 2))
    interruption.forget()
    (kept,) = tmp_path.iterdir()
    others = [parts(200, 200)[1], parts(200, 200)[0]]
    assert drawn(trainer(SMALL, tmp_path).fit(others, (1, 2))) == drawn(
        trainer(SMALL, None).fit(others, (1, 2))
    )
    kept.write_bytes(kept.read_bytes()[:100])
    assert drawn(trainer(SMALL, tmp_path).fit(parts(200, 200), (1, 2))) == drawn(
        trainer(SMALL, None).fit(parts(200, 200), (1, 2))
    )


def test_ensembles_of_one_are_kept_too(tmp_path: Path) -> None:
    kept = tmp_path / "fit.checkpoint.safetensors"
    whole = SMALL.fit(table(200), seed=3, device="cpu", threads=1)
    with pytest.raises(Interrupted):
        fit_tables(
            SMALL, [table(200)], [3], device="cpu", threads=1, checkpoint=kept,
            callback=lambda progress: interruption.ask(),
        )  # fmt: skip
    interruption.forget()
    assert step_of(kept) > 0
    (model,) = fit_tables(SMALL, [table(200)], [3], device="cpu", threads=1, checkpoint=kept)
    assert model.sample(40, seed=1).digest == whole.sample(40, seed=1).digest


@pytest.mark.parametrize(
    "spec", [sf.Independent(), sf.CART(), sf.TVAE(epochs=1, patience=2)], ids=lambda it: it.name
)
def test_models_that_do_not_train_together_are_kept_one_by_one(spec: Any) -> None:
    assert trainer(spec, None).at_once == 1
    assert trainer(SMALL, None).at_once > 1


def test_small_parts_are_fitted_one_by_one_and_stop_at_a_checkpoint(tmp_path: Path) -> None:
    sizes = (40, 44)
    whole = drawn(trainer(SMALL, None).fit(parts(*sizes), (1, 2)))
    with pytest.raises(Interrupted, match="it goes on from step"):
        trainer(SMALL, tmp_path, Listener(stop_at=0.7)).fit(parts(*sizes), (1, 2))
    interruption.forget()
    assert drawn(trainer(SMALL, tmp_path).fit(parts(*sizes), (1, 2))) == whole


def test_without_a_folder_a_fit_stops_at_once() -> None:
    listener = Listener(stop_at=0.2)
    with pytest.raises(Interrupted, match="asked to stop while shadow models trained"):
        trainer(SMALL, None, listener).fit(parts(200, 200), (1, 2))
    assert max(listener.shares) < 0.5
