#!/usr/bin/env bash
# A recipe from nothing to a measured checkpoint: speech to train on, training, bench.
#   runs/train.sh NAME DEVICE [PROCESSES]     usually through nano.sh, small.sh or moe.sh
# DIAL=0.1 spends a tenth of the compute. DATA="FOLDER FOLDER" adds recorded or neural speech. Run again: it resumes.
# START=CHECKPOINT goes on from those weights instead of from nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
name=$1 device=$2 processes=${3:-1} dial=${DIAL:-1} out=out/$1
export OMP_NUM_THREADS=1
interplay=.venv/bin/interplay
[ -x "$interplay" ] || { echo "run 'make test' or 'make live' once: it sets .venv up" >&2; exit 2; }

folders=(out/voicebank)
[ -f out/voicebank/index.jsonl ] || "$interplay" voicebank out/voicebank --count 2000
read -r -a more <<< "${DATA:-}"
folders+=(${more[@]+"${more[@]}"})
data=()
for folder in "${folders[@]}"; do data+=(--data "$folder"); done

begin=()
[ -n "${START:-}" ] && begin=(--start-from "$START")
[ -f "$out/state.pt" ] && begin=(--resume)
"$interplay" train "runs/$name.toml" --device "$device" --processes "$processes" --dial "$dial" "${data[@]}" ${begin[@]+"${begin[@]}"}
"$interplay" bench timespeak cuespeak hearing turn_taking --checkpoint "$out/model.safetensors" --n 100 --json "$out/bench.json"
