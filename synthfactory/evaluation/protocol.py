"""What was compared with what, in counts: the evidence's protocol.

Whoever reads a finding must be able to see how many people stand behind it, that members and
strangers were equally many, and which rows occur on both sides of the split.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from synthfactory.evaluation.evidence import Evidence
from synthfactory.evaluation.privacy import k_map
from synthfactory.tables import row_numbers


def describe(evidence: Evidence) -> dict[str, Any]:
    """Counts only: sizes of the parts, of the samples, and of what straddles the split."""
    train, control, test = row_numbers(evidence.train, evidence.control, evidence.test)
    return {
        "rows": {
            "train": len(evidence.train),
            "control": len(evidence.control),
            "test": len(evidence.test),
            "synthetic": len(evidence.synthetic),
        },
        "members": len(evidence.members),
        "strangers": len(evidence.strangers),
        "reference": len(evidence.reference),
        "split_by": "row" if evidence.schema.entity is None else "entity",
        "rows_also_in_train": {
            "control": int(np.isin(control, train).sum()),
            "test": int(np.isin(test, train).sum()),
        },
        "max_rows": evidence.max_rows,
        "attacks": evidence.attacks,
        "shadows": evidence.shadows,
        "attempts": evidence.attempts,
        "confidence": evidence.confidence,
        "not_assessed": {} if evidence.population is not None else {k_map.ID: k_map.NOT_ASSESSED},
    }
