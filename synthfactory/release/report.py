"""The content of the report: one deterministic document of aggregates.

It repeats what the certificate vouches for (the Merkle root of the data, the digest of the
policy, every finding with its interval) and says what the certificate cannot hold: the charts,
the method of each measurement, the order that makes it again.  It holds no date, no duration, no
path, no minimum, maximum or category of the confidential table: what is not in this document can
neither leak from the page nor differ between two runs of the same order.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import math
import platform
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from synthfactory import __version__
from synthfactory.certification import load_policy
from synthfactory.paths import conf_dir
from synthfactory.release import words

if TYPE_CHECKING:
    from synthfactory.certification import Policy, Verdict
    from synthfactory.evaluation import Evaluation, Findings
    from synthfactory.generators import Generator
    from synthfactory.tables import Dataset, RareValues, Schema, Split

Outcome = Literal["certified", "refused", "incomplete"]

FORMAT = "synthfactory-report/1"
PACKAGES = ("numpy", "pandas", "pyarrow", "scikit-learn", "scipy", "torch")
MAX_CURVE_POINTS = 200


class AnOrder(Protocol):
    """What the report needs of an order; `synthfactory.order.Order` is one."""

    @property
    def dataset(self) -> Dataset: ...
    @property
    def generator(self) -> Generator: ...
    @property
    def policy(self) -> Policy: ...
    @property
    def split(self) -> Split: ...
    @property
    def evaluation(self) -> Evaluation: ...
    def to_dict(self) -> dict[str, Any]: ...


def build_report(
    order: AnOrder,
    *,
    schema: Schema,
    rare: RareValues,
    split: Mapping[str, Any],
    findings: Findings,
    verdict: Verdict,
    manifest: Mapping[str, Any],
    losses: Sequence[Mapping[str, float]] = (),
) -> dict[str, Any]:
    """Gather what a run found into the document that becomes ``report.json``.

    Parameters
    ----------
    order
        The resolved order; where the table lay is left out.
    schema
        Of the confidential table; only names, kinds and roles of columns are taken from it.
    rare
        What was done about rare values; only rounded counts are taken from it.
    split
        The split report: counts only.
    findings
        What the evaluation measured, with its charts.
    verdict
        What the policy decided, rule by rule.
    manifest
        The manifest of the data parts.
    losses
        Training losses, ``{"step": .., name: ..}`` each; thinned to 200 points.

    Returns
    -------
    dict
        JSON-able, the same for the same run on the same machine.
    """
    measured = findings.to_dict()
    decided = verdict.to_dict()
    ordered = order.to_dict()
    report: dict[str, Any] = _without_nan(
        {
            "format": FORMAT,
            "version": __version__,
            "outcome": outcome_of(measured, decided),
            "dataset": describe_dataset(order.dataset, schema, split),
            "rareValues": rare.public(),
            "order": public_order(ordered),
            "command": command_of(order),
            "split": dict(split),
            "generator": describe_generator(
                order.generator, ordered.get("generator", {}).get("_plugin_")
            ),
            "findings": measured,
            "policy": {**order.policy.to_dict(), "digest": order.policy.digest},
            "verdict": decided,
            "notAssessed": words.not_assessed(measured, rare_kept=rare.kept),
            "manifest": {
                "merkleRoot": manifest["merkleRoot"],
                "parts": len(manifest["parts"]),
                "rows": sum(part["rows"] for part in manifest["parts"]),
            },
            "environment": environment(threads=ordered.get("threads")),
            "training": loss_curve(losses),
            "glossary": [
                {"word": word, "meaning": meaning} for word, meaning in words.GLOSSARY.items()
            ],
        }
    )
    return report


def outcome_of(findings: Mapping[str, Any], verdict: Mapping[str, Any]) -> Outcome:
    """Certified, refused, or incomplete: refused because something could not be measured.

    >>> outcome_of({"failures": {}}, {"certified": False, "reasons": []})
    'refused'
    >>> outcome_of({"failures": {"privacy.dcr_share": "out of memory"}}, {"certified": False})
    'incomplete'
    """
    if verdict["certified"]:
        return "certified"
    unmeasured = any(
        not reason["passed"] and reason.get("value") is None
        for reason in verdict.get("reasons", ())
    )
    return "incomplete" if findings.get("failures") or unmeasured else "refused"


def describe_dataset(dataset: Dataset, schema: Schema, split: Mapping[str, Any]) -> dict[str, Any]:
    """What may be said about the confidential table: no values, no ranges, no levels."""
    return {
        "name": dataset.name,
        "title": dataset.title or dataset.name,
        "description": dataset.description,
        "licence": dataset.licence,
        "citation": dataset.citation,
        "source": dataset.source,
        "health": dataset.health,
        "rows": sum(split["rows"].values()),
        "target": schema.target,
        "columns": [
            {"name": column.name, "kind": column.kind, "nullable": column.nullable}
            for column in schema.columns
        ],
        "roles": {
            "entity": schema.entity,
            "quasiIdentifiers": list(schema.quasi_identifiers),
            "sensitive": list(schema.sensitive),
        },
    }


def describe_generator(
    generator: Generator, plugin: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The generator's name, licence, paper and hyperparameters, and whose it is.

    Parameters
    ----------
    plugin
        The package that offers it, where it is not this one.
    """
    mine = {"package": "synthfactory", "version": __version__}
    return {
        "name": generator.name,
        "package": (plugin or mine)["package"],
        "version": (plugin or mine)["version"],
        "licence": generator.licence,
        "paper": generator.reference,
        "parameters": _plain(generator.hyperparameters()),
    }


def public_order(order: Mapping[str, Any]) -> dict[str, Any]:
    """The order without what it says about the table's place and values.

    The policy stands in the report once, whole; here only its name is repeated.

    >>> public_order({"seed": 0, "dataset": {"name": "adult", "path": "/secret", "columns": {}}})
    {'seed': 0, 'dataset': {'name': 'adult'}}
    """
    public = {key: _plain(value) for key, value in order.items()}
    if isinstance(public.get("dataset"), dict):
        hidden = {"path", "columns", "missing_values"}
        public["dataset"] = {
            key: value for key, value in public["dataset"].items() if key not in hidden
        }
    if isinstance(public.get("policy"), dict):
        public["policy"] = public["policy"].get("id")
    return public


def command_of(order: AnOrder) -> str:
    """The command that makes the same release again, with every value that is not a default."""
    dataset = order.dataset
    if dataset.path.startswith("package:"):
        chosen = [f"dataset={dataset.name}"]
    else:
        chosen = ["dataset.path=<the confidential table>"]
        chosen += [f"dataset.target={dataset.target}"] if dataset.target else []
    chosen += [word for word in _changed("dataset", dataset) if "dataset.min_people=" in word]
    chosen += [f"generator={order.generator.name}", *_changed("generator", order.generator)]
    chosen += [f"policy={_policy_name(order.policy)}"]
    chosen += [*_changed("evaluation", order.evaluation), *_changed("split", order.split)]
    values = order.to_dict()
    chosen += [
        f"{name}={_override(values[name])}"
        for name in ("seed", "rows", "rows_per_shard", "threads", "device")
        if values.get(name) is not None
    ]
    return " ".join(["synthfactory run", *(shlex.quote(part) for part in chosen)])


def environment(*, threads: int | None = None) -> dict[str, Any]:
    """The versions and the processor that made the numbers."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "synthfactory": __version__,
        "python": platform.python_version(),
        "packages": versions,
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "threads": threads,
    }


def loss_curve(losses: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Training losses by name over common steps, thinned evenly to at most 200 points.

    >>> loss_curve([{"step": 1, "critic": 0.123456}, {"step": 2, "critic": float("nan")}])
    {'steps': [1, 2], 'losses': {'critic': [0.1235, None]}}
    """
    stride = max(1, math.ceil(len(losses) / MAX_CURVE_POINTS))
    kept = list(losses[::stride])
    if losses and (len(losses) - 1) % stride:
        kept.append(losses[-1])
    names = sorted({name for point in kept for name in point} - {"step"})
    return {
        "steps": [int(point["step"]) for point in kept],
        "losses": {name: [_significant(point.get(name)) for point in kept] for name in names},
    }


def _policy_name(policy: Policy) -> str:
    """The name that chooses a shipped policy; a policy of the user's own has a file."""
    for path in sorted((conf_dir() / "policy").glob("*.yaml")):
        if load_policy(path).digest == policy.digest:
            return path.stem
    return f"<the file of the policy {policy.id}>"


def _changed(group: str, spec: Any) -> list[str]:
    """Overrides of the fields of a specification that differ from its class's defaults."""
    return [
        f"{group}.{item.name}={_override(getattr(spec, item.name))}"
        for item in dataclasses.fields(spec)
        if _plain(getattr(spec, item.name)) != _default_of(item)
    ]


def _default_of(item: dataclasses.Field[Any]) -> Any:
    if item.default_factory is not dataclasses.MISSING:
        return _plain(item.default_factory())
    return _plain(item.default)


def _override(value: Any) -> str:
    """A value in the grammar of command-line overrides.

    >>> _override([256, 256]), _override(None), _override(True)
    ('[256,256]', 'null', 'true')
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_override(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(_override(item) for item in value) + "]"
    return str(value)


def _plain(value: Any) -> Any:
    """Tuples as lists, dataclasses and mappings as dictionaries, all the way down."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _without_nan(value: Any) -> Any:
    """JSON has no NaN and no infinity: both become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return value


def _significant(value: float | None, digits: int = 4) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{digits}g}")


def _processor() -> str:
    """The processor's model name where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return " ".join(line.split(":", 1)[1].split())
    return platform.processor() or platform.machine()
