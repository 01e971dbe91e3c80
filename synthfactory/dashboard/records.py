"""What the site knows of one run, read from its folder.

A `Record` is small: it is kept in the site's cache, so that hundreds of runs need not be read
again.  The rest (the curve, the configuration, the environment, events) is a run's `Detail`, read
only to write the run's own page.

Neither holds what must not leave the house: no path, no host, no digest of the confidential table,
and no message of an exception, which may quote a value of a table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from synthfactory import accounting, artifacts, errors
from synthfactory.certification.status import state_of
from synthfactory.errors import ReleaseError
from synthfactory.journal import CURVE_FILE, ORDER_FILE, STAGES, read_events, read_failure
from synthfactory.release import public_order
from synthfactory.release.overview import rule_sentence
from synthfactory.release.report import loss_curve
from synthfactory.release.words import is_share, words_of
from synthfactory.status import RunStatus, read_run_status

Json = Mapping[str, Any]

LEAKAGE = "privacy.worst_attack"
# Of several ways to measure energy, the one that sees most of the machine; they are never added.
ENERGY_METHODS = ("pm_counters", "sacct", "nvml", "rapl")
STATES = ("certified", "refused", "failed", "interrupted", "running")
_WATCHED = (
    ORDER_FILE,
    "failure.json",
    accounting.RESOURCES_FILE,
    "release/certificate.json",
    "release/status.json",
    *(f"{stage}/DONE.json" for stage in STAGES),
)


@dataclass(frozen=True, kw_only=True)
class Record:
    """What the overview pages show of a run; JSON-able.

    Parameters
    ----------
    run
        Its name.
    state, stage
        As `synthfactory.status` tells them.
    why
        Why it was refused, failed or interrupted, a sentence each, without values of a table.
    dataset
        The dataset's name.
    generator, parameters
        The generator's name and its hyperparameters, one text each.
    seed, version
        Of the order, and of the package that took it.
    ended_at
        When the last stage was committed, seconds since 1970; None before the first one.
    metrics
        By id: estimate, lower and upper bound, n, baseline, control, confidence.
    unmeasured
        Measurements that failed.
    resources
        ``wall_s``, ``cpu_h``, ``gpu_h``, ``kwh``, ``peak_mb``; None is unmeasured.
    energy_method
        How ``kwh`` was measured.
    certificate
        Identifier, issuer, validity, level and state of the certificate, when there is one.
    report
        Where the run's own report lies in its folder.
    """

    run: str
    state: str
    stage: str
    why: Sequence[str]
    dataset: str
    generator: str
    parameters: Mapping[str, str]
    seed: int
    version: str
    ended_at: float | None
    metrics: Mapping[str, Sequence[float | None]]
    unmeasured: Sequence[str]
    resources: Mapping[str, float | None]
    energy_method: str
    certificate: Mapping[str, str] | None
    report: str | None

    @classmethod
    def from_dict(cls, values: Json) -> Record:
        """The inverse of `to_dict`, also after a round trip through JSON."""
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, equal to those that come back from JSON."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values["why"], values["unmeasured"] = list(self.why), list(self.unmeasured)
        values["metrics"] = {name: list(found) for name, found in self.metrics.items()}
        return values


@dataclass(frozen=True, kw_only=True)
class Detail:
    """What only the run's own page shows.

    Parameters
    ----------
    record
        The run's record.
    findings
        The findings as written; None before they are committed.
    rules
        Every rule's outcome.
    config, environment
        The order and the environment, flattened to dotted names and texts.
    training
        ``{"steps": [..], "losses": {name: [..]}}``.
    resources
        What ``resources.json`` holds.
    events
        What happened: moment, event, stage, attempt's step.
    dataset
        What the report says about the table: title, counts, columns' names and kinds.
    command
        The command that makes the release again.
    """

    record: Record
    findings: Json | None
    rules: Sequence[Json]
    config: Mapping[str, str]
    environment: Mapping[str, str]
    training: Json
    resources: Json | None
    events: Sequence[Json]
    dataset: Json | None
    command: str


def signature(folder: Path) -> list[list[int]]:
    """What changes when a run's folder does: time and size of the files that decide the pages."""
    stamps = []
    for name in _WATCHED:
        with suppress(FileNotFoundError, NotADirectoryError):
            found = (folder / name).stat()
            stamps.append([found.st_mtime_ns, found.st_size])
            continue
        stamps.append([0, 0])
    return stamps


def is_final(record: Record) -> bool:
    """Whether a run's state follows from its signature alone, and not from the clock."""
    return record.state in ("certified", "refused")


def read_detail(folder: Path) -> Detail:
    """Everything that the site shows of the run in ``folder``."""
    status = read_run_status(folder)
    order = artifacts.read_json(folder / ORDER_FILE)
    decided = artifacts.is_done(folder / "decide")
    report = artifacts.read_json(folder / "decide/report.json") if decided else {}
    findings = _read_if_there(folder / "evaluate/findings.json")
    resources = _read_if_there(folder / accounting.RESOURCES_FILE)
    events = read_events(folder)
    public = public_order(order["order"])
    record = Record(
        run=folder.name,
        state=status.state,
        stage=status.stage,
        why=_why(folder, status, report),
        dataset=str(public["dataset"]["name"]),
        generator=generator_name(order["order"]),
        parameters=flat({k: v for k, v in public["generator"].items() if k != "_target_"}),
        seed=int(public["seed"]),
        version=str(order["synthfactory"]),
        ended_at=_ended_at(events),
        metrics=_metrics(findings),
        unmeasured=tuple(sorted((findings or {}).get("failures", {}))),
        resources=_resources(resources),
        energy_method=_energy(resources)[1],
        certificate=_certificate(folder / "release"),
        report=_report(folder),
    )
    return Detail(
        record=record,
        findings=findings,
        rules=report.get("verdict", {}).get("reasons", ()),
        config=flat(public),
        environment=flat(report.get("environment", {"python": order["python"]})),
        training=report.get("training") or loss_curve(_losses(folder)),
        resources=resources,
        events=[
            {key: event[key] for key in ("at", "event", "stage", "step") if key in event}
            for event in events
        ],
        dataset=report.get("dataset"),
        command=report.get("command", ""),
    )


def table_digest(folder: Path) -> str:
    """Which table a run is about; compared only, and never written into a site."""
    return str(artifacts.read_json(folder / ORDER_FILE)["table"])


def generator_name(order: Json) -> str:
    """The name of an order's generator, from its class: ``CTGAN`` is ``ctgan``.

    One of another package is named as that package offers it.

    >>> generator_name({"generator": {"_target_": "synthfactory.generators.SDVGaussianCopula"}})
    'sdv_gaussian_copula'
    """
    if "_plugin_" in order["generator"]:
        return str(order["generator"]["_plugin_"]["name"])
    target = str(order["generator"]["_target_"]).rsplit(".", 1)[-1]
    return _NAMES.get(target, target.lower())


_NAMES = {
    "SDVCTGAN": "sdv_ctgan",
    "SDVTVAE": "sdv_tvae",
    "SDVGaussianCopula": "sdv_gaussian_copula",
}


def flat(values: Any, prefix: str = "") -> dict[str, str]:
    """Nested values as dotted names and texts, for comparing.

    >>> flat({"a": {"b": [1, 2], "c": None}, "d": 0.5})
    {'a.b': '[1, 2]', 'a.c': 'null', 'd': '0.5'}
    """
    if isinstance(values, Mapping) and values:
        merged: dict[str, str] = {}
        for name in sorted(values):
            merged |= flat(values[name], f"{prefix}.{name}" if prefix else str(name))
        return merged
    if isinstance(values, bool) or values is None:
        return {prefix: {None: "null", True: "true", False: "false"}[values]}
    return {prefix: str(values)}


def worst_attack(findings: Json) -> tuple[float | None, ...] | None:
    """The attack whose upper bound above chance is the largest; None when an attack failed.

    It is sought among the privacy measurements in which less is better and that are shares with a
    baseline.  All values are that attack's own, less its baseline; its upper bound is the run's
    leakage bound.
    """
    if any(name.startswith("privacy.") for name in findings.get("failures", ())):
        return None
    attacks = [
        item
        for item in findings["measurements"]
        if item["family"] == "privacy"
        and item["better"] == "lower"
        and item["baseline"] is not None
        and is_share(item["unit"])
    ]
    if not attacks:
        return None
    worst = max(attacks, key=lambda item: float(item["ucb"] - item["baseline"]))
    base = worst["baseline"]
    bounds = (round(worst[name] - base, 9) for name in ("estimate", "lcb", "ucb"))
    return (*bounds, worst["n"], 0.0, None, worst["confidence"])


def _metrics(findings: Json | None) -> dict[str, tuple[float | None, ...]]:
    if findings is None:
        return {}
    names = ("estimate", "lcb", "ucb", "n", "baseline", "control", "confidence")
    found = {item["id"]: tuple(item[name] for name in names) for item in findings["measurements"]}
    worst = worst_attack(findings)
    return found if worst is None else {**found, LEAKAGE: worst}


def _why(folder: Path, status: RunStatus, report: Json) -> tuple[str, ...]:
    if status.state == "refused":
        return tuple(missed_sentence(rule, report) for rule in report["verdict"]["reasons"]
                     if not rule["passed"])  # fmt: skip
    if status.state == "failed":
        failure = read_failure(folder) or {"stage": status.stage, "kind": ""}
        return (failure_sentence(str(failure["kind"]), str(failure["stage"])),)
    return status.reasons


def failure_sentence(kind: str, stage: str) -> str:
    """Why a run failed, without its message, which may quote a path or a value of the table.

    >>> failure_sentence("TrainingError", "fit")
    'Failed in fit: a fit diverged or ran out of its means.'
    """
    known = getattr(errors, kind, None)
    meaning = (known.__doc__ or "").splitlines()[0] if isinstance(known, type) else ""
    meaning = meaning[:1].lower() + meaning[1:] or f"{kind or 'an unknown error'}."
    return f"Failed in {stage or 'the beginning'}: {meaning}"


def missed_sentence(rule: Json, report: Json) -> str:
    """Why a rule does not hold, in the words of the report, but never with an exception's."""
    if rule["metric"] == "instrument":
        return "Instrument controls: the tests did not pass their own check."
    if rule.get("value") is None:
        return f"{words_of(rule['metric']).title}: not measured."
    return rule_sentence(rule, report)


def _ended_at(events: Sequence[Json]) -> float | None:
    committed = [float(event["at"]) for event in events if event["event"] == "committed"]
    return max(committed, default=None)


def _resources(resources: Json | None) -> dict[str, float | None]:
    total = (resources or {}).get("total", {})
    return {
        "wall_s": total.get("wall_s"),
        "cpu_h": total.get("cpu_allocated_h"),
        "gpu_h": total.get("gpu_allocated_h"),
        "kwh": _energy(resources)[0],
        "peak_mb": total.get("peak_rss_mb"),
    }


def _energy(resources: Json | None) -> tuple[float | None, str]:
    found = {entry["method"]: entry for entry in (resources or {}).get("energy", ())}
    for method in ENERGY_METHODS:
        if method in found and found[method]["kwh"] is not None:
            return float(found[method]["kwh"]), method
    return None, ""


def _certificate(release: Path) -> dict[str, str] | None:
    signed = _read_if_there(release / "certificate.json")
    if signed is None:
        return None
    issuer, subject = signed["issuer"], signed["credentialSubject"]
    return {
        "id": str(signed.get("id", subject.get("id", ""))),
        "subject": str(subject.get("id", "")),
        "issuer": str(issuer["id"] if isinstance(issuer, Mapping) else issuer),
        "from": str(signed.get("validFrom", "")),
        "until": str(signed.get("validUntil", "")),
        "state": _certificate_state(release),
    }


def _certificate_state(release: Path) -> str:
    try:
        return str(state_of(artifacts.read_json(release / "status.json")))
    except (OSError, ValueError, KeyError, IndexError, TypeError, ReleaseError):
        return "unreadable"


def _report(folder: Path) -> str | None:
    places = ("release/report.html", "decide/report.html")
    return next((place for place in places if (folder / place).is_file()), None)


def _losses(folder: Path) -> list[dict[str, float]]:
    """The losses of a fit that is done but not decided, or of one that goes on."""
    done = _read_if_there(folder / "fit/training.json")
    if done is not None:
        return list(done["losses"])
    losses: list[dict[str, float]] = []
    with suppress(FileNotFoundError):
        for line in (folder / CURVE_FILE).read_text(encoding="utf-8").splitlines():
            # The last line may be half written.
            with suppress(ValueError):
                losses.append(json.loads(line))
    return losses


def _read_if_there(path: Path) -> Any:
    with suppress(FileNotFoundError, NotADirectoryError):
        return artifacts.read_json(path)
    return None
