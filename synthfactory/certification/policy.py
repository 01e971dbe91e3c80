"""Policies: rules on interval bounds, in a closed language; what is absent is refused.

A policy is a YAML document without any code: an id, a version, and rules of the form

    {id, metric, bound: ucb|lcb, op: "<="|">=", value, min_n, requires, on_missing: fail, why}

A rule reads a bound of a measurement's interval, never its estimate.  A missing or failed
measurement, too few rows, or an instrument that did not find its planted leaks, refuses.

A policy may say what it needs (`Needs`): settings and numbers of rows without which most tables are
refused whether or not they leak.  An order without them is refused before anything is trained.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

import yaml

from synthfactory.artifacts import digest_json
from synthfactory.certification.needs import LEAST_CONFIDENCE, Needs
from synthfactory.errors import PolicyError, did_you_mean
from synthfactory.paths import conf_dir

OPERATORS = ("<=", ">=")
BOUNDS = ("lcb", "ucb")
USE_CLASSES = ("open", "restricted", "secure-environment")
BOUND_WORDS = {"lcb": "lower bound", "ucb": "upper bound"}
LEVELS = ("none", "SF-1", "SF-2", "SF-3")
# What each level asks to be ruled, besides all that the levels below it ask.
LEVEL_METRICS: Mapping[str, frozenset[str]] = {
    "none": frozenset(),
    "SF-1": frozenset(
        {
            "privacy.exact_match",
            "privacy.dcr_share",
            "fidelity.column_shapes",
            "utility.retained",
        }
    ),
    "SF-2": frozenset(
        {
            "privacy.singling_out",
            "privacy.linkability",
            "privacy.attribute_inference",
            "privacy.domias_knn",
            "privacy.domias_classifier",
            "privacy.tpr_at_1pct_fpr",
        }
    ),
    "SF-3": frozenset(
        {
            "privacy.membership_black_box",
            "privacy.tpr_at_1permille_fpr",
            "privacy.epsilon_lower_bound",
        }
    ),
}
INSTRUMENT = "instrument"
# What a key may leave out, in a rule or in a policy.
OPTIONAL = ("min_n", "requires", "on_missing", "level", "needs")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule.

    Parameters
    ----------
    id
        Its name in the policy.
    metric
        The measurement that it reads.
    bound
        ``lcb`` or ``ucb``: which end of the interval.
    op, value
        What the bound must be: ``<=`` or ``>=`` the value.
    min_n
        Rows that the measurement must rest on.
    requires
        Outcomes of the instrument's controls that must hold, by id; all of them when empty.
    on_missing
        Always ``fail``.
    why
        The reason of the value.

    Raises
    ------
    PolicyError
        When a value is not in the language, or the bound is the incautious one for its operator.
    """

    id: str
    metric: str
    bound: str
    op: str
    value: float
    min_n: int = 0
    requires: tuple[str, ...] = ()
    on_missing: str = "fail"
    why: str

    def __post_init__(self) -> None:
        where = f"Rule '{self.id}'"
        for name in ("id", "metric"):
            text = getattr(self, name)
            if not isinstance(text, str) or not text:
                raise PolicyError(f"{where}: expected a text as {name}, got {text!r}.")
        if not isinstance(self.requires, (list, tuple)) or not all(
            isinstance(name, str) for name in self.requires
        ):
            raise PolicyError(
                f"{where}: expected a list of controls as requires, got {self.requires!r}."
            )
        for name, known in (("bound", BOUNDS), ("op", OPERATORS), ("on_missing", ("fail",))):
            value = getattr(self, name)
            if value not in known:
                raise PolicyError(f"{where}: {name} is {value!r}{did_you_mean(str(value), known)}")
        if (self.op == "<=") != (self.bound == "ucb"):
            raise PolicyError(
                f"{where}: '{self.op}' must read the cautious bound, "
                f"{'ucb' if self.op == '<=' else 'lcb'}, not {self.bound}."
            )
        number = isinstance(self.value, (int, float)) and not isinstance(self.value, bool)
        if not number or not math.isfinite(self.value):
            raise PolicyError(f"{where}: expected a finite number as value, got {self.value!r}.")
        if not isinstance(self.min_n, int) or isinstance(self.min_n, bool) or self.min_n < 0:
            raise PolicyError(f"{where}: expected a whole number as min_n, got {self.min_n!r}.")
        if not isinstance(self.why, str) or not self.why.strip():
            raise PolicyError(f"{where}: 'why' must give the reason of the value.")
        object.__setattr__(self, "value", float(self.value))
        object.__setattr__(self, "requires", tuple(self.requires))


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A set of rules that must all hold.

    Parameters
    ----------
    id, version, title
        What it is called.
    use_class
        ``open``, ``restricted`` or ``secure-environment``: where the data may be used.
    level
        The assurance level that its rules amount to: ``none``, ``SF-1``, ``SF-2`` or ``SF-3``.
    needs
        What an order must give, so that the rules can hold at all; nothing by default.
    rules
        The rules.

    Raises
    ------
    PolicyError
        When a value is not in the language, two rules share an id, or a metric that the level
        asks for has no rule.
    """

    id: str
    version: str
    title: str
    use_class: str
    level: str = "none"
    needs: Needs = field(default_factory=Needs)
    rules: tuple[Rule, ...]

    def __post_init__(self) -> None:
        if self.use_class not in USE_CLASSES:
            raise PolicyError(
                f"Policy '{self.id}': use_class is {self.use_class!r}"
                f"{did_you_mean(str(self.use_class), USE_CLASSES)}"
            )
        if self.level not in LEVELS:
            raise PolicyError(
                f"Policy '{self.id}': level is {self.level!r}"
                f"{did_you_mean(str(self.level), LEVELS)}"
            )
        object.__setattr__(self, "rules", tuple(self.rules))
        names = [rule.id for rule in self.rules]
        if not names:
            raise PolicyError(f"Policy '{self.id}' has no rules; it would certify anything.")
        if len(set(names)) != len(names):
            raise PolicyError(f"Policy '{self.id}': two rules share an id among {names}.")
        below = LEVELS[: LEVELS.index(self.level) + 1]
        asked = frozenset().union(*(LEVEL_METRICS[level] for level in below))
        if unruled := sorted(asked - {rule.metric for rule in self.rules}):
            raise PolicyError(
                f"Policy '{self.id}': level {self.level} asks for rules on {', '.join(unruled)}; "
                "add them, or declare a lower level."
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Policy:
        """A policy from the values of its YAML.

        Raises
        ------
        PolicyError
            For an unknown or missing key, with its place.
        """
        if not isinstance(values, Mapping):
            raise PolicyError(f"Expected a policy's keys and values, got {type(values).__name__}.")
        name = f"Policy '{values.get('id', '?')}'"
        _check_keys(name, values, cls)
        if isinstance(values["rules"], str) or not isinstance(values["rules"], Sequence):
            raise PolicyError(f"{name}: rules must be a list.")
        rules = []
        for place, rule in enumerate(values["rules"], start=1):
            where = f"{name}, rule {place}"
            if not isinstance(rule, Mapping):
                raise PolicyError(f"{where}: expected keys and values, got {rule!r}.")
            _check_keys(where, rule, Rule)
            rules.append(Rule(**rule))
        texts = {key: str(values[key]) for key in ("id", "version", "title", "use_class")}
        texts["level"] = str(values.get("level", "none"))
        needs = Needs.from_dict(values.get("needs", {}), f"{name}, needs")
        return cls(**texts, needs=needs, rules=tuple(rules))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values; the inverse of `from_dict`.

        A policy that needs nothing says nothing of needs, so that it keeps its digest.
        """
        needs = self.needs.to_dict()
        return {
            "id": self.id,
            "version": self.version,
            "title": self.title,
            "use_class": self.use_class,
            "level": self.level,
            **({"needs": needs} if needs else {}),
            "rules": [
                {
                    "id": rule.id,
                    "metric": rule.metric,
                    "bound": rule.bound,
                    "op": rule.op,
                    "value": rule.value,
                    "min_n": rule.min_n,
                    "requires": list(rule.requires),
                    "on_missing": rule.on_missing,
                    "why": rule.why,
                }
                for rule in self.rules
            ],
        }

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, ``sha256:<hex>``."""
        return digest_json(self.to_dict())

    def explain(self) -> str:
        """What it asks in plain words, with the reason of each value."""
        lines = [
            f"{self.title} ({self.id}, version {self.version}, for {self.use_class} use, "
            f"level {self.level})",
            "",
            "Every rule must hold. A measurement that is missing, failed, or rests on too few rows",
            "refuses, and so does an instrument that did not find its planted leaks.",
        ]
        if self.needs:
            lines += ["", f"Before anything is trained it needs {self.needs.in_words}."]
        for rule in self.rules:
            few = f", measured on at least {rule.min_n} rows" if rule.min_n else ""
            limit = "at most" if rule.op == "<=" else "at least"
            lines += [
                "",
                f"{rule.metric}: the {BOUND_WORDS[rule.bound]} is {limit} {rule.value:g}{few}",
                f"  because {rule.why.strip()}",
            ]
        return "\n".join(lines)


def _check_keys(where: str, values: Mapping[str, Any], kind: type) -> None:
    known = [field.name for field in fields(kind)]
    needed = [field.name for field in fields(kind) if field.name not in OPTIONAL]
    for key in values:
        if key not in known:
            raise PolicyError(f"{where}: unknown key '{key}'{did_you_mean(str(key), known)}")
    for key in needed:
        if key not in values:
            raise PolicyError(f"{where}: the key '{key}' is missing.")


class _StrictLoader(yaml.SafeLoader):
    """YAML in which no key stands twice: readers might see one value, the policy take another."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping of a node."""
        names = [key.value for key, _ in node.value]
        for (key, _), name in zip(node.value, names, strict=True):
            if names.count(name) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {name!r} stands twice", key.start_mark
                )
        return super().construct_mapping(node, deep=deep)


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the language."""
    path = Path(__file__).parent / "policy.schema.json"
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def load_policy(name: str | Path) -> Policy:
    """A shipped policy by its name, or one from a YAML file.

    Raises
    ------
    PolicyError
        When there is none, or it is not in the language.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = conf_dir() / "policy" / f"{name}.yaml"
        if not path.is_file():
            known = sorted(item.stem for item in path.parent.glob("*.yaml"))
            raise PolicyError(f"There is no policy '{name}'{did_you_mean(str(name), known)}")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise PolicyError(f"Cannot read the policy {path}: {error}.") from error
    return Policy.from_dict(values)


@dataclass(frozen=True, kw_only=True)
class RuleOutcome:
    """What a rule found.

    Parameters
    ----------
    rule, metric, bound, op, threshold
        The rule.
    value
        The bound that was read; None when there was none.
    passed
        Whether the rule holds.
    sentence
        What was found, and by how much it missed or held.
    """

    rule: str
    metric: str
    bound: str
    op: str
    threshold: float
    value: float | None
    passed: bool
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A policy's decision.

    Parameters
    ----------
    certified
        Whether every rule holds.
    reasons
        The outcome of every rule, the instrument's first.
    policy_id, policy_digest
        Which policy.
    """

    certified: bool
    reasons: tuple[RuleOutcome, ...]
    policy_id: str
    policy_digest: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values."""
        return {
            "certified": self.certified,
            "reasons": [reason.to_dict() for reason in self.reasons],
            "policy_id": self.policy_id,
            "policy_digest": self.policy_digest,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Verdict:
        """The inverse of `to_dict`."""
        reasons = tuple(RuleOutcome(**reason) for reason in values["reasons"])
        return cls(**{**values, "reasons": reasons})

    def __repr__(self) -> str:
        head = f"Verdict({'certified' if self.certified else 'refused'} by {self.policy_id})"
        marks = {True: "+", False: "-"}
        return "\n".join([head, *(f"  {marks[r.passed]} {r.sentence}" for r in self.reasons)])


class HasDict(Protocol):
    """Findings, or anything else that turns into their dictionary."""

    def to_dict(self) -> dict[str, Any]: ...


def decide(findings: HasDict | Mapping[str, Any], policy: Policy | str = "default") -> Verdict:
    """Apply a policy to findings.

    Parameters
    ----------
    findings
        `synthfactory.evaluation.Findings`, or their dictionary as in ``report.json``.
    policy
        A policy, or the name of a shipped one, or the path of a YAML file.

    Raises
    ------
    PolicyError
        When the policy cannot be read.
    """
    rules = policy if isinstance(policy, Policy) else load_policy(policy)
    values = findings if isinstance(findings, Mapping) else findings.to_dict()
    measured: dict[str, list[Mapping[str, Any]]] = {}
    for item in values["measurements"]:
        measured.setdefault(item["id"], []).append(item)
    outcomes = (
        _judge_instrument(values.get("instrument", ()), rules),
        *(_judge(rule, measured, values.get("failures", {})) for rule in rules.rules),
    )
    return Verdict(
        certified=all(outcome.passed for outcome in outcomes),
        reasons=outcomes,
        policy_id=rules.id,
        policy_digest=rules.digest,
    )


def _judge_instrument(controls: Sequence[Mapping[str, Any]], policy: Policy) -> RuleOutcome:
    """Planted leaks must be found and clean tables must pass, or no measurement counts."""
    names = {control["id"] for control in controls}
    needed = {name for rule in policy.rules for name in rule.requires}
    kinds = {control["kind"] for control in controls}
    wrong = [control for control in controls if control["flagged"] != control["expected"]]
    if not controls:
        said = "The instrument was not checked: planted leaks were not tried (evaluation.controls)."
    elif needed - names:
        said = f"The instrument was not checked with: {', '.join(sorted(needed - names))}."
    elif wrong:
        missed = [c["id"] for c in wrong if c["expected"]]
        false = [c["id"] for c in wrong if not c["expected"]]
        parts = [f"planted leaks not found: {', '.join(missed)}"] if missed else []
        parts += [f"clean data flagged: {', '.join(false)}"] if false else []
        said = (
            f"Instrument invalid on this table ({'; '.join(parts)}): what it measured here proves "
            "nothing. Use more rows, or columns that tell people apart."
        )
    elif kinds != {"positive", "negative"}:
        said = "The instrument was not checked with both planted leaks and clean data."
    else:
        said = f"The instrument came out as expected on all {len(controls)} planted tables."
    passed = kinds == {"positive", "negative"} and not wrong and not needed - names
    return RuleOutcome(
        rule=INSTRUMENT,
        metric=INSTRUMENT,
        bound="lcb",
        op=">=",
        threshold=1.0,
        value=1.0 - len(wrong) / len(controls) if controls else None,
        passed=passed,
        sentence=said,
    )


def _judge(
    rule: Rule, measured: Mapping[str, Sequence[Mapping[str, Any]]], failures: Mapping[str, str]
) -> RuleOutcome:
    all_found = measured.get(rule.metric, ())
    found = all_found[0] if all_found else None
    value = None if found is None else found[rule.bound]
    asked = f"{'at most' if rule.op == '<=' else 'at least'} {rule.value:g}"
    if found is None or value is None or not math.isfinite(value) or rule.metric in failures:
        why = failures.get(rule.metric, "it is not among the findings")
        passed, said = False, f"{rule.metric} was not measured: {why}"
        value = None
    elif len(all_found) > 1:
        passed = False
        said = f"{rule.metric} is among the findings {len(all_found)} times; expected once."
    elif not found.get("confidence", 0.0) >= LEAST_CONFIDENCE:
        passed = False
        said = (
            f"{rule.metric} has an interval of {found.get('confidence', 0.0):.4g} confidence; at "
            f"least {LEAST_CONFIDENCE:g} is asked for (evaluation.confidence)."
        )
    elif not found["n"] >= rule.min_n:
        passed = False
        said = f"{rule.metric} rests on {found['n']} rows; at least {rule.min_n} are asked for."
    else:
        passed = value <= rule.value if rule.op == "<=" else value >= rule.value
        room = abs(value - rule.value)
        how = f"by {room:.3g}" if passed else f"missed by {room:.3g}"
        said = (
            f"{rule.metric}: the {BOUND_WORDS[rule.bound]} is {value:.4g}, asked for is {asked} "
            f"({how})."
        )
    return RuleOutcome(
        rule=rule.id,
        metric=rule.metric,
        bound=rule.bound,
        op=rule.op,
        threshold=rule.value,
        value=value,
        passed=passed,
        sentence=said,
    )
