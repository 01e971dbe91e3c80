"""The text of batch jobs: a site's directives, its preparations, and what the job then does.

Pure functions from parameters to text.  ``slurm/allocation.sbatch`` and the files in
``tests/slurm/golden`` hold what they give, so that a change shows as a difference of text.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from synthfactory.clusters.sites import JobRequest, Site

TO_BE_CONTINUED = 75
"""Exit code of a job whose work is left over and made progress (EX_TEMPFAIL): queue it again."""

SRUN_OPTIONS = ("--kill-on-bad-exit=0", "--distribution=block")
"""A worker that dies does not take the others along; ranks 0 and 1 serve, on the first node."""

MAX_DEATHS = 3
"""How often a job is queued again whose client was killed: for lack of memory, or by its node."""

LEAD_S = 120
"""Seconds before the end of a job at which its work stops, unless told otherwise."""

_DEADLINE = """\
# A field of this job as the queue has it; of an array, squeue shows other jobs as well.
queue() {
    squeue --noheader --jobs="$SLURM_JOB_ID" --format="%A $1" 2>/dev/null |
        awk -v id="$SLURM_JOB_ID" '$1 == id { print $2 }'
}

# The queue knows the end, also after somebody moved it; the variable is absent in older SLURM.
end=$(queue %e)
deadline=
[ -z "$end" ] || deadline=$(date --date="$end" +%s 2>/dev/null)
deadline=${deadline:-${SLURM_JOB_END_TIME:-}}
[ -z "$deadline" ] || export SYNTHFACTORY_DEADLINE=$deadline
"""

_ALLOCATION = """\
set -u
{container}
runs=runs
for word in "$@"; do
    case $word in paths.runs=*) runs=${{word#paths.runs=}} ;; esac
done
case $runs in /*) ;; *) runs=$PWD/$runs ;; esac
control=$runs/.campaigns/$SLURM_JOB_ID
mkdir -p "$control" || exit 2

# Every node sees these files: whoever finds the first stops at the next checkpoint.
export SYNTHFACTORY_STOP_FILE=$control/stop.${{SLURM_RESTART_COUNT:-0}}
export SYNTHFACTORY_EXIT_FILE=$control/exit.${{SLURM_RESTART_COUNT:-0}}
rm -f "$SYNTHFACTORY_STOP_FILE" "$SYNTHFACTORY_EXIT_FILE"
# Where these lines go, for `synthfactory logs`.
SYNTHFACTORY_LOG=$(scontrol show job "$SLURM_JOB_ID" 2>/dev/null | sed -n 's/^ *StdOut=//p')
export SYNTHFACTORY_LOG

{deadline}

export SYNTHFACTORY_LEAD_S={lead_s}

# srun takes neither of them over from sbatch by itself (since SLURM 22.05; with --export=NONE).
export SRUN_CPUS_PER_TASK=${{SLURM_CPUS_PER_TASK:-1}}
export SLURM_EXPORT_ENV=ALL

# shellcheck disable=SC2329 # called by the traps
# SLURM sends the early signal up to a minute too early: then the deadline is what counts.  One that
# comes at another time, or a termination, is a preemption.
signalled() {{
    interrupted=yes
    left=$((${{SYNTHFACTORY_DEADLINE:-0}} - $(date +%s)))
    if [ "$1" = USR1 ] && [ "$left" -gt {lead_s} ] && [ "$left" -le $(({lead_s} + 75)) ]; then
        return
    fi
    touch "$SYNTHFACTORY_STOP_FILE"
}}
trap 'signalled USR1' USR1
trap 'signalled TERM' TERM

# Rank 0 is the scheduler, rank 1 the client, whose exit code counts: srun returns the largest one.
# shellcheck disable=SC2016
rank='
    [ "$SLURM_PROCID" = 1 ] || exec "$@"
    trap : TERM # ends the client, not the shell that records its exit code
    "$@"
    code=$?
    echo "$code" >"$SYNTHFACTORY_EXIT_FILE"
    exit "$code"
'
srun {options} bash -c "$rank" rank "${{run[@]}}" run cluster=allocation "$@" &
child=$!
code=127
while :; do # a trap ends wait before its child: wait again, until nothing interrupted it
    interrupted=
    wait "$child"
    status=$?
    [ "$status" -eq 127 ] || code=$status
    [ -n "$interrupted" ] || break
done
[ ! -s "$SYNTHFACTORY_EXIT_FILE" ] || read -r code <"$SYNTHFACTORY_EXIT_FILE"

# Work is left and some was done, or the client was killed: queue again, unless somebody has
# cancelled the job meanwhile.
again=
[ "$code" -ne {again} ] || again=yes
[ "$code" -lt 128 ] || [ "${{SLURM_RESTART_COUNT:-0}}" -ge {deaths} ] || again=yes
if [ -n "$again" ] && [ "$(queue %T)" = RUNNING ]; then
    job=$SLURM_JOB_ID
    [ -z "${{SLURM_ARRAY_JOB_ID:-}}" ] || job=${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID
    scontrol requeue "$job" && exit 0
fi
exit "$code"
"""

_CONTAINER = """\
run=({command})
if [ -n "${{{variable}:-}}" ]; then
    run=({enter} "${variable}" {inside})
fi
"""


def render(site: Site, request: JobRequest, body: str) -> str:
    """A whole batch script.

    Parameters
    ----------
    body
        What the job does: `allocation_body`.

    Raises
    ------
    OrderError
        When the site would not take the request; nothing was submitted.
    """
    lines = [
        f"#!/bin/{site.shell}",
        *(f"#SBATCH {directive}" for directive in site.directives(request)),
        "",
        *prologue(site, request),
        body.rstrip("\n"),
    ]
    return "\n".join(lines) + "\n"


def prologue(site: Site, request: JobRequest) -> list[str]:
    """Shell lines before the work: modules, variables, what else the site needs."""
    lines = [f"module load {shlex.quote(module)}" for module in site.modules]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in site.exports.items()]
    if not site.internet:
        # Whatever would wait for a network that is not there fails at once instead.
        lines += ["export PIP_NO_INDEX=1 HF_HUB_OFFLINE=1"]
    if site.gpu_cores and request.gpus_per_node == len(site.gpu_cores):
        cores = ",".join(map(str, site.gpu_cores))
        lines.append(f"export SYNTHFACTORY_GPU_CORES={cores}")
    lines += site.prologue
    return [*lines, ""] if lines else []


def allocation_body(command: str, site: Site | None = None, lead_s: int = LEAD_S) -> str:
    """What one allocation does: run orders until they are done or the time is up.

    It tells the work its deadline and a stop file, passes early signals on as that file, and
    queues itself again when `TO_BE_CONTINUED` comes back.

    Parameters
    ----------
    command
        Shell words that start synthfactory, such as ``synthfactory`` or
        ``/path/.venv/bin/python -m synthfactory``.  The script's own arguments are overrides.
    site
        Whose container and ``srun`` options are used.
    lead_s
        Seconds before the job's end at which work stops.
    """
    site = site or Site()
    return _ALLOCATION.format(
        container=_container(site, command),
        deadline=_DEADLINE.rstrip(),
        options=" ".join([*SRUN_OPTIONS, *site.srun_options]),
        deaths=MAX_DEATHS,
        lead_s=lead_s,
        again=TO_BE_CONTINUED,
    )


def _container(site: Site, command: str) -> str:
    """The command as the array ``run``, inside a container when the variable names an image.

    An image has its own interpreter, so there a program is called by its bare name.
    """
    program, _, arguments = command.partition(" ")
    return _CONTAINER.format(
        command=command,
        variable=site.container_variable,
        enter=site.container_command,
        inside=f"{Path(program).name} {arguments}".rstrip(),
    ).rstrip("\n")


def worker_preparation(
    site: Site, request: JobRequest, control: str, lead_s: int, python: str
) -> list[str]:
    """Shell lines before a job of ``cluster=slurm`` becomes a Dask worker.

    They leave the interpreter in the array ``run`` and options of the network in ``interface``.

    Parameters
    ----------
    control
        The campaign's folder, which every node sees.
    lead_s
        Seconds before the end at which work stops.
    python
        The interpreter.
    """
    candidates = " ".join(f"/sys/class/net/{name}" for name in site.interfaces)
    interface = [
        f"candidates=({candidates})",
        'for name in "${candidates[@]}"; do',
        '    [ ! -e "$name" ] || { interface=(--interface "${name##*/}") && break; }',
        "done",
    ]
    return [
        *prologue(site, request),
        _container(site, shlex.quote(python)).rstrip(),
        _DEADLINE.rstrip(),
        f"export SYNTHFACTORY_LEAD_S={lead_s}",
        f"export SYNTHFACTORY_STOP_FILE={shlex.quote(control)}/stop",
        f'export SYNTHFACTORY_LOG={shlex.quote(control)}/{request.name}-"$SLURM_JOB_ID".log',
        "interface=()",
        *(interface if candidates else []),
    ]
