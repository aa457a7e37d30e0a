#!/usr/bin/env bash
# Everything that needs a GPU, in at most six minutes, from a checkout and a machine that has PyTorch with Triton:
#
#     benchmarks/gpu.sh                      all parts; results in benchmarks/results/gpu
#     PARTS="warp step-8" benchmarks/gpu.sh  some of them
#     DEVICE=cpu QUICK=1 benchmarks/gpu.sh   small sizes, to see that it runs
#
# Each part has a time limit of its own, and the others run whatever happens to it. OUT names another folder: it gets a
# JSON file for each part that measures, and log.txt with all output and the summary. LIMIT is the seconds of the whole.
#
# Besides PyTorch, numpy, rich, tyro, dacite and safetensors are needed, and for the tests pytest and hypothesis. Without
# a network, bring them as a folder of wheels and name it by WHEELS; no pip is needed there:
#
#     pip download --only-binary=:all: --python-version 3.12 --platform manylinux2014_x86_64 --dest wheels \
#         numpy rich tyro dacite safetensors pytest hypothesis

set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
out=${OUT:-$here/benchmarks/results/gpu}
device=${DEVICE:-cuda}
total=${LIMIT:-360}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"
log=$out/log.txt
: >"$log"
cd "$here" || exit 1

export PYTHONPATH=$here:$here/tests/support:$work/packages PYTHONUNBUFFERED=1 COLUMNS=200
python=${PYTHON:-$(command -v python3 || command -v python)}
for wheel in "${WHEELS:-/nowhere}"/*.whl; do
    [ -e "$wheel" ] && "$python" -m zipfile -e "$wheel" "$work/packages"
done
run=("$python" -m benchmarks.bare)
measure=("${run[@]}" trivd benchmark)
quick=(${QUICK:+--quick})

# wanted NAME: whether a part is asked for.
wanted() { [[ -z ${PARTS:-} || " $PARTS " == *" $1 "* ]]; }

# part NAME LIMIT COMMAND...: run it for at most LIMIT seconds, less if less is left of the whole.
lines=()
part() {
    local name=$1 limit=$2 start=$SECONDS left=$((total - SECONDS)) status verdict
    shift 2
    wanted "$name" || return
    [ -n "${QUICK:-}" ] && limit=$total  # a CPU may be busy
    ((limit > left)) && limit=$left
    if ((left < 5)); then
        lines+=("$name: skipped, no time is left")
        return
    fi
    printf '\n== %s: %s\n' "$name" "$*" >>"$log"
    timeout --kill-after=5 "$limit" "$@" >"$work/part.txt" 2>&1
    status=$?
    cat "$work/part.txt" >>"$log"
    case $status in
        0) verdict=done ;;
        124 | 137) verdict="stopped at its limit of $limit s; rows until then are kept" ;;
        *) verdict="failed ($status): $(grep -v '^ *$' "$work/part.txt" | tail -n 1 | cut -c 1-200)" ;;
    esac
    lines+=("$name: $verdict, $((SECONDS - start)) s")
    echo "${lines[-1]}"
}

# suite NAME LIMIT SUITE OPTIONS...: a suite into NAME.json, measured anew.
suite() {
    local name=$1 limit=$2
    shift 2
    wanted "$name" && rm -f "$out/$name.json"
    part "$name" "$limit" "${measure[@]}" "$@" --device "$device" --json "$out/$name.json" "${quick[@]}"
}

steps=200 small=()
[ -n "${QUICK:-}" ] && steps=2 small=(--small)

suite step-8 60 step --batch 8 --tables chosen small --turns 5
suite step-64 60 step --batch 64 --tables chosen --turns 3
suite units 45 units --units conv_gru tsru_p --turns 5
suite warp 25 warp
suite predict 40 predict --batches 1 16 64 --turns 5
part graphs 30 "${run[@]}" benchmarks.scripts.graphs --json "$out/graphs.json" --steps "$((steps / 10 + 2))" \
    --device "$device"
suite profile 50 profile --turns 1 "${small[@]}"
part quickstart 40 "${run[@]}" trivd train moving-digits --preset quickstart --out "$work/run" \
    --training.steps "$steps" --training.device "$device" --training.evaluate-every "$steps" --evaluation.clips 16
suite evaluate 40 evaluate
if "$python" -c "import pytest, hypothesis" 2>>"$log"; then
    part tests 120 "${run[@]}" pytest -q -x -p no:cacheprovider -m cuda tests/ops tests/training tests/prediction
elif wanted tests; then
    lines+=("tests: skipped, pytest or hypothesis cannot be imported")
fi

printf '\n== summary, %s s, %s\n' "$SECONDS" "$device" | tee -a "$log"
printf '%s\n' "${lines[@]}" | tee -a "$log"
