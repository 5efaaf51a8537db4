"""Operating points, LRP, calibration, confusion and TIDE on a scene small enough to compute by hand."""

import numpy as np
import pytest
from coco_cases import random_case

from drivetl.errors import ConfigError
from drivetl.metrics import operating
from drivetl.metrics.calibration import calibration
from drivetl.metrics.lrp import mean_olrp, optimal_lrp
from drivetl.metrics.match_store import match
from drivetl.metrics.tide import tide

CAR, VAN = 1, 2


def truth_of(*objects, images=2):
    """objects: (image, category, box) or (image, category, box, crowd)."""
    return {
        "images": [{"id": i, "width": 400, "height": 400} for i in range(1, images + 1)],
        "categories": [{"id": CAR, "name": "car"}, {"id": VAN, "name": "van"}],
        "annotations": [
            {"image_id": one[0], "category_id": one[1], "bbox": one[2], "iscrowd": int(len(one) > 3)} for one in objects
        ],
    }


def results_of(*detections):
    return [dict(zip(("image_id", "category_id", "bbox", "score"), one, strict=True)) for one in detections]


A, B, C, FAR = [0, 0, 100, 100], [200, 0, 100, 100], [0, 200, 100, 100], [300, 300, 50, 50]


@pytest.fixture
def store():
    """Three cars and a van: A detected exactly, B at IoU 0.8, C as van, a background detection, a duplicate of A."""
    truth = truth_of((1, CAR, A), (1, CAR, B), (2, CAR, C), (2, VAN, A))
    return match(
        truth,
        results_of(
            (1, CAR, A, 0.9),
            (1, CAR, [200, 0, 80, 100], 0.8),
            (1, CAR, [0, 0, 100, 90], 0.7),
            (2, VAN, C, 0.6),
            (2, CAR, FAR, 0.5),
        ),
    )


def test_counts_at_each_score(store):
    curve = operating.score_curve(store, 0)
    assert curve.scores.tolist() == [0.9, 0.8, 0.7, 0.5]
    assert curve.tp.tolist() == [1, 2, 2, 2]
    assert curve.fp.tolist() == [0, 0, 1, 2]
    assert curve.overlap[-1] == pytest.approx(1.8)
    assert curve.n_gt == 3


def test_thresholds_follow_their_rule(store):
    curve = operating.score_curve(store, 0)
    choose = operating.choose_threshold
    assert choose(curve, 2, "recall", 0.6) == 0.8
    assert choose(curve, 2, "recall", 0.9) == np.inf
    assert choose(curve, 2, "fp_per_image", 0.5) == 0.7
    assert choose(curve, 2, "fp_per_image", 0.0) == 0.8
    assert choose(curve, 2, "f1") == 0.8
    assert choose(curve, 2, "lrp") == 0.8
    with pytest.raises(ConfigError, match="operating rule 'best'"):
        choose(curve, 2, "best")


def test_tied_scores_are_kept_together():
    truth = truth_of((1, CAR, A))
    store = match(truth, results_of((1, CAR, A, 0.5), (1, CAR, FAR, 0.5), (2, CAR, FAR, 0.5)))
    curve = operating.score_curve(store, 0)
    assert (curve.scores.tolist(), curve.tp.tolist(), curve.fp.tolist()) == ([0.5], [1], [2])


def test_operating_points(store):
    points = operating.operating_points(store, np.array([0.7, 0.99]))
    car, van = points["car"], points["van"]
    assert (car.recall, car.precision) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert (car.miss_rate, car.fp_per_image) == (pytest.approx(1 / 3), 0.5)
    assert (van.recall, van.fp_per_image, van.f1) == (0.0, 0.0, 0.0)
    assert np.isnan(van.precision)


def test_detected_objects_depend_on_the_threshold(store):
    assert store.detected_objects(0.0).sum() == 2
    assert store.detected_objects(0.85).sum() == 1
    assert store.detected_objects(np.array([0.95, 0.0])).sum() == 0


def test_confusion_matrix(store):
    matrix = operating.confusion_matrix(store, np.array([0.0, 0.0]))
    # truth in rows: car, van, background; detected in columns: car, van, missed
    assert matrix.tolist() == [[2, 1, 0], [0, 0, 1], [2, 0, 0]]


def test_lrp_by_hand(store):
    row = optimal_lrp(store)["car"]
    assert row.threshold == 0.8
    assert row.olrp == pytest.approx((0.2 / 0.5 + 0 + 1) / 3)
    assert row.localisation == pytest.approx(0.1)
    assert (row.false_positive, row.false_negative) == (0.0, pytest.approx(1 / 3))


def test_lrp_without_detections():
    rows = optimal_lrp(match(truth_of((1, CAR, A)), []))
    assert rows["car"].olrp == 1.0
    assert np.isnan(rows["van"].olrp)
    assert mean_olrp(rows) == 1.0


@pytest.mark.parametrize("seed", range(5))
def test_olrp_is_the_lowest_of_all_thresholds(seed):
    store = match(*random_case(seed, coarse=False))
    for k, name in enumerate(store.truth.categories):
        curve = operating.score_curve(store, k)
        every = [
            ((tp - overlap) / 0.5 + fp + curve.n_gt - tp) / (fp + curve.n_gt)
            for tp, fp, overlap in zip(curve.tp, curve.fp, curve.overlap, strict=True)
        ]
        assert optimal_lrp(store)[name].olrp == pytest.approx(min(every))


def test_calibration_by_hand(store):
    measured = calibration(store, score_floor=0.0, n_bins=2)
    # all five score 0.5 or more: mean 0.7, two of five correct
    assert measured.counts.tolist() == [0, 5]
    assert measured.d_ece == pytest.approx(abs(0.7 - 0.4))
    car, van = abs(2.9 / 4 - 1.8 / 4), 0.6
    assert measured.la_ece == pytest.approx((car + van) / 2)
    assert np.isnan(measured.precision[0])


def test_the_calibration_error_of_a_calibrated_detector_is_small():
    rng = np.random.default_rng(0)
    n = 4000
    scores = rng.random(n)
    hit = rng.random(n) < scores
    truth = truth_of(*((i + 1, CAR, A) for i in range(n)), images=n)
    store = match(truth, results_of(*((i + 1, CAR, A if hit[i] else FAR, scores[i]) for i in range(n))))
    assert calibration(store, 0.0).d_ece < 0.03
    assert np.isnan(calibration(match(truth, []), 0.0).d_ece)


def test_tide_classifies_each_error(store):
    errors = tide(store)
    assert errors.counts == {"Cls": 1, "Loc": 0, "Both": 0, "Dupe": 1, "Bkg": 1, "Miss": 1}
    assert errors.delta_ap["Cls"] > 0
    assert errors.delta_ap["Dupe"] == pytest.approx(0.0)  # it scores below both true positives


def test_tide_loc_and_both():
    truth = truth_of((1, CAR, A), (1, VAN, B))
    store = match(truth, results_of((1, CAR, [0, 0, 30, 100], 0.9), (1, CAR, [200, 0, 30, 100], 0.8)))
    errors = tide(store)
    assert errors.counts == {"Cls": 0, "Loc": 1, "Both": 1, "Dupe": 0, "Bkg": 0, "Miss": 1}
    assert errors.ap50 == 0.0
    assert errors.delta_ap["Loc"] == pytest.approx(0.5)  # the car's AP becomes 1, the van's stays 0


def test_detections_in_ignore_regions_are_not_errors():
    truth = truth_of((1, CAR, A), (1, CAR, [250, 250, 150, 150], "crowd"))
    errors = tide(match(truth, results_of((1, CAR, A, 0.9), (1, CAR, FAR, 0.8))))
    assert sum(errors.counts.values()) == 0
    assert (errors.ap50, errors.delta_ap["FP"], errors.delta_ap["FN"]) == (1.0, 0.0, 0.0)


@pytest.mark.parametrize("seed", range(8))
def test_tide_accounts_for_every_false_positive(seed):
    store = match(*random_case(seed, coarse=seed % 2 == 0))
    errors = tide(store)
    tp, ignored = store.tp_and_ignored()
    assert sum(errors.counts[name] for name in ("Cls", "Loc", "Both", "Dupe", "Bkg")) == (~tp & ~ignored).sum()
    assert all(delta >= -1e-12 for delta in errors.delta_ap.values())
    without_fp = errors.ap50 + errors.delta_ap["FP"]
    assert all(errors.ap50 + errors.delta_ap[name] <= without_fp + 1e-12 for name in ("Both", "Dupe", "Bkg"))


def test_tide_on_masks_is_refused():
    truth, results = random_case(0, n_images=3, masks=True)
    with pytest.raises(ConfigError, match="--iou-type bbox"):
        tide(match(truth, results, "segm"))
