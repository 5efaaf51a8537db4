import numpy as np
import pytest
from coco_cases import oracle, random_case

from drivetl.metrics import coco_ap
from drivetl.metrics.match_store import match


def assert_equal_to_pycocotools(truth, results, iou_type="bbox"):
    theirs = oracle(truth, results, iou_type)
    ours = coco_ap.summarize(match(truth, results, iou_type))
    np.testing.assert_allclose(ours.precision, theirs.eval["precision"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours.recall, theirs.eval["recall"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours.stats, theirs.stats, rtol=0, atol=1e-12)


@pytest.mark.parametrize("coarse", [True, False])
@pytest.mark.parametrize("seed", range(40))
def test_equals_pycocotools_on_boxes(seed, coarse):
    assert_equal_to_pycocotools(*random_case(seed, coarse=coarse))


@pytest.mark.parametrize("seed", range(6))
def test_equals_pycocotools_on_masks(seed):
    assert_equal_to_pycocotools(*random_case(seed, n_images=6, masks=True), "segm")


@pytest.mark.parametrize("seed", range(12))
def test_equals_pycocotools_beyond_a_hundred_detections_and_on_empty_boxes(seed):
    rng = np.random.default_rng(seed)
    truth, results = random_case(seed, n_images=3, n_classes=1 + seed % 2, coarse=seed % 3 > 0, detections=400)
    for record in truth["annotations"] + results:
        if rng.random() < 0.1:
            record["bbox"][rng.integers(2, 4)] = 0.0
    for record in truth["annotations"]:
        record["area"] = float(rng.choice([0.0, 32.0**2, 96.0**2, 1e10]))
    assert max(len(match(truth, results).scores), 0) < len(results)
    assert_equal_to_pycocotools(truth, results)


def test_equals_pycocotools_without_objects_detections_or_a_class():
    truth, results = random_case(3)
    assert_equal_to_pycocotools(truth, [])
    assert_equal_to_pycocotools(truth | {"annotations": []}, results)
    truth["categories"].append({"id": 9, "name": "never seen"})
    assert_equal_to_pycocotools(truth, results)
    found = coco_ap.summarize(match(truth, results))
    assert np.isnan(found.per_class["never seen"]["AP"]) and found.per_class["never seen"]["n_gt"] == 0


def test_zero_images():
    found = coco_ap.summarize(match({"images": [], "annotations": [], "categories": [{"id": 1, "name": "car"}]}, []))
    assert (found.stats == -1).all()
    assert all(np.isnan(value) for value in found.named().values())


def test_matched_objects_and_their_overlap():
    truth = {
        "images": [{"id": 1, "width": 400, "height": 400}],
        "categories": [{"id": 1, "name": "car"}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": box} for box in ([0, 0, 100, 100], [200, 0, 50, 50])],
    }
    boxes = {0.9: [0, 0, 100, 80], 0.7: [300, 300, 9, 9], 0.8: [0, 0, 100, 100]}
    store = match(
        truth, [{"image_id": 1, "category_id": 1, "bbox": box, "score": score} for score, box in boxes.items()]
    )
    assert store.scores.tolist() == [0.9, 0.8, 0.7]
    assert store.source.tolist() == [0, 2, 1]
    assert store.match_of().tolist() == [0, -1, -1]
    assert store.iou_of_match().tolist() == [0.8, 0.0, 0.0]
    assert store.match_of(threshold=8).tolist() == [-1, 0, -1]  # at 0.9 only the second is good enough
    assert store.detected_objects(0.5).tolist() == [True, False]


def test_only_cocos_thresholds():
    with pytest.raises(ValueError, match=r"IoU 0\.3"):
        coco_ap.ap(match(*random_case(0)), 0.3)
