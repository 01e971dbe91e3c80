"""The instrument's controls, and terms that the report explains."""

from __future__ import annotations

CONTROLS: dict[str, str] = {
    "noisy_copy": "Training rows with a little noise added",
    "shifted_copy": "Training rows with a constant added to every number",
    "memorised_1pct": "A sound sample in which 1 of 100 rows is a training row",
    "collapse": "A generator that repeats a handful of rows",
    "fresh_real": "Real rows that nobody trained on",
    "independent_marginals": "Each column drawn on its own",
}
GLOSSARY: dict[str, str] = {
    "Training rows": "The part of the confidential table from which the generator learnt.",
    "Control and test rows": (
        "Parts of the confidential table that the generator never saw. What holds for them by"
        " coincidence cannot be a leak."
    ),
    "Interval": (
        "The range that covers the true value in 95 of 100 repetitions of the measurement, or in"
        " more where several candidates were tried. The policy reads its worse end."
    ),
    "Threshold": "The bound that the policy sets. Missing it by any amount is a refusal.",
    "Policy": "A versioned list of rules, fixed before the run, that decides certified or refused.",
    "Instrument controls": (
        "Tables with a planted leak, which the privacy tests must find, and clean tables, which"
        " they must let pass. When they err on either, no certificate is issued."
    ),
    "AUC": (
        "How often a classifier ranks a case above a non-case: 0.5 is guessing, 1 is never wrong."
    ),
    "Merkle root": (
        "One fingerprint over all data files: change a single byte and it is another one."
    ),
}
