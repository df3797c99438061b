#!/usr/bin/env bash
# Run the GPU measurements in one command, in about ten minutes, without network access:
#
#     bench/gpu.sh OUT [--data IMAGES] [--wheels FOLDER]
#
# FOLDER holds packages that the machine lacks, downloaded elsewhere by `bench/wheels.sh FOLDER`.
# Runs a study of 100 trials x 30 epochs, the GPU tests, the benchmark and the accuracy comparison, or
# those named after --only, and rewrites OUT/results.json after each. Dry run on a CPU:
#
#     bench/gpu.sh OUT --device cpu --trials 6 --epochs 1 --subset 300 --seeds 2 --patience 4
set -euo pipefail
home=$(cd "$(dirname "$0")/.." && pwd)
arguments=("$@")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export FER_CACHE=${FER_CACHE:-$work/cache} PYTHONUNBUFFERED=1 PYTHONPATH=$work/site:$home${PYTHONPATH:+:$PYTHONPATH}
for ((i = 0; i < $#; i++)); do
    if [ "${arguments[i]}" = --wheels ]; then
        python3 -m pip install -q --no-index --no-deps --target "$work/site" \
            "${arguments[i + 1]:?--wheels needs a folder}"/*.whl
        unset "arguments[i]" "arguments[i + 1]"
        break
    fi
done
python3 -m bench.preflight # fail early if packages are missing
python3 -m bench.gpu "${arguments[@]}"
