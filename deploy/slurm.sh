#!/usr/bin/env bash
# A sweep on Ray, inside one Slurm allocation. Run, in the folder that is to have mlruns/ (on a disk all nodes share):
#   sbatch --nodes=4 --cpus-per-task=16 --time=4:00:00 deploy/slurm.sh search.max_trials=200
# What follows the script are the sweep's own overrides (docs/clusters.md). Untested: there was no Slurm to try it on.
#SBATCH --job-name=fmnist-sweep
#SBATCH --ntasks-per-node=1
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@120
set -euo pipefail

: "${SLURM_JOB_ID:?this is a job script: sbatch deploy/slurm.sh}"
bin=${FMNIST_BIN:-$SLURM_SUBMIT_DIR/.venv/bin} # the same path on all nodes
cores=${SLURM_CPUS_PER_TASK:-1}

# All of Ray's processes and the sweep have the token from this environment; it is on no command line and in no file.
RAY_AUTH_TOKEN=$("$bin/python" -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0

head=$(hostname) # a job script runs on the first node of its allocation
ip=$(getent ahostsv4 "$head" | awk 'NR == 1 { print $1 }')
port=$((20000 + SLURM_JOB_ID % 10000)) # jobs that share a node each have their own
temp=/tmp/ray-$SLURM_JOB_ID            # short: sockets are made below it

ray() { # the node to start it on, then what `ray start` takes
  local node=$1
  shift
  srun --nodes=1 --ntasks=1 --nodelist="$node" --cpus-per-task="$cores" --overlap --export=ALL \
    "$bin/ray" start --block --num-cpus="$cores" --temp-dir="$temp" "$@" >"ray-$SLURM_JOB_ID-$node.log" 2>&1 &
}

ray "$head" --head --node-ip-address="$ip" --port="$port" --include-dashboard=false
for _ in $(seq 60); do
  (exec 3<>"/dev/tcp/$ip/$port") 2>/dev/null && break
  sleep 1
done
for node in $(scontrol show hostnames "$SLURM_JOB_NODELIST"); do
  [[ $node == "$head" || $node == "${head%%.*}" ]] || ray "$node" --address="$ip:$port"
done

# The sweep hears of the end two minutes before: it finishes the epochs under way, and is queued again.
"$bin/python" -m fmnist_sweep executor=ray "executor.address=$ip:$port" "$@" &
sweep=$!
trap 'kill -TERM "$sweep" 2>/dev/null || true' TERM
code=0
while :; do # a signal ends `wait`, not the sweep
  code=0
  wait "$sweep" || code=$?
  kill -0 "$sweep" 2>/dev/null || break
done
[[ $code -ne 130 ]] || scontrol requeue "$SLURM_JOB_ID"
exit "$code" # ends the allocation, and Ray's nodes with it
