"""Rows, flags, numbers and lists of neighbouring dialects: read as they are meant, or an error or note that says so."""

from __future__ import annotations

import json
import math
from pathlib import Path

import footage_trees as trees
import kitti_trees
import pytest
from footage_trees import boxes, convert_tree, read_tree, write_tree

from drivetl.adapters.kitti import read_kitti
from drivetl.coco.io import read_dataset, write_dataset
from drivetl.coco.records import ImageRecord
from drivetl.convert.build import Account
from drivetl.convert.split import SplitOptions, split_images
from drivetl.errors import DataError


def corners(cx: float, cy: float, w: float, h: float, degrees: float) -> list[tuple[float, float]]:
    """The corners of a rotated box, px."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    ends = [(-w / 2, -h / 2), (w / 2, -h / 2), (w / 2, h / 2), (-w / 2, h / 2)]
    return [(cx + x * cos - y * sin, cy + x * sin + y * cos) for x, y in ends]


# ---- rotated boxes written as four corners


def yolo_with(row: str) -> trees.Files:
    return trees.yolo() | {"labels/drive_1/a.txt": f"{row}\n".encode()}


def obb_row(points: list[tuple[float, float]]) -> str:
    return "1 " + " ".join(f"{x / 40:.6f} {y / 30:.6f}" for x, y in points)


def test_law_a_rotated_box_is_counted_or_refused_in_every_format_that_has_one(tmp_path: Path) -> None:
    points = corners(20, 15, 16, 6, 30)
    labelme = json.loads(trees.labelme()["drive_1/a.json"])
    labelme["shapes"] = [{"label": "car", "shape_type": "rectangle", "points": points}]
    cases = {
        "yolo": yolo_with(obb_row(points)),
        "labelme": trees.labelme() | {"drive_1/a.json": json.dumps(labelme).encode()},
    }
    for name, files in cases.items():
        root = write_tree(tmp_path / name, files)
        dataset, _ = convert_tree(name, root)
        image = next(image for image in dataset.images if image.file_name == "drive_1/a.png")
        xs, ys = zip(*points, strict=True)
        expected = (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))
        assert image.annotations[0].bbox_xywh == pytest.approx(expected, abs=1e-3), name
        with pytest.raises(DataError, match="a rotated box - use --rotated enclose"):
            convert_tree(name, root, rotated="refuse")
    _, account = convert_tree("yolo", tmp_path / "yolo")
    assert account.notes["polygons that are rotated boxes, each enclosed by its upright box"] == 1


@pytest.mark.parametrize(
    "points", [corners(20, 15, 16, 6, 0), [(5, 5), (30, 8), (25, 20), (6, 25)], [(5, 5), (6, 5)] * 2]
)
def test_other_polygons_of_four_points_are_no_rotated_boxes(points: list[tuple[float, float]], tmp_path: Path) -> None:
    _, account = convert_tree("yolo", write_tree(tmp_path, yolo_with(obb_row(points))), rotated="refuse")
    assert not any("rotated" in note for note in account.notes)


# ---- four numbers in another order


@pytest.mark.parametrize(("corners_written", "count"), [(True, 24), (True, 8), (False, 24)])
def test_law_yolo_rows_of_corners_are_an_error(corners_written: bool, count: int, tmp_path: Path) -> None:
    """Enough rows, and every one of them: then it is no chance. Boxes over the whole image are honest."""
    rows = ["0 0.5 0.5 0.9 0.9"]
    for n in range(count):
        x, y = 0.02 + 0.03 * n, 0.4 + 0.005 * n
        box = (x, y, x + 0.05, y + 0.04) if corners_written else (x + 0.025, y + 0.02, 0.05, 0.04)
        rows.append("0 " + " ".join(f"{value:.6f}" for value in box))
    root = write_tree(tmp_path, trees.yolo() | {"labels/drive_1/a.txt": "\n".join(rows).encode()})
    for label in root.rglob("*.txt"):
        if label.parent.name.startswith("drive") and label.name != "a.txt":
            label.write_text("")
    if corners_written and count > 20:
        with pytest.raises(DataError, match="box rows look like x1 y1 x2 y2") as caught:
            read_tree("yolo", root)
        assert caught.value.file == root
    else:
        read_tree("yolo", root)


def test_a_label_file_called_train_is_not_a_list(tmp_path: Path) -> None:
    files = {"train.png": trees.blank_png(), "train.txt": b"0 0.5 0.5 0.2 0.2\n", "b.png": trees.blank_png()}
    source, account = read_tree("yolo", write_tree(tmp_path, files))
    assert len(source.images) == 2 and not any("lists of the export" in note for note in account.notes)


# ---- numbers whose frame of reference differs


def cvat_video(n_frames: int, mode: str, images: range | list[int], folder: str = "tunnel") -> trees.Files:
    shapes = "".join(
        f'<box frame="{n}" outside="0" occluded="0" keyframe="1" xtl="{n}" ytl="4" xbr="{n + 10}" ybr="12"/>'
        for n in range(n_frames)
    )
    xml = (
        f"<annotations><meta><task><id>1</id><name>tunnel</name><size>{n_frames}</size><mode>{mode}</mode>"
        f"<start_frame>0</start_frame><stop_frame>{n_frames - 1}</stop_frame><original_size><width>40</width>"
        '<height>30</height></original_size></task><source>tunnel.mp4</source></meta><track id="0" label="car">'
        f"{shapes}</track></annotations>"
    )
    return {"a.xml": xml.encode()} | {f"images/{folder}/{n:06d}.png": trees.blank_png() for n in images}


@pytest.mark.parametrize("mode", ["interpolation", "annotation"])
def test_law_the_numbers_of_files_and_frames_count_from_the_same(mode: str, tmp_path: Path) -> None:
    """ffmpeg numbers frames from 1, CVAT from 0: every box would be one frame late."""
    dataset, _ = convert_tree("cvat", write_tree(tmp_path / "right", cvat_video(4, mode, range(4))))
    assert [image.annotations[0].bbox_xywh[0] for image in dataset.images] == [0, 1, 2, 3]
    with pytest.raises(DataError, match=r"0\.\.3") as caught:
        convert_tree("cvat", write_tree(tmp_path / "shifted", cvat_video(4, mode, range(1, 5))))
    assert caught.value.file == tmp_path / "shifted" / "a.xml"


def test_tracks_of_an_image_task_are_not_matched_by_the_numbers_in_file_names(tmp_path: Path) -> None:
    root = write_tree(tmp_path, cvat_video(3, "annotation", [0, 1, 7]))
    with pytest.raises(DataError, match="CVAT for images"):
        convert_tree("cvat", root)
    some = write_tree(tmp_path / "some", cvat_video(4, "interpolation", [0, 2]))  # a part of a video is honest
    assert len(convert_tree("cvat", some)[0].images) == 2


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (b"1,5,2,3,10,6,1,4,0,0\n", "10 values has 4 for its class: VisDrive"),
        (b"1,5,2,3,10,6,1,-1,-1,-1\n", ""),
        (b"1,5,2,3,10,6,1,3,1\n", ""),
    ],
)
def test_mot_classes_of_another_list(rows: bytes, message: str, tmp_path: Path) -> None:
    root = write_tree(tmp_path, trees.mot() | {"M-01/gt/gt.txt": rows})
    if not message:
        convert_tree("mot", root)
        return
    with pytest.raises(DataError, match=message) as caught:
        convert_tree("mot", root)
    assert caught.value.line == 1
    (root / "M-01/gt/labels.txt").write_text("pedestrian\npeople\nbicycle\ncar\n")  # the user says what they are
    assert boxes(convert_tree("mot", root)[0], "M-01/img1/000001.png") == [("car", (2, 3, 10, 6))]


def test_law_sequences_with_and_without_a_list_of_names_are_not_mixed(tmp_path: Path) -> None:
    files = trees.mot() | {name.replace("M-01", "M-02"): content for name, content in trees.mot().items()}
    root = write_tree(tmp_path, files | {"M-01/gt/labels.txt": b"bus\nvan\ncar\ntram\na\nb\nc\nd\n"})
    with pytest.raises(
        DataError, match=r"no labels.txt next to it, as .*M-01/gt/labels.txt is for its sequence"
    ) as caught:
        convert_tree("mot", root)
    assert caught.value.file == root / "M-02/gt/gt.txt" and caught.value.line == 1
    (root / "M-02/gt/labels.txt").write_text("person\nvan\ncar\ntram\na\nb\nc\nd\n")
    dataset, _ = convert_tree("mot", root)
    assert {"bus", "person"} <= set(dataset.categories)


@pytest.mark.parametrize("drive", [0, "0", 7])
def test_law_a_drive_may_be_the_number_0(drive: object, tmp_path: Path) -> None:
    """It was read as no drive, and drive 0 was split over train and val."""
    document = json.loads(trees.coco()["instances.json"])
    for record in document["images"]:
        record["sequence"] = drive
    scalabel = json.loads(trees.bdd100k()["labels/all.json"])
    frames = scalabel if isinstance(scalabel, list) else scalabel["frames"]
    frames[0] |= {"videoName": drive, "frameIndex": 0}
    log = trees.nuimages()["v1.0-mini/log.json"].replace(b'"n003-1"', json.dumps(drive).encode())
    cases = {
        "coco": trees.coco() | {"instances.json": json.dumps(document).encode()},
        "bdd100k": trees.bdd100k() | {"labels/all.json": json.dumps(scalabel).encode()},
        "nuimages": trees.nuimages() | {"v1.0-mini/log.json": log},
    }
    for name, files in cases.items():
        source, _ = read_tree(name, write_tree(tmp_path / name, files))
        assert str(drive) in {image.drive for image in source.images}, name
        assert name == "bdd100k" or {image.drive for image in source.images} == {str(drive)}
    dataset, _ = convert_tree("coco", tmp_path / "coco")
    write_dataset(dataset, tmp_path / "all.json")
    ours = json.loads((tmp_path / "all.json").read_text())
    for record in ours["images"]:
        record["sequence"] = drive
    (tmp_path / "all.json").write_text(json.dumps(ours))
    assert {image.drive for image in read_dataset(tmp_path / "all.json").images} == {str(drive)}


def test_law_group_0_of_labelme_is_a_group(tmp_path: Path) -> None:
    document = json.loads(trees.labelme()["drive_1/a.json"])
    for shape in document["shapes"]:
        if shape.get("group_id") is not None:
            shape["group_id"] = 0
    root = write_tree(tmp_path, trees.labelme() | {"drive_1/a.json": json.dumps(document).encode()})
    before, _ = convert_tree("labelme", write_tree(tmp_path / "before", trees.labelme()))
    assert boxes(convert_tree("labelme", root / "drive_1")[0], "a.png") == boxes(before, "drive_1/a.png")


# ---- flags


def coco_with(**attributes: object) -> trees.Files:
    document = json.loads(trees.coco()["instances.json"])
    for record in document["annotations"]:
        if record["bbox"] == [2.5, 3, 10, 6]:
            record["attributes"] = attributes
    return trees.coco() | {"instances.json": json.dumps(document).encode()}


@pytest.mark.parametrize("flag", ["ignore", "difficult"])
@pytest.mark.parametrize(
    ("value", "ignored"), [(1, True), ("true", True), ("yes", True), (0, False), ("false", False), ("no", False)]
)
def test_law_a_flag_means_the_same_in_every_export_of_one_tool(
    flag: str, value: object, ignored: bool, tmp_path: Path
) -> None:
    """CVAT's own XML, its COCO and its VOC export of one checkbox."""
    text = str(value).lower()
    cvat = trees.cvat_images()["annotations.xml"].replace(b'name="parked">true', f'name="{flag}">{text}'.encode())
    attribute = f"<attributes><attribute><name>{flag}</name><value>{text}</value></attribute></attributes><pose>"
    voc = trees.voc()["Annotations/a.xml"].replace(b"<name>car</name><pose>", b"<name>car</name>" + attribute.encode())
    cases = {
        "cvat": (trees.cvat_images() | {"annotations.xml": cvat}, "drive_1/000000.png"),
        "coco": (coco_with(**{flag: value}), "drive_1/a.png"),
        "voc": (trees.voc() | {"Annotations/a.xml": voc}, "a.png"),
    }
    for name, (files, first) in cases.items():
        dataset, _ = convert_tree(name, write_tree(tmp_path / name, files))
        image = next(image for image in dataset.images if image.file_name == first)
        car = (2.5, 3, 10, 6)
        assert (car in [region.bbox_xywh for region in image.ignore_regions]) == ignored, name
        assert (("car", car) in boxes(dataset, first)) != ignored, name


def test_lvis_images_that_are_not_labelled_completely_are_counted(tmp_path: Path) -> None:
    document = json.loads(trees.coco()["instances.json"])
    document["images"][0]["not_exhaustive_category_ids"] = [70]
    root = write_tree(tmp_path, trees.coco() | {"instances.json": json.dumps(document).encode()})
    assert sum("not_exhaustive" in note for note in read_tree("coco", root)[1].notes) == 1


@pytest.mark.parametrize("key", ["isCrowd", "is_crowd", "crowd"])
def test_a_crowd_under_another_name_is_an_error(key: str, tmp_path: Path) -> None:
    document = json.loads(trees.coco()["instances.json"])
    document["annotations"][0] |= {"iscrowd": 0, key: 1}
    root = write_tree(tmp_path, trees.coco() | {"instances.json": json.dumps(document).encode()})
    with pytest.raises(DataError, match=f"{key} is 1, which COCO calls iscrowd"):
        convert_tree("coco", root)


def test_labels_with_scores_are_counted(tmp_path: Path) -> None:
    _, account = read_tree("coco", write_tree(tmp_path / "coco", trees.coco()))
    assert account.notes["annotations with a score, read as labels: they may be predictions"] == 1
    root = kitti_trees.write_tree(tmp_path / "kitti", {"000000": [kitti_trees.CAR, f"{kitti_trees.CAR} 0.9"]})
    account = Account()
    list(read_kitti(root, account))
    assert account.notes["label lines with a score, read as labels: they may be predictions"] == 1


# ---- images under another root


@pytest.mark.parametrize(
    "written", ["https://host/a%20b.png?X-Sign=1&k=2", "C:\\\\data\\\\a b.png", "/mnt/1/a b.png", "x/a%20b.png"]
)
def test_law_an_image_is_found_by_its_base_name(written: str, tmp_path: Path) -> None:
    document = json.loads(trees.coco()["instances.json"])
    document["images"][0]["file_name"] = written.replace("\\\\", "\\")
    files = {name: content for name, content in trees.coco().items() if name != "images/drive_1/a.png"}
    files |= {"instances.json": json.dumps(document).encode(), "images/a b.png": trees.blank_png()}
    source, account = read_tree("coco", write_tree(tmp_path, files))
    assert "a b.png" in [image.file_name for image in source.images]
    assert any(note.startswith("images found by their base name") for note in account.notes)


def test_nuimages_are_found_in_another_folder(tmp_path: Path) -> None:
    files = {
        name.replace("samples/CAM_FRONT/", "front/n003__"): content.replace(b"CAM_FRONT/", b"CAM_FRONT/n003__")
        for name, content in trees.nuimages().items()
    }
    source, account = read_tree("nuimages", write_tree(tmp_path, files))
    assert sorted(image.file_name for image in source.images)[0] == "front/n003__1.png"
    assert any(note.startswith("images found by their base name") for note in account.notes)


# ---- names and splits of the export


def test_a_number_of_classes_that_disagrees_with_the_names_is_an_error(tmp_path: Path) -> None:
    root = write_tree(tmp_path, trees.yolo())
    (root / "data.yaml").write_text("nc: 3\nnames: [person, car]\n")
    with pytest.raises(DataError, match=r"nc is 3, names has 2 entries") as caught:
        read_tree("yolo", root)
    assert caught.value.file == root / "data.yaml"


def sides(format_name: str, root: Path) -> tuple[set[str], set[str], str]:
    """The names of train and val, and the method, of the default split."""
    dataset, _ = convert_tree(format_name, root)
    split = split_images(dataset.images, SplitOptions())
    return {image.file_name for image in split.train}, {image.file_name for image in split.val}, split.reason


def test_law_the_lists_of_an_export_are_its_split(tmp_path: Path) -> None:
    """VOC's ImageSets, YOLO's train.txt and CVAT's subsets, as the folders of other exports."""
    lists = {
        "ImageSets/Main/train.txt": b"a\nc\n",
        "ImageSets/Main/Val.txt": b"b\n",
        "ImageSets/Main/car_val.txt": b"a  1\n",
    }
    voc = write_tree(tmp_path / "voc", trees.voc() | lists)
    assert sides("voc", voc) == ({"a.png", "c.png"}, {"b.png"}, "the export's own subsets")
    names = sorted(name.removeprefix("images/") for name in trees.yolo() if name.endswith(".png"))
    yolo = write_tree(tmp_path / "yolo", trees.yolo())
    (yolo / "train.txt").write_text("".join(f"./images/{name}\n" for name in names[1:]))
    (yolo / "val.txt").write_text(f"data\\images\\{names[0]}\n".replace("/", "\\"))
    assert sides("yolo", yolo) == (set(names[1:]), {names[0]}, "the export's own subsets")
    tables = {name: content for name, content in trees.nuimages().items() if name.endswith(".json")}
    moved = {name.replace("v1.0-mini", "v1.0-val"): content for name, content in tables.items()}
    moved = {name: content.replace(b"CAM_FRONT/", b"CAM_BACK/") for name, content in moved.items()}
    pictures = {name: content for name, content in trees.nuimages().items() if name.endswith(".png")}
    pictures |= {name.replace("CAM_FRONT", "CAM_BACK"): content for name, content in pictures.items()}
    train = {name.replace("v1.0-mini", "v1.0-train"): content for name, content in tables.items()}
    nuimages = write_tree(tmp_path / "nuimages", train | moved | pictures)
    assert {name.split("/")[1] for name in sides("nuimages", nuimages)[1]} == {"CAM_BACK"}
    xml = trees.cvat_images()["annotations.xml"]
    for number, subset in enumerate((b"Train", b"Validation", b"Train")):
        xml = xml.replace(b'<image id="%d"' % number, b'<image id="%d" subset="%s"' % (number, subset))
    cvat = write_tree(tmp_path / "cvat", trees.cvat_images() | {"annotations.xml": xml})
    assert sides("cvat", cvat)[1:] == ({"drive_1/000001.png"}, "the export's own subsets")


@pytest.mark.parametrize("val", ["b\na\n", "b.png\n", ""])
def test_lists_that_do_not_name_each_image_once_are_counted_and_not_used(val: str, tmp_path: Path) -> None:
    root = write_tree(tmp_path, trees.voc())
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "train.txt").write_text("a\n")
    (root / "ImageSets" / "Main" / "val.txt").write_text(val)
    dataset, account = convert_tree("voc", root)
    assert any(note.startswith("images that the lists of the export") for note in account.notes)
    assert split_images(dataset.images, SplitOptions()).method != "folders"


def test_a_subset_of_another_name_is_not_a_side() -> None:
    images = [ImageRecord(n, f"{n}.png", 4, 3, f"d{n}", attributes={"subset": "default"}) for n in range(1, 6)]
    assert split_images(images, SplitOptions()).method == "sequence"
