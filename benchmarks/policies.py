"""Which tables pass which policy: honest generators and planted leaks, on three real tables.

    python benchmarks/policies.py --folder FOLDER [--data DATA] [--stage judge|write]

Two stages, each kept in FOLDER, so that a repeated command goes on where it was:

1. *judge*: each generator learns a table's training rows and draws as many; leaks are planted
   beside them.  All measurements that the shipped policies read are made of each, with the settings
   that a policy needs.  Adult is embedded; ``bank.csv`` (UCI) and ``churn.csv`` are read from DATA
   and left out where there are none.
2. *write*: what each policy decides, to ``benchmarks/results/policies.json`` and the tables of
   ``docs/policies.md``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from compare_sdv import describe_machine

import synthfactory as sf
from synthfactory.artifacts import read_json, write_atomic, write_json
from synthfactory.certification import decide, load_policy
from synthfactory.evaluation import Evaluation, Evidence, conclude, controls, measure
from synthfactory.evaluation.roc import rate_at
from synthfactory.generators import Generator
from synthfactory.shadowing import Shadow, ShadowTrainer
from synthfactory.tables import Dataset, Encoded, Parts, Split, Table

HOME = Path(__file__).resolve().parent
RESULTS = HOME / "results" / "policies.json"
PAGE = HOME.parent / "docs" / "policies.md"
BEGIN, END = "<!-- measured: {} -->", "<!-- end -->"
SEED = 0
LEAKS = ("noisy_copy", "shifted_copy", "memorised_1pct", "collapse")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """With what the policies' measurements are made."""

    policies: tuple[str, ...]
    evaluation: Evaluation
    control: float = 0.2
    candidates: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def generators() -> dict[str, Generator]:
    """Those that learn within a minute on a laptop; two of them give training rows away."""
    return {
        "tvae": sf.TVAE(),
        "tvae, 50 epochs": sf.TVAE(epochs=50),
        "cart": sf.CART(),
        "bootstrap": sf.Bootstrap(),
        "independent": sf.Independent(),
    }


ALL = ("tvae", "independent", "cart", "bootstrap", *LEAKS)
SOME = ("tvae", "independent", "cart", "bootstrap")
SETTINGS = {
    "usual": Settings(
        policies=("default", "sf2"),
        evaluation=Evaluation(),
        candidates={"adult": ALL, "bank": ALL, "churn": ALL},
    ),
    "small": Settings(
        policies=("sf2",),
        evaluation=Evaluation(),
        control=0.4,
        candidates={"churn": ("tvae", "tvae, 50 epochs")},
    ),
    "strict": Settings(
        policies=("strict",),
        evaluation=Evaluation(attacks=6_000),
        control=0.4,
        candidates={"adult": ("tvae, 50 epochs", *SOME), "bank": ("tvae", "independent")},
    ),
    "sf3": Settings(
        policies=("sf3",),
        evaluation=Evaluation(shadows=16, targets=4_000),
        control=0.37,
        candidates={"adult": ("tvae, 50 epochs", "cart", "bootstrap")},
    ),
}


def load(name: str, data: Path | None) -> Table | None:
    """A real table; None where its file is not there."""
    if name == "adult":
        declared = yaml.safe_load((HOME.parent / "conf" / "dataset" / "adult.yaml").read_text())
        declared.pop("_target_")
        return Dataset(**declared).load()
    path = None if data is None else data / f"{name}.csv"
    if path is None or not path.is_file():
        return None
    target = {"bank": "y", "churn": "Exited"}[name]
    return Dataset(name=name, path=str(path), target=target).load()


def evidence_of(parts: Parts, name: str, chosen: Settings) -> tuple[Evidence, dict[str, Any]]:
    """What is judged, by a candidate's name, and how it was made."""
    made: dict[str, Any] = {}
    given: dict[str, Any] = {}
    synthetic = parts.test
    if name not in LEAKS:
        spec = generators()[name]
        began_s = time.monotonic()
        model = spec.fit(parts.train, seed=SEED, device="cpu", threads=1)
        made = {"fit_s": round(time.monotonic() - began_s, 1), **spec.hyperparameters()}
        synthetic = model.sample(parts.train.n_rows, seed=SEED + 1)
        given = {
            "model": Shadow(model, threads=1),
            "trainer": ShadowTrainer(spec, parts.train.schema, device="cpu", threads=1),
        }
    evidence = chosen.evaluation.gather(
        **parts._asdict(), synthetic=synthetic, seed=SEED + 2, threads=1, **given
    )
    if name in LEAKS:
        planted: Encoded = controls.planted_leaks(evidence)[name]
        evidence = evidence.judging(planted)
    return evidence, made


def judge(table: Table, dataset: str, name: str, setting: str, folder: Path) -> None:
    """All measurements that the setting's policies read, unless that is done."""
    path = folder / dataset / setting / f"{name}.json"
    if path.exists():
        return
    chosen = SETTINGS[setting]
    parts = Split(control=chosen.control).apply(table, seed=SEED)
    read = {rule.metric for policy in chosen.policies for rule in load_policy(policy).rules}
    evidence, made = evidence_of(parts, name, chosen)
    suites = [
        suite
        for suite in chosen.evaluation.suites
        if read & set(suite.ids) or suite is controls.SUITE
    ]
    began_s = time.monotonic()
    found = conclude(evidence, suites, measure(evidence, suites))
    write_json(
        path,
        {
            "dataset": dataset,
            "candidate": name,
            "setting": setting,
            "made": made,
            "judged_s": round(time.monotonic() - began_s, 1),
            "findings": found.to_dict(),
        },
    )
    print(
        dataset, setting, name, made.get("fit_s"), round(time.monotonic() - began_s, 1), flush=True
    )


def judge_all(folder: Path, data: Path | None, only: str | None) -> None:
    """Every candidate of every table."""
    for setting, chosen in SETTINGS.items():
        if only not in (None, setting):
            continue
        for dataset, names in chosen.candidates.items():
            table = load(dataset, data)
            for name in names if table is not None else ():
                judge(table, dataset, name, setting, folder)


def made(folder: Path, setting: str) -> list[Path]:
    """What is kept of a setting, in order."""
    paths = [
        folder / dataset / setting / f"{name}.json"
        for dataset, names in SETTINGS[setting].candidates.items()
        for name in names
    ]
    return [path for path in paths if path.exists()]


def collect(folder: Path) -> dict[str, Any]:
    """What is kept, with what each policy decides about it."""
    judged = []
    for setting, chosen in SETTINGS.items():
        read = {rule.metric for policy in chosen.policies for rule in load_policy(policy).rules}
        for path in made(folder, setting):
            kept = read_json(path)
            found = kept.pop("findings")
            verdicts = {policy: decide(found, policy) for policy in chosen.policies}
            judged.append(
                {
                    **kept,
                    "people": found["protocol"]["members"],
                    "verdicts": {
                        policy: {
                            "certified": verdict.certified,
                            "refused_by": [
                                {"metric": rule.metric, "value": rule.value}
                                for rule in verdict.reasons
                                if not rule.passed
                            ],
                        }
                        for policy, verdict in verdicts.items()
                    },
                    "measurements": {
                        item["id"]: {
                            name: item[name] for name in ("estimate", "lcb", "ucb", "n", "mde")
                        }
                        for item in found["measurements"]
                        if item["id"] in read
                    },
                }
            )
    return {
        "seed": SEED,
        "machine": describe_machine(),
        "policies": {
            policy: load_policy(policy).digest
            for policy in dict.fromkeys(p for each in SETTINGS.values() for p in each.policies)
        },
        "chance_to_pass": chances(),
        "judged": judged,
    }


def chances(repeats: int = 1_000) -> list[dict[str, float]]:
    """How often a table that leaks nothing passes a rule on a true positive rate.

    Five scores that tell nothing, independent of each other, as the worst of five forms of an
    attack; the real forms depend on each other, so the truth lies between one and five.
    """
    chance = np.random.default_rng(SEED)
    found = []
    for rate, limit, numbers in (
        (0.01, 0.02, (2_000, 3_000, 4_000, 6_000)),
        (0.001, 0.003, (10_000, 12_000, 15_000)),
    ):
        for n in numbers:
            bounds = np.array(
                [
                    [
                        rate_at(*chance.normal(size=(2, n)), rate, 1 - 0.05 / 5)["ucb"]
                        for _ in range(5)
                    ]
                    for _ in range(repeats)
                ]
            )
            found.append(
                {
                    "rate": rate,
                    "limit": limit,
                    "people": n,
                    "one": float((bounds[:, 0] <= limit).mean()),
                    "five": float((bounds.max(axis=1) <= limit).mean()),
                }
            )
    return found


def table_of(found: Mapping[str, Any], *policies: str) -> str:
    """What policies decided, a row per table and candidate, with what the last one refuses."""
    lines = [
        f"| table | candidate | people on either side | {' | '.join(policies)} | refused by |",
        f"|---|---|--:|{'---|' * len(policies)}---|",
    ]
    for one in found["judged"]:
        if not set(policies) & one["verdicts"].keys():
            continue
        verdicts = [one["verdicts"].get(policy) for policy in policies]
        said = [
            "" if verdict is None else "**certified**" if verdict["certified"] else "refused"
            for verdict in verdicts
        ]
        why = ", ".join(
            f"`{rule['metric']}`" + ("" if rule["value"] is None else f" {rule['value']:.3g}")
            for rule in (verdicts[-1] or {"refused_by": ()})["refused_by"]
        )
        words = (one["dataset"], one["candidate"], f"{one['people']:,}", *said, why)
        lines.append(f"| {' | '.join(words)} |")
    return "\n".join(lines)


def chance_table(found: Mapping[str, Any]) -> str:
    """`chances` as a table."""
    lines = [
        "| false positive rate | limit | people on either side | one form | worst of five |",
        "|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {one['rate']:g} | {one['limit']:g} | {one['people']:,} | {one['one']:.0%} "
        f"| {one['five']:.0%} |"
        for one in found["chance_to_pass"]
    ]
    return "\n".join(lines)


def width_table(found: Mapping[str, Any]) -> str:
    """What each attack can tell apart with what a policy needs, beside the room of its rule."""
    lines = [
        "| policy | measurement | limit | room above chance | smallest leak seen |",
        "|---|---|--:|--:|--:|",
    ]
    for policy in ("sf2", "strict", "sf3"):
        judged = [
            one
            for one in found["judged"]
            if policy in one["verdicts"]
            and one["candidate"].startswith("tvae")
            and one["dataset"] == "adult"
        ]
        for rule in load_policy(policy).rules if judged else ():
            seen = [one["measurements"].get(rule.metric, {}).get("mde") for one in judged]
            if rule.op == ">=" or None in seen or not seen:
                continue
            start = chance_of(rule.metric)
            lines.append(
                f"| {policy} | `{rule.metric}` | {rule.value:g} | {rule.value - start:.3g} "
                f"| {max(seen):.3g} |"
            )
    return "\n".join(lines)


def chance_of(metric: str) -> float:
    """What a measurement gives where nothing leaks."""
    name = metric.split(".")[1]
    if name.startswith(("dcr", "domias", "membership", "two_sample")):
        return 0.5
    return {"tpr_at_1pct_fpr": 0.01, "tpr_at_1permille_fpr": 0.001}.get(name, 0.0)


def write(folder: Path) -> None:
    """The results, and the tables between the page's marks."""
    found = collect(folder)
    write_json(RESULTS, found)
    tables = {policy: table_of(found, policy) for policy in ("strict", "sf3")}
    tables |= {"sf2": table_of(found, "default", "sf2")}
    tables |= {"chance": chance_table(found), "width": width_table(found)}
    text = PAGE.read_text(encoding="utf-8")
    for name, table in tables.items():
        begin = BEGIN.format(name)
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(END)
        text = f"{before}{begin}\n\n{table}\n\n{END}{after}"
    write_atomic(PAGE, text.encode())


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--only", choices=sorted(SETTINGS))
    parser.add_argument("--stage", choices=("judge", "write"))
    arguments = parser.parse_args()
    if arguments.stage in (None, "judge"):
        judge_all(arguments.folder, arguments.data, arguments.only)
    if arguments.stage in (None, "write"):
        write(arguments.folder)


if __name__ == "__main__":
    main()
