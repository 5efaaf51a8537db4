"""What is written for CVAT is read back as it was: boxes, polygons, masks, ignore regions, attributes, tracks."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from footage_trees import convert_tree

from drivetl.adapters.cvat_writer import write_cvat, write_cvat_video
from drivetl.adapters.xml import root_tag
from drivetl.cli import main
from drivetl.coco import masks
from drivetl.coco.io import read_dataset, write_dataset
from drivetl.coco.records import Annotation, Dataset, IgnoreRegion, ImageRecord
from drivetl.coco.taxonomy import load_taxonomy
from drivetl.errors import DataError

SIZE = 64, 48


def ring(rng: np.random.Generator) -> list[float]:
    x, y = rng.integers(0, 40), rng.integers(0, 30)
    return [float(x), float(y), float(x + 9), float(y), float(x + 4.5), float(y + 8.25)]


def record(number: int, rng: np.random.Generator, drive: str = "a b", frame: int | None = None) -> ImageRecord:
    """An image with two boxes, a polygon, a mask of two parts, and a region of every class and one of some."""
    image = ImageRecord(number, f"drive <{drive}>/{number:06d}.png", *SIZE, drive, number if frame is None else frame)
    mask = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    mask[number : number + 4, 0:5] = mask[30:33, 40:64] = 1
    polygon = ring(rng)
    x, y = polygon[:2]
    image.annotations = [
        Annotation(1, (0.5, 1.25, 10.125, 7.0), 70.0, None, {"occluded": 1, "note": 'a "<&>" b', "parked": True}),
        Annotation(2, (20.0, 3.0, 5.5, 40.0), 220.0, None, {"track_id": 7, "score": 0.8125}),
        Annotation(1, (x, y, 9.0, 8.25), 37.0, [polygon], {"track_id": "p 1"}),
        Annotation(2, (0.0, float(number), 64.0, 33.0 - number), float(mask.sum()), masks.encode(mask)),
    ]
    image.ignore_regions = [IgnoreRegion((1.0, 2.0, 30.0, 4.0), 120.0), IgnoreRegion((5.0, 6.0, 7.0, 8.0), 56.0, (2,))]
    return image


def dataset(root: Path, frames: tuple[int, ...] = (0, 1, 2)) -> Dataset:
    """Frame 1 has no objects; without frame 1 track 7 has a gap."""
    rng = np.random.default_rng(0)
    images = [record(number + 1, rng, frame=number) for number in frames]
    for image in images:
        if image.frame_index == 1:
            image.annotations, image.ignore_regions = [], []
        path = root / image.file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
    return Dataset(("car & van", "person"), images, root)


def content(data: Dataset, video: bool) -> dict[object, Counter[tuple[object, ...]]]:
    """Image or frame -> its objects and regions: class, box, mask, attributes."""
    found: dict[object, Counter[tuple[object, ...]]] = {}
    for image in data.images:
        items = found.setdefault(image.frame_index if video else image.file_name, Counter())
        for item in image.annotations:
            attributes = {
                key: str(value).lower()
                for key, value in item.attributes.items()
                if key not in ("source_label", "z_order", "group_id") and (key, value) != ("occluded", 0)
            }
            if video:
                attributes["track_id"] = "a track" if "track_id" in attributes else "alone"
            key = _key(data.categories[item.category_id - 1], item, image)
            items[(*key, tuple(sorted(attributes.items())))] += 1
        for region in image.ignore_regions:
            items[_key(("ignored", region.category_ids), region, image)] += 1
    return found


def _key(name: object, item: Annotation | IgnoreRegion, image: ImageRecord) -> tuple[object, ...]:
    area = None
    if item.segmentation is not None:
        area = masks.decode(item.segmentation, image.height, image.width).tobytes()
    return name, tuple(round(value, 6) for value in item.bbox_xywh), area


def test_images_come_back(tmp_path: Path) -> None:
    original = dataset(tmp_path / "images")
    lost = write_cvat(original, tmp_path / "cvat")
    assert not lost and root_tag(tmp_path / "cvat" / "annotations.xml") == "annotations"
    again, _ = convert_tree(
        "cvat", tmp_path / "cvat", load_taxonomy(tmp_path / "cvat" / "taxonomy.yaml"), images=original.images_root
    )
    for image in original.images:
        for item in image.annotations:
            item.attributes.pop("track_id", None)
    assert content(again, False) == content(original, False)
    assert again.images[0].annotations[0].attributes["parked"] is True


@pytest.mark.parametrize("frames", [(0, 1, 2), (0, 2, 5), (3,)])
def test_a_video_comes_back(tmp_path: Path, frames: tuple[int, ...]) -> None:
    original = dataset(tmp_path / "images", frames)
    lost = write_cvat_video(original, tmp_path / "cvat")
    assert not lost
    assert [path.name for path in sorted((tmp_path / "cvat").glob("*.xml"))] == ["a_b.xml"]
    again, _ = convert_tree("cvat", tmp_path / "cvat", load_taxonomy(tmp_path / "cvat" / "taxonomy.yaml"))
    seven = {
        image.frame_index: item.attributes["track_id"]
        for image in again.images
        for item in image.annotations
        if item.bbox_xywh == (20.0, 3.0, 5.5, 40.0)
    }
    assert set(seven) == {frame for frame in frames if frame != 1} and len(set(seven.values())) == 1
    before = content(original, True)
    for key, items in content(again, True).items():
        without_tracks = Counter({_without_track(item): count for item, count in items.items()})
        expected = Counter({_without_track(item): count for item, count in before.get(key, Counter()).items()})
        assert without_tracks == expected, key


def _without_track(item: tuple[object, ...]) -> tuple[object, ...]:
    if len(item) == 3:
        return item
    return (*item[:3], tuple(pair for pair in item[3] if pair[0] != "track_id"))  # type: ignore[attr-defined]


def test_what_a_video_cannot_hold_is_refused_or_counted(tmp_path: Path) -> None:
    data = dataset(tmp_path / "images")
    data.images[0].annotations[0].attributes["corners"] = [1, 2]
    data.images[0].annotations[0].attributes["track_id"] = "p 1"
    lost = write_cvat_video(data, tmp_path / "cvat")
    assert set(lost) == {
        "attributes of objects that are lists",
        "objects whose track id is duplicated in a frame, written as tracks of their own",
        "masks in tracks that also have boxes, written as boxes",
    }
    data.images[0].width = 65
    with pytest.raises(DataError, match="2 sizes"):
        write_cvat_video(data, tmp_path / "sizes")
    data.images[0].width, data.images[0].drive = SIZE[0], ""
    with pytest.raises(DataError, match="no drive"):
        write_cvat_video(data, tmp_path / "drives")
    data.images[0].file_name = "bell\x07.png"
    with pytest.raises(DataError, match="XML cannot hold"):
        write_cvat(data, tmp_path / "names")
    assert not [path for path in tmp_path.iterdir() if path.name not in ("images", "cvat")]


def test_no_images_are_an_empty_file(tmp_path: Path) -> None:
    write_cvat(Dataset(("car",), [], tmp_path), tmp_path / "cvat")
    assert "<size>0</size>" in (tmp_path / "cvat" / "annotations.xml").read_text()


def test_predictions_become_labels_to_correct(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = dataset(tmp_path / "images")
    write_dataset(data, tmp_path / "data.json")
    rows = [
        {"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.9},
        {"image_id": 1, "category_id": 1, "bbox": [5, 6, 7, 8], "score": 0.2},
    ]
    (tmp_path / "results.json").write_text(json.dumps(rows))
    words = ["labels", tmp_path / "data.json", "--predictions", tmp_path / "results.json", "--format", "cvat"]
    assert main([str(word) for word in (*words, "--out", tmp_path / "pre")]) == 0
    assert main([str(word) for word in (*words, "--threshold", "0.1", "--out", tmp_path / "more")]) == 0
    text = (tmp_path / "pre" / "annotations.xml").read_text()
    assert 'source="auto"' in text and '<attribute name="score">0.9</attribute>' in text
    assert text.count("<box ") == 1 and (tmp_path / "more" / "annotations.xml").read_text().count("<box ") == 2
    words = ["labels", tmp_path / "data.json", "--threshold", "0.1", "--format", "cvat", "--out", tmp_path / "x"]
    assert main([str(word) for word in words]) == 2
    assert "--threshold is for --predictions" in capsys.readouterr().err
    assert read_dataset(tmp_path / "data.json").images[0].annotations
