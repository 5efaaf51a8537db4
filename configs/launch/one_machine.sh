#!/bin/bash
# All GPUs of one machine: a training, then its robustness report, with torchrun.
#   bash configs/launch/one_machine.sh
# Expect: the run and the report of one process, sooner. --max-restarts 3: when a process is killed (out of memory, a
# lost GPU), all are started again and continue from the last saved state.
set -euo pipefail

GPUS="${GPUS:-gpu}"  # gpu: as many processes as the machine has GPUs

torchrun --standalone --nproc-per-node "$GPUS" --max-restarts 3 -m drivetl finetune \
    --config configs/finetune/fasterrcnn_r50_v2.yaml \
    --data.train out/city/train.json --data.val out/city/val.json \
    --out runs/city --continue

torchrun --standalone --nproc-per-node "$GPUS" -m drivetl eval-robustness \
    --run-dir runs/city --data out/city/val.json
