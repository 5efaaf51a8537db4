"""Files written by real tools, compared with their content read by the standard library."""

from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from footage_trees import SAMPLES, SHARED, boxes, convert_tree, read_tree

from drivetl.coco.io import read_dataset, write_dataset
from drivetl.coco.records import Dataset
from drivetl.coco.taxonomy import load_taxonomy

pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the shared sample files are not available")
DATASETS = Path(__file__).parents[2] / "datasets"

CROPPED = (
    {
        row["image"][:6]
        for row in csv.DictReader((SHARED / "kitti" / "MANIFEST.csv").read_text().splitlines())
        if "cropped" in row["note"]
    }
    if SAMPLES.is_dir()
    else set()
)

XYXY = tuple[str, float, float, float, float]


def boxes_of_source(dataset: Dataset) -> Counter[tuple[str, XYXY]]:
    """(image, (label, x1, y1, x2, y2) rounded to 1e-3) of every annotation, as the source wrote the box."""
    counts: Counter[tuple[str, XYXY]] = Counter()
    for image in dataset.images:
        for item in image.annotations:
            x, y, w, h = item.bbox_xywh
            box = item.attributes.get("source_box_xyxy", [x, y, x + w, y + h])
            rounded = tuple(round(float(value), 3) for value in box)
            counts[image.file_name, (str(item.attributes["source_label"]), *rounded)] += 1
    return counts


def test_cvat_image_exports() -> None:
    for root, name in (("export_project", "annotations.xml"), ("export_task", "train.xml")):
        dataset, account = convert_tree("cvat", SAMPLES / "cvat_images" / root)
        elements = ElementTree.parse(SAMPLES / "cvat_images" / root / name).getroot().findall("image")
        expected = Counter(shape.tag for image in elements for shape in image)
        assert len(dataset.images) == len(elements)
        assert all((dataset.images_root / image.file_name).is_file() for image in dataset.images)
        assert account.dropped["a polyline encloses nothing"] == expected["polyline"]
        assert account.dropped["points enclose nothing"] == expected["points"]
        assert sum(account.read.values()) == sum(expected.values())
        box = dataset.images[0].annotations[0]
        assert box.bbox_xywh == (0, 2, 4, 2) and box.attributes["occluded"] == 1
        assert box.attributes["a1"] is True and box.attributes["a2"] == "v3" and box.attributes["a4"] == 2.4
        assert box.attributes["a3"] == "0003"


def test_cvat_video_job() -> None:
    root = SAMPLES / "cvat_video_job"
    dataset, account = convert_tree("cvat", root)
    expected: Counter[tuple[int, str, float]] = Counter()
    outside = 0
    for track in ElementTree.parse(root / "annotations.xml").getroot().findall("track"):
        for box in track:
            outside += box.get("outside") == "1"
            if box.get("outside") == "0":
                left = max(float(box.get("xtl", "nan")), 0)
                expected[int(box.get("frame", "-1")), track.get("label", ""), round(left, 2)] += 1
    left_edges = Counter(
        (image.frame_index, str(item.attributes["source_label"]), round(item.bbox_xywh[0], 2))
        for image in dataset.images
        for item in image.annotations
    )
    assert len(dataset.images) == 221 and left_edges == expected
    assert account.notes["track positions marked outside"] == outside
    assert {(image.width, image.height) for image in dataset.images} == {(1280, 720)}


def test_labelme_files() -> None:
    dataset, _ = convert_tree("labelme", SAMPLES / "labelme")
    for image, path in zip(dataset.images, sorted((SAMPLES / "labelme").glob("*.json")), strict=True):
        document = json.loads(path.read_text())
        assert image.file_name == document["imagePath"]
        for item, shape in zip(image.annotations, document["shapes"], strict=True):
            xs, ys = zip(*shape["points"], strict=True)
            assert item.bbox_xywh == pytest.approx((min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)))
            assert item.segmentation == [[value for point in shape["points"] for value in point]]


def test_voc_files() -> None:
    for name in ("voc_dataset1", "voc_dataset3"):
        root = SAMPLES / "voc" / name
        dataset, _ = convert_tree("voc", root)
        assert boxes_of_source(dataset) == _voc_boxes(root / "Annotations")
        assert dataset.images[0].annotations[0].attributes["truncated"] == 1
    together, account = convert_tree("voc", SAMPLES / "voc")
    assert len(together.images) == 2 and not any("not on disk" in note for note in account.notes)


def _voc_boxes(folder: Path) -> Counter[tuple[str, XYXY]]:
    counts: Counter[tuple[str, XYXY]] = Counter()
    for path in sorted(folder.glob("*.xml")):
        root = ElementTree.parse(path).getroot()
        for item in root.findall("object"):
            values = [float(item.findtext(f"bndbox/{tag}", "nan")) for tag in ("xmin", "ymin", "xmax", "ymax")]
            counts[root.findtext("filename", ""), (item.findtext("name", ""), *values)] += 1
    return counts


def test_yolo_files() -> None:
    for name, count in (("labels", 2), ("strict", 1)):
        dataset, account = convert_tree("yolo", SAMPLES / "yolo" / name)
        assert len(dataset.images) == count and account.clipped == 0
        for image in dataset.images:
            assert boxes(dataset, image.file_name) == [("label_2", (0, 2, 4, 2)), ("label_4", (3, 3, 2, 3))]


def test_mot_sequences() -> None:
    dataset, _ = convert_tree("mot", SAMPLES / "mot")
    assert [image.drive for image in dataset.images] == ["mot_seq", "Test"]
    for image in dataset.images:
        assert (image.width, image.height) == (16, 16)
        (item,) = image.annotations
        assert item.bbox_xywh == (0, 4, 4, 8) and item.attributes == {"source_label": "label_2", "visibility": 1.0}


def test_cityscapes_instance_images() -> None:
    dataset, account = convert_tree("cityscapes", SAMPLES / "cityscapes" / "dataset")
    pixels = Counter()
    for path in (SAMPLES / "cityscapes").rglob("*_instanceIds.png"):
        pixels.update(cv2.imread(str(path), cv2.IMREAD_UNCHANGED).ravel().tolist())
    areas: Counter[str] = Counter()
    for image in dataset.images:
        for item in [*image.annotations, *image.ignore_regions]:
            areas[str(item.attributes["source_label"])] += int(item.area)
    names = {1: "ego vehicle", 3: "out of roi", 12: "wall", 24: "persongroup", 27: "truckgroup", 31: "traingroup"}
    assert areas == {names[value]: count for value, count in pixels.items()}
    assert sum(account.ignored.values()) == 3 and {image.drive for image in dataset.images} == {
        "defaultcity_000001",
        "defaultcity_000002",
    }


@pytest.mark.parametrize("folder", ["scalabel", "bdd100k"])
def test_bdd_and_scalabel_files(folder: str) -> None:
    dataset, account = convert_tree("bdd100k", SAMPLES / folder)
    categories: Counter[str] = Counter()
    for path in sorted((SAMPLES / folder).glob("*.json")):
        for frame in json.loads(path.read_text("utf-8-sig")):
            for label in frame["labels"] or []:
                categories[label["category"]] += 1
                if label.get("box2d"):
                    corners = tuple(round(label["box2d"][key], 3) for key in ("x1", "y1", "x2", "y2"))
                    assert (frame["name"].rpartition("/")[2], (label["category"], *corners)) in boxes_of_source(dataset)
    assert account.read == categories
    assert any(item.segmentation for image in dataset.images for item in image.annotations)
    if folder == "scalabel":
        image = next(image for image in dataset.images if image.drive == "b1c66a42-6f7d68ca")
        assert image.attributes == {"weather": "overcast", "timeofday": "daytime", "scene": "city street"}


def test_other_conversions_of_kitti_agree_within_a_pixel() -> None:
    """Their VOC and YOLO boxes against the official label files, for every box both keep."""
    root, images = SAMPLES / "kitti_as_voc", SHARED / "kitti" / "training" / "image_2"
    merged = {"Car": ("0", "Car"), "Van": ("0", "Car"), "Truck": ("0", "Car")}
    merged |= {"Pedestrian": ("1", "Pedestrian"), "Person_sitting": ("1", "Pedestrian"), "Cyclist": ("2", "Cyclist")}
    compared: Counter[str] = Counter()
    for name in ("voc", "yolo"):
        dataset, _ = convert_tree(name, root, images=images)
        for image in dataset.images:
            path = SHARED / "kitti" / "training" / "label_2" / f"{Path(image.file_name).stem}.txt"
            if not (root / path.name).is_file() or (name == "yolo" and path.stem in CROPPED):
                continue  # not labelled there; or fractions of the whole frame, of which the image shows a part
            rows = [line.split() for line in path.read_text().splitlines()]
            for item in image.annotations:
                x, y, w, h = item.bbox_xywh
                candidates = [
                    np.clip([float(value) for value in row[4:8]], 0, [image.width, image.height] * 2)
                    for row in rows
                    if item.attributes["source_label"] in merged.get(row[0], ())
                ]
                assert min(np.abs(box - (x, y, x + w, y + h)).max() for box in candidates) <= 1
                compared[name] += 1
    assert compared["voc"] == 90 and compared["yolo"] > 30


def test_dawn_is_the_same_from_voc_and_from_yolo(tmp_path: Path) -> None:
    taxonomy = load_taxonomy(DATASETS / "dawn" / "taxonomy.yaml")
    voc, _ = convert_tree("voc", SHARED / "dawn_fog", taxonomy)
    yolo, _ = convert_tree("yolo", SHARED / "dawn_fog", taxonomy)
    assert len(voc.images) == len(yolo.images) == 80 and voc.categories == yolo.categories
    for first, second in zip(voc.images, yolo.images, strict=True):
        assert (first.file_name, first.width, first.height) == (second.file_name, second.width, second.height)
        left = sorted((item.category_id, *item.bbox_xywh) for item in first.annotations)
        right = sorted((item.category_id, *item.bbox_xywh) for item in second.annotations)
        assert np.allclose(left, right, atol=0.51)


def test_highway_camera_keeps_its_slices(tmp_path: Path) -> None:
    root = SHARED / "highway_camera"
    taxonomy = load_taxonomy(DATASETS / "highway_camera" / "taxonomy.yaml")
    dataset, account = convert_tree("yolo", root, taxonomy, attributes=root / "attributes.csv")
    assert dataset.categories == ("car", "truck", "bus")
    path = tmp_path / "all.json"
    write_dataset(dataset, path)
    again = {image.file_name: image for image in read_dataset(path).images}
    with (root / "attributes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(again) == 540
    for row in rows:
        image = again[row["file_name"]]
        assert (image.drive, image.attributes) == (
            row["sequence"],
            {"weather": row["weather"], "timeofday": row["timeofday"]},
        )
    lines = sum(len(p.read_text().splitlines()) for p in (root / "labels").glob("*.txt"))
    assert sum(account.read.values()) == lines


def test_cityscapes_as_yolo_reads_by_city_with_visible_masks() -> None:
    """Twenty of the 1,359 frames."""
    taxonomy = load_taxonomy(DATASETS / "cityscapes_yolo" / "taxonomy.yaml")
    root = SHARED / "cityscapes_400"
    from drivetl.adapters import yolo
    from drivetl.adapters.reading import Reading, Sizes
    from drivetl.adapters.yolo_names import NameFiles
    from drivetl.convert.build import build_dataset

    reading = Reading(root, taxonomy=taxonomy, visible_masks=True)
    names = sorted(path.name for path in (root / "images").glob("*.jpg"))[::68]
    images = list(yolo.images_of(reading, NameFiles(root), root / "images", names, orphans=False))
    dataset = build_dataset(images, taxonomy, root / "images", source="yolo", account=reading.account)
    assert reading.account.balanced() and len(dataset.categories) == 8
    rows = sum(len(set((root / "labels" / name).with_suffix(".txt").read_text().splitlines())) for name in names)
    assert sum(reading.account.read.values()) >= rows
    sizes = Sizes(root / "images")
    for image in dataset.images:
        assert (image.width, image.height) == sizes.of(image.file_name)
        canvas = np.zeros((image.height, image.width), np.int32)
        from drivetl.coco import masks

        for item in [*image.annotations, *image.ignore_regions]:
            assert item.segmentation is not None
            mask = masks.decode(item.segmentation, image.height, image.width)
            canvas += mask
            assert mask.sum() == item.area
            x1, y1, x2, y2 = masks.box_xyxy(mask) or (0, 0, 0, 0)
            assert item.bbox_xywh == (x1, y1, x2 - x1, y2 - y1)
        assert canvas.max() <= 1  # visible parts never overlap


def test_reading_twice_gives_the_same() -> None:
    first, _ = read_tree("cvat", SAMPLES / "cvat_video_job")
    second, _ = read_tree("cvat", SAMPLES / "cvat_video_job")
    assert first.images == second.images
