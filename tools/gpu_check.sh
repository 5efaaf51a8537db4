#!/bin/sh
# What needs a GPU, in at most eight minutes: the tests marked `gpu`, the bench of a training step, its loss curves, and a
# profile of 30 steps. Writes to the folder given, or gpu_check.
#
#     sh tools/gpu_check.sh [FOLDER]
set -u
OUT=${1:-gpu_check}
PYTHON=${PYTHON:-.venv/bin/python}
mkdir -p "$OUT"
nvidia-smi > "$OUT/gpu.txt" 2>&1

echo "1 of 4: tests marked gpu"
timeout 120 "$PYTHON" -m pytest -q -m gpu tests/models tests/training > "$OUT/tests.txt" 2>&1
TESTS=$?
tail -n 3 "$OUT/tests.txt"

echo "2 of 4: training step, up to four minutes"
timeout 240 "$PYTHON" tools/benchmark.py training --device cuda --seconds 180 > "$OUT/training.txt" 2>&1
BENCH=$?
cat "$OUT/training.txt"

echo "3 of 4: loss curves"
timeout 60 "$PYTHON" tools/benchmark.py training --device cuda --curves "$OUT/curves.png" > "$OUT/curves.txt" 2>&1
CURVES=$?
cat "$OUT/curves.txt"

echo "4 of 4: profile of 30 steps"
timeout 60 "$PYTHON" tools/profile_training.py --device cuda --out "$OUT" 2>&1
PROFILE=$?

echo "wrote $OUT"
[ "$TESTS" -eq 0 ] && [ "$BENCH" -eq 0 ] && [ "$CURVES" -eq 0 ] && [ "$PROFILE" -eq 0 ]
