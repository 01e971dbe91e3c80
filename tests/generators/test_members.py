"""What members of an ensemble share, and that sharing changes no number."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from generators.examples import SMALL_GAN, SMALL_VAE, as_table, mixed

import synthfactory as sf
from synthfactory.generators import NeuralGenerator, fit_ensemble, fit_tables
from synthfactory.generators.drawing import Conditions, Deck
from synthfactory.generators.flat import Flat
from synthfactory.generators.members import fill_members, first_equals, represent, take_each
from synthfactory.generators.neural import NeuralTrainer
from synthfactory.generators.representation import Representation
from synthfactory.generators.training import using_threads
from synthfactory.seeds import torch_stream

CPU = torch.device("cpu")
BY_NAME = pytest.mark.parametrize("spec", [SMALL_GAN, SMALL_VAE], ids=["ctgan", "tvae"])


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> sf.Table:
    return as_table(mixed(600).drop(columns="person"), tmp_path_factory.mktemp("members"))


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of rows to which representations were fitted."""
    fitted: list[int] = []
    plain = Representation.of.__func__  # type: ignore[attr-defined]

    def of(cls: type[Representation], schema: Any, encoded: Any) -> Representation:
        fitted.append(len(encoded))
        made: Representation = plain(cls, schema, encoded)
        return made

    monkeypatch.setattr(Representation, "of", classmethod(of))
    return fitted


def test_equal_row_numbers_are_taken_once(table: sf.Table) -> None:
    rows = [range(0, 300), list(range(300)), np.arange(300, dtype=np.int32), range(299, -1, -1)]
    first, *alike, turned = take_each(table, rows)
    assert all(part is first for part in alike)
    assert turned is not first
    assert first.digest == table.take(range(300)).digest
    assert turned.digest == table.take(list(range(299, -1, -1))).digest
    (empty,) = take_each(table, [[]])
    assert empty.n_rows == 0


def test_tables_are_the_same_by_object_or_by_known_digest(table: sf.Table) -> None:
    other = table.take(range(table.n_rows))
    assert first_equals([table, other, table]) == [0, 1, 0]
    assert first_equals([table, other, table], [table.digest, other.digest, "x"]) == [0, 0, 2]


@BY_NAME
def test_a_sweep_of_seeds_fits_one_representation(
    spec: NeuralGenerator, table: sf.Table, fits: list[int]
) -> None:
    members = [(range(table.n_rows), seed) for seed in range(4)]
    models = fit_ensemble(spec, table, members, threads=1, at_once=4, device="cpu")
    assert fits == [600]
    assert len({model.sample(50, seed=1).digest for model in models}) == 4
    fits.clear()
    some = [(range(0, 400), 0), (range(100, 500), 1), (range(0, 400), 2)]
    fit_ensemble(spec, table, some, threads=1, at_once=3, device="cpu")
    assert fits == [400, 400]


def test_equal_tables_of_a_kept_fit_share_a_representation(
    table: sf.Table, fits: list[int], tmp_path: Path
) -> None:
    tables = [table, table.take(range(table.n_rows))]
    plain = fit_tables(SMALL_VAE, tables, [1, 2], threads=1, device="cpu")
    assert fits == [600, 600], "without a checkpoint their digests are not known"
    fits.clear()
    kept = tmp_path / "fit.safetensors"
    shared = fit_tables(SMALL_VAE, tables, [1, 2], threads=1, device="cpu", checkpoint=kept)
    assert fits == [600]
    for ours, theirs in zip(plain, shared, strict=True):
        assert ours.sample(50, seed=1).digest == theirs.sample(50, seed=1).digest


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_members_are_represented_as_each_is_alone(table: sf.Table, threads: int) -> None:
    one, other = table.take(range(350)), table.take(range(200, 600))
    tables, seeds = [one, other, one, one], [1, 2, 3, 1]
    before = torch.get_num_threads()
    representations, rows = represent(tables, seeds, threads=threads)
    assert torch.get_num_threads() == before
    assert representations[0] is representations[2] is representations[3]
    for place, own in enumerate(tables):
        alone = Representation.fit(own)
        assert representations[place].to_dict() == alone.to_dict()
        encoded = alone.encode(own, seed=seeds[place])
        assert torch.equal(rows[place].codes_BS, encoded.codes_BS)
        assert torch.equal(rows[place].scalars_BM, encoded.scalars_BM)
    assert not torch.equal(rows[0].codes_BS, rows[2].codes_BS), "modes are drawn by the seed"


def test_shared_lists_of_rows_are_those_of_each_member(table: sf.Table) -> None:
    one, other = Representation.fit(table), Representation.fit(table.take(range(400)))
    parts = [table, table, table.take(range(599, -1, -1)), table.take(range(400)), table]
    members = [one, one, one, other, one]
    rows = [
        own.encode(part, seed=k) for k, (own, part) in enumerate(zip(members, parts, strict=True))
    ]
    deck = Deck(rows, CPU)
    together = Conditions(members, deck, CPU)
    uniform_KB = torch.rand(5, 300, generator=torch_stream(0, "conditions"))
    uniform_K2B = torch.rand(5, 2, 300, generator=torch_stream(0, "rows"))
    pairs_KB = together.draw(uniform_KB)
    picked_KB = together.rows_with(pairs_KB, uniform_K2B)
    for place, own in enumerate(members):
        alone = Conditions([own], Deck([rows[place]], CPU), CPU)
        mine = slice(place, place + 1)
        pairs_B = alone.draw(uniform_KB[mine])
        assert torch.equal(pairs_KB[mine], pairs_B)
        picked_B = alone.rows_with(pairs_B, uniform_K2B[mine]) + deck.firsts_K1[place]
        assert torch.equal(picked_KB[mine], picked_B)


@pytest.mark.parametrize("threads", [1, 3])
def test_weights_are_drawn_from_each_members_own_stream(threads: int) -> None:
    flat = Flat({"one": (3, 4), "other": (5,)}, 7, CPU)
    used: set[str] = set()

    def fill(member: int, value: dict[str, torch.Tensor]) -> None:
        used.add(threading.current_thread().name)
        stream = torch_stream(member, "weights")
        for target in value.values():
            target.uniform_(generator=stream)

    with using_threads(threads):
        fill_members([flat], fill)
        assert torch.get_num_threads() == threads
    assert (threading.current_thread().name in used) == (threads == 1)
    for member in range(7):
        stream = torch_stream(member, "weights")
        for value in flat.value.values():
            expected = torch.empty(value.shape[1:]).uniform_(generator=stream)
            assert torch.equal(value[member], expected)


@BY_NAME
def test_equally_long_members_are_finished_without_going_back(
    spec: NeuralGenerator, table: sf.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone_back: list[int] = []
    trainer: type[NeuralTrainer] = spec.trainer
    plain = trainer.restore

    def restore(self: Any, tensors: Any) -> None:
        gone_back.append(1)
        plain(self, tensors)

    monkeypatch.setattr(trainer, "restore", restore)
    members = [(range(400), 1), (range(100, 500), 2), (range(200, 600), 3)]
    fit_ensemble(spec, table, members, threads=1, at_once=3, device="cpu")
    assert not gone_back
    longer = [(range(600), 1), (range(300), 2), (range(400), 3), (range(100, 400), 4)]
    models = fit_ensemble(spec, table, longer, threads=1, at_once=4, device="cpu")
    assert len(gone_back) == 2, "once for each end before the last, of two members or of one"
    # Each is what it was at its own end: as if the others had trained no longer.
    short = fit_ensemble(spec, table, [longer[1], longer[3]], threads=1, at_once=2, device="cpu")
    for model, expected in zip((models[1], models[3]), short, strict=True):
        torch.testing.assert_close(
            model.weights["head.bias"], expected.weights["head.bias"], rtol=0.05, atol=0.05
        )
