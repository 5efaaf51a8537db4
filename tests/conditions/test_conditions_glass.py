"""What is thrown up by wheels and what sticks to the glass: where it is, how soft, how much."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from street_cases import CAMERA_M, FOCAL, HEIGHT, HORIZON, WIDTH, depth, edge_energy, street, textured

from drivetl.conditions import CATALOG, Camera, apply, scene_of
from drivetl.conditions.drops import lens_drops
from drivetl.conditions.weather import mist

CAMERA = Camera(FOCAL, HORIZON, WIDTH / 2, CAMERA_M)


def test_mist_is_low_over_the_road_and_behind_nothing() -> None:
    rows = slice(HORIZON // 4, HORIZON // 4 + 6)  # at the horizon, a quarter of the size
    open_road, walled = depth(), np.full((HEIGHT, WIDTH), 3.0, np.float32)
    clouds = [mist(scene_of(street(), open_road, camera=CAMERA), np.random.default_rng(n)) for n in range(6)]
    cloud = np.mean(clouds, axis=0)
    assert cloud[rows].mean() > 5 * cloud[:6].mean()
    assert cloud.max() < 4 and cloud.min() >= 0
    assert mist(scene_of(street(), walled, camera=CAMERA), np.random.default_rng(1)).max() < 1e-3


def test_drops_change_their_places_alone_and_more_of_them_more() -> None:
    image = street()
    shares = []
    for count in (0, 5, 40):
        drawn = lens_drops(image.copy(), np.random.default_rng(2), count)
        shares.append(float(np.any(drawn != image, axis=2).mean()))
    assert shares[0] == 0 and 0 < shares[1] < shares[2] < 0.5


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_dirt_covers_about_its_share_softly(severity: int) -> None:
    """Before an even picture all edges are the dirt's: far softer than a step of its contrast."""
    even = np.full((240, 480, 3), 200, np.uint8)
    results = [apply(even, "lens_dirt", severity, seed).astype(np.float32)[..., 1] for seed in range(4)]
    covered = np.mean([float((part < 0.93 * np.median(part)).mean()) for part in results])
    share = CATALOG["lens_dirt"].axis[severity - 1]
    assert 0.3 * share < covered < 2.0 * share
    for part in results:
        slope = np.abs(np.diff(part, axis=1)).max()
        assert slope < 0.25 * np.ptp(part)


def test_a_film_leaves_some_of_the_picture_as_sharp_as_it_was() -> None:
    image = textured()
    kept = cv2.blur(edge_energy(apply(image, "water_film", 3, 1)), (31, 31)) / cv2.blur(edge_energy(image), (31, 31))
    assert np.quantile(kept, 0.9) > 0.9 and np.quantile(kept, 0.1) < 0.75
