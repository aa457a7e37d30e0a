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
# Besides PyTorch, numpy, rich, tyro, dacite and safetensors are needed, for the training pillow, and for the tests pytest
# and hypothesis. Without a network, bring them as a folder of wheels (26 MB) and name it by WHEELS; no pip is needed there:
#
#     pip download --only-binary=:all: --python-version 3.12 --dest wheels \
#         --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 \
#         numpy rich tyro dacite safetensors pillow pytest hypothesis

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

# has NAME MODULES: whether a part can have these modules; says so if not.
has() {
    wanted "$1" || return 1
    "$python" -c "import $2" 2>>"$log" || { lines+=("$1: skipped, $2 cannot be imported"); return 1; }
}

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
    timeout --kill-after=5 "$limit" "$@" >>"$log" 2>&1
    status=$?
    case $status in
        0) verdict=done ;;
        124 | 137) verdict="stopped at its limit of $limit s; rows until then are kept" ;;
        *) verdict="failed ($status): $(tail -n 20 "$log" | grep -v '^ *$' | tail -n 1 | cut -c 1-200)" ;;
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

few=8 many=64 turns=5 steps=200 small=()
[ -n "${QUICK:-}" ] && few=1 many=2 turns=1 steps=2 small=(--small)

suite step-8 120 step --batch "$few" --tables chosen small --turns "$turns" # and compiles most kernels
suite step-64 60 step --batch "$many" --tables chosen --turns "$turns"
part graphs 30 "${run[@]}" benchmarks.scripts.graphs --json "$out/graphs.json" --steps "$((steps / 10 + 2))" \
    --device "$device"
suite units 45 units --units conv_gru tsru_p --turns "$turns"
suite warp 25 warp
suite predict 40 predict --batches 1 "$((2 * few))" "$many" --turns "$turns"
suite profile 60 profile --turns 1 "${small[@]}"
if has tests "pytest, hypothesis"; then
    # by name: others import packages that are not brought
    part tests 100 "${run[@]}" pytest -q -p no:cacheprovider -m cuda tests/ops/cuda tests/runtime/test_graphs.py \
        tests/training/test_graph.py tests/evaluation/test_collecting.py tests/evaluation/test_fixed.py
fi
suite evaluate 40 evaluate
if has quickstart PIL; then
    part quickstart 40 "${run[@]}" trivd train moving-digits --preset quickstart --out "$work/run" \
        --training.steps "$steps" --training.device "$device" --training.evaluate-every "$steps" --evaluation.clips 16
fi

printf '\n== summary, %s s, %s\n' "$SECONDS" "$device" | tee -a "$log"
printf '%s\n' "${lines[@]}" | tee -a "$log"
