"""A dataset of drivetl's own, converted once more: ignore regions stay whole, unknown classes stay unknown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from footage_trees import blank_png
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


def foreign(tmp_path: Path, annotation: dict[str, object], **more: object) -> Path:
    """A json of one 100 x 50 px image with one car, as another tool wrote it."""
    document = {
        "images": [{"id": 1, "file_name": "a.png", "width": 100, "height": 50}],
        "categories": [{"id": 7, "name": "car"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 7, "bbox": [10, 10, 20, 10]} | annotation],
    }
    (tmp_path / "all.json").write_text(json.dumps(document | more))
    return tmp_path


def test_a_rotation_among_the_attributes_is_enclosed_once_or_refused(tmp_path: Path) -> None:
    foreign(tmp_path, {"attributes": {"rotation": 90.0}, "segmentation": []})
    assert again(tmp_path).images[0].annotations[0].bbox_xywh == (15, 5, 10, 20)
    (tmp_path / "all.json").write_bytes((tmp_path / "b" / "all.json").read_bytes())
    assert run("convert-footage", "--format", "coco", "--root", tmp_path / "all.json", "--out", tmp_path / "c") == 0
    assert read_dataset(tmp_path / "c" / "all.json").images[0].annotations[0].bbox_xywh == (15, 5, 10, 20)


def test_a_rotation_is_refused_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = foreign(tmp_path, {"attributes": {"rotation": "90"}}) / "all.json"
    command = ("convert-footage", "--format", "coco", "--root", root, "--out", tmp_path / "b")
    assert run(*command, "--rotated", "refuse") == 2
    assert "a box rotated by 90 degrees" in capsys.readouterr().err


def test_boxes_as_corners_by_detectron2_are_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = foreign(tmp_path, {"bbox_mode": 0}) / "all.json"
    assert run("convert-footage", "--format", "coco", "--root", root, "--out", tmp_path / "b") == 2
    assert "bbox_mode is 0" in capsys.readouterr().err


@pytest.mark.parametrize("field", [{"rotation": 30}, {"ignore": 1}, {"angle": "0.5"}])
def test_fields_of_other_dialects_are_counted(field: dict[str, object], tmp_path: Path) -> None:
    again(foreign(tmp_path, field))
    notes = json.loads((tmp_path / "b" / "summary.json").read_text())["account"]["notes"]
    assert any(repr(next(iter(field))) in note for note in notes)


def test_an_empty_polygon_is_a_box_without_mask(tmp_path: Path) -> None:
    item = again(foreign(tmp_path, {"segmentation": [[]]})).images[0].annotations[0]
    assert item.bbox_xywh == (10, 10, 20, 10) and item.segmentation is None


def test_a_missing_size_is_read_from_the_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(blank_png((100, 50)))
    again(foreign(tmp_path, {}, images=[{"id": 1, "file_name": "a.png"}]))
    image = read_dataset(tmp_path / "b" / "all.json").images[0]
    assert (image.width, image.height) == (100, 50)


def test_a_root_category_without_objects_is_not_a_class(tmp_path: Path) -> None:
    categories = [{"id": 0, "name": "road", "supercategory": "none"}, {"id": 7, "name": "car", "supercategory": "road"}]
    assert again(foreign(tmp_path, {}, categories=categories)).categories == ("car",)


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
