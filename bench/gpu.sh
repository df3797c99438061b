#!/usr/bin/env bash
# What only a GPU can show, in one command of at most ten minutes, without network:
#
#     bench/gpu.sh OUT [--data IMAGES] [--wheels FOLDER]
#
# FOLDER holds what the machine lacks, as `bench/wheels.sh FOLDER` downloaded it elsewhere. A study
# of 100 trials x 30 epochs comes first, then the GPU's tests, the benchmark and the accuracies;
# OUT/results.json is written anew after each. A rehearsal on a processor:
#
#     bench/gpu.sh OUT --device cpu --trials 6 --epochs 1 --subset 300 --seeds 2 --patience 4
set -euo pipefail
cd "$(dirname "$0")/.."
arguments=("$@")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export FER_CACHE=$work/cache PYTHONUNBUFFERED=1 PYTHONPATH=$work/site:$PWD${PYTHONPATH:+:$PYTHONPATH}
for ((i = 0; i < $#; i++)); do
    if [ "${arguments[i]}" = --wheels ]; then
        python3 -m pip install -q --no-index --no-deps --target "$work/site" \
            "${arguments[i + 1]:?--wheels wants a folder}"/*.whl
        unset "arguments[i]" "arguments[i + 1]"
        break
    fi
done
python3 -m bench.preflight # what is missing says so now, not after minutes
python3 -m bench.gpu "${arguments[@]}"
