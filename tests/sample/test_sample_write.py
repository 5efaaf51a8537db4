"""Files of `drivetl sample`: KITTI, CVAT and Cityscapes, the same bytes for any number of processes."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as rle_tools

from drivetl.cli import main
from drivetl.coco.taxonomy import load_taxonomy
from drivetl.errors import ConfigError, DataError
from drivetl.sample.labels import SampleIgnore
from drivetl.sample.render import render_frame
from drivetl.sample.towns import CLASSES
from drivetl.sample.world import drive_frames
from drivetl.sample.write import drives_for, write_city, write_town_a
from drivetl.sample.write_cityscapes import polygons
from drivetl.sample.write_cvat import document, shapes
from drivetl.sample.write_kitti import label_lines

DATASETS = Path(__file__).parents[2] / "datasets"
SMALL = 0.2
FRAMES = 30


@pytest.fixture(scope="module")
def city(tmp_path_factory) -> Path:
    """Two drives of each town (more than one drive), written by one process."""
    root = tmp_path_factory.mktemp("sample") / "city"
    write_city(root, FRAMES, FRAMES, 3, scale=SMALL, depth=True, processes=1)
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_two_processes_write_the_same_bytes_as_one(city, tmp_path):
    write_city(tmp_path / "again", FRAMES, FRAMES, 3, scale=SMALL, depth=True, processes=2)
    first, second = contents(city), contents(tmp_path / "again")
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_an_existing_folder_is_refused_untouched(city):
    before = contents(city)
    with pytest.raises(DataError, match="never overwritten"):
        write_city(city, 2, 0, 0, scale=SMALL)
    assert contents(city) == before


@pytest.mark.parametrize(
    ("frames", "options", "reason"),
    [
        ((0, 0), {}, "0 frames requested"),
        ((-1, 3), {}, "-1 frames requested"),
        ((3, 0), {"scale": 0.01}, "scale"),
        ((3, 0), {"seed": -1}, "seed"),
    ],
)
def test_invalid_numbers_are_refused_and_write_nothing(tmp_path, frames, options, reason):
    with pytest.raises(ConfigError, match=reason):
        write_city(tmp_path / "x", *frames, **options)
    assert list(tmp_path.iterdir()) == []


def test_label_files_are_kitti(city):
    files = sorted((city / "town_a" / "training" / "label_2").glob("*.txt"))
    images = sorted((city / "town_a" / "training" / "image_2").glob("*.png"))
    assert [path.stem for path in files] == [path.stem for path in images] == [f"{i:06d}" for i in range(FRAMES)]
    counts: Counter[str] = Counter()
    width, height = round(1242 * SMALL), round(375 * SMALL)
    for path in files:
        for line in path.read_text().splitlines():
            fields = line.split()
            assert len(fields) == 15
            counts[fields[0]] += 1
            numbers = [float(value) for value in fields[1:]]
            x1, y1, x2, y2 = numbers[3:7]
            assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height + 1
            if fields[0] == "DontCare":
                assert " ".join(fields[1:4]) == "-1 -1 -10"
                assert " ".join(fields[8:]) == "-1 -1 -1 -1000 -1000 -1000 -10"
            else:
                assert fields[0] in CLASSES
                assert 0 <= numbers[0] <= 1 and fields[2] in "0123" and numbers[12] + numbers[9] / 2 > 0
    facts = json.loads((city / "town_a" / "sample.json").read_text())
    assert facts["objects"] == {name: count for name, count in sorted(counts.items()) if name != "DontCare"}
    assert facts["groups"] == counts["DontCare"]


def test_the_mapping_gives_the_drive_of_a_frame(city):
    rows = [line.split() for line in (city / "town_a" / "mapping" / "train_mapping.txt").read_text().splitlines()]
    order = [int(number) for number in (city / "town_a" / "mapping" / "train_rand.txt").read_text().split(",")]
    assert sorted(order) == list(range(1, FRAMES + 1))
    assert {len(row) for row in rows} == {3}
    assert len({row[1] for row in rows}) == len(drives_for("a", FRAMES, 3)) > 1
    drive, frame = rows[order[7] - 1][1:]
    rendered = render_frame("a", int(drive.split("_drive_")[1][:4]), int(frame) // 5, 3, SMALL)
    stored = cv2.imread(str(city / "town_a" / "training" / "image_2" / "000007.png"))
    assert np.array_equal(cv2.cvtColor(stored, cv2.COLOR_BGR2RGB), rendered.image)
    listed = (city / "town_a" / "attributes.csv").read_text().splitlines()[8].split(",")
    conditions = [rendered.attributes["timeofday"], rendered.attributes["weather"]]
    assert listed == ["000007.png", drive, str(int(frame) // 5), *conditions, "depth/000007.png"]


def test_depth_is_metres_times_256(city):
    units = cv2.imread(str(city / "town_a" / "depth" / "000000.png"), cv2.IMREAD_UNCHANGED)
    assert units.dtype == np.uint16
    assert units[0].min() == 0 or units[0].max() > 0
    bottom = units[-2].astype(float) / 256
    assert 2 < np.median(bottom) < 12


def test_calibration_has_the_scaled_camera(city):
    text = (city / "town_a" / "training" / "calib" / "000000.txt").read_text()
    rows = dict(line.split(": ") for line in text.splitlines() if line)
    p2 = np.array(rows["P2"].split(), float).reshape(3, 4)
    assert p2[0, 0] == pytest.approx(721.5377 * round(1242 * SMALL) / 1242)
    assert set(rows) == {"P0", "P1", "P2", "P3", "R0_rect", "Tr_velo_to_cam", "Tr_imu_to_velo"}


def test_cvat_boxes_and_masks_describe_the_same_objects(city):
    boxes = ET.parse(city / "town_b" / "annotations.xml").getroot()
    masks = ET.parse(city / "town_b" / "instance_masks.cvat").getroot()
    known = {node.findtext("name") for node in boxes.iter("label")}
    images = list(zip(boxes.iter("image"), masks.iter("image"), strict=True))
    assert len(images) == FRAMES
    objects = 0
    for boxes_image, masks_image in images:
        path = city / "town_b" / "images" / boxes_image.get("name")
        height, width = cv2.imread(str(path)).shape[:2]
        assert (boxes_image.get("width"), boxes_image.get("height")) == (str(width), str(height))
        assert {tag.get("label") for tag in boxes_image.iter("tag")} == {"weather", "timeofday"}
        cvat_boxes = [box for box in boxes_image.iter("box") if box.get("label") != "ignore"]
        cvat_masks = list(masks_image.iter("mask"))
        assert [box.get("label") for box in cvat_boxes] == [mask.get("label") for mask in cvat_masks]
        assert {box.get("label") for box in boxes_image.iter("box")} <= known
        for box, mask in zip(cvat_boxes, cvat_masks, strict=True):
            objects += 1
            left, _, w, h = (int(mask.get(name)) for name in ("left", "top", "width", "height"))
            assert sum(int(run) for run in mask.get("rle").split(",")) == w * h
            assert left + w - 1 <= float(box.get("xbr")) + 0.5 and left + 1 >= float(box.get("xtl")) - 0.5
            assert box.find("attribute[@name='track_id']").text == mask.find("attribute[@name='track_id']").text
    assert objects > FRAMES


def test_cvat_rle_decodes_to_the_mask(city):
    frame = render_frame("b", 0, 2, 3, SMALL)
    root = ET.fromstring(document([("x.jpg", 1, 1, shapes(frame, 0).masks)], "t"))
    for node, item in zip(root.iter("mask"), frame.objects, strict=True):
        runs = [int(run) for run in node.get("rle").split(",")]
        flat = np.concatenate([np.full(run, number % 2, bool) for number, run in enumerate(runs)])
        assert np.array_equal(flat.reshape(int(node.get("height")), int(node.get("width"))), item.mask_crop)


def test_videos_have_the_frames_of_their_drive(city):
    drives = drives_for("b", FRAMES, 3)
    videos = sorted((city / "town_b" / "videos").iterdir())
    assert len(videos) == len(drives)
    reader = cv2.VideoCapture(str(videos[0]))
    count = 0
    while reader.read()[0]:
        count += 1
    reader.release()
    assert count == drives[0][1]


def test_cityscapes_polygons_painted_in_order_give_the_visible_masks():
    checked = 0
    for drive, number in ((0, 2), (1, 5), (3, 4)):
        frame = render_frame("b", drive, number, 0, 0.5)
        parsed = json.loads(polygons(frame))
        assert (parsed["imgWidth"], parsed["imgHeight"]) == (frame.camera.width, frame.camera.height)
        things = [
            item
            for item in parsed["objects"]
            if item["label"] not in ("sky", "road") and not item["label"].endswith("group")
        ]
        canvas = np.zeros((frame.camera.height, frame.camera.width), np.int32)
        for order, item in enumerate(things, 1):
            cv2.fillPoly(canvas, [np.array(item["polygon"], np.int32)], order)
        assert len(things) == len(frame.objects)
        for order, item in enumerate(frame.objects, 1):
            if item.label not in ("Car", "Van", "Truck") or item.visible < 0.95 or item.mask.sum() < 150:
                continue
            both = rle_tools.encode(np.asfortranarray(np.stack([canvas == order, item.mask], axis=2).astype(np.uint8)))
            assert float(rle_tools.iou(both[:1], both[1:], [0])[0, 0]) > 0.85
            checked += 1
    assert checked > 3


def test_cityscapes_groups_precede_the_objects_in_front():
    frame = render_frame("b", 0, 2, 0, 0.25)
    frame.ignore = [SampleIgnore((1.0, 2.0, 9.0, 8.0), "person", 2)]
    labels = [item["label"] for item in json.loads(polygons(frame))["objects"]]
    assert labels.index("persongroup") < len(labels) - len(frame.objects)


@pytest.mark.parametrize("town", ["a", "b"])
def test_the_taxonomies_cover_every_label(city, town):
    taxonomy = load_taxonomy(DATASETS / f"sample_town_{town}" / "taxonomy.yaml")
    facts = json.loads((city / f"town_{town}" / "sample.json").read_text())
    for label in facts["objects"]:
        assert taxonomy.category_id(label) is not None
    assert taxonomy.ignored_ids("DontCare" if town == "a" else "ignore") == ()
    assert set(taxonomy.categories) == {"car", "van", "truck", "tram", "pedestrian", "cyclist"}


def test_one_frame_is_enough(tmp_path):
    assert write_town_a(tmp_path / "a", 1, 0, scale=SMALL, jpeg=True, processes=1).frames == 1
    assert write_city(tmp_path / "b", 0, 1, 0, scale=SMALL, processes=1)["b"].drives == 1
    assert [path.name for path in (tmp_path / "a" / "training" / "image_2").iterdir()] == ["000000.jpg"]


def test_a_frame_without_objects_is_valid():
    frame = render_frame("b", 0, 2, 0, SMALL)
    frame.objects, frame.ignore = [], []
    assert label_lines(frame) == ""
    image = ET.fromstring(document([("x.jpg", 1, 1, shapes(frame, 0).boxes)], "t")).find("image")
    assert {child.tag for child in image} == {"tag"}
    assert {item["label"] for item in json.loads(polygons(frame))["objects"]} <= {"sky", "road"}


def test_drives_add_up_to_the_requested_frames():
    drives = drives_for("a", 100, 0)
    assert sum(count for _, count in drives) == 100
    assert all(count == drive_frames("a", drive, 0) for drive, count in drives[:-1])


def test_the_command_writes_and_then_refuses(tmp_path, capsys):
    out = tmp_path / "city"
    flags = ["sample", "--out", str(out), "--town", "a", "--frames-a", "2", "--width", "248", "--processes", "1"]
    assert main(flags) == 0
    printed = capsys.readouterr().out
    assert "town A" in printed and "convert-kitti" in printed
    assert main(flags) == 2
    assert "never overwritten" in capsys.readouterr().err
    assert not (out / "town_b").exists()
