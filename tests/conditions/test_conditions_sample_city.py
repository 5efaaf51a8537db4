"""On the sample city, whose depth, sky and camera are known exactly."""

from __future__ import annotations

import numpy as np
import pytest
from street_cases import edge_energy

from drivetl.conditions import CATALOG, apply, scene_of
from drivetl.conditions.air import KOSCHMIEDER
from drivetl.conditions.optics import to_linear
from drivetl.sample.render import SampleFrame, render_frame
from drivetl.sample.shade import SKY_DEPTH_M
from drivetl.sample.world import build_world

SCALE = 0.5
PLACES = [("a", 0, 3), ("a", 4, 2), ("b", 0, 6)]


@pytest.fixture(scope="module")
def frames() -> dict[tuple[str, int, int], SampleFrame]:
    return {place: render_frame(*place, 0, SCALE) for place in PLACES}


@pytest.mark.parametrize("place", PLACES)
def test_camera_sky_and_order_of_depth_are_estimated(place, frames) -> None:
    frame, camera = frames[place], build_world(place[0], place[1], 0).camera(place[2], SCALE)
    scene, true_sky = scene_of(frame.image), frame.depth >= 0.99 * SKY_DEPTH_M
    assert abs(scene.view.horizon_px - camera.horizon_row) < 0.06 * frame.image.shape[0]
    found = scene.sky > 0.5
    assert (found & true_sky).sum() > 0.85 * (found | true_sky).sum()
    solid = ~true_sky
    assert np.corrcoef(np.log(scene.depth[solid]), np.log(frame.depth[solid]))[0, 1] > 0.7


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_fog_follows_the_true_depth(frames, severity: int) -> None:
    """In every band of depth the light that is left is exp(-beta z) within 5 %."""
    frame = frames["a", 0, 3]
    air = scene_of(frame.image, frame.depth).airlight()
    clear, shown = (to_linear(frame.image), to_linear(apply(frame.image, "fog", severity, 1, depth=frame.depth)))
    law = np.exp(-KOSCHMIEDER / CATALOG["fog"].axis[severity - 1] * frame.depth)
    contrast = np.abs(clear[1] - air[1])
    for near, far in ((4, 8), (8, 15), (15, 30), (30, 60)):
        where = (frame.depth >= near) & (frame.depth < far) & (law > 0.1) & (contrast > 0.2)
        if where.sum() > 200:
            left = (shown[1] - air[1])[where] / (clear[1] - air[1])[where]
            assert np.median(left / law[where]) == pytest.approx(1, abs=0.05), (near, far)


@pytest.mark.parametrize("given", [True, False])
def test_fog_takes_far_edges_first(frames, given: bool) -> None:
    for frame in frames.values():
        foggy = apply(frame.image, "fog", 3, 1, depth=frame.depth if given else None)
        before, after = edge_energy(frame.image), edge_energy(foggy)
        bands = [(frame.depth >= a) & (frame.depth < b) for a, b in ((4, 10), (14, 25), (45, 150))]
        near, middle, far = (after[band].sum() / before[band].sum() for band in bands)
        assert near > middle > far
