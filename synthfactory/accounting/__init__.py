"""What a run cost: time, processors, GPUs, memory, energy, attempts, waiting.

``measured`` is wrapped around a stage and gives its cost, which lies in the stage's ``DONE.json``;
``summarise`` makes the document of a whole run from these costs and the run's events.  What cannot
be measured is ``None`` or ``unmeasured`` with the reason, never an estimate.
"""

from __future__ import annotations

from synthfactory.accounting.allocation import Allocation as Allocation
from synthfactory.accounting.allocation import find_allocation as find_allocation
from synthfactory.accounting.batch import job_of as job_of
from synthfactory.accounting.batch import read_sacct as read_sacct
from synthfactory.accounting.cost import combined as combined
from synthfactory.accounting.cost import measured as measured
from synthfactory.accounting.cost import share as share
from synthfactory.accounting.summary import RESOURCES_FILE as RESOURCES_FILE
from synthfactory.accounting.summary import summarise as summarise
