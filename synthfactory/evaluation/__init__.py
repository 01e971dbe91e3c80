"""What measures it: fidelity, privacy leakage and utility, each beside a baseline and a control."""

from __future__ import annotations

from synthfactory.evaluation.evaluate import Evaluation as Evaluation
from synthfactory.evaluation.measurement import ControlOutcome as ControlOutcome
from synthfactory.evaluation.measurement import Findings as Findings
from synthfactory.evaluation.measurement import Measurement as Measurement
