"""A dataset of drivetl's own, converted once more: ignore regions stay whole, unknown classes stay unknown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kitti_trees import three_frames

from drivetl.cli import main
from drivetl.coco.io import read_dataset, write_dataset
from drivetl.coco.records import Annotation, Dataset, IgnoreRegion, ImageRecord

CLASSES = ("car", "van", "pedestrian")


def run(*words: object) -> int:
    return main([str(word) for word in words])


def again(tmp_path: Path, *words: object) -> Dataset:
    command = ("convert-footage", "--format", "coco", "--root", tmp_path / "all.json", "--out", tmp_path / "b")
    assert run(*command, *words) == 0
    return read_dataset(tmp_path / "b" / "all.json")


def partly_labelled(folder: Path) -> Path:
    images = [
        ImageRecord(1, "a.png", 100, 50, labelled=(1, 3)),
        ImageRecord(2, "b.png", 100, 50),
        ImageRecord(3, "c.png", 100, 50, labelled=()),
    ]
    images[0].annotations.append(Annotation(3, (1.0, 2.0, 30.0, 40.0), 1200.0))
    write_dataset(Dataset(CLASSES, images, folder, {"source": "made"}), folder / "all.json")
    return folder / "all.json"


def taxonomy(folder: Path, text: str) -> Path:
    (folder / "taxonomy.yaml").write_text(f"name: mine\nclasses:\n{text}")
    return folder / "taxonomy.yaml"


def test_an_ignore_region_stays_one_region(tmp_path: Path) -> None:
    root = three_frames(tmp_path / "k")
    assert run("convert-kitti", "--root", root, "--out", tmp_path / "a") == 0
    first = read_dataset(tmp_path / "a" / "all.json")
    command = ("convert-footage", "--format", "coco", "--root", tmp_path / "a" / "all.json")
    assert run(*command, "--out", tmp_path / "b") == 0
    second = read_dataset(tmp_path / "b" / "all.json")
    assert [image.ignore_regions for image in second.images] == [image.ignore_regions for image in first.images]
    assert run("labels", tmp_path / "b" / "all.json", "--format", "kitti", "--out", tmp_path / "l") == 0
    text = (tmp_path / "l" / "label_2" / "000002.txt").read_text()
    assert text.count("DontCare") == 2


def test_two_regions_with_one_number_stay_two(tmp_path: Path) -> None:
    image = ImageRecord(1, "a.png", 100, 50)
    for left in (1.0, 5.0):
        image.ignore_regions.append(IgnoreRegion((left, 1.0, 9.0, 9.0), 81.0, (1,), None, {"ignore_region": 4}))
    write_dataset(Dataset(CLASSES, [image], tmp_path), tmp_path / "all.json")
    assert [region.bbox_xywh[0] for region in read_dataset(tmp_path / "all.json").images[0].ignore_regions] == [
        1.0,
        5.0,
    ]


def test_labelled_classes_of_an_image_are_kept(tmp_path: Path) -> None:
    partly_labelled(tmp_path)
    assert [image.labelled for image in again(tmp_path).images] == [(1, 3), None, ()]


def test_labelled_classes_of_an_image_follow_the_taxonomy(tmp_path: Path) -> None:
    partly_labelled(tmp_path)
    text = "  person: {labels: [pedestrian]}\n  auto: {labels: [car]}\n  bus: {}\n  lorry: {labels: [van]}\n"
    found = again(tmp_path, "--taxonomy", taxonomy(tmp_path, text))
    assert found.categories == ("person", "auto", "bus", "lorry")
    assert [image.labelled for image in found.images] == [(1, 2), None, ()]


@pytest.mark.parametrize(
    ("labelled", "text", "reason"),
    [
        ([1], "  vehicle: {labels: [car, van]}\n  pedestrian: {}\n", "images[0]: class 'vehicle' is made of"),
        ([1, 9], "", "images[0]: labelled 9 is not listed in `categories`"),
        ([1, []], "", "images[0]: labelled [] is not listed in `categories`"),
    ],
)
def test_lists_of_labelled_classes_that_are_invalid_are_errors_with_their_line(
    labelled: object, text: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = partly_labelled(tmp_path)
    document = json.loads(path.read_text())
    document["images"][0]["labelled"] = labelled
    path.write_text(json.dumps(document, indent=1))
    words = ["--taxonomy", taxonomy(tmp_path, text)] if text else []
    command = ("convert-footage", "--format", "coco", "--root", path, "--out", tmp_path / "b", *words)
    assert run(*command) == 2
    error = capsys.readouterr().err
    assert reason in error and "all.json:" in error


@pytest.mark.parametrize("format_name", ["kitti", "yolo", "voc"])
def test_other_formats_warn_that_they_lose_it(
    format_name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = partly_labelled(tmp_path)
    assert run("labels", path, "--format", format_name, "--out", tmp_path / "l") == 0
    error = " ".join(capsys.readouterr().err.split())
    assert f"2 lists of the classes that an image is labelled for: {format_name} cannot hold them" in error


@pytest.mark.parametrize(
    ("polygon", "reason"),
    [
        (["a", 1, 2, 3, 4, 5], "a polygon contains a non-finite or out-of-range coordinate"),
        ([1, 1, 2, 3, 4, 5, 6], "a polygon has 7 numbers"),
    ],
)
def test_broken_polygons_are_not_written_as_yolo_rows(
    polygon: list[object], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = partly_labelled(tmp_path)
    document = json.loads(path.read_text())
    document["annotations"][0]["segmentation"] = [polygon]
    path.write_text(json.dumps(document))
    assert run("labels", path, "--format", "yolo", "--out", tmp_path / "l") == 2
    error = capsys.readouterr().err
    assert f"image 'a.png': {reason}" in error and "all.json" in error and not (tmp_path / "l").exists()


def test_a_line_is_written_as_the_box_it_has(tmp_path: Path) -> None:
    path = partly_labelled(tmp_path)
    document = json.loads(path.read_text())
    document["annotations"][0]["segmentation"] = [[1, 2, 31, 42]]
    path.write_text(json.dumps(document))
    assert run("labels", path, "--format", "yolo", "--out", tmp_path / "l") == 0
    assert (tmp_path / "l" / "labels" / "a.txt").read_text() == "2 0.16 0.44 0.3 0.8\n"


def test_an_attribute_that_kitti_cannot_represent_is_an_error_with_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = partly_labelled(tmp_path)
    document = json.loads(path.read_text())
    document["annotations"][0]["attributes"] = {"truncated": "partly"}
    path.write_text(json.dumps(document))
    assert run("labels", path, "--format", "kitti", "--out", tmp_path / "l") == 2
    assert "all.json: truncated is 'partly'" in capsys.readouterr().err
