"""Where a campaign runs: everything that can give a Dask client."""

from __future__ import annotations

from synthfactory.clusters.local import Local as Local

__all__ = ["Local"]
