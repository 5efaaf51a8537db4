import numpy as np
import pytest
from coco_cases import random_case

from drivetl.metrics import coco_ap, object_slices
from drivetl.metrics.match_store import AREA_RANGES_PX2, View, match, rematch
from drivetl.metrics.operating import choose_thresholds
from drivetl.metrics.statistics import FEWEST_DRIVES

EVERYTHING = np.zeros(3)


def with_attributes(seed=0):
    truth, results = random_case(seed, n_images=30, coarse=False)
    rng = np.random.default_rng(seed)
    for number, image in enumerate(truth["images"]):
        image |= {"sequence": f"drive {number % 7}", "attributes": {"weather": ["dry", "wet"][number < 3]}}
    for item in truth["annotations"]:
        item["attributes"] = {
            "location_xyz_m": [0.0, 1.0, float(rng.uniform(1, 80))],
            "occluded": int(rng.integers(0, 3)),
            "truncated": float(rng.random()),
        }
    return truth, results


@pytest.mark.parametrize("seed", range(5))
def test_rematching_under_the_same_views_changes_nothing(seed):
    store = match(*random_case(seed))
    again = rematch(store, store.views)
    assert np.array_equal(again.matched, store.matched)
    assert [view.name for view in again.views] == list(AREA_RANGES_PX2)


def test_a_view_of_everything_is_the_whole():
    store = match(*random_case(2))
    view = View("everything", store.truth.crowd, np.zeros(len(store.scores), bool))
    assert coco_ap.ap(rematch(store, [view]))[0] == coco_ap.ap(store)[0]


def test_slices_add_up_to_the_whole():
    truth, results = with_attributes()
    store = match(truth, results)
    rows = object_slices.slice_rows(store, EVERYTHING, ["weather"], n_draws=50)
    n_detected, n = store.detected_objects(0.0).sum(), int(store.truth.counts().sum())
    for name in ("height", "distance", "occlusion", "truncation", "weather"):
        part = [row for row in rows if row.slice == name]
        assert len(part) >= 2
        assert sum(row.n_gt for row in part) == n
        assert sum(row.n_gt * row.recall.point for row in part) == pytest.approx(n_detected)
        assert all(1 <= row.n_drives <= 7 for row in part)
        assert all(np.isnan(row.ap) == (name != "height") for row in part)


def test_law_a_slice_of_few_drives_has_no_interval():
    truth, results = with_attributes()
    rows = object_slices.slice_rows(match(truth, results), EVERYTHING, ["weather"], n_draws=50)
    wide = [row for row in rows if row.recall.low <= row.recall.point <= row.recall.high]
    assert all(row.n_drives >= FEWEST_DRIVES for row in wide) and len(wide) >= 3
    narrow = [row for row in rows if np.isnan(row.recall.low)]
    assert ("weather", "wet") in {(row.slice, row.bin) for row in narrow} and len(wide) + len(narrow) == len(rows)
    assert all(row.recall.point >= 0 for row in narrow)


def test_height_slices_ignore_other_heights():
    box, tall = [0, 0, 30, 30], [100, 0, 30, 120]
    truth = {
        "images": [{"id": 1, "width": 400, "height": 400}],
        "categories": [{"id": 1, "name": "car"}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": bbox} for bbox in (box, tall)],
    }
    # a tall false positive has the highest score: it lowers the AP of the tall slice alone
    tall_false_positive = [300, 0, 30, 150]
    results = [
        {"image_id": 1, "category_id": 1, "bbox": bbox, "score": score}
        for bbox, score in ((tall_false_positive, 0.9), (box, 0.8), (tall, 0.7))
    ]
    rows = {row.bin: row for row in object_slices.slice_rows(match(truth, results), np.zeros(1), n_draws=5)}
    assert rows["25-50 px"].ap == pytest.approx(1.0)
    assert rows["100+ px"].ap == pytest.approx(0.5)


def test_attributes_that_labels_lack_give_no_rows():
    store = match(*random_case(1))
    rows = object_slices.slice_rows(store, choose_thresholds(store), ["weather"], n_draws=10)
    assert {row.slice for row in rows} == {"height"}


def test_no_objects_give_no_rows():
    truth, results = random_case(1)
    store = match(truth | {"annotations": []}, results)
    assert object_slices.slice_rows(store, EVERYTHING, n_draws=10) == []


def test_bins_are_half_open():
    labels = object_slices.bin_labels(np.array([0.0, 14.9, 15.0, 200.0, np.nan, -3.0]), (0.0, 15.0, np.inf), "m")
    assert labels.tolist() == ["0-15 m", "0-15 m", "15+ m", "15+ m", "", ""]
