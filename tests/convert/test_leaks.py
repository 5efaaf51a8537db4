"""The leak report: shared drives, the nearest frames, and planted near-duplicates."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from coco_makers import dataset, record

from drivetl.cli import main
from drivetl.coco.io import write_dataset
from drivetl.convert.leaks import NEAR_BITS, fingerprint, leak_report
from drivetl.files.images import read_rgb

FRAMES = Path(__file__).parents[2].parent / "shared" / "data" / "kitti" / "training" / "image_2"


def street(seed: int) -> np.ndarray:
    """A random scene of large shapes with fine texture, (240, 640, 3) uint8 RGB."""
    rng = np.random.default_rng(seed)
    image = cv2.resize(rng.integers(0, 255, (6, 12, 3), np.uint8), (640, 240), interpolation=cv2.INTER_CUBIC)
    for _ in range(12):
        x, y, w, h = rng.integers(0, (600, 220, 160, 120))
        cv2.rectangle(image, (int(x), int(y)), (int(x + w), int(y + h)), rng.integers(0, 255, 3).tolist(), -1)
    return image


def save(path: Path, image: np.ndarray, *options: int) -> None:
    cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)


def test_shared_drives_and_the_nearest_frames():
    train = [record(n, "a", 10 * n) for n in range(5)] + [record(9, "b", 0)]
    val = [record(n, "a", 10 * n + 3) for n in range(20, 25)] + [record(30, "a", 17), record(31, "c"), record(32)]
    report = leak_report(train, val)
    assert (report.train_drives, report.val_drives, report.shared_drives) == (["a", "b"], ["a", "c"], ["a"])
    assert (report.nearest_gap, report.nearest_pair) == (3, ("00002.png", "00030.png"))
    assert "1 drives are on both sides, nearest frames 3 apart" in report.sentence()
    clean = leak_report(train[:5], val[6:])
    assert clean.nearest_gap is None and "no drive is on both sides" in clean.sentence()
    assert "cannot be detected" in leak_report([record(1)], [record(2)]).sentence()


def test_planted_duplicates_are_found_and_nothing_else(tmp_path):
    images = [street(seed) for seed in range(40)]
    planted = {
        31: (0, "same"),
        33: (4, "jpeg"),
        35: (9, "smaller"),
        37: (12, "brighter"),
        38: (15, "mirrored"),
        39: (20, "shifted"),
    }
    for number in range(len(images)):
        source, change = planted.get(number, (number, "none"))
        copy = images[source]
        if change == "smaller":
            copy = cv2.resize(copy, (200, 75), interpolation=cv2.INTER_AREA)
        if change == "brighter":
            copy = np.clip(copy * 1.15 + 8, 0, 255).astype(np.uint8)
        if change == "mirrored":
            copy = np.ascontiguousarray(copy[:, ::-1])
        if change == "shifted":
            copy = np.roll(copy, 2, axis=1)
        path = tmp_path / f"{number:05d}.png"
        save(path, copy)
        if change == "jpeg":
            ok, data = cv2.imencode(".jpg", cv2.cvtColor(copy, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 40])
            assert ok
            path.write_bytes(data.tobytes())
    records = [record(number, f"drive {number}", 0) for number in range(40)]
    report = leak_report(records[:30], records[30:], tmp_path)
    pairs = {(val, train) for train, val, _ in report.near_duplicates}
    assert pairs == {(f"{val:05d}.png", f"{train:05d}.png") for val, (train, _) in planted.items()}
    assert report.near_duplicates[0][2] == 0 and report.images_compared == 40
    assert "6 val images have a near-duplicate in train" in report.warnings()[0]


def test_the_same_file_on_both_sides_is_a_duplicate(tmp_path):
    for number in (1, 2):
        save(tmp_path / f"{number:05d}.png", street(number))
    report = leak_report([record(1)], [record(2), record(1)], tmp_path)
    assert report.near_duplicates == [("00001.png", "00001.png", 0)] and report.images_compared == 3


def test_unreadable_images_are_listed(tmp_path):
    save(tmp_path / "00001.png", street(1))
    (tmp_path / "00002.png").write_text("not an image")
    report = leak_report([record(1)], [record(2), record(3)], tmp_path)
    assert report.unreadable == ["00002.png", "00003.png"] and report.images_compared == 1
    assert "2 images could not be compared" in report.warnings()[0]


def test_the_split_command_reports_duplicates(tmp_path, capsys):
    for number in range(12):
        save(tmp_path / f"{number:05d}.png", street(number % 6))  # every scene twice, in two drives
    write_dataset(dataset([record(n, f"d{n}", 0, "c") for n in range(12)], tmp_path), tmp_path / "data.json")
    words = ["split", str(tmp_path / "data.json"), "--out", str(tmp_path / "out"), "--val-fraction", "0.5"]
    assert main([*words, "--split", "random"]) == 0
    assert "near-duplicate in train" in capsys.readouterr().err
    leaks = json.loads((tmp_path / "out" / "summary.json").read_text())["leaks"]
    assert leaks["images_compared"] == 12 and leaks["near_duplicates"] == len(leaks["near_duplicate_pairs"]) > 0


@pytest.mark.skipif(not FRAMES.is_dir(), reason="KITTI frames are not available")
def test_only_the_same_real_frame_is_a_near_duplicate():
    images = [read_rgb(path) for path in sorted(FRAMES.iterdir())[:24]]
    prints = np.array([fingerprint(image) for image in images], int)
    differing = ((256 - prints @ prints.T) / 2)[~np.eye(len(images), dtype=bool)]
    assert differing.min() > NEAR_BITS and np.median(differing) > 100
    ok, data = cv2.imencode(".jpg", images[3], [cv2.IMWRITE_JPEG_QUALITY, 30])
    assert ok
    again = fingerprint(cv2.imdecode(data, cv2.IMREAD_COLOR))
    assert (256 - again.astype(int) @ prints[3]) / 2 < 12


def test_a_sample_is_compared_and_called_so(tmp_path):
    records = [record(n) for n in range(1, 41)]
    for image in records:
        save(tmp_path / image.file_name, street(image.id % 5))
    report = leak_report(records[:30], records[30:], tmp_path, limit=20)
    assert report.images_compared == 20 and report.near_duplicates and "a sample" in report.sentence()
    whole = leak_report(records[:30], records[30:], tmp_path, limit=1000)
    assert whole.images_compared == 40 and "a sample" not in whole.sentence()
    assert "images not compared" in leak_report(records[:30], records[30:], tmp_path / "none", limit=20).sentence()
