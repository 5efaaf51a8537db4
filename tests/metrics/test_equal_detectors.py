"""The five-percent law on the code that decides: two equally good detectors differ significantly in 5 % of comparisons.

Many pairs of simulated detectors of the same quality see the same images, clustered in drives of different difficulty.
"""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import binom
from simulated import detect, drives

from drivetl.conditions import CLEAN
from drivetl.metrics import coco_ap
from drivetl.metrics.comparison import compare
from drivetl.metrics.match_store import match
from drivetl.metrics.statistics import draw_weights
from drivetl.robustness.headline import condition_rows, headline_row
from drivetl.robustness.run import FinishedSweep, Timing
from drivetl.robustness.score_cells import score_sweep

N_PAIRS = 200
N_DRIVES = 30
N_DRAWS = 299  # so that p <= 0.05 is exactly the 15 most extreme of 300 exchanges
CELLS = [("fog", 1), ("rain", 1)]
LOW, HIGH = (count / N_PAIRS for count in binom.interval(0.99, N_PAIRS, 0.05))
"""99 % range of the rejection rate of 200 exact tests at 5 %."""


def equal_pair(seed):
    """Match stores of two equally good detectors, as `compare` asks for them."""
    rng = np.random.default_rng(seed)
    truth, difficulty = drives(N_DRIVES, objects_per_image=2), rng.normal(0, 0.8, N_DRIVES)
    stores = {
        (name, cell): match(truth, detect(truth, rng, difficulty=difficulty))
        for name in "ab"
        for cell in (CLEAN, *CELLS)
    }
    return lambda name, cell: stores[name, cell]


@pytest.fixture(scope="module")
def comparisons():
    return [compare(equal_pair(seed), CELLS, "AP50", N_DRAWS, seed) for seed in range(N_PAIRS)]


@pytest.mark.parametrize("name", ["clean", "mPC", "fog", "rain"])
def test_p_rejects_equal_detectors_in_five_percent(comparisons, name):
    p = np.array([comparison.row(name).p for comparison in comparisons])
    assert LOW <= (p <= 0.05).mean() <= HIGH
    assert 0.4 < (p <= 0.5).mean() < 0.6  # not only in its tail: p is uniform


def test_adjusted_p_rejects_any_condition_in_five_percent(comparisons):
    smallest = np.array([min(row.p_holm for row in comparison.conditions()) for comparison in comparisons])
    assert LOW <= (smallest <= 0.05).mean() <= HIGH


def test_objects_of_one_detector_alone_reject_in_at_most_five_percent(comparisons):
    """Counts of objects are often tied, and a tie counts against rejection."""
    p = np.array([comparison.objects.p for comparison in comparisons])
    assert 0 < (p <= 0.05).mean() <= HIGH


@pytest.mark.parametrize("name", ["clean", "mPC", "rPC", "fog", "rain"])
def test_intervals_of_the_difference_cover_zero(comparisons, name):
    deltas = [comparison.row(name).delta for comparison in comparisons]
    missed = np.mean([not delta.low <= 0 <= delta.high for delta in deltas])
    assert LOW <= missed <= HIGH


class Unverified:
    """A detector without a record of what it was trained on."""

    augmentation = None


class SimulatedSweep(FinishedSweep):
    """A finished sweep of `run` and `baseline` whose match stores are given."""

    def __init__(self, matched):
        detectors = {"run": Unverified(), "baseline": Unverified()}
        truth = matched("a", CLEAN).truth
        names = [name for name, _ in CELLS]
        caches = {name: SimpleNamespace(absent=frozenset()) for name in detectors}
        super().__init__(detectors, None, len(truth.image_ids), names, [1], caches, [], truth, Timing(), None)
        self._matched = matched

    def matched(self, name, cell):
        return self._matched({"run": "a", "baseline": "b"}[name], cell)


@pytest.mark.parametrize("seed", range(3))
def test_the_robustness_report_gives_the_same_p_and_intervals(seed):
    """`eval-robustness` computes its p values separately from `compare`: they must be equal."""
    matched = equal_pair(seed)
    compared = compare(matched, CELLS, "AP50", N_DRAWS, seed)
    scored = score_sweep(SimulatedSweep(matched), "AP50", N_DRAWS, seed)
    reported = {row["name"]: row["delta"] for row in condition_rows(scored)}
    mpc = headline_row(scored, ["fog", "rain"])
    reported["mPC"] = mpc["delta"]
    for name, delta in reported.items():
        row = compared.row(name)
        assert delta["p"] == row.p and delta.get("p_holm", row.p_holm) == pytest.approx(row.p_holm, nan_ok=True)
        for key, value in (("point", row.delta.point), ("low", row.delta.low), ("high", row.delta.high)):
            assert delta[key] == pytest.approx(value, abs=1e-12)
        assert delta["mde"] == pytest.approx(row.minimum_detectable)
    rpc = compared.row("rPC").delta
    assert mpc["delta_rpc"]["low"] == pytest.approx(rpc.low) and mpc["delta_rpc"]["high"] == pytest.approx(rpc.high)


def test_a_better_detector_is_significant():
    rng = np.random.default_rng(2)
    truth, difficulty = drives(40), rng.normal(0, 0.8, 40)
    stores = {name: match(truth, detect(truth, rng, skill, difficulty)) for name, skill in (("a", 1.5), ("b", 0.2))}
    row = compare(lambda name, _: stores[name], [], "AP50", n_draws=499).row("clean")
    assert row.p < 0.01 and 0 < row.delta.low < row.delta.point < row.delta.high
    assert row.minimum_detectable == pytest.approx(2.8 * np.std(row.draws, ddof=1))
    # the difficulty of the drives, common to both, cancels out of the difference
    weights = draw_weights(truth.drives.units(), 499)
    alone = [np.std(coco_ap.ap(store, 0.5, weights)) for store in stores.values()]
    assert row.delta.standard_error < np.hypot(*alone)


def test_six_drives_cannot_show_less_than_two_in_sixty_four():
    rng = np.random.default_rng(0)
    truth = drives(6)
    stores = {"a": match(truth, detect(truth, rng, 5.0)), "b": match(truth, detect(truth, rng, -1.5))}
    assert compare(lambda name, _: stores[name], [], "AP50", n_draws=1000).row("clean").p == 2 / 64
