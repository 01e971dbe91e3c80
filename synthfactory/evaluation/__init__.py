"""What measures it: fidelity, privacy leakage and utility, each beside a baseline and a control."""

from __future__ import annotations

from synthfactory.evaluation.evaluate import Evaluation as Evaluation
from synthfactory.evaluation.evaluate import ReportProgress as ReportProgress
from synthfactory.evaluation.evaluate import Standing as Standing
from synthfactory.evaluation.evaluate import conclude as conclude
from synthfactory.evaluation.evaluate import measure as measure
from synthfactory.evaluation.evidence import Evidence as Evidence
from synthfactory.evaluation.measurement import ControlOutcome as ControlOutcome
from synthfactory.evaluation.measurement import Findings as Findings
from synthfactory.evaluation.measurement import Measurement as Measurement
from synthfactory.evaluation.pieces import Shelf as Shelf
from synthfactory.evaluation.pieces import pieces_kept as pieces_kept
from synthfactory.evaluation.pieces import secret_of as secret_of
