"""Written and read again: every format with a writer returns the same objects."""

from __future__ import annotations

from pathlib import Path

import footage_trees as trees
import pytest
from footage_trees import TREES, convert_tree, write_tree

from drivetl.adapters.writers import write_voc, write_yolo
from drivetl.coco.io import write_dataset
from drivetl.coco.records import Dataset
from drivetl.coco.taxonomy import own_labels
from drivetl.errors import DataError

Row = tuple[str, str, tuple[float, ...]]


def rows(dataset: Dataset, *, ignored: bool) -> list[Row]:
    """(image, class, box xyxy to 1e-4 px) of all objects, or of all ignore regions once per class they hide."""
    found: list[Row] = []
    for image in dataset.images:
        items = [(item.category_id, item.bbox_xywh) for item in image.annotations]
        if ignored:
            everything = tuple(range(1, len(dataset.categories) + 1))
            items = [
                (number, region.bbox_xywh)
                for region in image.ignore_regions
                for number in region.category_ids or everything
            ]
        for number, (x, y, w, h) in items:
            box = tuple(round(value, 4) for value in (x, y, x + w, y + h))
            found.append((image.file_name, dataset.categories[number - 1], box))
    return sorted(found)


@pytest.mark.parametrize("source", sorted(set(TREES) - {"cityscapes"}))
@pytest.mark.parametrize("format_name", ["yolo", "voc", "coco"])
def test_written_and_read_again(source: str, format_name: str, tmp_path: Path) -> None:
    original, _ = convert_tree(source, write_tree(tmp_path / "in", TREES[source]()))
    out = tmp_path / "out"
    if format_name == "coco":
        write_dataset(original, out / "all.json")
        lost = {}
    else:
        lost = {"yolo": write_yolo, "voc": write_voc}[format_name](original, out)
    again, account = convert_tree(format_name, out, own_labels(original.categories), images=original.images_root)
    names = {image.file_name for image in original.images}
    kept = [image for image in again.images if image.file_name in names]
    assert [image.file_name for image in kept] == sorted(names)
    assert rows(again, ignored=False) == rows(original, ignored=False)
    regions = rows(original, ignored=True)
    assert rows(again, ignored=True) == ([] if format_name == "yolo" else regions)
    if format_name == "yolo":
        assert lost["ignore regions"] == sum(len(image.ignore_regions) for image in original.images)
    assert account.clipped == 0


def test_polygons_survive_yolo_and_flags_survive_voc(tmp_path: Path) -> None:
    original, _ = convert_tree("coco", write_tree(tmp_path / "in", trees.coco()))
    write_yolo(original, tmp_path / "yolo")
    again, _ = convert_tree("yolo", tmp_path / "yolo", images=original.images_root)
    (polygon,) = [item.segmentation for image in again.images for item in image.annotations if item.segmentation]
    assert polygon == [pytest.approx([20, 5, 24, 5, 24, 15, 20, 15], abs=1e-6)]

    voc, _ = convert_tree("voc", write_tree(tmp_path / "voc_in", trees.voc()))
    write_voc(voc, tmp_path / "voc")
    back, _ = convert_tree("voc", tmp_path / "voc", images=voc.images_root)
    car = back.images[0].annotations[0].attributes
    assert (car["truncated"], car["occluded"], car["pose"]) == (0.4, 1, "Left")
    with pytest.raises(DataError, match="never overwritten"):
        write_voc(voc, tmp_path / "voc")
