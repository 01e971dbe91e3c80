#!/usr/bin/env bash
# The engine beside the reference on a GPU machine, within minutes, without a network there.
#
#   benchmarks/gpu.sh pack    where there is a network: download the wheels to carry along
#   benchmarks/gpu.sh         on the GPU machine: measure
#   benchmarks/gpu.sh arms.py fit --device cuda --folder "$OUT/arms"
#                             on the GPU machine: another of the scripts here
#   DEVICE=cpu benchmarks/gpu.sh
#                             a rehearsal without a GPU: short parts, nothing is recorded
#
# The GPU machine needs Python with a CUDA build of torch, and numpy, scipy, pandas, pyarrow,
# scikit-learn and safetensors beside it. What else the two sides need is carried in WHEELS, and put
# into a folder of its own (SITE); nothing of the machine's is changed. TARGET is the GPU machine's
# version of Python, HAVE names packages that it has already and that are not carried.
#
# SECONDS_LEFT is the time for all of it: the parts are in the order of their importance, and those
# that do not fit are left out, which is said. Each result is written at once, into
# benchmarks/results/engine, or where OUT is set into OUT/engine, behind what is known of that part.
set -euo pipefail
cd "$(dirname "$0")/.."

wheels=${WHEELS:-benchmarks/wheels}
site=${SITE:-${TMPDIR:-/tmp}/synthfactory-site}
limit=${SECONDS_LEFT:-540}
python=${PYTHON:-python3}
device=${DEVICE:-cuda}
threads=${THREADS:-2}

if [ "${1:-}" = pack ]; then
    # rdt asks for a pandas below 3, which the machine may not have.
    carried=()
    for package in ctgan==0.12.1 rdt==2.0.0 pandas==2.3.3 faker tzdata pytz python-dateutil six tqdm \
        cloudpickle pyyaml rfc8785 psutil threadpoolctl cryptography cffi pycparser numba llvmlite; do
        case " ${HAVE:-} " in
            *" ${package%%==*} "*) ;;
            *) carried+=("$package") ;;
        esac
    done
    rm -rf "$wheels"
    mkdir -p "$wheels"
    "$python" -m pip download --quiet --no-deps --only-binary=:all: --implementation cp \
        --python-version "${TARGET:-3.12}" --platform manylinux_2_28_x86_64 \
        --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --dest "$wheels" \
        "${carried[@]}"
    du -sh "$wheels"
    exit 0
fi

if [ "$device" = cpu ]; then
    SYNTHFACTORY_RESULTS=$(mktemp -d)
    export SYNTHFACTORY_RESULTS OMP_NUM_THREADS=1
    threads=1
fi
"$python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-compile \
    --upgrade --target "$site" "$wheels"/*.whl
export PYTHONPATH="$PWD:$site"
SYNTHFACTORY_UNTIL=$(($(date +%s) + limit - SECONDS))
export SYNTHFACTORY_UNTIL
echo "ready after $SECONDS s"

# What ends by itself before the time is up is not killed.
bounded() {
    timeout --kill-after=5 $((limit - SECONDS + 10)) "$python" "$@"
}

if [ $# -gt 0 ]; then
    script=$1
    shift
    bounded "benchmarks/$script" "$@"
    exit
fi

if [ -n "${OUT:-}" ] && [ "$device" != cpu ]; then
    mkdir -p "$OUT/engine"
    for known in whole steps ensemble neighbours sampling scale wide; do
        if [ -e "benchmarks/results/engine/$known.json" ]; then
            cp "benchmarks/results/engine/$known.json" "$OUT/engine/"
        fi
    done
    export SYNTHFACTORY_RESULTS=$OUT
fi

# Each part, with what is common; a first fit is only first before other parts of its model.
plan=()
part() {
    plan+=(--then "$1" --device "$device" --threads "$threads" "${@:2}")
}
if [ "$device" = cpu ]; then
    part steps --tables adult --turns 1 --models TVAE
    part whole --turns 1 --epochs 2 --bf16 --reference-epochs 1,2 --models TVAE
    part ensemble --members 2 --epochs 1 --precision auto,bf16 --reference-epochs 1,2
    part neighbours
    part sampling --turns 1
    part wide --minutes 0.05
else
    epochs=${REFERENCE_EPOCHS:-1,4}
    two=(--bf16 --turns 1 --reference-epochs "$epochs")
    part whole --models CTGAN "${two[@]}" --needs 30 --at-most 120
    part steps --models CTGAN --tables adult --turns 2 --needs 20 --at-most 70
    part whole --models TVAE "${two[@]}" --needs 30 --at-most 80
    part steps --models TVAE --tables adult --turns 2 --needs 10 --at-most 40
    many=(ensemble --minutes "${ENSEMBLE_MINUTES:-0.7}" --reference-epochs "$epochs")
    part "${many[@]}" --members 64 --needs 40 --at-most 130
    part "${many[@]}" --members 64 --precision bf16 --needs 70 --at-most 130
    part "${many[@]}" --members 16 --needs 30 --at-most 80
    part neighbours --threads 16 --needs 15 --at-most 30
    part sampling --turns 2 --needs 70 --at-most 120
    part scale --turns 2 --needs 60 --at-most 120
    part wide --minutes 0.2 --needs 50 --at-most 90
fi
part report
bounded benchmarks/engine.py "${plan[@]}"
