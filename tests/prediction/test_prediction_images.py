"""Detections written out: of labelled and unlabelled images, as COCO and as KITTI files, without loss."""

import numpy as np
import pytest
from planted import CLASSES, PlantedDetector, read_planted

from drivetl.coco.detections import Detections
from drivetl.coco.folders import folder_dataset
from drivetl.coco.records import Dataset, ImageRecord
from drivetl.errors import DataError
from drivetl.metrics import coco_ap, kitti_objects
from drivetl.metrics.match_store import match
from drivetl.prediction.images import predict, track_images, with_min_score
from drivetl.prediction.results import check_kitti_names, coco_results, images_document, kitti_lines


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
    document = images_document(found.images, found.categories)
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


def test_each_class_can_have_its_own_minimum():
    assert with_min_score(three_detections(), np.array([0.95, 0.5])).labels.tolist() == [2]
    assert with_min_score(three_detections(), np.array([0.1, np.inf])).labels.tolist() == [1, 1]


def test_tracks_follow_the_frames_of_a_drive_not_the_order_of_the_dataset(tmp_path):
    images = [
        ImageRecord(n, f"{n}.png", 99, 99, drive, frame) for n, drive, frame in ((1, "a", 1), (2, "b", 0), (3, "a", 0))
    ]
    boxes = {1: [[10, 0, 30, 20]], 2: [[10, 0, 30, 20]], 3: [[8, 0, 28, 20], [50, 50, 60, 60]]}
    detections = {
        n: Detections(np.array(rows, np.float32), np.full(len(rows), 0.9, np.float32), np.ones(len(rows), np.int64))
        for n, rows in boxes.items()
    }
    ids = track_images(Dataset(CLASSES, images, tmp_path), detections)
    assert {n: rows.tolist() for n, rows in ids.items()} == {3: [1, 2], 1: [1], 2: [1]}


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
        check_kitti_names(Dataset(CLASSES, images, tmp_path))
