"""Hydra hands over the jobs of a sweep; they become orders of one campaign."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

TARGET = "hydra_plugins.synthfactory_launcher.campaign_launcher.CampaignLauncher"

# A plain dictionary: Hydra runs this module without registering it, which dataclasses need.
ConfigStore.instance().store(
    group="hydra/launcher",
    name="synthfactory",
    node={"_target_": TARGET},
    provider="synthfactory",
)


class CampaignLauncher(Launcher):
    """Makes all jobs of a sweep on one Dask client, side by side.

    The task function of `synthfactory.cli` only turns a composed configuration into settings;
    each job's return value is the `synthfactory.run.Outcome` of its order.
    """

    def __init__(self) -> None:
        super().__init__()
        self._config: DictConfig | None = None
        self._context: HydraContext | None = None
        self._task_function: TaskFunction | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep what Hydra gives; nothing starts before `launch`."""
        self._config, self._context, self._task_function = config, hydra_context, task_function

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Make one campaign of the jobs; a failed order does not raise, its outcome says why."""
        from synthfactory.cli.make import act

        assert self._config is not None
        assert self._context is not None
        assert self._task_function is not None
        loader = self._context.config_loader
        configs = [loader.load_sweep_config(self._config, list(words)) for words in job_overrides]
        outcomes = act([self._task_function(config) for config in configs])
        return [
            JobReturn(
                overrides=words, cfg=config, status=JobStatus.COMPLETED, _return_value=outcome
            )
            for words, config, outcome in zip(job_overrides, configs, outcomes, strict=True)
        ]
