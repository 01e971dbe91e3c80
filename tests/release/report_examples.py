"""Reports made by hand, in every state that a run can end in."""

from __future__ import annotations

from typing import Any

import numpy as np

from synthfactory.certification import decide, load_policy
from synthfactory.release import words
from synthfactory.release.report import outcome_of

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "\"quoted\" & 'single'",
    "💉 dose 👩‍⚕️",
    "عمر المريض",
    "a\u202edrow\u202c",
    "__import__('os')",
    "a very long column name " * 6,
)

COLUMNS = (
    ("age", "numerical"),
    ("workclass", "categorical"),
    ("education", "categorical"),
    ("education-num", "ordinal"),
    ("marital-status", "categorical"),
    ("occupation", "categorical"),
    ("relationship", "categorical"),
    ("race", "categorical"),
    ("sex", "boolean"),
    ("capital-gain", "numerical"),
    ("capital-loss", "numerical"),
    ("hours-per-week", "numerical"),
    ("native-country", "categorical"),
    ("income", "boolean"),
    ("interviewed", "datetime"),
)


def measurement(
    metric: str,
    estimate: float,
    half: float,
    *,
    control: float | None,
    baseline: float | None,
    unit: str = "share",
    better: str = "higher",
    n: int = 9768,
) -> dict[str, Any]:
    return {
        "id": metric,
        "family": metric.split(".")[0],
        "estimate": estimate,
        "lcb": estimate - half,
        "ucb": estimate + half,
        "n": n,
        "baseline": baseline,
        "control": control,
        "unit": unit,
        "better": better,
        "confidence": 0.95,
        "method": f"{metric.split('.')[1]} v1: mean over columns of 1 - D, bins from the real rows",
        "details": {},
    }


MEASUREMENTS = (
    measurement("fidelity.column_shapes", 0.912, 0.004, control=0.987, baseline=0.0),
    measurement("fidelity.pair_trends", 0.861, 0.006, control=0.972, baseline=0.55),
    measurement("fidelity.association", 0.781, 0.02, control=0.985, baseline=0.0),
    measurement(
        "fidelity.two_sample_auc",
        0.872,
        0.007,
        control=0.501,
        baseline=0.5,
        unit="AUC",
        better="lower",
    ),
    measurement("privacy.exact_match", 0.0004, 0.0011, control=0.0, baseline=0.0, better="lower"),
    measurement("privacy.dcr_share", 0.503, 0.007, control=0.499, baseline=0.5, better="lower"),
    measurement(
        "privacy.dcr_share_aligned", 0.501, 0.007, control=0.5, baseline=0.5, better="lower"
    ),
    measurement(
        "privacy.attribute_inference", 0.004, 0.009, control=0.001, baseline=0.0, better="lower"
    ),
    measurement("privacy.singling_out", 0.006, 0.011, control=0.002, baseline=0.0, better="lower"),
    measurement("privacy.linkability", -0.002, 0.008, control=0.0, baseline=0.0, better="lower"),
    measurement(
        "privacy.domias_knn", 0.508, 0.009, control=0.5, baseline=0.5, unit="AUC", better="lower"
    ),
    measurement(
        "privacy.domias_classifier",
        0.503,
        0.009,
        control=0.498,
        baseline=0.5,
        unit="AUC",
        better="lower",
    ),
    measurement("utility.tstr", 0.883, 0.006, control=0.927, baseline=0.5, unit="AUC"),
    measurement("utility.retained", 0.897, 0.014, control=1.0, baseline=0.0),
)

CONTROLS = (
    ("noisy_copy", True, ("privacy.dcr_share",)),
    ("shifted_copy", True, ("privacy.dcr_share_aligned",)),
    ("memorised_1pct", True, ("privacy.exact_match",)),
    ("collapse", True, ("privacy.dcr_share",)),
    ("fresh_real", False, ()),
    ("independent_marginals", False, ()),
)


def column_chart(name: str, kind: str, index: int) -> dict[str, Any]:
    chance = np.random.default_rng(index)
    n = 20 if kind in ("numerical", "datetime") else (2 if kind == "boolean" else 9)
    real = (
        np.sort(chance.dirichlet(np.ones(n) * 2))[::-1]
        if kind == "categorical"
        else chance.dirichlet(np.ones(n) * 4)
    )
    synthetic = np.abs(real + chance.normal(0, 0.012, n))
    synthetic /= synthetic.sum()
    chart: dict[str, Any] = {
        "name": name,
        "kind": kind,
        "score": float(1 - np.abs(real - synthetic).sum() / 2),
        "reference": 0.985,
        "real": [round(float(value), 4) for value in real],
        "synthetic": [round(float(value), 4) for value in synthetic],
        "missing": {"real": 0.056, "synthetic": 0.049} if index % 4 == 1 else None,
    }
    if kind in ("numerical", "datetime"):
        scale = 1e9 if kind == "datetime" else 90.0
        chart["edges"] = [scale * at / n for at in range(n + 1)]
    else:
        chart["levels"] = [f"level {at}" for at in range(n)]
    return chart


def pair_chart(names: list[str]) -> dict[str, Any]:
    chance = np.random.default_rng(7)
    n = len(names)
    half = chance.beta(0.7, 3, (n, n))
    real = np.triu(half, 1) + np.triu(half, 1).T + np.eye(n)
    noise = chance.normal(0, 0.07, (n, n))
    synthetic = np.clip(real * 0.85 + (noise + noise.T) / 2, 0, 1)
    np.fill_diagonal(synthetic, 1)
    return {
        "columns": names,
        "real": real.round(3).tolist(),
        "synthetic": synthetic.round(3).tolist(),
        "measure": "uncertainty-corrected association from 0 (independent) to 1",
    }


def report(
    columns: tuple[tuple[str, str], ...] = COLUMNS,
    measurements: tuple[dict[str, Any], ...] = MEASUREMENTS,
    *,
    failures: dict[str, str] | None = None,
    controls: bool = True,
    target: str | None = "income",
    name: str = "Adult census income",
) -> dict[str, Any]:
    """A whole report; the verdict follows from the measurements."""
    steps = list(range(0, 20_000, 100))
    interval = {"estimate": 0.92, "lcb": 0.914, "ucb": 0.926}
    findings = {
        "measurements": list(measurements),
        "failures": failures or {},
        "instrument": [
            {
                "id": control,
                "kind": "positive" if expected else "negative",
                "expected": expected,
                "flagged": expected,
                "by": list(by),
            }
            for control, expected, by in CONTROLS
            if controls
        ],
        "charts": {
            "columns": [
                column_chart(column, kind, index) for index, (column, kind) in enumerate(columns)
            ],
            "pairs": pair_chart([column for column, _ in columns]),
            "learners": [
                {
                    "name": learner,
                    "trtr": {key: value - cost for key, value in interval.items()},
                    "tstr": {key: value - cost - 0.04 for key, value in interval.items()},
                    "chance": 0.5,
                }
                for learner, cost in (("gradient boosting", 0.0), ("logistic regression", 0.02))
            ]
            if target
            else [],
        },
    }
    policy = load_policy("default")
    verdict = decide(findings, policy).to_dict()
    return {
        "format": "synthfactory-report/1",
        "version": "0.1.0",
        "outcome": outcome_of(findings, verdict),
        "dataset": {
            "name": "adult",
            "title": name,
            "description": "",
            "licence": "CC BY 4.0",
            "citation": "Becker, B. & Kohavi, R. (1996). Adult. UCI Machine Learning Repository.",
            "source": "https://doi.org/10.24432/C5XW20",
            "rows": 48_842,
            "target": target,
            "columns": [
                {"name": column, "kind": kind, "nullable": False} for column, kind in columns
            ],
            "roles": {"entity": None, "quasiIdentifiers": [], "sensitive": []},
        },
        "order": {"seed": 0, "dataset": {"name": "adult"}, "generator": {"epochs": 60}},
        "command": "synthfactory run dataset=adult generator=ctgan generator.epochs=60 seed=0",
        "split": {"rows": {"train": 29_306, "control": 9_768, "test": 9_768}},
        "generator": {
            "name": "ctgan",
            "package": "synthfactory",
            "version": "0.1.0",
            "licence": "Apache-2.0",
            "paper": "arXiv:1907.00503",
            "parameters": {"epochs": 60, "batch_size": 500, "generator_dims": [256, 256]},
        },
        "findings": findings,
        "policy": {**policy.to_dict(), "digest": policy.digest},
        "verdict": verdict,
        "notAssessed": words.not_assessed(findings),
        "manifest": {"merkleRoot": "sha256:" + "3f" * 32, "parts": 1, "rows": 29_306},
        "environment": {
            "synthfactory": "0.1.0",
            "python": "3.11.2",
            "packages": {"numpy": "2.4.0", "torch": "2.13.0+cpu"},
            "system": "Linux x86_64",
            "processor": "A processor",
            "threads": 2,
        },
        "training": {
            "steps": steps,
            "losses": {
                "discriminator": [0.4 * np.exp(-step / 5e3) - 0.2 for step in steps],
                "generator": [1.2 * np.exp(-step / 4e3) + 0.1 for step in steps],
            },
        },
        "glossary": [{"word": word, "meaning": said} for word, said in words.GLOSSARY.items()],
    }


def certified() -> dict[str, Any]:
    return report()


def refused() -> dict[str, Any]:
    """A generator that copied its training rows."""
    leaking = tuple(
        measurement(item["id"], 0.93, 0.01, control=0.5, baseline=0.5, better="lower")
        if item["id"].startswith("privacy.dcr")
        else measurement(item["id"], 0.41, 0.01, control=0.0, baseline=0.0, better="lower")
        if item["id"] == "privacy.exact_match"
        else item
        for item in MEASUREMENTS
    )
    return report(measurements=leaking)


def incomplete() -> dict[str, Any]:
    """One attack that failed, and controls that were not run."""
    return report(
        measurements=tuple(
            item for item in MEASUREMENTS if item["id"] != "privacy.attribute_inference"
        ),
        failures={"privacy.attribute_inference": "MemoryError: <b>no room</b> for 9,768 rows"},
        controls=False,
    )


def crowded() -> dict[str, Any]:
    """As much as the officer's page may have to hold: long names, many misses, many failures."""
    attack = {"attack": "multivariate", "members": 0.9345, "strangers": 0.1234, "naive": 0.0,
              "risk": 0.93, "lcb": 0.92, "ucb": 0.94}  # fmt: skip
    leaking = tuple(
        {**item, "estimate": 0.93, "lcb": 0.92, "ucb": 0.94,
         "details": {"worst": "multivariate", "attacks": [attack]}}
        if item["id"] == "privacy.singling_out"
        else item
        if item["family"] == "privacy"
        else {**item, "estimate": -0.12345, "lcb": -0.23456, "ucb": 0.01234}
        for item in MEASUREMENTS
    )  # fmt: skip
    made = report(
        measurements=leaking,
        failures=dict.fromkeys(
            sorted(words.METRICS)[-9:],
            "MemoryError: " + "a long reason why this could not be measured " * 8,
        ),
        name="A dataset with a title of many long words " * 5,
    )
    made["notAssessed"] = words.not_assessed({"measurements": ()})
    made["policy"]["title"] = "A policy with a title of many long words " * 5
    return made


def without_target() -> dict[str, Any]:
    return report(
        measurements=tuple(item for item in MEASUREMENTS if item["family"] != "utility"),
        target=None,
    )


def hostile() -> dict[str, Any]:
    """Names and levels that try to be markup, or to turn the text around them."""
    made = report(
        columns=tuple((name, "categorical") for name in HOSTILE), target=HOSTILE[0], name=HOSTILE[0]
    )
    for chart in made["findings"]["charts"]["columns"]:
        chart["levels"][: len(HOSTILE)] = HOSTILE
    group = {"group": f"{HOSTILE[0]} = {HOSTILE[4]}", "advantage": 0.1, "lcb": 0.0, "ucb": 0.2,
             "p": 0.02, "p_holm": 0.04, "n_members": 60, "n_strangers": 60}  # fmt: skip
    details = {
        "fidelity.pair_trends": {"worst": [{"columns": [HOSTILE[0], HOSTILE[4]], "score": 0.5}]},
        "fidelity.two_sample_auc": {"columns": [{"name": HOSTILE[0], "auc_lost": 0.1}]},
        "privacy.exact_match": {"subgroups": {"worst": group, "rarest": group, "n_groups": 2}},
        "privacy.attribute_inference": {
            "worst": HOSTILE[0],
            "not_attacked": {HOSTILE[0]: f"'{HOSTILE[0]}' holds one value"},
        },
    }
    made["findings"]["measurements"] = [
        {**item, "details": details.get(item["id"], {})}
        for item in made["findings"]["measurements"]
    ]
    made["command"] = f"synthfactory run dataset.target={HOSTILE[0]}"
    return made


def wide(n_columns: int = 100) -> dict[str, Any]:
    kinds = ("numerical", "categorical", "boolean", "datetime")
    return report(columns=tuple((f"column_{at}", kinds[at % 4]) for at in range(n_columns)))


def narrow() -> dict[str, Any]:
    return report(columns=(("age", "numerical"),), target=None)


def costs(**changes: Any) -> dict[str, Any]:
    """What a run cost, measured in part."""
    stage = {
        "wall_s": 75.0, "peak_rss_mb": 1_500, "members": 1, "cpu_allocated_h": 0.5,
        "cpu_used_h": 0.25, "gpu_allocated_h": 0.125, "gpu_used_h": None, "attempts": 3,
    }  # fmt: skip
    told = {
        "format": "synthfactory-resources/1",
        "stages": [{"stage": "fit", **stage}],
        "total": stage,
        "attempts": {
            "begun": 3, "ended_without_commit": 2, "of_these_continued": 1,
            "uncommitted_wall_s": 130.0, "uncommitted_wall_is": "at most",
        },
        "waiting": {"queue_s": 4_000.0, "jobs": 2, "jobs_s": 90.0},
        "energy": [
            {"method": "nvml", "kwh": 0.0612, "coverage": "the GPUs of this process",
             "shared": False, "of_wall": 0.975},
            {"method": "unmeasured", "of": "rapl", "why": "<b>no</b> counters"},
        ],
    }  # fmt: skip
    return {**told, **changes}


ALL = {
    "certified": certified,
    "refused": refused,
    "incomplete": incomplete,
    "crowded": crowded,
    "without_target": without_target,
    "hostile": hostile,
    "wide": wide,
    "narrow": narrow,
}
# Those of runs that are really made; every page that a browser is shown.
REAL = ("real-certified", "real-deep", "real-leaking")
EVERY = (*sorted(ALL), *REAL)
