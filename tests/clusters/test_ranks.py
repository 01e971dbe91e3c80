"""What each rank of a job does, by its number."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from synthfactory.clusters.allocation import SharedFile, slurm_rank
from synthfactory.clusters.ranks import Duty, Rank, describe_workers
from synthfactory.errors import ClusterError

FIRST = {"rank": 2, "size": 14, "n_nodes": 2, "first_node": True}
SECOND = {"rank": 7, "size": 14, "n_nodes": 2, "first_node": False}


@pytest.fixture(autouse=True)
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node of four GPUs."""
    for name in [name for name in os.environ if name.startswith(("SLURM", "SYNTHFACTORY"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")


def test_first_workers_of_each_node_have_a_gpu_each() -> None:
    first = [Duty.of(Rank(local_rank=local, **FIRST)).gpus for local in range(2, 7)]
    assert first == [("0",), ("1",), ("2",), ("3",), ()]
    second = [Duty.of(Rank(local_rank=local, **SECOND)).gpus for local in range(7)]
    assert second == [("0",), ("1",), ("2",), ("3",), (), (), ()]


def test_rank_with_a_gpu_of_its_own_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("SLURM_GPUS_PER_TASK", "1")
    assert Duty.of(Rank(local_rank=5, **FIRST)).gpus == ("0",)


def test_worker_is_bound_to_the_cores_beside_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNTHFACTORY_GPU_CORES", "999,0,998,997")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    own = frozenset({0}) & os.sched_getaffinity(0)
    assert Duty.of(Rank(local_rank=3, **FIRST)).cores == own
    # Cores that the job does not have bind nobody.
    assert Duty.of(Rank(local_rank=2, **FIRST)).cores == frozenset()


def test_tasks_ask_for_what_the_workers_offer(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = describe_workers(Rank(local_rank=1, **FIRST), 2)
    assert rules == {"on_gpu": {"GPU": 0.5}, "on_cpu": {"CPU": 1.0}, "places": 8}
    alone = Rank(rank=1, size=6, local_rank=1, n_nodes=1, first_node=True)
    assert describe_workers(alone, 1)["on_cpu"] == {}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert describe_workers(alone, 1) == {"on_cpu": {"CPU": 1.0}, "places": 0}


def test_job_that_is_too_small_says_how_many_ranks_it_needs() -> None:
    with pytest.raises(ClusterError, match="at least 3 ranks"):
        Rank(rank=1, size=2, local_rank=1, n_nodes=1, first_node=True).check()


def test_outside_of_a_job_the_way_into_one_is_named() -> None:
    with pytest.raises(ClusterError, match="synthfactory submit"):
        slurm_rank()


def test_credentials_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    shared = SharedFile(tmp_path / "ranks.json")
    shared.tell("secret")
    assert shared.hear() == "secret"
    assert shared.path.stat().st_mode & 0o077 == 0
