"""What a certificate says about costs: totals and methods, and plainly what was not measured."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from synthfactory.artifacts import read_json
from synthfactory.certification.credential import certified_resources

RESOURCES: dict[str, Any] = {
    "format": "synthfactory-resources/1",
    "stages": [],
    "total": {
        "wall_s": 7_200.0, "peak_rss_mb": 900, "cpu_allocated_h": 16.0, "cpu_used_h": 9.25,
        "gpu_allocated_h": 2.0, "gpu_used_h": 1.5,
    },
    "attempts": {"begun": 7, "uncommitted_wall_s": 90.0},
    "waiting": {"queue_s": 30.0, "jobs": 1, "jobs_s": 8.0},
    "energy": [
        {"method": "nvml", "kwh": 0.61, "coverage": "the GPUs of this process", "shared": False,
         "of_wall": 0.975},
        {"method": "unmeasured", "of": "rapl", "why": "the kernel shows none"},
    ],
}  # fmt: skip


def test_certificate_repeats_totals_and_methods() -> None:
    assert certified_resources(RESOURCES) == {
        "wallSeconds": "7200",
        "processorHoursAllocated": "16",
        "processorHoursUsed": "9.25",
        "gpuHoursAllocated": "2",
        "gpuHoursUsed": "1.5",
        "stageAttempts": "7",
        "uncommittedSeconds": "90",
        "queueSeconds": "30",
        "energy": [
            {
                "energyMethod": "nvml",
                "energyKwh": "0.61",
                "energyCoverage": "the GPUs of this process",
                "energyShareOfTime": "0.975",
            },
            {
                "energyMethod": "unmeasured",
                "energyOf": "rapl",
                "energyReason": "the kernel shows none",
            },
        ],
    }


def test_what_is_not_known_is_unmeasured_and_never_zero() -> None:
    resources = copy.deepcopy(RESOURCES)
    resources["attempts"] = None
    resources["waiting"]["queue_s"] = None
    resources["total"]["gpu_used_h"] = None
    told = certified_resources(resources)
    for name in ("gpuHoursUsed", "stageAttempts", "uncommittedSeconds", "queueSeconds"):
        assert told[name] == "unmeasured"


def test_real_certificate_tells_what_its_run_cost(certified_run: Path) -> None:
    release = certified_run / "release"
    resources = read_json(release / "resources.json")
    subject = read_json(release / "certificate.json")["credentialSubject"]
    assert subject["resources"] == certified_resources(resources)
    assert float(subject["resources"]["processorHoursUsed"]) > 0
