"""Labels made for another size than the image has: scaled when the aspect ratio agrees, else an error."""

from __future__ import annotations

import io
import json
from pathlib import Path

import footage_trees as trees
import numpy as np
import pytest
from footage_trees import boxes, convert_tree, read_tree, write_tree
from PIL import Image

from drivetl.coco import masks
from drivetl.errors import DataError

SCALED = "labels made for another size than the image has, scaled to it"


def rotated(size: tuple[int, int]) -> bytes:
    """A JPEG stored in this size with an EXIF rotation of 90 degrees."""
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x112] = 6
    Image.new("RGB", size).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def test_all_shapes_are_scaled_to_a_smaller_image(tmp_path: Path) -> None:
    half = {name: trees.blank_png((20, 15)) for name in trees.cvat_images() if name.endswith(".png")}
    dataset, account = convert_tree("cvat", write_tree(tmp_path, trees.cvat_images() | half))
    assert {(image.width, image.height) for image in dataset.images} == {(20, 15)}
    assert boxes(dataset, "drive_1/000000.png") == [("car", (1.25, 1.5, 5, 3)), ("person", (10, 2.5, 2, 5))]
    person = next(item for item in dataset.images[0].annotations if item.segmentation)
    assert person.segmentation == [[10, 2.5, 12, 2.5, 12, 7.5, 10, 7.5]] and person.area == 10
    masked, rotated_box = dataset.images[2].annotations
    assert masked.segmentation is not None and masked.bbox_xywh == (5.5, 2, 1.5, 1)
    assert masks.decode(masked.segmentation, 15, 20)[2, 5:8].tolist() == [0, 1, 0]
    assert rotated_box.attributes["unrotated_box_xyxy"] == [5, 5, 10, 7]
    assert any(note.startswith(SCALED) for note in account.notes)


def test_an_area_is_scaled(tmp_path: Path) -> None:
    files = trees.coco() | {"images/drive_1/a.png": trees.blank_png((80, 60))}
    dataset, _ = convert_tree("coco", write_tree(tmp_path, files))
    car = dataset.images[0].annotations[0]
    assert car.bbox_xywh == (5, 6, 20, 12) and car.area == 240


@pytest.mark.parametrize("size", [(39, 30), (41, 30), (41, 31)])
def test_shapes_are_not_scaled_for_a_slightly_wrong_size(size: tuple[int, int], tmp_path: Path) -> None:
    """As in conversions of KITTI that give one size for all frames; 41 x 31 has the same aspect ratio."""
    files = trees.voc() | {"JPEGImages/a.png": trees.blank_png(size)}
    dataset, account = convert_tree("voc", write_tree(tmp_path, files))
    before, _ = convert_tree("voc", write_tree(tmp_path / "right", trees.voc()))
    assert (dataset.images[0].width, dataset.images[0].height) == size
    assert boxes(dataset, "a.png") == boxes(before, "a.png")
    note = "labels that give another size than the image has, which is taken: JPEGImages/a.png"
    assert account.notes[note] == 1


def test_keypoints_are_not_scaled(tmp_path: Path) -> None:
    files = trees.coco() | {"images/drive_1/a.png": trees.blank_png((80, 60))}
    files["instances.json"] = files["instances.json"].replace(b'"score": 0.5', b'"keypoints": [1, 2, 2]')
    with pytest.raises(DataError, match="has keypoints"):
        read_tree("coco", write_tree(tmp_path, files))


@pytest.mark.parametrize("size", [(80, 60), (20, 15), (21, 15)])
def test_aspect_ratios_agree_within_a_pixel(size: tuple[int, int], tmp_path: Path) -> None:
    files = trees.voc() | {"JPEGImages/a.png": trees.blank_png(size)}
    dataset, _ = convert_tree("voc", write_tree(tmp_path, files))
    assert dataset.images[0].annotations[0].bbox_xywh[2] == pytest.approx(10 * size[0] / 40)


def test_another_aspect_ratio_is_an_error_or_left_out(tmp_path: Path) -> None:
    root = write_tree(tmp_path, trees.voc() | {"JPEGImages/c.png": trees.blank_png((30, 8))})
    with pytest.raises(DataError, match="image is 30 x 8, its labels were made for 40 x 30") as caught:
        read_tree("voc", root)
    assert caught.value.file == root / "JPEGImages/c.png"
    dataset, account = convert_tree("voc", root, on_error="skip")
    assert [image.file_name for image in dataset.images] == ["a.png", "b.png"]
    assert sum(account.rejected.values()) == 2
    assert account.notes["label files or images left out because they cannot be read"] == 1


def test_a_rotated_image_is_an_error(tmp_path: Path) -> None:
    xml = b"<annotations><image id='0' name='a.jpg' width='40' height='30'/></annotations>"
    root = write_tree(tmp_path, {"a.xml": xml, "images/a.jpg": rotated((40, 30))})
    with pytest.raises(DataError, match=r"30 x 40.*rotated"):
        read_tree("cvat", root)


def test_a_file_name_that_is_too_long_is_an_error(tmp_path: Path) -> None:
    name = "a" * 300 + ".png"
    files = trees.coco()
    files["instances.json"] = files["instances.json"].replace(b"drive_1/a.png", name.encode())
    assert name in json.loads(files["instances.json"])["images"][0]["file_name"]
    with pytest.raises(DataError, match="fix the file name"):
        read_tree("coco", write_tree(tmp_path, files))


def bdd(tmp_path: Path, size: tuple[int, int], *boxes_xyxy: tuple[float, ...], legacy: bool = False) -> Path:
    """One BDD100K image of a size, whose labels have none."""
    labels = [{"category": "car", "box2d": dict(zip(("x1", "y1", "x2", "y2"), box, strict=True))} for box in boxes_xyxy]
    document: object = [{"name": "a.png", "labels": labels}]
    if legacy:
        document = {"name": "a.png", "attributes": {}, "frames": [{"timestamp": 10000, "objects": labels}]}
    files = {"labels/det.json": json.dumps(document).encode(), "images/a.png": trees.blank_png(size)}
    return write_tree(tmp_path, files)


@pytest.mark.parametrize(("legacy", "right"), [(False, 1200.0), (True, 300.0)])
def test_bdd_labels_are_for_its_own_size(legacy: bool, right: float, tmp_path: Path) -> None:
    dataset, account = convert_tree("bdd100k", bdd(tmp_path, (640, 360), (100, 100, right, 200), legacy=legacy))
    assert boxes(dataset, "a.png") == [("car", (50, 50, (right - 100) / 2, 50))]
    assert any(note.startswith(SCALED) for note in account.notes)


@pytest.mark.parametrize(
    ("size", "right", "message"),
    [((600, 500), 1200.0, "made for 1280 x 720"), ((640, 360), 300.0, "or for BDD100K's 1280 x 720")],
)
def test_labels_of_an_unknown_size_are_refused(
    size: tuple[int, int], right: float, message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        read_tree("bdd100k", bdd(tmp_path, size, (100, 100, right, 200)))


def test_labels_without_a_size_beyond_1280_px_are_for_the_image(tmp_path: Path) -> None:
    dataset, _ = convert_tree("bdd100k", bdd(tmp_path, (1920, 1080), (100, 100, 1900, 200)))
    assert boxes(dataset, "a.png") == [("car", (100, 100, 1800, 100))]


def test_boxes_in_fractions_of_the_image_are_an_error(tmp_path: Path) -> None:
    document = json.loads(trees.coco()["instances.json"])
    document["annotations"] = [{"id": 1, "image_id": 11, "category_id": 3, "bbox": [0.1, 0.2, 0.5, 0.3]}]
    with pytest.raises(DataError, match="fractions of the image"):
        convert_tree("coco", write_tree(tmp_path, trees.coco() | {"instances.json": json.dumps(document).encode()}))


def test_12_bit_images_are_refused_at_conversion(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((30, 40), 3000, np.uint16)).save(buffer, "PNG")
    root = write_tree(tmp_path, trees.yolo() | {"images/drive_1/a.png": buffer.getvalue()})
    with pytest.raises(DataError, match="16-bit image whose highest value is 3000"):
        read_tree("yolo", root)
    _, account = read_tree("yolo", root, on_error="skip")
    assert any("16-bit" in note for note in account.notes)
    for value, note in ((3000, "almost black"), (60000, "read by the upper eight")):
        pixels = np.full((30, 40), value, np.uint16)
        pixels[0, 0] = 65535
        Image.fromarray(pixels).save(root / "images" / "drive_1" / "a.png")
        _, account = read_tree("yolo", root)
        assert sum(note in text for text in account.notes) == 1
