"""Detections written out: of labelled and unlabelled images, as COCO and as KITTI files, without loss."""

import numpy as np
import pytest
from planted import CLASSES, PlantedDetector, read_planted

from drivetl.coco.detections import Detections
from drivetl.coco.records import Dataset, ImageRecord
from drivetl.errors import DataError
from drivetl.metrics import coco_ap, kitti_objects
from drivetl.metrics.match_store import match
from drivetl.robustness.predict import (
    coco_results,
    folder_dataset,
    images_document,
    kitti_lines,
    kitti_names,
    predict,
    with_min_score,
)


def test_written_results_have_the_ap_of_the_detections(tmp_path):
    data = read_planted(tmp_path / "d", n_images=5)
    rows = [row for record, found in predict(PlantedDetector(), data) for row in coco_results(record.id, found)]
    assert coco_ap.summarize(match(data, rows)).named()["AP"] == pytest.approx(1.0)


def test_a_folder_without_labels(tmp_path):
    data = read_planted(tmp_path / "d", n_images=4)
    found = folder_dataset(tmp_path / "d" / "images", CLASSES)
    assert [(one.id, one.file_name) for one in found.images] == [(n + 1, f"{n:06d}.png") for n in range(4)]
    by_name = {record.file_name: one for record, one in predict(PlantedDetector(), found, batch_size=2)}
    labelled = {record.file_name: one for record, one in predict(PlantedDetector(), data)}
    for name, one in by_name.items():
        assert np.array_equal(one.boxes, labelled[f"images/{name}"].boxes)
    document = images_document(found)
    assert [one["id"] for one in document["images"]] == [1, 2, 3, 4] and len(document["categories"]) == 2


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(DataError, match="holds no images"):
        folder_dataset(tmp_path, CLASSES)
    with pytest.raises(DataError, match="no such folder"):
        folder_dataset(tmp_path / "nothing", CLASSES)


def three_detections():
    boxes = np.array([[1, 2, 11, 22], [0, 0, 5, 5], [3, 3, 9, 9]], np.float32)
    return Detections(boxes, np.array([0.9, 0.5, 0.1], np.float32), np.array([1, 2, 1]))


def test_the_minimum_score_is_inclusive():
    assert with_min_score(three_detections(), 0.5).scores.tolist() == pytest.approx([0.9, 0.5])
    assert (
        len(with_min_score(three_detections(), 0.95).scores) == 0
        and coco_results(1, with_min_score(three_detections(), 0.95)) == []
    )


def test_masks_stay_with_their_boxes():
    found = three_detections()
    found.masks = [{"size": [9, 9], "counts": str(n)} for n in range(3)]
    rows = coco_results(7, with_min_score(found, 0.3))
    assert [row["segmentation"]["counts"] for row in rows] == ["0", "1"]


def test_kitti_files_are_what_the_kitti_reader_reads(tmp_path):
    (tmp_path / "000007.txt").write_text(kitti_lines(three_detections(), ("car", "person_sitting")))
    read = kitti_objects.read_results(tmp_path, ["000007"])
    assert read.names == ("car", "person_sitting", "car")
    assert np.allclose(read.boxes_xyxy, three_detections().boxes) and np.allclose(
        read.scores, three_detections().scores
    )


def test_two_images_for_one_kitti_file_are_refused(tmp_path):
    images = [ImageRecord(1, "a/000001.png", 9, 9), ImageRecord(2, "b/000001.png", 9, 9)]
    with pytest.raises(DataError, match=r"a/000001.png and b/000001.png would both be 000001.txt"):
        kitti_names(Dataset(CLASSES, images, tmp_path))
