#!/usr/bin/env bash
# A study without Ray: the tasks of the array share one study in PostgreSQL.
# sbatch examples/slurm_array.sh, with the server's password in ~/.pgpass
#SBATCH --job-name=study
#SBATCH --array=1-32
#SBATCH --cpus-per-task=4
#SBATCH --time=02:00:00
#SBATCH --requeue
#SBATCH --signal=B:USR1@300
# For one GPU per task: --gpus=1, and --device cuda.
set -euo pipefail
: "${STUDY_STORAGE:=postgresql+psycopg://study@dbhost/studies}"

# --trials is the total over all tasks. They must share the checkpoint folder.
python -m study.run --storage "$STUDY_STORAGE" --study faces --trials 500 \
    --workers "$SLURM_CPUS_PER_TASK" --checkpoints "$HOME/studies.checkpoints" "$@" &
study=$!
# On preemption or at the time limit: stop after the current epoch, or now if that takes too long.
trap 'kill -USR1 "$study"; timeout 240 tail --pid="$study" -f /dev/null || kill -TERM "$study" || true' USR1 TERM

wait "$study" || true # a signal interrupts it
code=0
wait "$study" || code=$?
exit "$code"
