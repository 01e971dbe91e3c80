#!/usr/bin/env bash
# The engine beside the reference on a GPU machine, within ten minutes, without a network there.
#
#   benchmarks/gpu.sh pack    where there is a network: download the wheels to carry along
#   benchmarks/gpu.sh         on the GPU machine: measure
#   DEVICE=cpu benchmarks/gpu.sh
#                             a rehearsal without a GPU: short parts, nothing is recorded
#
# The GPU machine needs Python with a CUDA build of torch, and numpy, scipy, pandas, pyarrow,
# scikit-learn and safetensors beside it. What else the two sides need is carried in WHEELS, and put
# into a folder of its own (SITE); nothing of the machine's is changed. TARGET is the GPU machine's
# version of Python. Results are added to benchmarks/results/engine/*.json, and copied to OUT where
# that is set.
set -euo pipefail
cd "$(dirname "$0")/.."

wheels=${WHEELS:-benchmarks/wheels}
site=${SITE:-${TMPDIR:-/tmp}/synthfactory-site}
limit=${SECONDS_LEFT:-540}
python=${PYTHON:-python3}
device=${DEVICE:-cuda}

if [ "${1:-}" = pack ]; then
    rm -rf "$wheels"
    mkdir -p "$wheels"
    # rdt asks for a pandas below 3, which the machine may not have.
    "$python" -m pip download --quiet --no-deps --only-binary=:all: --implementation cp \
        --python-version "${TARGET:-3.12}" --platform manylinux_2_28_x86_64 \
        --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --dest "$wheels" \
        ctgan==0.12.1 rdt==2.0.0 pandas==2.3.3 faker tzdata pytz python-dateutil six tqdm \
        cloudpickle pyyaml rfc8785 psutil threadpoolctl cryptography cffi pycparser numba llvmlite
    du -sh "$wheels"
    exit 0
fi

if [ "$device" = cuda ]; then
    "$python" -c 'import torch; assert torch.cuda.is_available(), "torch sees no GPU here"'
fi
"$python" -m pip install --quiet --no-index --no-deps --no-compile --upgrade \
    --target "$site" "$wheels"/*.whl
export PYTHONPATH="$PWD:$site"
"$python" -c 'import ctgan, pandas, torch, synthfactory.generators
gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
print("torch", torch.__version__, "pandas", pandas.__version__, gpu)'

failed() {
    echo "did not end: $*"
    status=1
}

status=0
measure() {
    local left=$((limit - SECONDS))
    if [ "$left" -le 5 ]; then
        echo "left out for lack of time: $*"
        return
    fi
    timeout "$left" "$python" benchmarks/engine.py "$@" --device "$device" || failed "$*"
    if [ -n "${OUT:-}" ]; then
        cp -r benchmarks/results/engine "$OUT"/
    fi
}

if [ "$device" = cpu ]; then
    SYNTHFACTORY_RESULTS=$(mktemp -d)
    export SYNTHFACTORY_RESULTS OMP_NUM_THREADS=1
    measure steps --tables adult --turns 1 --models TVAE --threads 1
    measure sampling --turns 1 --threads 1
    measure wide --minutes 0.05 --threads 1
    measure whole --turns 1 --epochs 1 --threads 1
    measure ensemble --members 2 --epochs 1 --threads 1
    exit "$status"
fi
measure steps --tables adult --turns 2
measure sampling --turns 2
measure wide --minutes 0.2
measure scale --turns 2
measure whole --turns 1
measure ensemble --members 16
measure ensemble --members 64
"$python" benchmarks/engine.py report
exit "$status"
