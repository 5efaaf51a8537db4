"""With few drives, all exchanges of two models are enumerated, so p is exact and bounded from below."""

import numpy as np

from drivetl.metrics.statistics import sign_flips


def test_few_drives_enumerate_all_exchanges_of_whole_drives():
    flips = sign_flips(["a", "b", "b", "c", "d", "d", "e", "e"], 1000)
    assert flips.shape == (31, 8) and len(np.unique(flips, axis=0)) == 31
    assert flips.any(axis=1).all() and (flips[:, 1] == flips[:, 2]).all()


def test_many_drives_are_drawn_at_random():
    flips = sign_flips([str(number) for number in range(30)], 200, seed=1)
    assert flips.shape == (200, 30)
    assert 0.45 < flips.mean() < 0.55
