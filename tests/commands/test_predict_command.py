"""`drivetl predict` on a folder with an image that cannot be read: what was inferred is kept, the rest is listed."""

import json

import pytest
from training_runs import write_tree

from drivetl.cli import main


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
