"""Laws of shared work: a dead worker is one line with the remedy, and no worker outlives its parent."""

import errno
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from training_runs import tiny_training, write_tree

from drivetl.cli import main
from drivetl.coco.io import read_dataset
from drivetl.config import with_values
from drivetl.data import sharing
from drivetl.data.sharing import PipedBatch, share, shared_memory_warning
from drivetl.errors import DrivetlError
from drivetl.training.finetune import finetune
from drivetl.workers import dead_workers_as_errors, run_jobs

SLEEPER = """
import time
from drivetl.workers import dead_workers_as_errors, run_jobs
if __name__ == "__main__":
    for _ in run_jobs(time.sleep, [0.0, 60.0, 60.0], 2, flag="--processes"):
        print("first", flush=True)
"""


def children_of(pid):
    return [int(word) for path in Path(f"/proc/{pid}/task").glob("*/children") for word in path.read_text().split()]


def is_alive(pid):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def wait_until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_a_dead_worker_is_an_error_with_the_remedy():
    with pytest.raises(DrivetlError, match=r"worker process ended unexpectedly.* - .*fewer workers \(--processes\)"):
        list(run_jobs(os._exit, [3, 3, 3], 2, flag="--processes"))


def test_a_full_dev_shm_is_an_error_that_names_it():
    remedy = r"shared memory .* - .*--shm-size, or use no workers \(--data.workers 0\)"
    with pytest.raises(DrivetlError, match=remedy), dead_workers_as_errors("--data.workers"):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match=r"a\.json"), dead_workers_as_errors("--data.workers"):
        raise OSError(errno.ENOSPC, "No space left on device", "a.json")


def test_an_error_of_a_job_is_the_error_of_the_call():
    with pytest.raises(ValueError, match="invalid literal"):
        list(run_jobs(int, ["1", "x"], 2, flag="--processes"))


LOADER = """
import time
import torch
from torch.utils.data import DataLoader
from drivetl.data.dataset import single_threaded
class Large(torch.utils.data.Dataset):
    def __len__(self):
        return 100
    def __getitem__(self, index):
        return bytes(1_000_000)  # more than a pipe holds: a worker waits to be read
if __name__ == "__main__":
    for _ in DataLoader(Large(), None, num_workers=2, prefetch_factor=4, worker_init_fn=single_threaded):
        print("first", flush=True)
        time.sleep(60)
"""


@pytest.mark.parametrize(
    ("text", "number"), [(SLEEPER, signal.SIGKILL), (SLEEPER, signal.SIGTERM), (LOADER, signal.SIGKILL)]
)
def test_a_dead_parent_takes_its_workers_along(tmp_path, text, number):
    script = tmp_path / "sleeper.py"
    script.write_text(text)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None and parent.stdout.readline() == b"first\n"
        workers = children_of(parent.pid)
        assert len(workers) >= 2
        parent.send_signal(number)
    wait_until(lambda: not any(map(is_alive, workers)))


FORKED = re.escape(Path("/proc/self/cmdline").read_text())
"""A loader worker is a fork, so its command line is this process's own, whatever started the tests."""


def kill_a_child(stop, matching):
    """Kill the first child process of this one that appears and whose command line matches."""
    while not stop.is_set():
        for pid in children_of(os.getpid()):
            try:
                command = Path(f"/proc/{pid}/cmdline").read_text()
            except OSError:
                continue
            if re.search(matching, command):
                os.kill(pid, signal.SIGKILL)
                return
        time.sleep(0.02)


@pytest.fixture
def killer():
    """Kill one worker of whatever runs in the test."""
    stop = threading.Event()
    threads = []

    def start(matching):
        threads.append(threading.Thread(target=kill_a_child, args=(stop, matching)))
        threads[-1].start()

    yield start
    stop.set()
    for thread in threads:
        thread.join()


def test_sample_ends_when_a_worker_dies(tmp_path, capsys, killer):
    killer("spawn_main")
    flags = ["--frames-a", "40", "--frames-b", "0", "--scale", "0.2", "--processes", "2"]
    assert main(["sample", "--out", str(tmp_path / "city"), *flags]) == 2
    assert re.search(r"error: a worker process ended .* - .*--processes", capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


def test_finetune_ends_when_a_loader_worker_is_killed(tree, tmp_path, killer):
    config = with_values(tiny_training(*tree), {"data.workers": 1, "optim.epochs": 20})
    killer(FORKED)
    with pytest.raises(DrivetlError, match=r"a worker process \(pid .*\) .*fewer workers \(--data.workers\)"):
        finetune(config, tmp_path / "run")


@pytest.mark.parametrize(("command", "flags"), [("predict", "--score 0"), ("eval-robustness", "--conditions all")])
def test_inference_ends_when_a_worker_is_killed(command, flags, source, tmp_path, capsys, killer):
    _, run = source
    data = write_tree(tmp_path / "many", n_images=120)
    killer(FORKED)
    words = ["--run", run, "--data", data, "--out", tmp_path / "out", "--workers", 1, "--device", "cpu"]
    assert main([command, *map(str, words), *flags.split()]) == 2
    error = capsys.readouterr().err
    assert re.search(r"error: a worker process \(pid .*\(--workers\)", error) and "Traceback" not in error


def a_batch():
    images = [torch.full((3, 4, 5), 7, dtype=torch.uint8)]
    return images, [{"boxes": torch.zeros((0, 4)), "image_id": torch.tensor(3), "labelled": torch.tensor([True])}]


def test_a_batch_that_shared_memory_refuses_arrives_through_the_pipe(monkeypatch):
    from multiprocessing.reduction import ForkingPickler

    def full(self):
        raise RuntimeError("unable to allocate shared memory(shm) for file </x>: No space left on device (28)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    sent = share(a_batch())
    assert isinstance(sent, PipedBatch)
    monkeypatch.undo()
    images, targets = ForkingPickler.loads(ForkingPickler.dumps(sent))
    expected_images, expected_targets = a_batch()
    assert torch.equal(images[0], expected_images[0]) and images[0].dtype == torch.uint8
    for key, value in expected_targets[0].items():
        assert torch.equal(targets[0][key], value) and targets[0][key].dtype == value.dtype


def test_weights_do_not_depend_on_how_batches_are_sent(tree, tmp_path, monkeypatch):
    def weights(name):
        config = with_values(tiny_training(*tree), {"data.workers": 1})
        finetune(config, tmp_path / name)
        return (tmp_path / name / "checkpoints/last/model.safetensors").read_bytes()

    shared = weights("shared")
    monkeypatch.setattr("drivetl.data.dataset.share", PipedBatch)
    assert weights("piped") == shared


def test_too_little_shared_memory_is_said_at_the_start(tree, monkeypatch, tmp_path):
    images = read_dataset(tree[0]).images
    usage = type("usage", (), {"free": 10_000})
    monkeypatch.setattr(sharing, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(sharing.shutil, "disk_usage", lambda path: usage)
    warning = shared_memory_warning(images, 4, 2)
    assert "--shm-size" in warning and "--data.workers 0" in warning
    assert shared_memory_warning(images, 4, 0) == ""
    usage.free = 10_000_000_000
    assert shared_memory_warning(images, 4, 2) == ""
