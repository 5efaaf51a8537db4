"""A process of a training is killed: torchrun's agent starts all anew, and the result is that of an undisturbed one."""

import os
import subprocess
import sys

import torch
from training_runs import tiny_training, without_times, write_tree

from drivetl.config import dump_yaml
from drivetl.models.weights import read_weights
from drivetl.training.rundir import read_metrics

ELASTIC = """
import os, signal, sys
from itertools import count
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from drivetl.cli import main
from drivetl.training import loop

def work(words, kill_at):
    forward, calls = loop.forward_uint8, count(1)
    def killed(*arguments):
        if next(calls) == kill_at and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        return forward(*arguments)
    loop.forward_uint8 = killed
    code = main(words)
    if code:
        raise SystemExit(code)

config, whole, killed = sys.argv[1:]
for run, kill_at in ((whole, 0), (killed, 4)):
    how = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=2, run_id=str(kill_at), rdzv_backend="c10d", start_method="fork",
        rdzv_endpoint="localhost:0", max_restarts=1, monitor_interval=0.1,
    )
    elastic_launch(how, work)(["finetune", "--config", config, "--out", run], kill_at)
"""
"""torchrun's agent, which forks so that the processes need not import torch once more."""


def test_law_a_killed_process_is_restarted_and_the_result_is_the_same(tmp_path):
    train, val = write_tree(tmp_path / "train"), write_tree(tmp_path / "val", n_images=2, first_drive=10, seed=1)
    config = tiny_training(train, val)
    (tmp_path / "c.yaml").write_text(dump_yaml(config).replace("batch_size: 4", "batch_size: 2"))
    runs = [tmp_path / "whole", tmp_path / "killed"]
    done = subprocess.run(
        [sys.executable, "-c", ELASTIC, str(tmp_path / "c.yaml"), *map(str, runs)],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("resumed at step") == done.stdout.count("resumed at step 2 of 4") == 1
    whole, killed = (read_weights(run / "checkpoints" / "last" / "model.safetensors") for run in runs)
    assert whole.keys() == killed.keys() and all(torch.equal(whole[key], killed[key]) for key in whole)
    rows = [read_metrics(run / "metrics.jsonl") for run in runs]
    assert [row["step"] for row in rows[0]] == [2, 4]
    assert without_times(rows[0]) == without_times(rows[1])
