#!/bin/sh
# What needs a GPU, in at most eight minutes: the tests marked `gpu`, the bench of a training step, and a profile of 30
# steps. Writes to the folder given, or gpu_check.
#
#     sh tools/gpu_check.sh [FOLDER]
set -u
OUT=${1:-gpu_check}
PYTHON=${PYTHON:-.venv/bin/python}
mkdir -p "$OUT"
nvidia-smi > "$OUT/gpu.txt" 2>&1

echo "1 of 3: tests marked gpu"
timeout 120 "$PYTHON" -m pytest -q -m gpu tests/models tests/training > "$OUT/tests.txt" 2>&1
TESTS=$?
tail -n 3 "$OUT/tests.txt"

echo "2 of 3: training step, up to five minutes"
timeout 300 "$PYTHON" tools/benchmark.py training --device cuda --seconds 240 > "$OUT/training.txt" 2>&1
BENCH=$?
cat "$OUT/training.txt"

echo "3 of 3: profile of 30 steps"
timeout 60 "$PYTHON" tools/profile_training.py --device cuda --out "$OUT" 2>&1
PROFILE=$?

echo "wrote $OUT"
[ "$TESTS" -eq 0 ] && [ "$BENCH" -eq 0 ] && [ "$PROFILE" -eq 0 ]
