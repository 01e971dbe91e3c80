"""What a process holds, from the variables of real jobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthfactory.accounting import find_allocation
from synthfactory.errors import OrderError

# As Slurm 22.05 sets them for: sbatch -n2 --cpus-per-task=2 --gpus-per-node=2
BATCH = {
    "CUDA_VISIBLE_DEVICES": "0,1",
    "GPU_DEVICE_ORDINAL": "0,1",
    "ROCR_VISIBLE_DEVICES": "0,1",
    "SLURM_CPUS_ON_NODE": "4",
    "SLURM_CPUS_PER_TASK": "2",
    "SLURM_GPUS_ON_NODE": "2",
    "SLURM_JOB_ID": "1",
    "SLURM_NODEID": "0",
    "SLURM_TASKS_PER_NODE": "2",
}
STEP = {**BATCH, "SLURM_STEP_ID": "0", "SLURM_STEP_TASKS_PER_NODE": "2"}


@pytest.mark.parametrize(
    ("variables", "bound", "cpus", "gpus"),
    [
        (BATCH, 64, 4, 2),
        (STEP, 64, 2, 2),
        ({**STEP, "SLURM_CPUS_PER_TASK": ""}, 64, 2, 2),
        # The system bound the task to fewer processors than its variables say.
        (STEP, 1, 1, 2),
        # Nothing but a machine.
        ({}, 8, 8, 0),
        ({"SYNTHFACTORY_CPU_SHARE": "1/4"}, 8, 2, 0),
        ({"SLURM_JOB_ID": "7", "SLURM_GPUS_ON_NODE": "8(S:0-1)"}, 64, 64, 8),
        ({"SLURM_JOB_ID": "7", "CUDA_VISIBLE_DEVICES": "NoDevFiles"}, 64, 64, 0),
        ({"CUDA_VISIBLE_DEVICES": "0,-1,1"}, 8, 8, 1),
        ({"ROCR_VISIBLE_DEVICES": "0,1,2,3", "HIP_VISIBLE_DEVICES": "1"}, 8, 8, 1),
        ({"CUDA_VISIBLE_DEVICES": "GPU-8f6c1b2e-11,MIG-8f6c1b2e/1/0"}, 8, 8, 2),
    ],
)
def test_allocation_is_what_the_batch_system_gave(
    variables: dict[str, str], bound: int, cpus: float, gpus: int, tmp_path: Path
) -> None:
    held = find_allocation(variables, system=tmp_path, bound=bound)
    assert (held.cpus, held.gpus) == (cpus, gpus)


def test_models_that_share_a_gpu_hold_a_part_of_it(tmp_path: Path) -> None:
    held = find_allocation(
        {"CUDA_VISIBLE_DEVICES": "3", "SYNTHFACTORY_GPU_SHARE": "1/8"}, system=tmp_path
    )
    assert held.gpus * held.gpu_share == 0.125


@pytest.mark.parametrize("text", ["0", "2", "1/0", "half", "-1/2", ""])
def test_share_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(OrderError, match="SYNTHFACTORY_GPU_SHARE: expected a share above 0"):
        find_allocation({"SYNTHFACTORY_GPU_SHARE": text}, system=tmp_path)


def test_without_a_batch_system_the_drivers_are_counted(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / "dev" / name).touch()
    assert find_allocation({}, system=tmp_path).gpus == 2
    in_a_job_without_gpus = {"SLURM_JOB_ID": "7"}
    assert find_allocation(in_a_job_without_gpus, system=tmp_path).gpus == 0


def test_processors_are_no_gpus_of_the_amd_driver(tmp_path: Path) -> None:
    for node, number in (("0", "0"), ("1", "51110"), ("2", "33027")):
        folder = tmp_path / "sys/class/kfd/kfd/topology/nodes" / node
        folder.mkdir(parents=True)
        (folder / "gpu_id").write_text(f"{number}\n")
    assert find_allocation({}, system=tmp_path).gpus == 2
