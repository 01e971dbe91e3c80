"""A SLURM cluster that the tests of a session share."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from devclusters import INSTALL, DevCluster, free_ports, missing_programs


@pytest.fixture(scope="session")
def devcluster() -> Iterator[DevCluster]:
    """A cluster of three nodes with four GPUs each; jobs of other tests may run on it."""
    if missing := missing_programs():
        pytest.skip(f"needs a SLURM, lacks {', '.join(missing)}; on Debian or Ubuntu: {INSTALL}")
    # A folder of pytest's own would be too long for a Unix socket in it.
    folder = Path(tempfile.mkdtemp(prefix="devcluster-"))
    cluster = DevCluster(folder, port=free_ports(4))
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down()
        shutil.rmtree(folder)
