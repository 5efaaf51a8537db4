"""A loaded run is a function of images: one or many, in any form, with results that draw, convert and evaluate."""

import sys

import cv2
import numpy as np
import pytest
import torch
from robust_run import SPEC, write_run
from training_runs import write_tree

import drivetl
from drivetl.api.prediction import Prediction
from drivetl.coco.detections import Detections
from drivetl.coco.masks import encode
from drivetl.files.images import read_rgb


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(detector, dataset json) of a run that was never trained."""
    folder = tmp_path_factory.mktemp("api")
    return drivetl.load(str(write_run(folder / "run")), device="cpu"), write_tree(folder / "data")


def same(first, second):
    np.testing.assert_allclose(first.boxes, second.boxes, atol=1e-3)
    np.testing.assert_allclose(first.scores, second.scores, atol=1e-5)
    assert first.labels.tolist() == second.labels.tolist()


def test_one_image_gives_one_prediction_and_a_list_gives_a_list(made):
    detector, data = made
    path = data.parent / "000001.png"
    one = detector(str(path))
    assert isinstance(one, Prediction) and len(one) > 0 and one.boxes.shape == (len(one), 4)
    assert one.names == [SPEC.categories[label - 1] for label in one.labels]
    assert set(one.names) <= set(detector.categories) and one.masks is None
    pixels = read_rgb(path)
    many = detector([path, pixels, torch.from_numpy(pixels).permute(2, 0, 1)])
    assert len(many) == 3
    for found in many:
        same(found, one)
    assert detector([]) == [] and detector(()) == []


def test_law_a_batch_of_mixed_sizes_gives_what_its_images_give(made):
    detector, data = made
    paths = sorted(data.parent.glob("*.png"))
    for path, found in zip(paths, detector(paths, batch_size=4), strict=True):
        same(found, detector(path))


def test_a_dataset_gives_predictions_with_ids_that_can_be_evaluated(made):
    detector, path = made
    data = drivetl.read_dataset(str(path))
    found = detector(data)
    assert [one.image_id for one in found] == [image.id for image in data.images]
    same(found[2], detector(data.images_root / data.images[2].file_name))
    rows = [row for one in found for row in one.to_coco()]
    assert drivetl.evaluate(data, found).ap == pytest.approx(drivetl.evaluate(path, rows).ap, abs=1e-6)


def test_predictions_of_other_classes_are_not_evaluated(made):
    detector, path = made
    data = drivetl.read_dataset(path)
    found = detector(data)
    data.categories = ("pedestrian", "car")
    with pytest.raises(drivetl.DrivetlError, match=r"classes car, pedestrian; .* are 1 pedestrian, 2 car"):
        drivetl.evaluate(data, found)
    document = {"images": [{"id": image.id, "width": 96, "height": 64} for image in data.images], "annotations": []}
    document["categories"] = [{"id": 3, "name": "car"}, {"id": 5, "name": "pedestrian"}]
    with pytest.raises(drivetl.DrivetlError, match="are 3 car, 5 pedestrian"):
        drivetl.evaluate(document, found)


def test_the_score_is_the_lowest_kept(made):
    detector, data = made
    path = data.parent / "000001.png"
    scores = detector(path).scores
    kept = detector(path, score=float(np.median(scores)))
    assert 0 < len(kept) < len(scores) and kept.scores.min() >= np.median(scores)
    with pytest.raises(drivetl.DrivetlError, match="score is 30"):
        detector(path, score=30)


@pytest.mark.parametrize(
    ("images", "got"),
    [(5, "the images are a int"), (np.zeros((8, 8, 3)), "the image is .* float64"), ({}, "the images are a dict")],
)
def test_what_is_no_image_is_refused_by_name(made, images, got):
    with pytest.raises(drivetl.DrivetlError, match=got):
        made[0](images)


def test_the_position_of_a_wrong_image_in_a_list_is_named(made):
    good = np.zeros((64, 96, 3), np.uint8)
    with pytest.raises(drivetl.DrivetlError, match=r"images\[1\] is \(64, 96, 3\) float32 array"):
        made[0]([good, good.astype(np.float32)])


def test_it_shows_what_it_is(made):
    assert repr(made[0]).startswith("Detector('run', 2 classes: car, pedestrian; on cpu)")
    with pytest.raises(drivetl.DrivetlError, match="no such folder"):
        drivetl.load("runs/nothing")


def prediction(n=2, source=None, image_id=None, masks=False):
    boxes = np.array([[4, 4, 40, 30], [50, 10, 90, 50]], np.float32)[:n]
    rles = None
    if masks:
        rles = [encode(np.pad(np.ones((10, 20), np.uint8), ((row, 54 - row), (0, 76)))) for row in range(n)]
    found = Detections(boxes, np.array([0.9, 0.2], np.float32)[:n], np.array([1, 2])[:n], rles)
    pixels = np.full((64, 96, 3), 90, np.uint8)
    return Prediction(found, ("car", "pedestrian"), pixels if source is None else source, (64, 96), image_id)


def test_draw_marks_what_scores_enough_and_leaves_the_image_alone(tmp_path):
    found = prediction()
    before = found.image.copy()
    drawn, all_drawn = found.draw(), found.draw(score=0)
    assert drawn.shape == before.shape and np.array_equal(found.image, before)
    left, right = np.s_[10:30, 4], np.s_[10:50, 90]  # sides of the two boxes
    assert (drawn[left] != before[left]).any() and np.array_equal(drawn[right], before[right])
    assert (all_drawn[right] != before[right]).any()
    cv2.imwrite(str(tmp_path / "a.png"), before)
    assert np.array_equal(prediction(source=tmp_path / "a.png").draw(), drawn)
    assert found._repr_jpeg_()[:2] == b"\xff\xd8"
    assert repr(found) == "Prediction(2 objects: 1 car, 1 pedestrian)"


def test_coco_rows_need_an_image_id():
    assert prediction(image_id=7).to_coco()[0] == {
        "image_id": 7,
        "category_id": 1,
        "bbox": [4.0, 4.0, 36.0, 26.0],
        "score": 0.9,
    }
    assert prediction().to_coco(3)[1]["image_id"] == 3 and prediction(0).to_coco(3) == []
    with pytest.raises(drivetl.DrivetlError, match="has no id"):
        prediction().to_coco()


def test_masks_are_pixels():
    masks = prediction(masks=True).masks
    assert masks.shape == (2, 64, 96) and masks.dtype == bool and masks.sum() == 400
    assert prediction(0, masks=True).masks.shape == (0, 64, 96)
    assert (prediction(masks=True).draw()[2:8, 2:18] != prediction().draw()[2:8, 2:18]).any()


def test_supervision_is_asked_for_by_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(drivetl.DrivetlError, match=r"drivetl\[supervision\]"):
        prediction().to_supervision()


@pytest.mark.parametrize("n", [0, 1, 2])
def test_supervision_gets_boxes_scores_labels_masks_and_names(n):
    supervision = pytest.importorskip("supervision", reason="needs the package supervision")
    found = prediction(n, masks=True).to_supervision()
    assert isinstance(found, supervision.Detections) and len(found) == n
    assert found.data["class_name"].tolist() == prediction(n).names
    np.testing.assert_array_equal(found.xyxy, prediction(n).boxes)
    np.testing.assert_array_equal(found.mask, prediction(n, masks=True).masks)
