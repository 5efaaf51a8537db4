"""Laws of the learning curve: known curves are recovered, bounds hold, intervals cover, bad fits are refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivetl.label_curve import fit as lc

COUNTS = (25, 50, 100, 200)
LABELS = np.array(COUNTS, float)


def curve(a, b, c, labels=LABELS):
    return a - b * labels**-c


@pytest.mark.parametrize("a, b, c", [(0.6, 1.5, 0.5), (0.35, 0.9, 0.3), (0.9, 2.0, 0.25), (0.5, 0.0, 1.0)])
def test_a_known_curve_is_recovered(a, b, c):
    nearest = float(lc.EXPONENTS[np.abs(lc.EXPONENTS - c).argmin()])
    found = lc.fit(LABELS, curve(a, b, nearest)[None], np.ones(4))
    assert found[0, 0] == pytest.approx(a, abs=1e-6)
    assert found[0, 1] == pytest.approx(b, abs=1e-5)
    ahead = np.array([300.0, 400.0])
    assert lc.predict(found, ahead)[0] == pytest.approx(curve(a, b, nearest, ahead), abs=1e-6)


def test_an_exponent_between_the_candidates_hardly_matters():
    for c in (0.11, 0.37, 0.83):
        found = lc.fit(LABELS, curve(0.6, 0.8, c)[None], np.ones(4))
        assert lc.predict(found, np.array([400.0]))[0, 0] == pytest.approx(
            curve(0.6, 0.8, c, np.array([400.0]))[0], abs=2e-3
        )


@settings(max_examples=60)
@given(st.lists(st.floats(0, 1), min_size=4, max_size=4), st.lists(st.floats(0.1, 10), min_size=4, max_size=4))
def test_bounds_hold_and_no_neighbour_fits_better(values, weights):
    y, w = np.array(values), np.array(weights)
    a, b, c = lc.fit(LABELS, y[None], w)[0]
    assert -1e-9 <= a <= 1 + 1e-9 and b >= 0 and c in lc.EXPONENTS

    def error(a, b):
        return float((w * (curve(a, b, c) - y) ** 2).sum())

    for da in (-1e-3, 0, 1e-3):
        for share in (0.99, 1.0, 1.01):
            if 0 <= a + da <= 1:
                assert error(a, b) <= error(a + da, b * share) + 1e-9


def test_a_batch_of_draws_equals_single_draws():
    draws = np.clip(curve(0.6, 1.5, 0.5) + 0.02 * np.random.default_rng(0).standard_normal((7, 4)), 0, 1)
    w = np.array([1.0, 2.0, 3.0, 4.0])
    assert np.allclose(lc.fit(LABELS, draws, w), np.vstack([lc.fit(LABELS, one[None], w) for one in draws]))


def test_draws_with_nan_stay_nan():
    draws = np.vstack([curve(0.6, 1.5, 0.5), [np.nan, 0.2, 0.3, 0.4]])
    ahead = lc.predict(lc.fit(LABELS, draws, np.ones(4)), np.array([300.0]))
    assert np.isfinite(ahead[0, 0]) and np.isnan(ahead[1, 0])


@pytest.mark.parametrize(
    "counts, values, why",
    [
        ((25, 50), [0.2, 0.3], "at least 3"),
        ((25, 50, 100), [0.3, 0.25, 0.2], "do not rise"),
        ((25, 50, 100), [0.3, 0.3, 0.3], "do not rise"),
        ((25, 50, 100), [0.3, np.nan, 0.4], "not measured"),
        ((25, 50, 100), [0.2, 0.3, 0.35], None),
    ],
)
def test_the_reason_when_there_is_no_curve(counts, values, why):
    found = lc.no_curve(counts, np.array(values))
    assert found is None if why is None else why in found


@pytest.mark.parametrize("largest, step", [(1, 1), (2, 1), (8, 2), (43, 20), (100, 50), (200, 100), (994, 200)])
def test_the_next_step_is_round_and_within_reach(largest, step):
    assert lc.next_frames(largest) == step
    assert largest + step <= lc.REACH * largest


def test_labels_needed_inverts_the_curve():
    curves = np.array([[0.5, 1.2, 0.5], [0.5, 1.2, 0.5], [0.5, 0.0, 1.0]])
    assert lc.labels_needed(curves, 0.4)[0] == pytest.approx((0.1 / 1.2) ** -2)
    assert lc.predict(curves[:1], lc.labels_needed(curves, 0.4)[:1])[0, 0] == pytest.approx(0.4)
    assert np.isinf(lc.labels_needed(curves, 0.6)).all()
    assert lc.labels_needed(curves, 0.5)[2] == 0


@pytest.mark.parametrize("n_seeds", [2, 3, 5])
def test_seed_multipliers_follow_students_t(n_seeds):
    t = {2: 12.706, 3: 4.303, 5: 2.776}[n_seeds]
    values = np.random.default_rng(1).standard_normal(n_seeds)
    error = lc.seed_multipliers(40_000, n_seeds) @ (values - values.mean())
    half = t * values.std(ddof=1) / np.sqrt(n_seeds)
    assert np.mean(np.abs(error) <= half) == pytest.approx(0.95, abs=0.005)


def test_one_seed_adds_no_spread_of_seeds():
    values = np.random.default_rng(0).random((1, 4, 9, 2))
    points, draws = lc.combine(values, lc.seed_multipliers(8, 1))
    assert np.array_equal(points, values[0, :, 0])
    assert np.array_equal(draws, values[0, :, 1:].swapaxes(0, 1))


def simulated(rng, n_seeds=3, n_drives=30, n_draws=200, factor=1.0):
    """(S, N, 1 + B, 2) of runs whose true AP is known; drives are easy or hard for all counts alike."""
    drives = factor * curve(0.5, 1.2, 0.5)[:, None] + 0.05 * rng.standard_normal(n_drives)
    drives = drives + 0.02 * rng.standard_normal((4, n_drives))
    picks = rng.multinomial(n_drives, np.full(n_drives, 1 / n_drives), size=n_draws)
    weights = np.vstack([np.ones(n_drives), picks]) / n_drives
    seeds = 0.012 * rng.standard_normal((n_seeds, 4))
    return ((drives @ weights.T)[None] + seeds[..., None])[..., None].repeat(2, -1)


def inside(interval, truth):
    return interval["low"] <= truth <= interval["high"]


def test_intervals_cover_the_truth():
    rng, points, gains = np.random.default_rng(0), [], []
    true_gain = curve(0.5, 1.2, 0.5, np.array([300.0]))[0] - curve(0.5, 1.2, 0.5)[-1]
    for trial in range(120):
        found = lc.regime_document(COUNTS, ["car"], simulated(rng), lc.seed_multipliers(200, 3, trial))
        points += [
            inside(row["value"], truth) for row, truth in zip(found["points"], curve(0.5, 1.2, 0.5), strict=True)
        ]
        if found["next"]:
            gains.append(inside(found["next"]["gain"], true_gain))
    assert 0.91 <= np.mean(points) <= 0.99
    assert np.mean(gains) >= 0.91 and len(gains) >= 0.9 * 120  # a true power law is rarely refused


def measured(rng, truth, sd, n_seeds=3, n_draws=200):
    """(S, N, 1 + B, 2) of runs that scatter around (N,) true values; drives are all alike."""
    seeds = np.clip(truth + sd * rng.standard_normal((n_seeds, len(truth))), 0, 1)
    return seeds[..., None, None].repeat(1 + n_draws, 2).repeat(2, 3)


def document(truth, sd, target=None, seed=0):
    values = measured(np.random.default_rng(seed), np.array(truth), sd)
    return lc.regime_document(COUNTS, ["car"], values, lc.seed_multipliers(200, 3, seed), target)


@pytest.mark.parametrize(
    "truth, why",
    [
        ((0.002, 0.003, 0.013, 0.059), "follow a saturating curve (off by 1.6 at 100)"),
        ((0.3, 0.1, 0.1, 0.31), "follow a saturating curve (off by 10.5 at 200)"),
        ((0.05, 0.1, 0.2, 0.4), "follow a saturating curve (off by 5.6 at 200)"),
        ((0.002, 0.003, 0.004, 0.012), "less at 300 (1.1) than was measured at 200 (1.2)"),
    ],
)
def test_points_without_a_saturating_curve_predict_nothing(truth, why):
    found = document(truth, 0.0, target=0.3)
    assert why in found["why_not"] and found["why_not"].endswith("so nothing is predicted")
    assert found["curve"] is found["next"] is found["target"] is None


@pytest.mark.parametrize("sd", [0.003, 0.01, 0.03])
@pytest.mark.parametrize("middle", [100, 200, 400])
def test_an_s_shaped_truth_is_refused_or_covered(middle, sd):
    def truth(n):
        return 0.45 / (1 + (middle / n) ** 1.5)

    rise, held, refused = truth(300.0) - truth(200.0), 0, 0
    for seed in range(60):
        found = document(truth(LABELS), sd, seed=seed)
        refused += found["next"] is None
        held += found["next"] is None or inside(found["next"]["gain"], rise)
    assert held >= 0.9 * 60
    assert sd > 0.003 or refused >= 0.9 * 60


def test_exact_points_of_a_power_law_are_never_refused():
    for c in (0.1, 0.3, 0.5, 1.0):
        found = document(curve(0.6, 0.8, c), 0.0)
        assert found["why_not"] is None
        ahead = curve(0.6, 0.8, c, np.array([300.0]))[0]
        assert found["next"]["value"]["point"] == pytest.approx(ahead, abs=2e-3)


def test_a_class_without_a_curve_has_no_gain_and_the_others_do():
    good, bad = curve(0.6, 1.5, 0.5), np.array([0.3, 0.1, 0.1, 0.31])
    both = np.stack([good, good, bad], -1)[None, :, None].repeat(3, 0).repeat(201, 2)
    found = lc.regime_document(COUNTS, ["car", "cyclist"], both, lc.seed_multipliers(200, 3))
    assert found["next"]["per_class"]["cyclist"] == {"point": None, "low": None, "high": None, "se": None}
    assert found["next"]["per_class"]["car"]["point"] > 0 and found["next"]["mostly"] == "car"


def test_draws_may_be_convex_and_reach_a_target_where_they_cross_it():
    straight = curve(0.05, -0.002, -1.0)
    found = lc.fit(LABELS, straight[None], np.ones(4), lc.RISING)
    assert found[0] == pytest.approx([0.05, -0.002, -1.0])
    assert lc.labels_needed(found, 0.65)[0] == pytest.approx(300)
    assert lc.labels_needed(found, 0.04)[0] == 0


def test_a_target_below_the_smallest_count_needs_at_most_that_count():
    found = document(curve(0.6, 1.5, 0.5), 0.001, target=0.1)["target"]
    assert found["frames"] == {"point": 25, "low": 25, "high": 25} and found["least"] == 25


def test_the_document_has_the_points_and_stays_within_its_reach():
    found = lc.regime_document(COUNTS, ["car"], simulated(np.random.default_rng(3)), lc.seed_multipliers(200, 3), 0.42)
    assert [row["frames"] for row in found["points"]] == list(COUNTS)
    line = np.array(found["curve"]["line"])
    assert line[0, 0] == 25 and line[-1, 0] == pytest.approx(400)
    assert (line[:, 2] <= line[:, 3]).all() and ((line[:, 1:] >= 0) & (line[:, 1:] <= 1)).all()
    assert (found["next"]["frames"], found["next"]["from"]) == (100, 200)
    assert found["target"]["most"] == 400
    assert found["target"]["frames"]["point"] == pytest.approx((0.08 / 1.2) ** -2, rel=0.5)
    beyond = lc.regime_document(COUNTS, ["car"], simulated(np.random.default_rng(3)), lc.seed_multipliers(200, 3), 0.9)
    assert beyond["target"]["frames"] == {"point": None, "low": None, "high": None}


def test_the_class_that_gains_most_is_named_only_when_it_is_clear():
    rng = np.random.default_rng(5)
    car = simulated(rng)[..., :1]
    cyclist = np.clip(car + 0.3 - 2.4 * LABELS[:, None, None] ** -0.5, 0, 1)
    values = np.concatenate([(car + cyclist) / 2, car, cyclist], -1)
    found = lc.regime_document(COUNTS, ["car", "cyclist"], values, lc.seed_multipliers(200, 3))
    assert found["next"]["mostly"] == "cyclist"
    flat = np.concatenate([car, car, car], -1) * 0 + curve(0.5, 0, 1)[:, None, None]
    assert lc.regime_document(COUNTS, ["a", "b"], flat, lc.seed_multipliers(200, 3))["next"] is None


def test_gains_are_paired_so_that_shared_errors_cancel():
    rng = np.random.default_rng(7)
    base = simulated(rng)
    rows = lc.gain_documents(COUNTS, {"transfer": base + 0.1, "scratch": base}, "scratch", lc.seed_multipliers(200, 3))
    assert [row["frames"] for row in rows] == list(COUNTS)
    for row in rows:
        assert (row["regime"], row["over"]) == ("transfer", "scratch")
        assert row["gain"]["point"] == pytest.approx(0.1)
        assert row["gain"]["high"] - row["gain"]["low"] < 1e-9


def test_counts_with_less_variance_weigh_more():
    rng = np.random.default_rng(0)
    weights = lc.precision_weights(np.array([0.1, 0.01, 0.01, 0.01]) * rng.standard_normal((5, 4)))
    assert weights[0] < weights[1:].min()
    assert np.array_equal(lc.precision_weights(np.zeros((3, 4))), np.ones(4))
    assert np.array_equal(lc.precision_weights(np.zeros((1, 4))), np.ones(4))
    assert np.array_equal(lc.precision_weights(np.full((3, 4), 0.1)), np.ones(4))
