"""A generator of another installed package on workers that are batch jobs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from campaigns import JOBS, SMALL, run_on
from devclusters import DevCluster
from plugins.packages import install
from stage_files import bytes_of

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


def test_jobs_and_local_workers_make_the_same_bytes(
    devcluster: DevCluster, people_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = install(tmp_path / "site")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), *filter(None, sys.path)]))
    devcluster.reset()
    words = (
        f"dataset.path={people_csv}", "generator=uniform", *SMALL, "rows=2500",
        "rows_per_shard=1000",
    )  # fmt: skip
    jobs, local = tmp_path / "jobs", tmp_path / "local"
    run_on(devcluster, "run", *words, f"paths.runs={jobs}", "cluster=slurm", *JOBS)
    run_on(devcluster, "run", *words, f"paths.runs={local}", "cluster.n_workers=1")
    assert bytes_of(jobs) == bytes_of(local)
    assert any(name.endswith("part-00002.parquet") for name in bytes_of(jobs))
