"""Folders of labels and images: linked, hidden and different folders, and shared names."""

from __future__ import annotations

import base64
import io
import json
import re
import zlib
from pathlib import Path

import cv2
import footage_trees as trees
import numpy as np
import pytest
from footage_trees import convert_tree, read_tree, write_tree
from PIL import Image

from drivetl.coco.records import Dataset
from drivetl.errors import DataError

ROW = b"0 0.5 0.5 0.2 0.2\n"
NOT_ON_DISK = "images that are not on disk; their sizes are taken from the labels"


def objects(dataset: Dataset) -> dict[str, int]:
    return {image.file_name: len(image.annotations) for image in dataset.images}


def yolo(tmp_path: Path, *names: str) -> Path:
    """A YOLO tree of images and label files."""
    return write_tree(tmp_path, {name: ROW if name.lower().endswith("txt") else trees.blank_png() for name in names})


@pytest.mark.parametrize("target", ["elsewhere", "in/rows"])
def test_yolo_labels_behind_a_link_are_read(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    yolo(tmp_path, "in/images/d/a.png", "in/images/b.png", f"{target}/d/a.txt", f"{target}/b.txt")
    (tmp_path / "in" / "labels").symlink_to(tmp_path / target)
    dataset, account = convert_tree("yolo", tmp_path / "in")
    assert objects(dataset) == {"b.png": 1, "d/a.png": 1} and account.read == {"0": 2}
    write_tree(tmp_path / target, {"z.txt": ROW})
    monkeypatch.chdir(tmp_path / "in")
    dataset, account = convert_tree("yolo", Path(), on_error="skip")
    assert len(dataset.images) == 2 and account.read == {"0": 3} and len(account.rejections) == 1


def test_images_and_labels_in_linked_folders_are_read_once(tmp_path: Path) -> None:
    files = trees.labelme()
    root = write_tree(tmp_path / "in", {name: files.pop(name) for name in [*files] if "drive_1" in name})
    write_tree(tmp_path / "more", files)
    (root / "linked").symlink_to(tmp_path / "more" / "drive_2")
    (root / "again").symlink_to(root / "drive_1")
    (root / "up").symlink_to(tmp_path)
    (tmp_path / "more" / "drive_2" / "back").symlink_to(tmp_path / "more" / "drive_2")
    source, _ = read_tree("labelme", root)
    assert [image.file_name for image in source.images] == ["drive_1/a.png", "drive_1/b.png", "linked/c.png"]


def voc_file(name: str) -> bytes:
    return trees.voc()["Annotations/a.xml"].replace(b"a.png", name.encode())


def labelme_file(name: str) -> bytes:
    return trees.labelme()["drive_1/a.json"].replace(b'"a.png"', f'"{name}"'.encode())


def bdd_file(name: str, **more: str) -> bytes:
    label = {"category": "car", "box2d": {"x1": 1, "y1": 2, "x2": 9, "y2": 9}}
    return json.dumps([{"name": name, "size": {"width": 40, "height": 30}, "labels": [label]} | more]).encode()


@pytest.mark.parametrize(
    ("format_name", "label", "content", "image_file"),
    [
        ("voc", "Annotations/a/1.xml", voc_file("1.png"), "JPEGImages/b/1.png"),
        ("bdd100k", "labels/x.json", bdd_file("a/1.png"), "images/b/1.png"),
        ("bdd100k", "labels/x.json", bdd_file("1.png", videoName="a"), "images/b/1.png"),
    ],
)
def test_labels_of_one_drive_do_not_match_images_of_another(
    format_name: str, label: str, content: bytes, image_file: str, tmp_path: Path
) -> None:
    root = write_tree(tmp_path, {label: content, image_file: trees.blank_png()})
    source, account = read_tree(format_name, root)
    assert "b/1.png" not in [image.file_name for image in source.images] and account.notes[NOT_ON_DISK] == 1


@pytest.mark.parametrize(
    ("format_name", "label", "content", "image_file", "file_name"),
    [
        ("voc", "Annotations/1.xml", voc_file("1.png"), "JPEGImages/b/1.png", "b/1.png"),
        ("voc", "Annotations/a/1.xml", voc_file("1.png"), "JPEGImages/1.png", "1.png"),
        ("labelme", "labels/1.json", labelme_file("1.png"), "images/1.png", "images/1.png"),
        ("bdd100k", "labels/x.json", bdd_file("a/1.jpg"), "images/train/a/1.png", "train/a/1.png"),
        ("bdd100k", "labels/x.json", bdd_file("1.jpg"), "images/b/1.png", "b/1.png"),
        ("bdd100k", "labels/x.json", bdd_file("1.png", videoName="a"), "images/train/1.png", "train/1.png"),
        ("labelme", "jsons/1.json", labelme_file("1.png"), "frames/1.png", "frames/1.png"),
        ("labelme", "jsons/a/1.json", labelme_file("1.png"), "frames/a/1.png", "frames/a/1.png"),
        ("voc", "boxes/1.xml", voc_file("1.png"), "frames/1.png", "frames/1.png"),
    ],
)
def test_an_image_is_found_in_folders_that_do_not_contradict(
    format_name: str, label: str, content: bytes, image_file: str, file_name: str, tmp_path: Path
) -> None:
    source, account = read_tree(format_name, write_tree(tmp_path, {label: content, image_file: trees.blank_png()}))
    assert [image.file_name for image in source.images] == [file_name] and not account.notes[NOT_ON_DISK]


def test_a_folder_of_labels_and_images_is_a_drive(tmp_path: Path) -> None:
    pairs = {"b/2.json": labelme_file("2.png"), "b/2.png": trees.blank_png()}
    root = write_tree(tmp_path, pairs | {"a/1.json": labelme_file("1.png"), "b/1.png": trees.blank_png((30, 40))})
    source, account = read_tree("labelme", root)
    assert {image.file_name for image in source.images} == {"a/1.png", "b/2.png"}
    assert account.notes[NOT_ON_DISK] == 1


def test_hidden_images_are_skipped(tmp_path: Path) -> None:
    hidden = ("images/.ipynb_checkpoints/a.png", "images/__MACOSX/b.png", "images/._a.png")
    dataset, _ = convert_tree("yolo", yolo(tmp_path, "images/a.png", "labels/a.txt", *hidden))
    assert objects(dataset) == {"a.png": 1}


def test_yolo_images_may_be_named_like_the_other_text_files(tmp_path: Path) -> None:
    names = ("test", "train", "val", "obj", "labels")
    root = yolo(tmp_path, *(f"images/{name}.png" for name in names), *(f"labels/{name}.txt" for name in names))
    write_tree(root, {"classes.txt": b"car\n", "readme.txt": ROW, "data.yaml": b"names: [car]\n"})
    dataset, _ = convert_tree("yolo", root)
    assert set(objects(dataset).values()) == {1} and len(dataset.images) == len(names)


def test_yolo_suffixes_may_be_in_capitals(tmp_path: Path) -> None:
    dataset, _ = convert_tree("yolo", yolo(tmp_path, "images/a.PNG", "labels/a.TXT"))
    assert objects(dataset) == {"a.PNG": 1}


def test_yolo_rows_of_two_images_are_an_error(tmp_path: Path) -> None:
    root = yolo(tmp_path, "images/a.jpg", "images/a.png", "images/b.png", "labels/a.txt", "labels/b.txt")
    with pytest.raises(DataError, match=r"labels/a\.txt: is the label file of both a\.jpg and a\.png"):
        convert_tree("yolo", root)
    dataset, account = convert_tree("yolo", root, on_error="skip")
    assert objects(dataset) == {"b.png": 1} and sum(account.rejected.values()) == 2


def instance_mask() -> bytes:
    ids = np.zeros((30, 40), np.uint8)
    ids[3:9, 3:12] = 1
    buffer = io.BytesIO()
    Image.fromarray(ids).save(buffer, "PNG")
    return buffer.getvalue()


def test_voc_masks_belong_to_the_xml_in_their_folder(tmp_path: Path) -> None:
    files = {f"JPEGImages/{folder}/1.png": trees.blank_png() for folder in "ab"}
    files |= {f"Annotations/{folder}/1.xml": voc_file("1.png") for folder in "ab"}
    for folder, masked in {"1.png": [False, False], "b/1.png": [False, True]}.items():
        root = write_tree(tmp_path / folder, files | {f"SegmentationObject/{folder}": instance_mask()})
        dataset, account = convert_tree("voc", root)
        has_mask = [image.annotations[0].segmentation is not None for image in dataset.images]
        count = account.notes["XML files without their mask, because other XML files have the same name"]
        assert (has_mask, count) == (masked, 2 if folder == "1.png" else 0)


def huge(side: int = 30_000) -> str:
    """base64 of a small file whose header is that of a huge image."""
    header = bytearray(trees.blank_png())
    header[16:24] = side.to_bytes(4, "big") * 2
    header[29:33] = zlib.crc32(header[12:29]).to_bytes(4, "big")
    return base64.b64encode(bytes(header)).decode()


def test_huge_images_inside_labelme_files_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(cv2, "imdecode", decode)
    document = json.loads(trees.labelme()["drive_1/a.json"])
    mask = {"label": "car", "shape_type": "mask", "points": [[0, 0], [9, 9]], "mask": huge()}
    for change, message in [
        ({"imageData": huge()}, "a.json: 30000 x 30000 is larger than 200 megapixels"),
        ({"shapes": [mask]}, "mask of shapes[0] is not a usable image (30000 x 30000 is larger"),
        ({"shapes": [mask | {"mask": huge(41)}]}, "mask of shapes[0] is not inside the image"),
    ]:
        root = write_tree(tmp_path, {"a.json": json.dumps(document | change).encode()})
        with pytest.raises(DataError, match=re.escape(message)):
            read_tree("labelme", root)


@pytest.mark.parametrize(
    "written",
    [
        "images\\{}",
        "..\\..\\label-studio\\media\\upload\\4\\{}",
        "/data/local-files/?d=footage/{}",
        "/data/local-files/?d={}",
        "C:\\footage\\{}",
        "/data/ann/footage/{}",
    ],
)
def test_coco_names_of_another_root_are_found_by_their_base_name(written: str, tmp_path: Path) -> None:
    escaped = json.dumps(written.format("front_a.png"))[1:-1]
    text = trees.coco()["instances.json"].decode().replace("drive_1/a.png", escaped)
    files = {name: content for name, content in trees.coco().items() if not name.endswith("drive_1/a.png")}
    files |= {"instances.json": text.encode(), "images/front_a.png": trees.blank_png()}
    dataset, account = convert_tree("coco", write_tree(tmp_path, files))
    assert objects(dataset)["front_a.png"] == 2
    assert any("found by their base name" in note for note in account.notes) and not account.notes[NOT_ON_DISK]


@pytest.mark.parametrize(
    ("format_name", "label", "content", "image_file", "file_name"),
    [
        ("labelme", "a.json", labelme_file(r"C:\\footage\\b.png"), "frames/b.png", "frames/b.png"),
        ("bdd100k", "labels/x.json", bdd_file("/data/upload/front_b.png"), "images/day/front_b.png", "day/front_b.png"),
    ],
)
def test_absolute_names_are_found_by_their_base_name(
    format_name: str, label: str, content: bytes, image_file: str, file_name: str, tmp_path: Path
) -> None:
    source, _ = read_tree(format_name, write_tree(tmp_path, {label: content, image_file: trees.blank_png()}))
    assert [image.file_name for image in source.images] == [file_name]


def test_a_counter_in_another_drive_is_not_the_image(tmp_path: Path) -> None:
    text = trees.coco()["instances.json"].replace(b"drive_1/a.png", b"/data/ann/drive_1/000001.png")
    files = trees.coco() | {"instances.json": text, "images/drive_9/000001.png": trees.blank_png()}
    with pytest.raises(DataError, match="absolute or leaves its folder"):
        convert_tree("coco", write_tree(tmp_path, files))
