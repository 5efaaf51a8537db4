"""`drivetl predict`: every kind of input, thresholds, two runs, outcomes; and what is said about mistakes."""

import csv
import json
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
from training_runs import write_tree

from drivetl.cli import main
from drivetl.draw.palette import FOUND, INVENTED, MISSED
from drivetl.files.video import check_video, h264_encoder, read_frames, video_writer


@pytest.fixture
def images(tmp_path):
    """Six images; the first half of the bytes of 000004.png."""
    folder = write_tree(tmp_path / "images", n_images=6).parent
    path = folder / "000004.png"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return folder


def predict(run, out, *words):
    flags = ["--run", run, "--out", out, "--device", "cpu", "--score", 0, "--batch-size", 1, *words]
    return main(["predict", *map(str, flags)])


def listed(out):
    return {row["file_name"]: row["reason"] for row in json.loads((out / "skipped.json").read_text())}


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_is_skipped_and_named(source, images, tmp_path, capsys, workers):
    out = tmp_path / "out"
    assert predict(source[1], out, "--images", images, "--workers", workers) == 0
    warnings = capsys.readouterr().err
    assert "000004.png" in warnings and "1 of 6 images have no detections" in warnings
    assert listed(out).keys() == {"000004.png"} and "cannot be decoded" in listed(out)["000004.png"]
    named = {image["id"]: image["file_name"] for image in json.loads((out / "images.json").read_text())["images"]}
    assert sorted(named.values()) == [f"{number:06d}.png" for number in (1, 2, 3, 5, 6)]
    assert {row["image_id"] for row in json.loads((out / "results.json").read_text())} <= named.keys()


def test_skipping_does_not_change_the_other_detections(source, images, tmp_path):
    assert predict(source[1], tmp_path / "all", "--images", images, "--workers", 0) == 0
    (images / "000004.png").unlink()
    assert predict(source[1], tmp_path / "without", "--images", images, "--workers", 0) == 0

    def rows(out):
        names = {image["id"]: image["file_name"] for image in json.loads((out / "images.json").read_text())["images"]}
        found = json.loads((out / "results.json").read_text())
        return [row | {"image_id": names[row["image_id"]]} for row in found]

    assert rows(tmp_path / "all") == rows(tmp_path / "without") != []
    assert not (tmp_path / "without" / "skipped.json").exists()


def test_stop_keeps_the_results_so_far(source, images, tmp_path, capsys):
    out = tmp_path / "out"
    assert predict(source[1], out, "--data", images / "data.json", "--workers", 0, "--on-error", "stop") == 2
    error = capsys.readouterr().err
    assert "error: stopped after " in error and "000004.png" in error and "--on-error skip" in error
    skipped = listed(out)
    assert "cannot be decoded" in skipped.pop("000004.png") and set(skipped.values()) <= {"not reached"}
    ids = {row["image_id"] for row in json.loads((out / "results.json").read_text())}
    assert ids <= {number for number in range(1, 7) if f"{number:06d}.png" not in skipped} - {4}


def test_an_image_without_a_readable_header_is_skipped(source, images, tmp_path):
    (images / "000002.png").write_bytes(b"not an image")
    assert predict(source[1], tmp_path / "out", "--images", images, "--format", "kitti", "--workers", 0) == 0
    assert listed(tmp_path / "out").keys() == {"000002.png", "000004.png"}
    files = sorted(path.name for path in (tmp_path / "out" / "data").iterdir())
    assert files == ["000001.txt", "000003.txt", "000005.txt", "000006.txt"]


def test_no_readable_image_is_an_error(source, images, tmp_path, capsys):
    for path in images.glob("*.png"):
        path.write_bytes(path.read_bytes()[:60])
    assert predict(source[1], tmp_path / "out", "--images", images, "--workers", 0) == 2
    assert "cannot be decoded" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.fixture
def drive(tmp_path):
    """A video of the training images."""
    tree = write_tree(tmp_path / "frames").parent
    path = tmp_path / "drive.webm"
    with video_writer(path, 96, 64, 10, "vp8") as write:
        for number in (1, 4, 5, 6, 7, 8):
            write(cv2.imread(str(tree / f"{number:06d}.png"))[..., ::-1])
    return path


def rows_of(out):
    return json.loads((out / "results.json").read_text())


def test_a_video_is_drawn_at_its_rate_and_its_results_are_those_of_its_frames(source, drive, tmp_path, capsys):
    out = tmp_path / "out"
    assert predict(source[1], out, drive, "--track", "--pictures", 2) == 0
    text = capsys.readouterr().out
    assert "6 frames in " in text and " frames/s" in text
    name = "drive.mp4" if h264_encoder() is not None else "drive.webm"
    assert f"wrote {out / name}" in text
    assert check_video(out / name).rate_fps == 10 and sum(1 for _ in read_frames(out / name)) == 6
    rows = rows_of(out)
    assert {row["image_id"] for row in rows} <= set(range(1, 7)) and all(row["track_id"] >= 1 for row in rows)
    folder = tmp_path / "again"
    folder.mkdir()
    for number, frame in enumerate(read_frames(drive)):
        assert cv2.imwrite(str(folder / f"{number}.png"), frame[..., ::-1])
    assert predict(source[1], tmp_path / "stills", folder, "--workers", 0) == 0
    plain = [{key: value for key, value in row.items() if key != "track_id"} for row in rows]
    assert plain == rows_of(tmp_path / "stills") != []
    assert len(list((out / "pictures").iterdir())) == 2


def test_labels_show_what_was_found_missed_and_invented(source, images, tmp_path, capsys):
    (images / "000004.png").unlink()
    args = [images / "data.json", "--workers", 0, "--threshold", 0.5]
    assert predict(source[1], tmp_path / "out", *args) == 0
    assert "missed" in capsys.readouterr().out
    with (tmp_path / "out" / "detections.csv").open(newline="") as file:
        outcomes = [row["outcome"] for row in csv.DictReader(file)]
    assert set(outcomes) <= {"found", "invented", "uncounted"} and "found" in outcomes
    assert predict(source[1], tmp_path / "plain", *args, "--colours", "class") == 0
    painted = dict.fromkeys(("out", "plain"), (0, 0))
    for name in painted:
        drawn = [cv2.imread(str(path))[..., ::-1] for path in (tmp_path / name / "pictures").glob("*.jpg")]
        near = [(np.abs(image.astype(int) - FOUND).sum(axis=2) < 60).sum() for image in drawn]
        painted[name] = sum(near)
    assert painted["out"] > 100 > painted["plain"]
    assert (tmp_path / "out" / "results.json").read_bytes() == (tmp_path / "plain" / "results.json").read_bytes()
    assert len({FOUND, INVENTED, MISSED}) == 3


def test_thresholds_of_classes_and_of_an_operating_point(source, images, tmp_path, capsys):
    run = source[1]
    args = ["--images", images, "--workers", 0, "--format", "coco"]
    flags = ["--run", run, "--device", "cpu", *args]
    everything = {name: [*map(str, flags), "--out", str(tmp_path / name)] for name in ("all", "some", "at")}
    assert main(["predict", *everything["all"], "--score", "0"]) == 0
    assert main(["predict", *everything["some"], "--threshold", "0.2,car=0.6"]) == 0
    kept = [row for row in rows_of(tmp_path / "all") if row["score"] >= (0.6 if row["category_id"] == 1 else 0.2)]
    assert rows_of(tmp_path / "some") == kept and not (tmp_path / "some" / "detections.csv").exists()
    capsys.readouterr()
    assert main(["predict", *everything["at"], "--at", "fp=0.5"]) == 0
    text = capsys.readouterr().out
    assert "fp=0.5" in text and "false positives per image" in text
    scores = [row["score"] for row in rows_of(tmp_path / "at") if row["category_id"] == 1]
    assert len(scores) < len([row for row in rows_of(tmp_path / "all") if row["category_id"] == 1])


def test_two_runs_next_to_each_other(source, images, tmp_path, capsys):
    other = tmp_path / "other run"
    shutil.copytree(source[1], other)
    out = tmp_path / "out"
    assert predict(source[1], out, "--compare", other, "--workers", 0, images / "000001.png") == 0
    assert rows_of(out) == rows_of(out / "compare") != []
    drawn = cv2.imread(str(out / "pictures" / "000001.jpg"))
    assert drawn.shape[1] == 2 * 96 and drawn.shape[0] > 64
    assert "other run: " in capsys.readouterr().out


def test_a_video_that_breaks_off_is_skipped_or_ends_the_command(source, drive, tmp_path, capsys):
    path = tmp_path / "cut.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (96, 64))
    for frame in [*read_frames(drive)] * 5:
        writer.write(frame)
    writer.release()
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert predict(source[1], tmp_path / "skip", path) == 0
    assert "breaks off after" in capsys.readouterr().err
    assert predict(source[1], tmp_path / "stop", path, "--on-error", "stop") == 2
    assert "results so far in" in capsys.readouterr().err
    assert rows_of(tmp_path / "skip") == rows_of(tmp_path / "stop")


def test_law_a_mistake_is_one_line_before_torch_is_imported_and_leaves_nothing(source, drive, tmp_path):
    run, image = source[1], write_tree(tmp_path / "images").parent / "000001.png"
    (tmp_path / "empty").mkdir()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "theirs.txt").write_text("theirs")
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    (tmp_path / "bad.png").write_bytes(b"no image")
    mistakes = {
        "no such file": ["missing.png"],
        "no such file or folder": ["missing.mp4"],
        "holds no images": ["empty"],
        "matches no image": ["*.bmp"],
        "cannot be opened as a video": ["bad.mp4"],
        "not a readable image": ["bad.png"],
        "is one of 2 inputs": [drive, image],
        "name one input": [image, "--images", "images"],
        "no class 'cat'": [image, "--threshold", "cat=0.5"],
        "is not a number from 0 to 1": [image, "--score", "1.5"],
        "is not an operating point": [image, "--at", "best"],
        "use one of the two": [image, "--at", "fp=1", "--score", "0.5"],
        "--format: 'xml' is unknown": [image, "--format", "xml"],
        "'h265' is unknown": [image, "--codec", "h265"],
        "--codec h264": [drive, "--codec", "h264"],
        "names the same run": [image, "--compare", run],
        "no such folder": [image, "--compare", "no run"],
        "cannot be read (No such file": ["--data", "missing.json"],
        "exists already": [image, "--out", "taken"],
        "--pictures is -1": [image, "--pictures", -1],
        "--colours outcome needs labels": [image, "--colours", "outcome"],
    }
    script = """
import json, os, sys
from drivetl.cli import main
os.environ["PATH"] = ""  # without ffmpeg
for words in json.load(sys.stdin):
    before = sorted(os.listdir())
    assert main(["predict", *words]) == 2, words
    assert "torch" not in sys.modules, words
    assert sorted(os.listdir()) == before, words
"""
    common = ["--run", str(run), "--out", "new"]
    words = json.dumps([[*common, *map(str, case)] for case in mistakes.values()])
    done = subprocess.run(
        [sys.executable, "-c", script], input=words, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == len(mistakes) and not done.stdout
    for line, text in zip(lines, mistakes, strict=True):
        assert line.startswith("error: ") and text in line and "Traceback" not in line
    assert (tmp_path / "taken" / "theirs.txt").read_text() == "theirs"
