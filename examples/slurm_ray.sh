#!/usr/bin/env bash
# A study on a Ray cluster inside a Slurm job: sbatch examples/slurm_ray.sh
#SBATCH --job-name=study
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --exclusive
#SBATCH --time=04:00:00
# Send USR1 10 minutes before the end, to this script only (B:): it would kill Ray's processes.
#SBATCH --signal=B:USR1@600
# For GPUs: --gpus-per-node=4 above, --num-gpus 4 below, and --device cuda for the study.
set -euo pipefail

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 20000)) # a different port for each job on a node
address=$(srun --nodes=1 --ntasks=1 -w "$head" hostname --ip-address | awk '{print $1}'):$port

# Without a token, Ray runs the code of anyone who reaches its port.
RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_MODE RAY_AUTH_TOKEN # srun passes them to all nodes

# One core fewer on the head node, where the main process of the study runs.
srun --overlap --nodes=1 --ntasks=1 -w "$head" ray start --head --block --port="$port" \
    --num-cpus=$((SLURM_CPUS_PER_TASK - 1)) --include-dashboard=false --disable-usage-stats &
sleep 20
if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
    srun --overlap --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks-per-node=1 --exclude="$head" \
        ray start --address="$address" --block --num-cpus="$SLURM_CPUS_PER_TASK" &
fi

python -m study.run --ray "$address" --study faces --trials 500 \
    --storage sqlite:///studies.db "$@" &
study=$!
# The first signal stops the study after the current epochs, the second now; both keep all results.
trap 'kill -USR1 "$study"; timeout 420 tail --pid="$study" -f /dev/null || kill -TERM "$study" || true' USR1 TERM

wait "$study" || true # a signal interrupts it
code=0
wait "$study" || code=$?
echo "study.run ended with $code; the same sbatch command continues"
exit "$code"
