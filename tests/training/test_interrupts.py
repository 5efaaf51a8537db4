"""Laws of a training that is stopped by a signal, and of the command that continues it."""

import dataclasses
import itertools
import os
import shlex
import signal
import subprocess
import sys
import threading

import pytest
import torch
from training_runs import kill_after, weights, without_times

from drivetl.cli import main
from drivetl.config import dump_yaml
from drivetl.files.runs import STATE
from drivetl.training import loop, validate
from drivetl.training.finetune import begin_or_continue, finetune
from drivetl.training.interrupts import held_signals
from drivetl.training.rundir import read_metrics


def assert_same(one, other):
    """Two runs have the same weights, bit for bit, and the same metrics."""
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    rows = [read_metrics(folder / "metrics.jsonl") for folder in (one, other)]
    assert without_times(rows[0]) == without_times(rows[1])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(config, run) of a training of four steps in two epochs that nothing stopped."""
    from training_runs import tiny_training, write_tree

    root = tmp_path_factory.mktemp("whole")
    config = tiny_training(write_tree(root / "train"), write_tree(root / "val", n_images=4, first_drive=10, seed=1))
    config = dataclasses.replace(config, optim=dataclasses.replace(config.optim, accumulate=2, batch_size=2))
    finetune(config, root / "run")
    return config, root / "run"


@pytest.mark.parametrize(
    ("number", "code", "word", "step"),
    [
        (signal.SIGTERM, 143, "terminated", 3),
        (signal.SIGINT, 130, "interrupted", 2),  # the last step of an epoch, before its evaluation
    ],
)
def test_law_a_signal_ends_after_the_step_and_the_run_continues_without_its_config(
    whole, tmp_path, monkeypatch, capsys, number, code, word, step
):
    config, run = whole[0], tmp_path / "a run"
    (tmp_path / "c.yaml").write_text(dump_yaml(config))
    forward, calls = loop.forward_uint8, itertools.count(1)

    def with_signal(*arguments):
        if next(calls) == 2 * step - 1:  # in the first of the two parts of the step
            os.kill(os.getpid(), number)
        return forward(*arguments)

    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with monkeypatch.context() as patch:
        patch.setattr(loop, "forward_uint8", with_signal)
        assert main(["finetune", "--config", str(tmp_path / "c.yaml"), "--out", str(run)]) == code
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == handlers
    said = capsys.readouterr()
    assert f"saved at step {step} of 4" in said.out
    last = said.err.splitlines()[-2:]
    assert last == [word, f"continue with: drivetl finetune --config {tmp_path / 'c.yaml'} --out '{run}' --resume"]
    (tmp_path / "c.yaml").unlink()
    assert main(["finetune", "--resume", "--out", str(run)]) == 0
    assert f"resumed at step {step} of 4" in capsys.readouterr().out
    assert_same(whole[1], run)


def test_law_a_signal_in_an_evaluation_loses_no_step(whole, tmp_path, monkeypatch, capsys):
    config, run = whole[0], tmp_path / "run"
    (tmp_path / "c.yaml").write_text(dump_yaml(config))
    detect, calls = validate.detect, itertools.count(1)

    def with_signal(*arguments):
        if next(calls) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return detect(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(validate, "detect", with_signal)
        assert main(["finetune", "--config", str(tmp_path / "c.yaml"), "--out", str(run)]) == 143
    assert next(calls) == 2  # the evaluation ended with the batch in progress
    assert "saved at step 2 of 4" in capsys.readouterr().out and not (run / "metrics.jsonl").exists()
    begin_or_continue(config, run)
    assert "resumed at step 2 of 4" in capsys.readouterr().out
    assert_same(whole[1], run)


def test_law_one_command_begins_resumes_and_repeats_a_run(whole, tmp_path, monkeypatch, capsys):
    config, run = whole[0], tmp_path / "run"
    (tmp_path / "c.yaml").write_text(dump_yaml(config))
    words = ["finetune", "--config", str(tmp_path / "c.yaml"), "--out", str(run), "--continue"]
    with monkeypatch.context() as patch:
        kill_after(patch, 2)
        assert main(words) == 130
    assert capsys.readouterr().err.splitlines()[-1] == f"continue with: {shlex.join(['drivetl', *words])}"
    assert main(words) == 0
    assert "resumed at step 2 of 4" in capsys.readouterr().out
    assert_same(whole[1], run)
    assert main(words) == 0  # nothing is left to do
    (run / STATE).unlink()  # as if it had been killed before its first step
    assert main(words) == 0
    assert "resumed" not in capsys.readouterr().out.rpartition("resumed at step 4 of 4")[2]
    assert_same(whole[1], run)
    assert main([*words, "--resume"]) == 2 and "--continue and --resume" in capsys.readouterr().err


WITHOUT_THE_COMMAND = """
import os, signal, sys
from pathlib import Path
from drivetl.config import load_config
from drivetl.training import loop
from drivetl.training.finetune import begin_or_continue

forward, calls = loop.forward_uint8, iter(range(1, 100))

def with_signals(*arguments):
    if next(calls) == 5:
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            os.kill(os.getpid(), number)
    return forward(*arguments)

loop.forward_uint8 = with_signals
begin_or_continue(load_config(Path(sys.argv[1])), Path(sys.argv[2]))
"""


def ignore_as_nohup_does():
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def test_law_a_training_outside_of_the_command_ends_after_the_step_too(whole, tmp_path, capsys):
    config, run = whole[0], tmp_path / "run"
    (tmp_path / "c.yaml").write_text(dump_yaml(config))
    command = [sys.executable, "-c", WITHOUT_THE_COMMAND, str(tmp_path / "c.yaml"), str(run)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=300, preexec_fn=ignore_as_nohup_does
    )
    assert done.returncode == -signal.SIGTERM, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "saved at step 3 of 4"
    begin_or_continue(config, run)
    assert "resumed at step 3 of 4" in capsys.readouterr().out
    assert_same(whole[1], run)


def test_a_resumed_run_takes_flags_and_refuses_those_that_would_change_it(whole, capsys):
    words = ["finetune", "--resume", "--out", str(whole[1])]
    assert main([*words, "--optim.lr", "0.5"]) == 2
    assert "optim.lr was 0.001, now 0.5 - resume with the same value" in capsys.readouterr().err
    assert main([*words, "--eval.batch_size", "3"]) == 0


def test_what_is_missing_is_said(tmp_path, capsys):
    for words, missing in (([], "--config"), (["--out", "x"], "--config"), (["--resume"], "--out")):
        with pytest.raises(SystemExit) as stop:
            main(["finetune", *words])
        assert stop.value.code == 2 and f"drivetl finetune: missing: {missing} - see" in capsys.readouterr().err
    assert main(["finetune", "--resume", "--out", str(tmp_path)]) == 2
    assert "nothing to resume (no config.yaml) - name a run that finetune began" in capsys.readouterr().err


def test_law_a_second_signal_ends_at_once_and_an_error_gives_way():
    with pytest.raises(KeyboardInterrupt), held_signals() as held:
        os.kill(os.getpid(), signal.SIGINT)
        assert held.number == signal.SIGINT
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("the second signal was held")
    with pytest.raises(KeyboardInterrupt), held_signals():
        os.kill(os.getpid(), signal.SIGINT)
        raise RuntimeError("DataLoader worker exited unexpectedly")
    with pytest.raises(RuntimeError, match="no signal"), held_signals():
        raise RuntimeError("no signal")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_thread_leaves_the_signals_alone():
    seen = []

    def work():
        with held_signals():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]
