"""`drivetl labels`: to the format of another tool and back through the command line."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from footage_trees import coco, write_tree
from kitti_trees import three_frames

from drivetl.cli import main
from drivetl.coco.io import read_dataset, write_dataset
from drivetl.coco.records import Dataset


def run(*words: object) -> int:
    return main([str(word) for word in words])


def numbers(folder: Path) -> dict[str, list[tuple[object, ...]]]:
    """The label lines of each file, as numbers, in no order."""
    lines = {}
    for path in sorted(folder.rglob("*.txt")):
        rows = (line.split() for line in path.read_text().splitlines())
        lines[path.name] = sorted((name, *map(float, rest)) for name, *rest in rows)
    return lines


def objects(dataset: Dataset, regions: bool = True) -> Counter[tuple[object, ...]]:
    """Image, class and box to 1e-4 px of all objects; of ignore regions image and box."""
    counts: Counter[tuple[object, ...]] = Counter()
    for image in dataset.images:
        for item in image.annotations:
            counts[image.file_name, dataset.categories[item.category_id - 1], rounded(item.bbox_xywh)] += 1
        for region in image.ignore_regions if regions else []:
            counts[image.file_name, "ignored", rounded(region.bbox_xywh)] = 1
    return counts


def rounded(box: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(round(value, 4) for value in box)


def test_kitti_labels_are_restored_line_by_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = three_frames(tmp_path / "k")
    assert run("convert-kitti", "--root", root, "--out", tmp_path / "coco") == 0
    assert run("labels", tmp_path / "coco" / "all.json", "--format", "kitti", "--out", tmp_path / "back") == 0
    before, after = numbers(root / "training" / "label_2"), numbers(tmp_path / "back" / "label_2")
    assert after == before | {"000001.txt": []}  # an image without a label file has none of its objects
    printed = capsys.readouterr()
    link = f"ln -s {root.resolve() / 'training' / 'image_2'} {tmp_path / 'back' / 'image_2'}"
    assert f"next:  {link}" in printed.out
    (tmp_path / "back" / "image_2").symlink_to(root.resolve() / "training" / "image_2")
    assert run("convert-kitti", "--root", tmp_path / "back", "--out", tmp_path / "again") == 0
    first, second = (read_dataset(tmp_path / name / "all.json") for name in ("coco", "again"))
    for image in first.images:
        image.file_name = image.file_name.removeprefix("training/")
    assert objects(second) == objects(first)


@pytest.mark.parametrize("format_name", ["yolo", "voc"])
def test_other_formats_are_restored_box_by_box(
    format_name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = three_frames(tmp_path / "k")
    assert run("convert-kitti", "--root", root, "--out", tmp_path / "coco") == 0
    first = read_dataset(tmp_path / "coco" / "all.json")
    out = tmp_path / "back"
    assert run("labels", tmp_path / "coco" / "all.json", "--format", format_name, "--out", out) == 0
    printed = capsys.readouterr()
    assert ("4 ignore regions: yolo cannot hold them" in printed.err) == (format_name == "yolo")
    images = {"yolo": "images", "voc": "JPEGImages"}[format_name]
    assert f"ln -s {root.resolve()} {out / images}" in printed.out
    (out / images).symlink_to(root.resolve())
    taxonomy = tmp_path / "taxonomy.yaml"
    taxonomy.write_text("name: back\nclasses:\n" + "".join(f"  {name}: {{}}\n" for name in first.categories))
    words = ("--format", format_name, "--root", out, "--images", root, "--taxonomy", taxonomy)
    assert run("convert-footage", *words, "--out", tmp_path / "again") == 0
    again = read_dataset(tmp_path / "again" / "all.json")
    assert again.categories == first.categories
    regions = format_name == "voc"
    assert objects(again, regions) == objects(first, regions)


def test_tracks_are_restored_and_lost_masks_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_tree(tmp_path / "in", coco())
    assert run("convert-footage", "--format", "coco", "--root", root, "--out", tmp_path / "coco") == 0
    data = tmp_path / "coco" / "all.json"
    assert run("labels", data, "--format", "kitti-tracking", "--out", tmp_path / "t") == 2
    assert "has no drive and frame index" in capsys.readouterr().err and not (tmp_path / "t").exists()
    assert run("labels", data, "--format", "kitti", "--out", tmp_path / "k") == 0
    assert "1 masks: kitti cannot hold them" in capsys.readouterr().err
    dataset = read_dataset(data)
    for number, image in enumerate(dataset.images):
        image.drive, image.frame_index = "0003", number
    write_dataset(dataset, data)
    assert run("labels", data, "--format", "kitti-tracking", "--out", tmp_path / "t") == 0
    rows = [line.split() for line in (tmp_path / "t" / "label_02" / "0003.txt").read_text().splitlines()]
    assert [(row[0], row[1], row[2]) for row in rows] == [
        ("0", "-1", "car"),
        ("0", "-1", "person"),
        ("2", "-1", "DontCare"),
    ]


@pytest.mark.parametrize("format_name", ["kitti", "yolo", "voc"])
def test_images_that_would_share_a_label_file_are_refused(
    format_name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = three_frames(tmp_path / "k")
    assert run("convert-kitti", "--root", root, "--out", tmp_path / "coco") == 0
    dataset = read_dataset(tmp_path / "coco" / "all.json")
    dataset.images[1].file_name = dataset.images[0].file_name.replace(".png", ".jpg")
    write_dataset(dataset, tmp_path / "two.json")
    assert run("labels", tmp_path / "two.json", "--format", format_name, "--out", tmp_path / "out") == 2
    assert "000000" in capsys.readouterr().err and not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert run("labels", tmp_path / "coco" / "all.json", "--format", format_name, "--out", tmp_path / "out") == 2
    assert "never overwritten" in capsys.readouterr().err
