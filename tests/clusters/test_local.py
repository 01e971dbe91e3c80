"""The local cluster, with real worker processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from synthfactory.accounting import find_allocation
from synthfactory.clusters import Local
from synthfactory.clusters.gpus import share_of, visible_gpus


def test_gpus_are_divided_among_workers() -> None:
    four = ["0", "1", "2", "3"]
    assert [share_of(worker, 4, four) for worker in range(4)] == [["0"], ["1"], ["2"], ["3"]]
    assert share_of(0, 1, four) == four
    assert [share_of(worker, 6, four) for worker in range(6)] == [[g] for g in "012301"]
    assert share_of(0, 2, []) == []


def test_gpus_of_a_batch_job_are_those_that_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-aa, GPU-bb")
    assert visible_gpus() == ("CUDA_VISIBLE_DEVICES", ["GPU-aa", "GPU-bb"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert visible_gpus() == ("CUDA_VISIBLE_DEVICES", [])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("ROCR_VISIBLE_DEVICES", "2,3")
    assert visible_gpus() == ("ROCR_VISIBLE_DEVICES", ["2", "3"])


def test_gpus_are_counted_by_the_vendor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho GPU-one\necho GPU-two\n")
    tool.chmod(0o755)
    assert visible_gpus() == ("CUDA_VISIBLE_DEVICES", ["0", "1"])
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert visible_gpus()[1] == []


@pytest.mark.slow
def test_each_worker_sees_its_own_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    with Local(n_workers=2).connect(2, 1) as workers:
        seen = workers.client.run(visible_gpus)
    assert sorted(gpus for _, gpus in seen.values()) == [["4", "5"], ["6", "7"]]


@pytest.mark.slow
def test_workers_that_share_a_gpu_hold_a_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4")
    with Local(n_workers=2).connect(2, 1) as workers:
        held = list(workers.client.run(find_allocation).values())
    assert [(own.gpus, own.gpu_share) for own in held] == [(1, 0.5), (1, 0.5)]
    assert sum(own.cpus for own in held) == len(os.sched_getaffinity(0))
