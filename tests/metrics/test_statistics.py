import numpy as np
import pytest
from coco_cases import random_case
from simulated import detect, drives

from drivetl.coco.drives import Drives
from drivetl.metrics import coco_ap, statistics
from drivetl.metrics.match_store import match
from drivetl.metrics.paired import exchanged_ap, pooled


@pytest.mark.parametrize("seed", range(20))
def test_weights_of_one_reproduce_the_point_estimate(seed):
    store = match(*random_case(seed))
    metrics = coco_ap.summarize(store)
    np.testing.assert_allclose(coco_ap.ap(store), metrics.named()["AP"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(coco_ap.ap(store, 0.5), metrics.named()["AP50"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(coco_ap.ap(store, view=2), metrics.named()["APm"], rtol=0, atol=1e-12)
    by_class = [row["AP"] for row in metrics.per_class.values()]
    np.testing.assert_allclose(coco_ap.class_ap(store)[0], by_class, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_weights_are_repeated_images(seed):
    truth, results = random_case(seed, coarse=False)
    store = match(truth, results)
    weights = np.random.default_rng(seed).integers(0, 3, store.n_images)
    repeated = {"images": [], "annotations": [], "categories": truth["categories"]}
    detections = []
    for image_id, count in zip(store.truth.image_ids, weights, strict=True):
        for copy in range(count):
            own = int(image_id) * 10 + copy
            repeated["images"].append({"id": own, "width": 320, "height": 240})
            repeated["annotations"] += [
                item | {"image_id": own} for item in truth["annotations"] if item["image_id"] == image_id
            ]
            detections += [item | {"image_id": own} for item in results if item["image_id"] == image_id]
    np.testing.assert_allclose(
        coco_ap.ap(store, weights=weights), coco_ap.ap(match(repeated, detections)), rtol=0, atol=1e-12
    )


def test_many_draws_at_once_equal_one_by_one():
    store = match(*random_case(3))
    weights = statistics.draw_weights(store.units(), 150, seed=1)
    one_by_one = np.concatenate([coco_ap.ap(store, 0.5, row) for row in weights])
    np.testing.assert_allclose(coco_ap.ap(store, 0.5, weights), one_by_one, rtol=0, atol=1e-12)


def test_draws_take_whole_drives_and_are_reproducible():
    units = ["a", "b", "a", "c", "b", "d", "e", "e"]
    weights = statistics.draw_weights(units, 200, seed=4)
    assert np.array_equal(weights[:, 0], weights[:, 2])
    assert np.array_equal(weights[:, 1], weights[:, 4])
    assert (weights[:, [0, 1, 3, 5, 6]].sum(axis=1) == 5).all()
    assert np.array_equal(weights, statistics.draw_weights(units, 200, seed=4))
    assert not np.array_equal(weights, statistics.draw_weights(units, 200, seed=5))


def test_zero_images_give_no_weights_and_nan():
    assert statistics.draw_weights([], 3).shape == (0, 0)
    store = match({"images": [], "annotations": [], "categories": [{"id": 1, "name": "car"}]}, [])
    assert np.isnan(coco_ap.ap(store, 0.5, np.ones((2, 0)))).all()


def test_a_draw_without_the_class_is_nan():
    truth, results = random_case(1)
    store = match(truth, results)
    only_empty = np.zeros((1, store.n_images))
    assert np.isnan(coco_ap.ap(store, weights=only_empty)).all()


@pytest.mark.parametrize(("n_drives", "low", "high"), [(5, 0.78, 0.92), (10, 0.82, 0.94), (30, 0.89, 0.97)])
def test_law_the_stated_coverage_of_intervals_over_few_drives(n_drives, low, high, true_ap):
    assert low <= coverage(n_drives, 200, true_ap) <= high


def test_intervals_cover_the_truth(true_ap):
    assert 0.92 <= coverage(50, 300, true_ap) <= 0.98


@pytest.fixture(scope="module")
def true_ap():
    rng = np.random.default_rng(10**6)
    everything = drives(10_000)
    return coco_ap.ap(match(everything, detect(everything, rng)), 0.5)[0]


def coverage(n_drives, n, true_ap):
    """The share of n simulated datasets whose 95 % interval contains the true AP50."""
    covered = 0
    for seed in range(n):
        rng = np.random.default_rng(seed)
        truth = drives(n_drives)
        store = match(truth, detect(truth, rng))
        interval = statistics.drive_bootstrap(
            lambda weights, store=store: coco_ap.ap(store, 0.5, weights), truth.drives.units(), 300, seed
        )
        covered += interval.low <= true_ap <= interval.high
    return covered / n


@pytest.mark.parametrize("seed", range(6))
def test_exchanging_all_or_no_drives(seed):
    truth, results = random_case(seed)
    _, others = random_case(seed + 100)
    known = {item["id"] for item in truth["images"]}
    a, b = match(truth, results), match(truth, [item for item in others if item["image_id"] in known])
    measure = exchanged_ap(a, b)
    kept = measure(np.zeros((1, a.n_images), bool))
    swapped = measure(np.ones((1, a.n_images), bool))
    for aps, expected in ((kept, (a, b)), (swapped, (b, a))):
        for ap, store in zip(aps, expected, strict=True):
            np.testing.assert_allclose(ap, coco_ap.ap(store), rtol=0, atol=1e-12)
    assert pooled(a, b).n_images == 2 * a.n_images


def test_exchanging_some_images_is_the_ap_of_the_mixed_detector():
    truth, results = random_case(8)
    _, others = random_case(9)
    ids = sorted(item["id"] for item in truth["images"])
    others = [item | {"image_id": ids[item["image_id"] % len(ids)]} for item in others]
    a, b = match(truth, results), match(truth, others)
    flips = np.random.default_rng(0).random((1, len(ids))) < 0.5
    from_b = set(np.array(ids)[flips[0]])
    mixed = [item for item in results if item["image_id"] not in from_b]
    mixed += [item for item in others if item["image_id"] in from_b]
    np.testing.assert_allclose(exchanged_ap(a, b)(flips)[0], coco_ap.ap(match(truth, mixed)), rtol=0, atol=1e-12)


def test_holm_steps_down_and_keeps_nan():
    adjusted = statistics.holm({"fog": 0.01, "rain": 0.04, "snow": 0.03, "night": float("nan")})
    assert adjusted["fog"] == pytest.approx(0.03)
    assert adjusted["snow"] == pytest.approx(0.06)
    assert adjusted["rain"] == pytest.approx(0.06)  # never below a smaller p's
    assert np.isnan(adjusted["night"])


@pytest.mark.parametrize(("n_images", "n_units"), [(40, 4), (7, 7), (8, 5), (40, 6), (1, 1)])
def test_law_too_few_images_or_drives_have_no_interval_and_no_p(n_images, n_units):
    units = [number % n_units for number in range(n_images)]
    is_enough = n_images >= statistics.FEWEST_IMAGES and n_units >= statistics.FEWEST_DRIVES
    assert (len(statistics.draw_weights(units, 50)) > 0) == (len(statistics.sign_flips(units, 50)) > 0) == is_enough
    interval = statistics.drive_bootstrap(lambda weights: weights @ np.arange(n_images), units, 50)
    assert interval.point == sum(range(n_images)) and np.isnan(interval.low) != is_enough
    of_all = np.zeros((50, 2 * n_images))
    within = statistics.draws_within(of_all, units * 2, np.arange(2 * n_images) < n_images)
    assert within.shape == (50 if is_enough else 0, 2 * n_images)


def test_few_drives_are_warned_about():
    assert "too few drives: 3" in statistics.few_drives(Drives(("a", "b", "c", "a")))
    assert statistics.few_drives(Drives(tuple(str(i) for i in range(20)))) is None


def test_the_interval_of_nan_draws_is_nan():
    interval = statistics.percentile_interval(np.full(5, np.nan), 0.3)
    assert interval.point == 0.3
    assert np.isnan([interval.low, interval.high, interval.standard_error]).all()
