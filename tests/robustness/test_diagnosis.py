"""Errors, calibration, KITTI's rules and masks in a sweep, for a detector whose mistakes are known."""

import json
from dataclasses import replace

import numpy as np
import pytest
from planted import PlantedDetector, planted_dataset

from drivetl.coco.io import read_dataset
from drivetl.coco.masks import encode
from drivetl.conditions import CLEAN
from drivetl.errors import ConfigError, DataError
from drivetl.metrics import kitti_ap, kitti_objects
from drivetl.robustness.report_document import report_document
from drivetl.robustness.run import run_sweep

N = 8


def kitti_like(folder):
    """Planted images with KITTI's label attributes, and with the boxes as masks."""
    path = planted_dataset(folder, n_images=N, n_drives=4, size_hw=(160, 320))
    document = json.loads(path.read_text())
    document["info"]["drivetl"]["source"] = "kitti"
    for one in document["annotations"]:
        x, y, w, h = one["bbox"]
        label = ("Car", "Pedestrian")[one["category_id"] - 1]
        one["attributes"] |= {"source_label": label, "truncated": 0.0, "occluded": 0}
        one["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    path.write_text(json.dumps(document))
    return read_dataset(path)


class Masked(PlantedDetector):
    """Gives filled boxes as masks."""

    def infer(self, images):
        outputs = super().infer(images)
        return [
            replace(detections, masks=[self._mask(box, image.shape[1:]) for box in detections.boxes])
            for detections, image in zip(outputs, images, strict=True)
        ]

    def _mask(self, box, size_hw):
        mask = np.zeros(size_hw, np.uint8)
        x1, y1, x2, y2 = box.astype(int)
        mask[y1:y2, x1:x2] = 1
        return encode(mask)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return kitti_like(tmp_path_factory.mktemp("kitti_like"))


@pytest.fixture(scope="module")
def swept(data, tmp_path_factory):
    return run_sweep(Masked(), data, ["contrast", "night"], [2, 4], cache=tmp_path_factory.mktemp("cells"), workers=0)


@pytest.fixture(scope="module")
def document(swept):
    return report_document(swept, n_draws=50)


def test_no_errors_on_clean_images_and_misses_in_the_worst_cell(document):
    clean, worst = document["diagnosis"]
    assert (clean["condition"], worst["severity"]) == ("clean", 2)
    means = {row["name"]: row["mean"]["point"] for row in document["conditions"]}
    assert worst["condition"] == min(means, key=means.get)
    assert clean["tide"]["AP50"] == pytest.approx(1.0) and not any(clean["tide"]["counts"].values())
    assert worst["tide"]["counts"]["Miss"] > 0 and worst["tide"]["delta_ap"]["Miss"] > 0
    assert all(point["recall"] == 1 for point in clean["operating"].values())
    assert clean["olrp"]["mean"] < worst["olrp"]["mean"]


def test_recall_at_a_rate_of_false_alarms(document):
    for cell in document["diagnosis"]:
        rows = [[one["recall"] for one in row["classes"].values()] for row in cell["recall_at"]]
        assert np.all(np.diff(np.array(rows, float), axis=0) >= 0), "recall never falls with more false alarms"
    assert [row["false_per_image"] for row in document["diagnosis"][0]["recall_at"]] == [0.1, 0.3, 1.0]


def test_calibration_counts_the_detections(document):
    clean = document["diagnosis"][0]["calibration"]
    assert clean["n_detections"] == sum(clean["counts"]) > 10
    # every detection is correct, so the error is 1 - score
    gap = np.average(
        [1 - one for one in clean["confidence"] if one is not None], weights=[one for one in clean["counts"] if one]
    )
    assert clean["d_ece"] == pytest.approx(gap)


def test_kitti_ap_equals_a_direct_evaluation(swept, monkeypatch):
    monkeypatch.setattr(kitti_ap, "MIN_HEIGHT_PX", (10, 10, 10))  # planted boxes are small
    rows = {(row["class"], row["difficulty"]): row for row in report_document(swept, n_draws=50)["kitti"]}
    assert set(rows["car", "hard"]["cells"]) == {"contrast/2", "contrast/4", "night/2", "night/4"}
    labels = kitti_objects.labels_of(swept.dataset)
    for cell, read in ((("night", 4), lambda row: row["cells"]["night/4"]), (CLEAN, lambda row: row["clean"])):
        found = kitti_objects.detections_of(swept.results("run", cell), swept.dataset)
        direct = kitti_ap.evaluate(labels, found)
        assert {name: {level: one.ap40 for level, one in levels.items()} for name, levels in direct.items()} == {
            name: {level: read(rows[name, level]) for level in kitti_ap.DIFFICULTIES} for name in direct
        }
    assert rows["car", "hard"]["clean"] > rows["car", "hard"]["held_out"]


def test_data_of_another_source_has_no_kitti_ap(data, swept):
    swept.dataset.info["source"] = "cvat"
    try:
        assert report_document(swept, n_draws=50)["kitti"] is None
    finally:
        swept.dataset.info["source"] = "kitti"


def test_masks_are_cached_and_evaluated(data, tmp_path):
    first = run_sweep(Masked(), data, ["contrast"], [3], cache=tmp_path, workers=0, iou_type="segm")
    detector = Masked()
    again = run_sweep(detector, data, ["contrast"], [3], cache=tmp_path, workers=0, iou_type="segm")
    assert detector.images_seen == 0, "masks are read from disk"
    results = first.results("run", CLEAN), again.results("run", CLEAN)
    assert results[0].segmentations == results[1].segmentations and len(results[0].segmentations) > 10
    document = report_document(again, n_draws=50)
    assert document["protocol"]["iou_type"] == "segm" and document["kitti"] is None
    assert document["clean"]["value"]["point"] == pytest.approx(1.0)
    assert document["diagnosis"][0]["tide"] is None
    # boxes of the same detector are cached separately
    run_sweep(detector, data, ["contrast"], [3], cache=tmp_path, workers=0)
    assert detector.images_seen == 2 * N


def test_law_a_broken_mask_is_found_before_the_sweep(data, tmp_path):
    broken = read_dataset(data.file)
    broken.images[1].annotations[0].segmentation = {"size": [broken.images[1].height, 7], "counts": "0"}
    detector = Masked()
    with pytest.raises(DataError, match=r"image .*000001\.png': RLE size .* - fix or remove") as caught:
        run_sweep(detector, broken, ["contrast"], [3], cache=tmp_path, workers=0, iou_type="segm")
    assert caught.value.file == data.file and detector.images_seen == 0


def test_missing_masks_are_an_error(data, tmp_path):
    with pytest.raises(ConfigError, match="the run gives boxes only, no masks - use --iou-type bbox"):
        run_sweep(PlantedDetector(), data, ["contrast"], [3], cache=tmp_path, workers=0, iou_type="segm")
    bare = read_dataset(planted_dataset(tmp_path / "bare", n_images=2))
    with pytest.raises(DataError, match=r"object 1 of image .*000001\.png' has no mask - use --iou-type bbox"):
        run_sweep(Masked(), bare, ["contrast"], [3], cache=tmp_path, workers=0, iou_type="segm")
