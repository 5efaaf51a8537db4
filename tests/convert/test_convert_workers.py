"""Conversion shared among processes: the same bytes, the same error, and nothing left running."""

import filecmp
import subprocess
import sys
from pathlib import Path

import pytest
from kitti_trees import CAR, CYCLIST_PAST_EDGE, DONT_CARE, MISC, PEDESTRIAN, write_tree

from drivetl.convert import workers
from drivetl.convert.build import Account
from drivetl.convert.workers import convert_shared, useful_workers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are shared on Linux alone")

CONVERT = """
import os, signal, sys
from functools import partial
from pathlib import Path
from drivetl import errors
from drivetl.adapters.kitti import read_kitti
from drivetl.convert import workers
from drivetl.convert.build import Account
from drivetl.convert.run import convert_and_write
from drivetl.convert.split import SplitOptions
from drivetl.coco.taxonomy import load_taxonomy
from drivetl.files.shipped import shipped

root, out, counts, trouble = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]
workers.CHUNK, parent, forks, fork = 3, os.getpid(), [], os.fork
taxonomy = load_taxonomy(shipped("datasets/kitti/taxonomy.yaml"))

def die(read, keys, account):
    for number, image in enumerate(read(keys, account)):
        if os.getpid() != parent and number == 1 and "000007" in keys:
            os.kill(os.getpid(), signal.SIGKILL)
        yield image

def under_one_name(read, keys, account):
    for image in read(keys, account):
        image.file_name = image.file_name.replace("000007", "000000")
        yield image

def counted():
    forks.append(1)
    return fork()

os.fork = counted
for n_workers in map(int, counts.split(",")):
    account = Account()
    frames = read_kitti(root, account, image_size_wh=(400, 200))
    change = {"killed": die, "same name": under_one_name}.get(trouble)
    if change is not None:
        frames = workers.Frames(frames.keys, partial(change, frames.read), account)
    forks.clear()
    try:
        summary = convert_and_write(
            frames, taxonomy, root, out / str(n_workers), source="kitti", split=SplitOptions("random"),
            account=account, n_workers=n_workers)
        result = f"{sum(account.kept.values())} objects, {len(summary.outline.images)} images"
    except errors.DataError as error:
        result = str(error)
    try:
        os.waitpid(-1, os.WNOHANG)
        left = "a process"
    except ChildProcessError:
        left = "nothing"
    print("|".join((result, f"{len(forks)} forks", f"{left} left", f"{len(os.listdir('/proc/self/fd'))} files")))
"""


def tree(root: Path) -> Path:
    """Eleven frames: all kinds of objects, an empty one, one without labels, one without its image."""
    kinds = [CAR, PEDESTRIAN, CYCLIST_PAST_EDGE, MISC, DONT_CARE]
    frames = {f"{number:06d}": kinds[: number % 6] * (1 + number % 3) for number in range(11)}
    write_tree(root, frames | {"000005": None})
    (root / "training" / "image_2" / "000009.png").unlink()
    return root


def convert(root: Path, out: Path, counts: str, trouble: str = "") -> list[list[str]]:
    """Result, forks, what is left running and open files, for each number of processes."""
    words = [sys.executable, "-c", CONVERT, str(root), str(out), counts, trouble]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.stderr == "" and done.returncode == 0, done.stderr
    return [line.split("|") for line in done.stdout.splitlines()]


def same_folders(one: Path, other: Path) -> bool:
    names = sorted(path.name for path in one.iterdir())
    return names == sorted(path.name for path in other.iterdir()) and not any(
        filecmp.cmpfiles(one, other, names, shallow=False)[1:]
    )


def test_the_bytes_are_the_same_whatever_the_number_of_processes(tmp_path):
    alone, *others = convert(tree(tmp_path / "k"), tmp_path, "1,2,3,4")
    assert "34 objects" in alone[0] and alone[1:3] == ["0 forks", "nothing left"]
    for count, said in enumerate(others, 2):  # of four workers each has one chunk, the last one of two frames
        assert said == [alone[0], f"{count} forks", *alone[2:]]
        assert same_folders(tmp_path / "1", tmp_path / f"{count}")


def test_the_error_is_the_one_of_a_single_process_and_nothing_is_written(tmp_path):
    root = tree(tmp_path / "k")
    for frame, line in {"000004": "Car 1 2", "000010": "Bus"}.items():
        (root / "training" / "label_2" / f"{frame}.txt").write_text(f"{CAR}\n{line}\n")
    alone, shared = convert(root, tmp_path, "1,2")
    assert "000004.txt:2: 3 fields instead of 15" in alone[0]
    assert shared == [alone[0], "2 forks", *alone[2:]]
    assert [path.name for path in tmp_path.iterdir()] == ["k"]


def test_a_worker_that_is_killed_costs_time_and_nothing_else(tmp_path):
    alone, shared = convert(tree(tmp_path / "k"), tmp_path, "1,2", "killed")
    assert shared == [alone[0], "2 forks", *alone[2:]]
    assert same_folders(tmp_path / "1", tmp_path / "2")


def test_a_name_that_two_workers_meet_is_the_error_of_a_single_process(tmp_path):
    alone, shared = convert(tree(tmp_path / "k"), tmp_path, "1,2", "same name")
    assert "000000.png' comes twice" in alone[0] and shared[0] == alone[0]


def test_what_cannot_be_read_in_parts_or_is_little_stays_in_one_process(tmp_path, monkeypatch):
    assert convert_shared(iter([]), None, tmp_path, "kitti", Account(), 8) is None
    assert useful_workers(workers.WORTH_IT - 1) == 1
    monkeypatch.setattr("os.listdir", lambda _: ["1", "2"])  # a second thread, which a fork would not take along
    assert useful_workers(10**6) == 1
    monkeypatch.setattr("os.listdir", lambda _: ["1"])
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2})
    assert useful_workers(10**6) == 3 and useful_workers(workers.WORTH_IT) <= 3
