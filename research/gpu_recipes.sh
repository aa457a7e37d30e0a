#!/usr/bin/env bash
# The verdicts of docs/results/recipe.md on a GPU, in slots of at most eight minutes: each trains a few cells of a
# comparison, all for the same time, scores them and ends. A slot that is repeated resumes, and does nothing twice.
#
#     research/gpu_recipes.sh                            list the slots
#     research/gpu_recipes.sh 1                          run a slot; results in benchmarks/results/gpu-recipes
#     SEED=1 research/gpu_recipes.sh 1                   the same with another seed
#     STORE=robot-pushing research/gpu_recipes.sh 5      slots of robot-pushing need its store (trivd prepare)
#     DEVICE=cpu BATCH=2 MINUTES=0.1 SETTINGS="evaluation.clips=8 evaluation.best-of-clips=4 evaluation.features=none" \
#         research/gpu_recipes.sh 1                      a short one, to see that it runs
#
# MINUTES is the training time of a cell, BATCH its clips of a step (64), LIMIT the seconds of a slot (480). SETTINGS adds
# settings to all cells, such as "model.generator-channels=24"; OUT and RUNS name other folders. Slots of robot-pushing
# need the weights of I3D, too, or SETTINGS="evaluation.features=none". What else it needs, and how to bring it to a
# machine without a network: benchmarks/gpu.sh.

set -eu
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$here"
seed=${SEED:-0}
batch=${BATCH:-64}
device=${DEVICE:-cuda}
python=${PYTHON:-$(command -v python3 || command -v python)}

# A comparison, and the cells of a slot
slots=(
    "verdicts-64|base;identity start, gate 2, replicate"
    "verdicts-64|the same, k 3, 5, 9;LeCam 0.3"
    "verdicts-64|R1 1;beta1 0.5"
    "verdicts-64|generator 12, discriminator 16;discriminator and encoder 16"
    "verdicts-64|batch 16, a quarter of the steps;curriculum over half the run"
    "verdicts-robot|base;L1 to the mean of 4 samples"
    "verdicts-robot|2 samples, diversity 10;identity start, gate 2, replicate"
    "verdicts-robot|base;curriculum over half the run"
)

if [ $# -ne 1 ] || ! [[ $1 =~ ^[1-9][0-9]*$ ]] || (($1 > ${#slots[@]})); then
    for number in "${!slots[@]}"; do
        echo "$((number + 1)): ${slots[number]/|/: }"
    done
    exit $(($# > 0))
fi

IFS='|' read -r comparison names <<<"${slots[$1 - 1]}"
IFS=';' read -r -a cells <<<"$names"
minutes=${MINUTES:-$(awk "BEGIN { print 6 / ${#cells[@]} }")} # two of the eight are left to score and to start
data=()
if [ "$comparison" = verdicts-robot ]; then
    data=(--data "${STORE:?is not set: name the store of robot-pushing that trivd prepare has made}")
fi
read -r -a settings <<<"${SETTINGS:-}"

export PYTHONUNBUFFERED=1
exec timeout --signal=TERM "${LIMIT:-480}" "$python" -m benchmarks.bare trivd replicate "$comparison" "${data[@]}" \
    --cells "${cells[@]}" --seeds 1 --first-seed "$seed" \
    --runs "${RUNS:-runs/gpu-recipes}" --results "${OUT:-benchmarks/results/gpu-recipes}" \
    --set training.minutes="$minutes" training.steps=1000000 training.batch-size="$batch" training.device="$device" \
    training.evaluate-every=1000 training.sample-every=1000000 training.checkpoint-every=500 "${settings[@]}"
