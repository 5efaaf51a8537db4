"""Few drives: every way to exchange two models is tried once, so p is exact and bounded from below."""

import numpy as np

from drivetl.metrics.statistics import permutation_p_value, sign_flips


def test_all_exchanges_of_few_drives_once_and_images_of_a_drive_together():
    flips = sign_flips(["a", "b", "b", "c"], 1000)
    assert flips.shape == (7, 4) and len(np.unique(flips, axis=0)) == 7
    assert flips.any(axis=1).all() and (flips[:, 1] == flips[:, 2]).all()


def test_many_drives_are_drawn_at_random():
    flips = sign_flips([str(number) for number in range(30)], 200, seed=1)
    assert flips.shape == (200, 30)
    assert 0.45 < flips.mean() < 0.55


def test_six_drives_cannot_show_less_than_two_in_sixty_four():
    gains = np.array([0.3, 0.2, 0.4, 0.1, 0.5, 0.2])

    def difference(swaps):
        return np.where(swaps, -gains, gains).mean(axis=1)

    assert permutation_p_value(difference, [str(number) for number in range(6)], 1000) == 2 / 64
