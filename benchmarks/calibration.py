"""Calibration: do the intervals cover, do clean data pass, is one percent of copies found?

    python benchmarks/calibration.py --folder FOLDER [--processes 2] [--only SUITE ...]

Each repetition draws people anew, some of whom are learnt (train), some never seen (control, test),
and makes synthetic rows of which the truth is known: fresh people, or fresh people each of whom is,
with probability one or ten percent, replaced by a copy of a train row.  Every measurement then
either covers the truth or does not, and either raises the alarm, its lower bound beyond its
baseline, or does not.

Repetitions are addressed: the same number gives the same people.  They are made in blocks that are
kept in FOLDER, for as long as the measurement's source files are the same, so that a killed run
goes on where it was; ``--report --earlier`` reports blocks of earlier sources, too, and marks them.
The report is ``benchmarks/results/calibration.json`` and
``docs/calibration.md``.
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import entities
import numpy as np
import yaml
from sources import digest_of

from synthfactory.artifacts import read_json, write_atomic, write_json
from synthfactory.evaluation import Evidence, conclude, measure
from synthfactory.evaluation.evidence import shuffled, take
from synthfactory.evaluation.intervals import wilson
from synthfactory.evaluation.measurement import rounded
from synthfactory.evaluation.privacy import (
    attribute_inference,
    authenticity,
    dcr,
    domias,
    epsilon_audit,
    exact_match,
    linkability,
    shadows,
    singling_out,
)
from synthfactory.evaluation.suite import Suite
from synthfactory.seeds import derive, numpy_stream
from synthfactory.tables import Column, Dataset, Encoded, Encoder, Schema, Split

HOME = Path(__file__).resolve().parent
RESULTS = HOME / "results" / "calibration.json"
PAGE = HOME.parent / "docs" / "calibration.md"
SEED = 20_260
BLOCK = 20
LEVELS = tuple("abcdefgh")
AIM_COVERAGE, AIM_ALARMS, AIM_POWER = 0.93, 0.05, 0.95


# --- people ---------------------------------------------------------------------------------------


def mixed(
    n_rows: int, chance: np.random.Generator, *, numbers: int = 3, levels: int = 2
) -> Encoded:
    """Rows of one latent factor, so that columns depend on each other; no two rows are equal."""
    factor = chance.normal(size=(n_rows, 1))
    x = factor + chance.normal(size=(n_rows, numbers))
    codes = np.clip(np.rint(factor + chance.normal(0, 0.7, (n_rows, levels)) + 4), 0, 7)
    return Encoded(numbers=x, codes=codes.astype(np.int32))


def schema_of(numbers: int, levels: int) -> Schema:
    """The schema of `mixed`."""
    numeric = [Column(name=f"x{i}", kind="numerical", dtype="double") for i in range(numbers)]
    discrete = [
        Column(name=f"c{i}", kind="categorical", dtype="string", nullable=True, categories=LEVELS)
        for i in range(levels)
    ]
    known = tuple(column.name for column in (*numeric, *discrete))
    return Schema(
        columns=(*numeric, *discrete),
        sensitive=known[:1],
        quasi_identifiers=known[:-2],
    )


SHADOWED = schema_of(3, 2)


@functools.cache
def adult() -> tuple[Schema, Encoded]:
    """Adult, as ``dataset=adult`` declares it."""
    declared = yaml.safe_load((HOME.parent / "conf" / "dataset" / "adult.yaml").read_text())
    declared.pop("_target_")
    table = Dataset(**declared).load()
    return table.schema, Encoder(table.schema).encode(table)


@dataclass(frozen=True)
class People:
    """The parts of one repetition, and fresh people to make synthetic rows of."""

    schema: Schema
    train: Encoded
    control: Encoded
    test: Encoded
    fresh: Encoded


def people(kind: str, n: int, chance: np.random.Generator) -> People:
    """``2 n`` train rows, ``n`` control, ``n`` test and ``2 n`` fresh rows, all exchangeable."""
    sizes = (2 * n, n, n, 2 * n)
    if kind == "adult":
        schema, rows = adult()
        ends = np.cumsum(sizes)
        order = chance.permutation(len(rows))
        picked = np.split(order[: ends[-1]], ends[:-1])
        return People(schema, *(take(rows, part) for part in picked))
    shape = {"numbers": 3, "levels": 2} if kind == "mixed" else {"numbers": 0, "levels": 4}
    return People(schema_of(**shape), *(mixed(size, chance, **shape) for size in sizes))


def whole_adult(chance: np.random.Generator) -> People:
    """All of Adult, divided as by default; fresh rows have Adult's marginals and no dependence."""
    schema, rows = adult()
    order, split = chance.permutation(len(rows)), Split()
    n_control, n_test = (int(share * len(rows)) for share in (split.control, split.test))
    control, test, train = np.split(order, [n_control, n_control + n_test])
    learnt = take(rows, train)
    return People(
        schema, learnt, take(rows, control), take(rows, test), shuffled(learnt, len(learnt), chance)
    )


def memorising(parts: People, share: float, chance: np.random.Generator) -> Encoded:
    """The fresh rows, each with probability ``share`` replaced by a train row."""
    copied = chance.random(len(parts.fresh)) < share
    donors = chance.integers(len(parts.train), size=len(parts.fresh))
    return Encoded(
        numbers=np.where(copied[:, None], parts.train.numbers[donors], parts.fresh.numbers),
        codes=np.where(copied[:, None], parts.train.codes[donors], parts.fresh.codes),
    )


# --- generators that shadow models are made of ----------------------------------------------------


@dataclass(frozen=True)
class Honest:
    """A model that knows other people than those who were learnt, so that nothing can leak.

    Its likelihood is that of histograms of the people whom it knows.
    """

    known: Encoded
    part: Encoded
    share: float

    def sample(self, n_rows: int, *, seed: int) -> Encoded:
        """Fresh rows, of which a share copies the rows that were given to learn."""
        chance = numpy_stream(seed, "sample")
        parts = People(SHADOWED, self.part, self.part, self.part, mixed(n_rows, chance))
        return memorising(parts, self.share, chance)

    def log_likelihood(self, rows: Encoded) -> np.ndarray[Any, np.dtype[np.float64]] | None:
        """By histograms of 24 bins; None where the model copies."""
        if self.share > 0:
            return None
        total = np.zeros(len(rows))
        edges = np.linspace(-6, 6, 23)
        for known, asked in zip(self.known.numbers.T, rows.numbers.T, strict=True):
            counts = np.bincount(np.searchsorted(edges, known), minlength=24) + 0.5
            total += np.log(counts / counts.sum())[np.searchsorted(edges, asked)]
        for known, asked in zip(self.known.codes.T, rows.codes.T, strict=True):
            counts = np.bincount(known, minlength=len(LEVELS) + 1) + 0.5
            total += np.log(counts / counts.sum())[asked]
        return total


@dataclass(frozen=True)
class Honesty:
    """Makes a model that knows as many fresh people as it is given to learn."""

    share: float = 0.0
    at_once: int = 16
    claim: tuple[float, float] | None = None

    def fit(self, parts: Sequence[Encoded], seeds: Sequence[int]) -> list[Honest]:
        """A model for each part."""
        return [
            Honest(mixed(len(part), numpy_stream(seed, "known")), part, self.share)
            for part, seed in zip(parts, seeds, strict=True)
        ]


# --- scenarios and studies ------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """How the people and the synthetic rows of a repetition are made.

    Parameters
    ----------
    name
        What the report calls it.
    people
        ``mixed``, ``levels``, ``adult`` or ``whole adult``.
    share
        Probability that a synthetic row copies a train row.
    """

    name: str
    people: str
    share: float = 0.0

    def evidence(self, repetition: int, study: Study) -> Evidence:
        """The evidence of one repetition."""
        chance = numpy_stream(SEED, f"calibration: {self.people}", repetition)
        parts = (
            whole_adult(chance)
            if self.people == "whole adult"
            else people(self.people, study.n, chance)
        )
        shadowed: dict[str, Any] = {}
        if study.settings.get("shadows"):
            trainer = Honesty(self.share)
            (model,) = trainer.fit([parts.train], [derive(SEED, "judged", repetition)])
            shadowed = {"trainer": trainer, "model": model}
        return Evidence(
            schema=parts.schema,
            train=parts.train,
            control=parts.control,
            test=parts.test,
            synthetic=memorising(parts, self.share, chance),
            seed=derive(SEED, self.name, repetition) % 2**31,
            threads=1,
            **study.settings,
            **shadowed,
        )


CLEAN = (
    Scenario(name="clean, numbers and levels", people="mixed"),
    Scenario(name="clean, levels alone", people="levels"),
    Scenario(name="clean, Adult", people="adult"),
)
LEAKY = (
    Scenario(name="1 % copies, numbers and levels", people="mixed", share=0.01),
    Scenario(name="10 % copies, numbers and levels", people="mixed", share=0.10),
    Scenario(name="1 % copies, Adult", people="adult", share=0.01),
)
WHOLE = Scenario(name="1 % copies, whole Adult", people="whole adult", share=0.01)

# The truth is not known: intervals must cover what all repetitions give on average.
OWN_MEAN = math.nan


@dataclass(frozen=True, kw_only=True)
class Study:
    """A suite whose measurements are calibrated.

    Parameters
    ----------
    suite
        The suite.
    null
        The truth on clean data by id.
    leak
        The truth by id as a function of the share of copies, where no two people are equal; what
        is not named has no known truth then, and only its power is reported.
    scenarios
        What it is tried on.
    n
        Control rows; there are twice as many train and synthetic rows.
    repetitions
        At least.
    settings
        Of the evidence.
    """

    suite: Suite
    null: Mapping[str, float]
    leak: Mapping[str, Callable[[float], float]] = field(default_factory=dict)
    scenarios: tuple[Scenario, ...] = (*CLEAN, *LEAKY)
    n: int = 1_000
    repetitions: int = 200
    settings: Mapping[str, Any] = field(default_factory=lambda: {"repeats": 40})

    def truth(self, name: str, scenario: Scenario) -> float | None:
        """What a measurement should find; None where nobody knows."""
        if scenario.share == 0:
            return self.null[name]
        if scenario.people != "mixed" or name not in self.leak:
            return None
        return self.leak[name](scenario.share)


def nearer_to_members(share: float) -> float:
    """Half the copied train rows are among the members compared; those are always nearer."""
    return 0.5 + share / 4


STUDIES = (
    Study(
        suite=exact_match.SUITE,
        null={exact_match.ID: 0.0},
        leak={exact_match.ID: lambda share: share},
        repetitions=1_000,
    ),
    Study(suite=exact_match.SUITE, null={exact_match.ID: 0.0}, scenarios=(WHOLE,)),
    Study(
        suite=dcr.SUITE,
        null=dict.fromkeys((dcr.ID, dcr.ID_ALIGNED, dcr.ID_RATIO), 0.5),
        leak=dict.fromkeys((dcr.ID, dcr.ID_ALIGNED, dcr.ID_RATIO), nearer_to_members),
        repetitions=1_000,
    ),
    Study(
        suite=authenticity.SUITE,
        null={authenticity.ID: OWN_MEAN},
        scenarios=CLEAN,
        repetitions=1_000,
    ),
    Study(
        suite=singling_out.SUITE,
        null={singling_out.ID: 0.0},
        scenarios=(CLEAN[0], CLEAN[2], LEAKY[2]),
    ),
    Study(suite=linkability.SUITE, null={linkability.ID: 0.0}, repetitions=1_000),
    Study(
        suite=domias.SUITE,
        null={domias.ID_KNN: 0.5, domias.ID_CLASSIFIER: 0.5, epsilon_audit.ID: 0.0},
    ),
    Study(
        suite=shadows.SUITE,
        null={shadows.ID_BLACK: 0.5, shadows.ID_WHITE: 0.5},
        scenarios=(CLEAN[0], *LEAKY[:2]),
        n=500,
        settings={"repeats": 40, "shadows": 16, "targets": 400},
    ),
    Study(
        suite=attribute_inference.SUITE,
        null={attribute_inference.ID: 0.0},
        scenarios=(CLEAN[0], CLEAN[2], LEAKY[2]),
    ),
)


# --- making repetitions ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Block:
    """Some repetitions of a study in a scenario."""

    study: int
    scenario: int
    number: int

    def path(self, folder: Path) -> Path:
        study = STUDIES[self.study]
        name = study.scenarios[self.scenario].name
        return folder / study.suite.name / name / f"{self.number:03d}.json"


def blocks(studies: Sequence[int], repetitions: int | None) -> Iterator[Block]:
    """All blocks, scenario by scenario within each round of blocks."""
    for number in range(math.ceil(max(study.repetitions for study in STUDIES) / BLOCK)):
        for index in studies:
            wanted = repetitions or STUDIES[index].repetitions
            if number * BLOCK < wanted:
                for place in range(len(STUDIES[index].scenarios)):
                    yield Block(index, place, number)


@functools.cache
def source_of(name: str) -> str:
    """The digest of a suite's source, by its name."""
    return digest_of(next(study.suite for study in STUDIES if study.suite.name == name))


def key_of(study: Study, scenario: Scenario) -> dict[str, Any]:
    """What a kept block must agree with to be used."""
    return {
        "source": source_of(study.suite.name),
        "n": study.n,
        "settings": dict(study.settings),
        "share": scenario.share,
        "people": scenario.people,
        "seed": SEED,
    }


def is_made(block: Block, folder: Path, *, earlier: bool = False) -> bool:
    """Whether a block is kept, of the present source files, or of any."""
    path = block.path(folder)
    if not path.exists():
        return False
    study = STUDIES[block.study]
    made, wanted = read_json(path)["key"], key_of(study, study.scenarios[block.scenario])
    return bool(made == wanted or (earlier and made | {"source": ""} == wanted | {"source": ""}))


def make(block: Block, folder: Path) -> float:
    """Measure a block's repetitions and keep them; returns the seconds that it took."""
    study = STUDIES[block.study]
    scenario = study.scenarios[block.scenario]
    began_s = time.monotonic()
    made = []
    for repetition in range(block.number * BLOCK, (block.number + 1) * BLOCK):
        evidence = scenario.evidence(repetition, study)
        found = conclude(evidence, [study.suite], measure(evidence, [study.suite]))
        values = {
            item.id: {
                "estimate": item.estimate,
                "lcb": item.lcb,
                "ucb": item.ucb,
                "n": item.n,
                "alarm": (
                    item.lcb > item.baseline
                    if item.baseline is not None and item.better == "lower"
                    else None
                ),
            }
            for item in found.measurements
        }
        made.append({"repetition": repetition, "values": values, "failures": found.failures})
    seconds = time.monotonic() - began_s
    content = {"key": key_of(study, scenario), "seconds": round(seconds, 2), "made": made}
    write_json(block.path(folder), rounded(content))
    return seconds


# --- the report -----------------------------------------------------------------------------------


def summarise(study: Study, scenario: Scenario, kept: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Coverage and alarms of each of a study's measurements."""
    rows = []
    for name in study.null:
        values = [item["values"][name] for item in kept if name in item["values"]]
        if not values:
            continue
        estimates = np.array([value["estimate"] for value in values])
        truth = study.truth(name, scenario)
        if truth is not None and math.isnan(truth):
            truth = float(estimates.mean())
        covered = (
            None
            if truth is None
            else sum(value["lcb"] <= truth <= value["ucb"] for value in values)
        )
        rang = [value["alarm"] for value in values if value["alarm"] is not None]
        rows.append(
            {
                "id": name,
                "scenario": scenario.name,
                "copies": scenario.share,
                "n": values[0]["n"],
                "repetitions": len(values),
                "not_measured": len(kept) - len(values),
                "truth": truth,
                "mean_estimate": float(estimates.mean()),
                "spread": float(estimates.std(ddof=1)),
                "mean_half_width": float(
                    np.mean([(value["ucb"] - value["lcb"]) / 2 for value in values])
                ),
                "coverage": None if covered is None else _share(covered, len(values)),
                "alarms": _share(sum(rang), len(rang)) if rang else None,
            }
        )
    return rows


def _share(count: int, n: int) -> dict[str, float]:
    found = wilson(count, n, 0.95)
    return {"share": found.estimate, "lcb": found.lcb, "ucb": found.ucb}


def report(folder: Path, *, earlier: bool = False) -> dict[str, Any]:
    """Everything that is kept, summarised."""
    rows: list[dict[str, Any]] = []
    seconds = 0.0
    for index, study in enumerate(STUDIES):
        for place, scenario in enumerate(study.scenarios):
            mine = [block for block in blocks([index], None) if block.scenario == place]
            mine = [block for block in mine if is_made(block, folder, earlier=earlier)]
            kept = [read_json(block.path(folder)) for block in mine]
            seconds += sum(content["seconds"] for content in kept)
            present = all(is_made(block, folder) for block in mine)
            repetitions = [item for content in kept for item in content["made"]]
            rows += [
                {**row, "present_source": present}
                for row in summarise(study, scenario, repetitions)
            ]
    return {
        "aims": {"coverage": AIM_COVERAGE, "alarms": AIM_ALARMS, "power": AIM_POWER},
        "confidence": 0.95,
        "measurements": rounded(rows),
        "wall_hours": round(seconds / 3600, 2),
        "machine": {
            "cores": os.cpu_count(),
            "processor": platform.machine(),
            "python": platform.python_version(),
            "shared": True,
            "versions": {
                name: importlib.metadata.version(name)
                for name in ("numpy", "scipy", "scikit-learn", "torch")
            },
        },
    }


HEAD = """# Calibration of the attacks

Written by `python benchmarks/calibration.py`; do not edit. The numbers are in
`benchmarks/results/calibration.json`.

An interval is worth what it covers, and an alarm what it costs when nothing leaks. So people are
drawn anew in each repetition: some are learnt (train), some never seen (control, test). Synthetic
rows are made of which the truth is known:

- *clean*: fresh people, exchangeable with all others. Nothing leaks: an attack's true value is its
  baseline, on any table.
- *1 %* and *10 % copies*: each fresh row is, with that probability, replaced by a copy of a train
  row. Where no two people are equal, the true value of some measurements is known; for all of them
  it is counted how often they raise the alarm.

Tables: *numbers and levels* (three numbers and two discrete columns of one latent factor), *levels
alone* (four discrete columns: most rows have twins, ties everywhere), *Adult* (disjoint random
parts of it), *whole Adult* (all 32,561 people divided as by default; the rows that are no copies
have Adult's marginals and no dependence). n is the number of rows or people behind an estimate.
Shadow models, in their clean form, know fresh people instead of those whom they are given to learn.

**Coverage** is the share of repetitions whose 95 % interval holds the truth (aim: at least 93 %).
An **alarm** is a lower bound beyond the baseline (aim on clean data: at most 5 %; one side of a
95 % interval is 2.5 %). In brackets: a 95 % interval of the share itself.
"""


def page(found: Mapping[str, Any]) -> str:
    """The report as a page."""
    rows = found["measurements"]
    parts = [HEAD]
    for title, text, chosen in (
        ("Clean data", "The truth is the baseline.", [row for row in rows if row["copies"] == 0]),
        (
            "Planted copies of known effect",
            "The truth is what copies of that number add.",
            [row for row in rows if row["copies"] > 0 and row["truth"] is not None],
        ),
    ):
        parts += [
            f"## {title}",
            text,
            _coverage_table(chosen, found["aims"], title == "Clean data"),
        ]
    parts += [
        "## One percent of copies: who finds them",
        "Share of repetitions with an alarm; the aim of 95 % holds for the audit as a whole, which "
        "the best measurement decides.",
        _power_table([row for row in rows if row["copies"] > 0], found["aims"]),
        *entities.section(),
        f"Made on {found['machine']['cores']} shared cores in {found['wall_hours']} hours of one "
        "process." + _earlier(rows),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _earlier(rows: Sequence[Mapping[str, Any]]) -> str:
    names = dict.fromkeys(f"`{row['id']}`" for row in rows if not row["present_source"])
    if not names:
        return ""
    return f" With an earlier state of the source files, in whole or in part: {', '.join(names)}."


def _coverage_table(rows: Sequence[Mapping[str, Any]], aims: Any, clean: bool) -> str:
    lines = [
        "| measurement | table | n | repetitions | truth | mean | half width | coverage |"
        + (" alarms |" if clean else ""),
        "|---|---|--:|--:|--:|--:|--:|--:|" + ("--:|" if clean else ""),
    ]
    for row in rows:
        if row["coverage"] is None:
            continue
        words = [
            f"`{row['id']}`",
            row["scenario"].removeprefix("clean, "),
            f"{row['n']:,}",
            f"{row['repetitions']:,}",
            f"{row['truth']:.4g}",
            f"{row['mean_estimate']:.4f}",
            f"{row['mean_half_width']:.4f}",
            _percent(row["coverage"], row["coverage"]["share"] >= aims["coverage"]),
        ]
        if clean and row["alarms"] is None:
            words.append("no alarm")
        elif clean:
            words.append(_percent(row["alarms"], row["alarms"]["share"] <= aims["alarms"]))
        lines.append("| " + " | ".join(words) + " |")
    return "\n".join(lines)


def _power_table(rows: Sequence[Mapping[str, Any]], aims: Any) -> str:
    lines = [
        "| measurement | table | n | repetitions | mean | found |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for row in rows:
        reached = row["alarms"]["share"] >= aims["power"]
        words = [f"`{row['id']}`", row["scenario"], f"{row['n']:,}", f"{row['repetitions']:,}"]
        words += [f"{row['mean_estimate']:.4f}", _percent(row["alarms"], True)]
        words[-1] = f"**{words[-1]}**" if reached else words[-1]
        lines.append("| " + " | ".join(words) + " |")
    return "\n".join(lines)


def _percent(share: Mapping[str, float], holds: bool) -> str:
    text = f"{share['share']:.1%} [{share['lcb']:.1%}, {share['ucb']:.1%}]"
    return text if holds else f"**misses the aim:** {text}"


def main() -> None:
    """Make what is missing, then write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where blocks are kept")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--only", nargs="+", help="names of suites, such as privacy.dcr")
    parser.add_argument("--repetitions", type=int, help="instead of each study's own number")
    parser.add_argument("--report", action="store_true", help="of what is there, make nothing")
    parser.add_argument("--earlier", action="store_true", help="report earlier sources, too")
    options = parser.parse_args()
    wanted = [
        index
        for index, study in enumerate(STUDIES)
        if options.only is None or study.suite.name in options.only
    ]
    missing = [
        block
        for block in blocks(wanted, options.repetitions)
        if not options.report and not is_made(block, options.folder)
    ]
    with ProcessPoolExecutor(options.processes) as pool:
        jobs = {pool.submit(make, block, options.folder): block for block in missing}
        for done, job in enumerate(as_completed(jobs), 1):
            path = jobs[job].path(Path())
            print(f"{done}/{len(jobs)} {path} {job.result():.1f} s", flush=True)
    found = report(options.folder, earlier=options.earlier)
    RESULTS.parent.mkdir(exist_ok=True)
    write_json(RESULTS, found)
    write_atomic(PAGE, page(found).encode())


if __name__ == "__main__":
    main()
