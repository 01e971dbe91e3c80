"""Sites answer before the queue does, by their own rules."""

from __future__ import annotations

import dataclasses
import functools
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from synthfactory.cli import compose
from synthfactory.clusters import (
    JobRequest,
    Partition,
    Site,
    allocation_request,
    worker_request,
)
from synthfactory.errors import OrderError
from synthfactory.paths import conf_dir

WHOLE = "standard-g"
SITES = sorted(path.stem for path in (conf_dir() / "site").glob("*.yaml"))


@functools.cache
def site_of(name: str, *words: str) -> Site:
    return compose.one([f"site={name}", *words], None).site


def request(**values: Any) -> JobRequest:
    return JobRequest(**({"account": "EUHPC_A01_001"} | values))


@pytest.mark.parametrize("name", SITES)
def test_every_site_composes_under_its_own_name(name: str) -> None:
    site = site_of(name)
    assert site.name == name
    assert site.launch == ("slurm" if name == "devcluster" else "allocation")
    assert name in ("generic", "devcluster") or site.documentation.startswith("https://")


@pytest.mark.parametrize("name", SITES)
def test_limits_are_stated_so_that_they_can_be_overridden(name: str) -> None:
    stated = yaml.safe_load((conf_dir() / "site" / f"{name}.yaml").read_text())
    for partition, values in stated["partitions"].items():
        assert {"max_walltime_min", "max_nodes", "whole_nodes"} <= set(values), partition
    words = [f"site.partitions.{name}.max_walltime_min=7" for name in stated["partitions"]]
    limits = {item.max_walltime_min for item in site_of(name, *words).partitions.values()}
    assert limits == ({7} if words else set())


@pytest.mark.parametrize("name", [name for name in SITES if name not in ("generic", "devcluster")])
def test_figures_that_nobody_knows_are_marked_uncertain(name: str) -> None:
    """No limit, no rate, no answer: that is either certain or said to be unsure."""
    site = site_of(name)
    if site.billing.unit == "":
        assert "billing" in site.uncertain
    if site.internet is None:
        assert "internet" in site.uncertain


@pytest.mark.parametrize(
    ("name", "wanted", "message"),
    [
        (
            "leonardo_booster",
            request(walltime_min=1441),
            "'boost_usr_prod' of Leonardo Booster allows 1440 minutes, got 1441",
        ),
        (
            "leonardo_booster",
            request(walltime_min=31, qos="boost_qos_dbg"),
            "with qos 'boost_qos_dbg' allows 30 minutes, got 31",
        ),
        ("leonardo_booster", request(nodes=65), "allows 64 nodes, got 65"),
        ("leonardo_booster", JobRequest(), "takes no job without one: add cluster.account=EUHPC"),
        ("leonardo_booster", request(partition="boost_user_prod"), "did you mean 'boost_usr_prod'"),
        ("leonardo_booster", request(qos="boost_qos_debug"), "did you mean 'boost_qos_dbg'"),
        ("leonardo_booster", request(gpus_per_node=5), "gives 4 GPUs, got 5"),
        ("leonardo_booster", request(tasks_per_node=3, cpus_per_task=11), "gives 32 cores, got 33"),
        ("leonardo_booster", request(memory_gb=495), "gives 494 GB of memory, got 495"),
        ("lumi_g", request(), r"expects one that matches project_\\d\+, such as"),
        (
            "lumi_g",
            request(account="project_1", gpus_per_node=4, partition="standard-g"),
            r"whole nodes; got 4 GPUs.*Ask for all 8 GPUs or use a shared.*small-g",
        ),
        (
            "lumi_g",
            request(account="project_1", cpus_per_task=64, partition="standard"),
            "got 64 cores per node. Ask for all 128 cores",
        ),
        (
            "lumi_g",
            request(account="project_1", gpus_per_node=1, partition="small"),
            "'small' of LUMI-G has no GPUs, got 1",
        ),
        ("discoverer_plus", request(gpus_per_node=1), "cluster.qos: Discoverer.* without one: add"),
        ("discoverer_plus", request(qos="mine"), "takes no job without GPUs"),
        ("deucalion", request(account="f1x", gpus_per_node=1), "'normal-a100-40' expects one that"),
        ("deucalion", request(account="f1g", partition="dev-x86"), r"matches \.\*x"),
    ],
)
def test_rules_of_a_site_are_named(name: str, wanted: JobRequest, message: str) -> None:
    with pytest.raises(OrderError, match=message.replace("(", r"\(")):
        site_of(name).check(wanted)


def test_quality_of_service_may_raise_a_limit() -> None:
    long = request(walltime_min=5760, qos="boost_qos_lprod")
    assert site_of("leonardo_booster").check(long) == dataclasses.replace(
        long, partition="boost_usr_prod"
    )


def test_site_fills_in_what_a_request_leaves_open() -> None:
    site = site_of("marenostrum5_acc")
    with_gpu = site.check(request(gpus_per_node=1))
    without = site.check(request())
    assert (with_gpu.partition, with_gpu.qos) == ("acc", "acc_ehpc")
    assert (without.partition, without.qos) == ("gpp", "gp_ehpc")


def test_generic_site_takes_any_request() -> None:
    wanted = JobRequest(nodes=900, gpus_per_node=16, walltime_min=99_999, partition="p", qos="q")
    assert Site().check(wanted) == wanted


def test_site_without_gpus_takes_no_gpu_job() -> None:
    with pytest.raises(OrderError, match="has no GPUs"):
        Site(vendor="none").check(JobRequest(gpus_per_node=1))
    with pytest.raises(OrderError, match="use CPU workers"):
        worker_request(Site(vendor="none"), gpu=True)


def test_directives_are_those_that_the_site_knows() -> None:
    wanted = request(
        nodes=2, gpus_per_node=4, tasks_per_node=7, cpus_per_task=11, memory_gb=100, qos="acc_debug"
    )
    site = dataclasses.replace(site_of("marenostrum5_acc"), extra_directives=("--exclusive",))
    assert site.directives(wanted) == [
        "--job-name=synthfactory",
        "--account=EUHPC_A01_001",
        "--partition=acc",
        "--qos=acc_debug",
        "--nodes=2",
        "--ntasks-per-node=7",
        "--cpus-per-task=11",
        "--gres=gpu:4",
        "--time=01:00:00",
        "--signal=B:USR1@120",
        "--requeue",
        "--output=synthfactory-%j.log",
        "--open-mode=append",
        "--exclusive",
    ]
    assert "--gpus=16" in site_of("karolina").directives(
        JobRequest(account="EU-25-1", nodes=2, gpus_per_node=8)
    )


def test_memory_is_asked_for_in_slurm_s_binary_megabytes() -> None:
    assert "--mem=95367M" in Site().directives(JobRequest(memory_gb=100))


def test_value_cannot_bring_a_directive_of_its_own() -> None:
    with pytest.raises(OrderError, match=r"job\.account: expected a text without spaces"):
        JobRequest(account="mine\n#SBATCH --uid=0")


@pytest.mark.parametrize("name", [name for name in SITES if name != "generic"])
def test_allocation_and_workers_fit_the_site(name: str) -> None:
    site = site_of(name)
    home = site.partition(site.default_partition)
    more = {
        "account": (home.account or site.account).example or None,
        "qos": home.default_qos or site.qos.example or None,
    }
    whole = site.check(allocation_request(site, nodes=1, **more))
    assert whole.tasks_per_node == whole.gpus_per_node + 3
    assert whole.gpus_per_node == (1 if name == "devcluster" else site.gpus_per_node)
    worker = site.check(worker_request(site, gpu=True, **more))
    assert worker.gpus_per_node == (site.gpus_per_node if home.whole_nodes else 1)
    assert not worker.requeue


@pytest.mark.parametrize(
    ("name", "wanted", "units"),
    [
        # LUMI's billing policy: 4 nodes of standard-g for 24 hours are 384 GPU-hours,
        # 2 dies for 24 hours are 24, one die with 128 GB is paid as two.
        ("lumi_g", JobRequest(nodes=4, gpus_per_node=8, walltime_min=1440, partition=WHOLE), 384),
        ("lumi_g", JobRequest(gpus_per_node=2, walltime_min=1440), 24),
        ("lumi_g", JobRequest(gpus_per_node=1, memory_gb=128, walltime_min=1440), 24),
        # and 4 cores with 32 GB for a day are 384 core-hours, 16 nodes for 12 hours 24576.
        ("lumi_g", JobRequest(cpus_per_task=4, memory_gb=32, walltime_min=1440), 384),
        ("lumi_g", JobRequest(nodes=16, walltime_min=720, partition="standard"), 24_576),
        # Karolina's accounting policy: 4 GPUs are half a node.
        ("karolina", JobRequest(gpus_per_node=4), 0.5),
        ("meluxina", JobRequest(nodes=3, gpus_per_node=4, walltime_min=90), 4.5),
        ("leonardo_booster", JobRequest(gpus_per_node=1), 8),
        ("vega", JobRequest(gpus_per_node=1), None),
    ],
)  # fmt: skip
def test_charge_is_what_the_site_s_policy_says(
    name: str, wanted: JobRequest, units: float | None
) -> None:
    assert site_of(name).charge(wanted) == (None if units is None else pytest.approx(units))


def test_interface_is_the_first_that_is_up_with_an_address() -> None:
    addresses = psutil.net_if_addrs()
    states = psutil.net_if_stats()
    up = sorted(
        name
        for name in states
        if states[name].isup and any(item.family == socket.AF_INET for item in addresses[name])
    )
    assert Site(interfaces=("absent0", f"{up[0][:-1]}?")).resolve_interface() == up[0]
    assert Site(interfaces=("absent*",)).resolve_interface() is None


def test_scratch_is_the_first_folder_that_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(scratch_variables=("SF_A", "SF_B", "SF_C"))
    assert site.scratch() is None
    monkeypatch.setenv("SF_B", str(tmp_path / "absent"))
    monkeypatch.setenv("SF_C", str(tmp_path))
    assert site.scratch() == tmp_path


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"vendor": "intel"}, "site.vendor: expected one of nvidia, amd, none"),
        ({"shell": "zsh"}, "site.shell"),
        ({"interfaces": "ib0"}, "site.interfaces: expected a list of texts, got 'ib0'"),
        ({"partitions": ["gpu"]}, "site.partitions: expected a mapping by name"),
        (
            {"partitions": {"gpu": {"max_waltime_min": 1}}},
            "site.partitions.gpu: there is no 'max_waltime_min'; did you mean 'max_walltime_min'",
        ),
        (
            {"partitions": {"gpu": {"max_nodes": 0}}},
            "site.partitions.gpu.max_nodes: expected a whole number of at least 1, got 0",
        ),
        (
            {"partitions": {"gpu": {}}, "default_partition": "gpus"},
            "site.default_partition: there is no partition 'gpus'; did you mean 'gpu'",
        ),
        (
            {"partitions": {"gpu": {"qos": {"dev": {}}, "default_qos": "devel"}}},
            "default_qos: expected one of its qualities of service, got 'devel'; did you mean",
        ),
        ({"account": {"pattern": "("}}, "no regular expression"),
        ({"uncertain": ["billing.unt"]}, "leads nowhere at 'unt'; did you mean 'unit'"),
    ],
)
def test_mistakes_in_a_site_are_explained(values: Mapping[str, Any], message: str) -> None:
    with pytest.raises(OrderError, match=message):
        Site(**values)


def test_own_site_takes_over_what_it_does_not_say(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "ours.yaml").write_text(
        "defaults: [vega, _self_]\nname: ours\npartitions: {gpu: {max_walltime_min: 30}}\n"
    )
    site = compose.one(["site=ours"], tmp_path).site
    assert site.partitions["gpu"] == Partition(name="gpu", max_walltime_min=30, gpus_required=True)
    assert site.default_cpu_partition == "cpu"


def test_own_quality_of_service_can_be_named_on_the_command_line() -> None:
    word = "+site.partitions.boost_usr_prod.qos.ours={}"
    assert site_of("leonardo_booster", word).check(request(qos="ours")).qos == "ours"
