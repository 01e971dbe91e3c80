"""Where a campaign runs: what can give a Dask client, and what batch machines are like."""

from __future__ import annotations

from synthfactory.clusters.allocation import Allocation as Allocation
from synthfactory.clusters.local import Local as Local
from synthfactory.clusters.mpi import MPI as MPI
from synthfactory.clusters.scripts import TO_BE_CONTINUED as TO_BE_CONTINUED
from synthfactory.clusters.scripts import allocation_body as allocation_body
from synthfactory.clusters.scripts import prologue as prologue
from synthfactory.clusters.scripts import render as render
from synthfactory.clusters.sites import Billing as Billing
from synthfactory.clusters.sites import Flag as Flag
from synthfactory.clusters.sites import JobRequest as JobRequest
from synthfactory.clusters.sites import Partition as Partition
from synthfactory.clusters.sites import QoS as QoS
from synthfactory.clusters.sites import Site as Site
from synthfactory.clusters.sites import allocation_request as allocation_request
from synthfactory.clusters.sites import worker_request as worker_request
from synthfactory.clusters.slurm import Slurm as Slurm

Cluster = Local | Slurm | Allocation | MPI

__all__ = [
    "MPI",
    "TO_BE_CONTINUED",
    "Allocation",
    "Billing",
    "Cluster",
    "Flag",
    "JobRequest",
    "Local",
    "Partition",
    "QoS",
    "Site",
    "Slurm",
    "allocation_body",
    "allocation_request",
    "prologue",
    "render",
    "worker_request",
]
