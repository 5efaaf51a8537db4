"""Laws of commands that are ended from outside: signals, kills and full disks leave nothing behind."""

import errno
import fcntl
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from drivetl.cli import main
from drivetl.config import OptimConfig, dump_yaml
from drivetl.errors import DataError
from drivetl.files.write import new_directory, remove_leftovers, write_atomically

ROOT = Path(__file__).parents[1]
LIMIT_BYTES = 1


@contextmanager
def small_disk():
    """No file may have more than one byte: writing fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def start(words, cwd):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "drivetl.cli", *map(str, words)]
    return subprocess.Popen(command, cwd=cwd, env=environment, stderr=subprocess.PIPE, text=True)


def wait_until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


SAMPLE = ["sample", "--frames-a", "400", "--frames-b", "0", "--scale", "0.2", "--processes", "2", "--out", "city"]


KEPT_NOTHING = "nothing was kept: run the command again to start over"


def frames_in(folder):
    return list(folder.glob(".city.*/city/town_a/training/image_2/*"))


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted"), (signal.SIGHUP, 129, "terminated")],
)
def test_a_signal_leaves_no_hidden_folder(tmp_path, number, code, word):
    process = start(SAMPLE, tmp_path)
    wait_until(lambda: frames_in(tmp_path))
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == code and stderr.splitlines()[-2:] == [word, KEPT_NOTHING] and "Traceback" not in stderr
    assert not list(tmp_path.iterdir())


def test_what_a_kill_left_is_removed_at_the_next_start(tmp_path):
    process = start(SAMPLE, tmp_path)
    wait_until(lambda: frames_in(tmp_path))
    process.kill()
    process.communicate(timeout=60)
    assert [path.name[:6] for path in tmp_path.iterdir()] == [".city."]
    flags = ["--frames-a", "2", "--frames-b", "0", "--scale", "0.2"]
    assert main(["sample", *flags, "--out", str(tmp_path / "city")]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["city"]


def test_the_command_that_continues_is_said(source, tmp_path, monkeypatch, capsys):
    from drivetl.files.runs import STATE

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("drivetl.training.finetune.finetune", interrupt)
    config, run = tmp_path / "c.yaml", tmp_path / "a run"
    config.write_text(f"data: {{train: {config}, val: {config}}}\n")  # they exist, and are not read
    words = ["finetune", "--config", str(config), "--out", str(run)]
    assert main(words) == 130
    assert "continue" not in capsys.readouterr().err

    def interrupt_with_a_state(*_, **__):
        (run / STATE).parent.mkdir(parents=True)
        (run / STATE).touch()
        raise KeyboardInterrupt

    monkeypatch.setattr("drivetl.training.finetune.finetune", interrupt_with_a_state)
    assert main(words) == 130
    assert f"continue with: drivetl finetune --config {config} --out '{run}' --resume" in capsys.readouterr().err


def leftover(folder, name, content=b"x"):
    path = folder / f".{name}.abcd_123"
    path.write_bytes(content)
    return path


def test_leftovers_are_removed_by_name(tmp_path):
    first, second = leftover(tmp_path, "state.safetensors"), leftover(tmp_path, "other")
    kept = [tmp_path / name for name in (".state.safetensors", ".cells", ".state.safetensors.ABC", "state.safetensors")]
    for path in kept:
        path.touch()
    remove_leftovers(tmp_path, "state.safetensors")
    assert not first.exists() and second.exists()
    remove_leftovers(tmp_path)
    assert not second.exists() and all(path.exists() for path in kept)
    remove_leftovers(tmp_path / "nowhere")


def test_what_a_live_process_writes_stays(tmp_path):
    with new_directory(tmp_path / "out") as work:
        (work / "a").touch()
        remove_leftovers(tmp_path)
        assert (work / "a").exists()
    assert (tmp_path / "out" / "a").exists()


def test_law_the_first_write_to_a_path_removes_what_a_killed_one_left(tmp_path):
    path, other = leftover(tmp_path, "metrics.json"), leftover(tmp_path, "other.json")
    own = tmp_path / ".settings.original"
    own.touch()
    write_atomically(tmp_path / "metrics.json", b"{}")
    assert not path.exists() and other.exists() and own.exists()
    assert (tmp_path / "metrics.json").read_bytes() == b"{}"
    live = leftover(tmp_path, "live.json")
    with live.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        write_atomically(tmp_path / "live.json", b"{}")
        assert live.exists()


def test_law_a_stopped_demo_says_how_to_continue_and_resumes_its_training(source, tmp_path, monkeypatch, capsys):
    from training_runs import kill_after

    (tmp_path / "c.yaml").write_text(dump_yaml(replace(source[0], optim=OptimConfig(epochs=2, lr=1e-3, batch_size=4))))
    run = tmp_path / "demo" / "transfer"
    step = ("train", run / "README.md", ["finetune", "--config", str(tmp_path / "c.yaml"), "--out", str(run)])
    monkeypatch.setattr("drivetl.commands.demo.plan", lambda out, seed: [step])
    monkeypatch.setattr("drivetl.commands.demo_report.write_demo_report", lambda out: out / "report.html")
    words = ["demo", "--out", str(tmp_path / "demo")]
    with monkeypatch.context() as patch:
        kill_after(patch, 2)
        assert main(words) == 130
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("continue with:")]
    assert notes == [f"continue with: drivetl {' '.join(words)}"]
    assert main(words) == 0
    assert "--resume" in capsys.readouterr().out and (run / "README.md").is_file()


def test_law_a_stopped_extraction_says_how_to_continue(tmp_path, monkeypatch, capsys):
    words = ["convert-footage", "--video", str(tmp_path / "v.mp4"), "--out", str(tmp_path / "out")]

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("drivetl.adapters.video.extract_videos", stop)
    assert main(words) == 130
    assert "continue with:" not in capsys.readouterr().err
    (tmp_path / "out" / "images" / "v").mkdir(parents=True)
    (tmp_path / "out" / "images" / "v" / "extraction.jsonl").touch()
    assert main(words) == 130
    assert f"continue with: drivetl {' '.join(words)}" in capsys.readouterr().err


def test_a_full_disk_in_a_new_folder_is_a_data_error(tmp_path):
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        with (
            pytest.raises(DataError, match=r"out: cannot be written \(.*\) - .*free space"),
            new_directory(tmp_path / "out"),
        ):
            raise OSError(number, os.strerror(number))
    assert not list(tmp_path.iterdir())


def test_another_oserror_in_a_new_folder_stays_what_it_is(tmp_path):
    with pytest.raises(FileNotFoundError), new_directory(tmp_path / "out"):
        (tmp_path / "input").read_bytes()
    assert not list(tmp_path.iterdir())


WRITERS = {
    "sample": "--frames-a 2 --frames-b 1 --scale 0.2",
    "audit": "{data}",
    "view": "{data} --images 4",
    "split": "{data}",
    "merge": "{data} {other}",
    "labels": "{data} --format yolo",
    "convert-footage": "--format coco --root {folder}",
    "anchors": "{data} --config {config}",
    "conditions": "--names fog --severities 1 {image}",
    "evaluate": "--gt {other} --predictions {results}",
    "finetune": "--config {config} --runtime.device cpu",
    "predict": "--run {run} --data {data} --score 0 --workers 0 --device cpu",
    "eval-robustness": "--run {run} --data {data} --conditions fog --severities 1 --workers 0 --device cpu",
    "export": "--run {run} --height 64 --width 96",
}


@pytest.mark.parametrize("command", WRITERS)
def test_a_full_disk_is_one_line_in_every_command(command, source, tree, tmp_path, capsys):
    if command == "export":
        pytest.importorskip("onnxruntime")
    (tmp_path / "results.json").write_text("[]")
    (tmp_path / "c.yaml").write_text((source[1] / "config.yaml").read_text())
    shutil.copytree(source[1], tmp_path / "run")
    names = {
        "data": tree[0],
        "other": tree[1],
        "folder": tree[0].parent,
        "image": tree[0].parent / "000001.png",
        "config": tmp_path / "c.yaml",
        "results": tmp_path / "results.json",
        "run": tmp_path / "run",
    }
    (tmp_path / "full").mkdir()
    words = [command, *(word.format(**names) for word in WRITERS[command].split())]
    words += ["--out", str(tmp_path / "full" / {"view": "v.png", "conditions": "c.png"}.get(command, "out"))]
    with small_disk():
        code = main(words)
    error = capsys.readouterr().err
    assert code == 2 and re.search(r"^error: .*cannot be written \(File too large\) - ", error, re.MULTILINE), error
    assert "Traceback" not in error
    assert not [path for path in (tmp_path / "full").rglob("*") if path.is_file()]
