#!/bin/bash
# The same training on several machines without a scheduler. Start it on every machine, within 15 minutes:
#   HEAD=10.0.0.1 NODES=2 bash configs/launch/many_machines.sh
# HEAD: the address of one of them, which the others reach at PORT. Code, images and runs/ are at the same path on
# all, on a shared file system: the leading process alone writes the run, and all must see it.
# Expect: one run. The images of a step are batch_size x accumulate x processes; `lr: auto` follows them.
set -euo pipefail

export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1  # a store of its own for every start, without addresses of dead processes

torchrun --nnodes "${NODES:-2}" --nproc-per-node "${GPUS:-gpu}" --max-restarts 3 \
    --rdzv-backend c10d --rdzv-endpoint "${HEAD:-localhost}:${PORT:-29400}" --rdzv-id city -m drivetl finetune \
    --config configs/finetune/fasterrcnn_r50_v2.yaml \
    --data.train out/city/train.json --data.val out/city/val.json \
    --out runs/city --continue
