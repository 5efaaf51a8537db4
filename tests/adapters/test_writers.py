"""What a format can hold beyond boxes is written and comes back (boxes: the format laws)."""

from __future__ import annotations

from pathlib import Path

import footage_trees as trees
import pytest
from footage_trees import convert_tree, write_tree

from drivetl.adapters.writers import write_voc, write_yolo
from drivetl.errors import DataError


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
