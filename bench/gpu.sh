#!/usr/bin/env bash
# What only a GPU can show, in one command of at most nine minutes:
#
#     bench/gpu.sh OUT [IMAGES]
#
# runs the GPU's tests, a whole study of 100 trials x 30 epochs, the benchmark and the comparison
# of accuracies, and writes logs and figures to OUT. It installs and fetches nothing. A rehearsal on
# a processor: DEVICE=cpu TRIALS=8 EPOCHS=2 SUBSET=600 SEEDS=2 bench/gpu.sh OUT
set -uo pipefail
out=$(realpath -m "${1:?usage: bench/gpu.sh OUT [IMAGES]}")
images=${2:+$(realpath "$2")}
mkdir -p "$out"
cd "$(dirname "$0")/.."
device=${DEVICE:-cuda} trials=${TRIALS:-100} epochs=${EPOCHS:-30} seeds=${SEEDS:-5}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export FER_CACHE=$work/cache PYTHONUNBUFFERED=1
data=(--device "$device" ${images:+--data "$images"})
subset=(${SUBSET:+--subset "$SUBSET"})
: > "$out/summary.txt"
failed=0

# NAME SECONDS COMMAND: its output goes to NAME.log, how it ended to the summary.
part() {
    local name=$1 limit=$2 start=$SECONDS code=0
    shift 2
    timeout -k 10 "$limit" "$@" > "$out/$name.log" 2>&1 || code=$?
    [ "$code" = 124 ] && code="124 (stopped after $limit s)"
    [ "$code" = 0 ] || failed=1
    echo "$name: exit code $code, $((SECONDS - start)) s: $*" | tee -a "$out/summary.txt"
}

# Without a GPU its tests would be skipped, and nothing shown.
[ "$device" = cpu ] || python3 -c 'import torch; torch.cuda.init()' || exit 1
part suite 150 python3 -m pytest -m gpu -n 0 -p no:cacheprovider
part study 190 python3 -m study.run --study full --trials "$trials" --epochs "$epochs" \
    --pruner none --split stratified --storage "sqlite:///$work/studies.db" \
    "${data[@]}" "${subset[@]}"
cp "$work/studies.db" "$out/" || failed=1
part speed 80 python3 -m bench --quick --no-harness --json "$out/speed.json" "${data[@]}"
part accuracy 100 python3 -m bench.accuracy --seeds "$seeds" --epochs "$epochs" \
    --json "$out/accuracy.json" "${data[@]}" "${subset[@]}"
command -v nvidia-smi > /dev/null && nvidia-smi >> "$out/summary.txt"
exit "$failed"
