"""`drivetl select`: every kind of input, the files, labelled frames, resume, and what is said about mistakes."""

import csv
import shlex
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from training_runs import write_tree

from drivetl.cli import main
from drivetl.coco.io import read_dataset, write_dataset
from drivetl.coco.records import Dataset, ImageRecord
from drivetl.convert.leaks import NEAR_BITS, differing_bits, fingerprint_of_file
from drivetl.files.video import video_writer
from drivetl.models.checkpoint import load_detector
from drivetl.prediction.images import predict
from drivetl.selection.detect import FeatureDetector


def scene(number, width=96, height=64, objects=3):
    """(H, W, 3) RGB: red and blue objects on a background of its own."""
    rng = np.random.default_rng(number)
    coarse = rng.integers(50, 130, (8, 9)).astype(np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)[..., None].repeat(3, axis=2)
    for index in range(objects):
        w, h = rng.integers(16, 30, 2)
        x, y = rng.integers(0, width - w), rng.integers(0, height - h)
        image[y : y + h, x : x + w] = ((220, 40, 40), (40, 40, 220))[index % 2]
    return image


def write_scene(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1])


@pytest.fixture
def footage(tmp_path):
    """12 frames of two drives, one per second; the last of each drive is nearly a copy of its first, one is grey and
    one shows nothing."""
    folder = tmp_path / "footage"
    for drive in "ab":
        for number in range(6):
            image = scene(10 * ord(drive) + number * (number != 5), objects=0 if number == 3 else 3)
            write_scene(
                folder / drive / f"{number:06d}.png", np.clip(image + 3 * (number == 5), 0, 255).astype(np.uint8)
            )
    grey = cv2.cvtColor(scene(99), cv2.COLOR_RGB2GRAY)
    assert cv2.imwrite(str(folder / "b" / "000004.png"), grey)
    return folder


def select(run, out, *words):
    flags = ["--run", run, "--out", out, "--device", "cpu", "--workers", 0, "--batch-size", 2, *words]
    return main(["select", *map(str, flags)])


def rows_of(out):
    with (out / "selected.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_of_numbered_frames(source, footage, tmp_path, capsys):
    out = tmp_path / "out"
    assert select(source[1], out, footage, "--fps", 1, "--count", 4, "--score", 0.4) == 0
    text = capsys.readouterr().out
    assert "12 frames of 2 drives to choose from" in text and "4 of 12 frames" in text
    rows = rows_of(out)
    assert [row["rank"] for row in rows] == list("1234") and [row["drive"] for row in rows].count("a") == 2
    assert all(row["reasons"] for row in rows)
    paths = (out / "selected.txt").read_text().splitlines()
    assert paths == [str(footage / row["file_name"]) for row in rows]
    bits = np.array([fingerprint_of_file(footage / row["file_name"]) for row in rows])
    assert (differing_bits(bits, bits)[np.triu_indices(4, 1)] > NEAR_BITS).all()
    for one in rows:
        for other in rows:
            if one["drive"] == other["drive"] and one is not other:
                assert abs(float(one["time_s"]) - float(other["time_s"])) >= 2
    sheet = cv2.imread(str(out / "sheet.jpg"))
    assert sheet is not None and sheet.shape[1] > 480


def test_pre_labels_are_the_detections_from_the_score_on(source, footage, tmp_path):
    out = tmp_path / "out"
    assert select(source[1], out, footage, "--fps", 1, "--count", 4, "--score", "car=0.4,pedestrian=0.6") == 0
    labelled = read_dataset(out / "selected.json")
    assert labelled.images_root == footage and len(labelled.images) == 4
    wanted = {}
    for record, detections in predict(load_detector(source[1], device="cpu"), labelled):
        least = np.array([0.4, 0.6])[detections.labels - 1]
        wanted[record.file_name] = pytest.approx(detections.scores[detections.scores >= least].tolist(), abs=1e-3)
    got = {image.file_name: [item.attributes["score"] for item in image.annotations] for image in labelled.images}
    assert got == wanted and any(got.values())


def test_law_pre_labels_return_from_cvat_with_drives_and_conditions(source, footage, tmp_path, capsys):
    data = tmp_path / "data.json"
    dataset = read_dataset(write_tree(tmp_path / "tree"))
    for image in dataset.images:
        image.attributes["timeofday"] = "night" if image.id == 5 else "day"
        image.annotations, image.ignore_regions = [], []
    write_dataset(dataset, data)
    out = tmp_path / "out"
    capsys.readouterr()
    assert select(source[1], out, data, "--count", 5, "--score", 0.2) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("next:")]
    assert main(shlex.split(line.removeprefix("next:"))[1:]) == 0
    before, after = read_dataset(out / "selected.json"), read_dataset(tmp_path / "out_labelled" / "all.json")
    assert after.categories == before.categories

    def facts(dataset):
        return {
            image.file_name: (image.drive, image.frame_index, image.attributes["timeofday"]) for image in dataset.images
        }

    def objects(dataset):
        rows = [(image.file_name, item) for image in dataset.images for item in image.annotations]
        return sorted((name, item.category_id, *np.round(item.bbox_xywh, 2).tolist()) for name, item in rows)

    assert facts(after) == facts(before)
    assert [row[:2] for row in objects(after)] == [row[:2] for row in objects(before)] != []
    boxes = [np.array([row[2:] for row in objects(dataset)]) for dataset in (before, after)]
    assert boxes[0] == pytest.approx(boxes[1], abs=0.02)


def test_the_frames_of_a_video_are_extracted(source, tmp_path, capsys):
    video = tmp_path / "night drive.webm"
    with video_writer(video, 96, 64, 10, "vp8") as write:
        for number in range(60):
            write(scene(number // 10))  # something new every second
    out = tmp_path / "out"
    assert select(source[1], out, video, "--count", 9) == 0
    printed = capsys.readouterr()
    assert "12 frames of 1 drive to choose from" in printed.out and "48 others are less than 0.5 s" in printed.out
    assert "only 3 of 9 frames can be chosen" in printed.err
    dataset = read_dataset(out / "selected.json")
    assert dataset.images_root == out / "images" and {image.drive for image in dataset.images} == {"night drive"}
    numbers = [image.frame_index for image in dataset.images]
    assert len(numbers) == 3 and all(later - earlier >= 20 for earlier, later in pairwise(numbers))
    for image in dataset.images:
        pixels = cv2.imread(str(out / "images" / image.file_name))[..., ::-1].astype(int)
        assert image.file_name == f"night drive/{image.frame_index:06d}.jpg"
        assert np.abs(pixels - scene(image.frame_index // 10)).mean() < 12


def test_law_labelled_frames_and_their_duplicates_are_not_chosen(source, footage, tmp_path, capsys):
    write_scene(tmp_path / "elsewhere" / "copy.png", scene(10 * ord("b") + 1))  # of b/000001.png
    elsewhere = Dataset(("thing",), [ImageRecord(1, "copy.png", 96, 64)], tmp_path / "elsewhere")
    write_dataset(elsewhere, tmp_path / "copies.json")
    assert select(source[1], tmp_path / "one", footage, "--labelled", tmp_path / "copies.json", "--count", 12) == 0
    assert "b/000001.png" not in {row["file_name"] for row in rows_of(tmp_path / "one")}
    images = [ImageRecord(number + 1, f"a/{number:06d}.png", 96, 64) for number in range(6)]
    write_dataset(Dataset(("thing",), images, footage), tmp_path / "half.json")
    capsys.readouterr()
    assert select(source[1], tmp_path / "two", footage, "--labelled", tmp_path / "half.json", "--count", 12) == 0
    assert {row["drive"] for row in rows_of(tmp_path / "two")} == {"b"}
    assert "6 labelled already" in capsys.readouterr().out
    images += [ImageRecord(number + 7, f"b/{number:06d}.png", 96, 64) for number in range(6)]
    write_dataset(Dataset(("thing",), images, footage), tmp_path / "all.json")
    assert select(source[1], tmp_path / "three", footage, "--labelled", tmp_path / "all.json") == 2
    assert "every frame is labelled already" in capsys.readouterr().err and not (tmp_path / "three").exists()


def test_law_the_order_of_the_inputs_does_not_matter(source, footage, tmp_path):
    for out, sources in (("one", ("a", "b")), ("two", ("b", "a")), ("three", ("b/*.png", "a"))):
        words = [footage / name for name in sources]
        assert select(source[1], tmp_path / out, *words, "--fps", 1, "--count", 5) == 0
    first = (tmp_path / "one" / "selected.csv").read_bytes()
    assert first == (tmp_path / "two" / "selected.csv").read_bytes() == (tmp_path / "three/selected.csv").read_bytes()


def test_law_a_killed_selection_continues_with_what_it_has_seen(source, footage, tmp_path, monkeypatch, capsys):
    flags = (footage, "--fps", 1, "--count", 4)
    assert select(source[1], tmp_path / "whole", *flags) == 0
    infer, calls = FeatureDetector.infer, []

    def infer_and_die(self, images):
        calls.append(len(images))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return infer(self, images)

    monkeypatch.setattr(FeatureDetector, "infer", infer_and_die)
    assert select(source[1], tmp_path / "out", *flags) == 130
    assert "continue with: drivetl select" in capsys.readouterr().err and not (tmp_path / "out").exists()
    calls[:] = [0] * 10
    capsys.readouterr()
    assert select(source[1], tmp_path / "out", *flags) == 0
    assert sum(calls) == 12 - 6 and "6 of 12 images were run before" in capsys.readouterr().out
    for name in ("selected.csv", "cvat/annotations.xml"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (tmp_path / ".out.partial").exists()


def test_law_features_do_not_change_detections(source):
    images = [torch.from_numpy(scene(n).transpose(2, 0, 1).copy()) for n in range(3)]
    detector = load_detector(source[1], device="cpu")
    runner = FeatureDetector(detector)
    plain, featured = detector.infer(images), runner.infer(images)
    assert all(np.array_equal(one.boxes, other.boxes) for one, other in zip(plain, featured, strict=True))
    lengths = [np.linalg.norm(rows.astype(np.float64), axis=1) for rows in runner.features]
    assert [len(length) for length in lengths] == [min(30, len(one.scores)) for one in plain]
    assert np.concatenate(lengths) == pytest.approx(1, abs=2e-3) and len(np.concatenate(lengths)) > 0
    detector.model.roi_heads.score_thresh = 1.0
    runner.features.clear()
    assert [len(one.scores) for one in runner.infer(images)] == [0, 0, 0] == [len(rows) for rows in runner.features]


def test_broken_images_are_named_and_grey_ones_are_read(source, footage, tmp_path, capsys):
    (footage / "a" / "000001.png").write_bytes(b"not an image")
    path = footage / "a" / "000002.png"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert select(source[1], tmp_path / "out", footage, "--gap", 0, "--count", 12) == 0
    err = capsys.readouterr().err
    assert "a/000001.png" in err and "a/000002.png" in err
    chosen = {row["file_name"] for row in rows_of(tmp_path / "out")}
    assert not chosen & {"a/000001.png", "a/000002.png"} and "b/000004.png" in chosen


def test_labels_and_missing_times_are_told(source, tree, tmp_path, capsys):
    assert select(source[1], tmp_path / "out", tree[0], "--count", 2) == 0
    err = capsys.readouterr().err
    assert "21 labels of" in err and "are not used" in err
    assert "8 of 8 frames have no time" in err and "--fps" in err
    assert select(source[1], tmp_path / "again", tree[0], "--count", 2, "--gap", 0) == 0
    assert "have no time" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--count", "0"], "--count is 0"),
        (["--gap", "-1"], "--gap is -1"),
        (["--gap", "nan"], "--gap is nan"),
        (["--fps", "0"], "--fps is 0"),
        (["--score", "bus=0.5"], "no class 'bus'"),
        (["--workers", "-1"], "--workers is -1"),
        (["--labelled", "missing.json"], "cannot be read"),
    ],
)
def test_law_a_mistake_is_one_error_and_nothing_is_written(source, footage, tmp_path, capsys, words, message):
    assert main(["select", str(footage), "--run", str(source[1]), "--out", str(tmp_path / "out"), *words]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_an_empty_folder_and_a_taken_output(source, footage, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert select(source[1], tmp_path / "out", tmp_path / "empty") == 2
    assert "holds no images" in capsys.readouterr().err
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").write_text("mine")
    assert select(source[1], tmp_path / "taken", footage) == 2
    assert "exists already" in capsys.readouterr().err and (tmp_path / "taken" / "notes.txt").read_text() == "mine"
