"""A process is asked to stop by a signal, a deadline or a file, and by nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from synthfactory import interruption
from synthfactory.errors import Interrupted, OrderError
from synthfactory.generators import TVAE, Progress, fit_tables, step_of
from synthfactory.tables import Table, read_table


@pytest.fixture(scope="module")
def people(people_csv: Path) -> Table:
    return read_table(people_csv)


@pytest.fixture(autouse=True)
def afresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("DEADLINE", "LEAD_S", "STOP_FILE"):
        monkeypatch.delenv(f"SYNTHFACTORY_{name}", raising=False)
    interruption.forget()
    yield
    interruption.forget()


def test_nobody_asks() -> None:
    assert not interruption.asked()
    assert interruption.seconds_left() is None


def test_deadline_asks_before_it_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNTHFACTORY_LEAD_S", "30")
    monkeypatch.setenv("SYNTHFACTORY_DEADLINE", str(time.time() + 100))
    assert not interruption.asked()
    interruption.forget()
    monkeypatch.setenv("SYNTHFACTORY_DEADLINE", str(time.time() + 29))
    assert interruption.asked()
    assert 0 < (interruption.seconds_left() or 0) < 30


def test_deadline_that_is_no_number_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNTHFACTORY_DEADLINE", "tomorrow")
    with pytest.raises(OrderError, match="expected a number of seconds, got 'tomorrow'"):
        interruption.seconds_left()


def test_file_asks_every_process_that_looks_at_it(tmp_path: Path) -> None:
    with interruption.stop_file(tmp_path / "stop"):
        assert not interruption.asked()
        interruption.spread()
        interruption.forget()
        assert interruption.asked()
        child = "from synthfactory import interruption as i; raise SystemExit(7 * i.asked())"
        assert subprocess.run([sys.executable, "-c", child], check=False).returncode == 7
    assert "SYNTHFACTORY_STOP_FILE" not in os.environ


def test_signal_only_sets_a_flag() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    try:
        interruption.listen()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert interruption.asked()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_fit_that_is_asked_to_stop_goes_on_to_the_same_bytes(people: Table, tmp_path: Path) -> None:
    spec, checkpoint = TVAE(epochs=6), tmp_path / "checkpoint"
    expected = spec.fit(people, seed=1, threads=1)

    def ask_half_way(progress: Progress) -> None:
        if progress.step >= 20:
            interruption.ask()

    with pytest.raises(Interrupted, match=r"goes on from step \d+"):
        spec.fit(people, seed=1, threads=1, callback=ask_half_way, checkpoint=checkpoint)
    assert step_of(checkpoint) >= 20
    interruption.forget()
    model = spec.fit(people, seed=1, threads=1, checkpoint=checkpoint)
    for name, value in expected.weights.items():
        assert value.equal(model.weights[name]), name


def test_ensemble_that_is_asked_to_stop_goes_on_to_the_same_bytes(
    people: Table, tmp_path: Path
) -> None:
    spec, checkpoint = TVAE(epochs=6), tmp_path / "checkpoint"
    tables, seeds = [people, people], [1, 2]
    expected = fit_tables(spec, tables, seeds, threads=1)

    def ask_half_way(progress: Progress) -> None:
        if progress.step >= 20:
            interruption.ask()

    with pytest.raises(Interrupted):
        fit_tables(spec, tables, seeds, threads=1, callback=ask_half_way, checkpoint=checkpoint)
    assert step_of(checkpoint) >= 20
    interruption.forget()
    resumed = fit_tables(spec, tables, seeds, threads=1, checkpoint=checkpoint)
    for before, after in zip(expected, resumed, strict=True):
        for name, value in before.weights.items():
            assert value.equal(after.weights[name]), name
