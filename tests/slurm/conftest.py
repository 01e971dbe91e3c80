"""A SLURM cluster that the tests of a session share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from devclusters import INSTALL, DevCluster, missing_programs, temporary_cluster


@pytest.fixture(scope="session")
def slurm_programs() -> None:
    """Skip where Slurm isn't installed."""
    if missing := missing_programs():
        pytest.skip(f"needs a SLURM, lacks {', '.join(missing)}; on Debian or Ubuntu: {INSTALL}")


@pytest.fixture(scope="session")
def devcluster(slurm_programs: None) -> Iterator[DevCluster]:
    """A cluster of three nodes with four GPUs each, which may hold what other tests left there."""
    with temporary_cluster() as cluster:
        yield cluster
