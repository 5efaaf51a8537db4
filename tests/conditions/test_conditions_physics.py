"""Physics: fog obeys Koschmieder, light comes from where lamps are, colours stay what they were."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from street_cases import CAMERA_M, CAR, FOCAL, HEIGHT, HORIZON, WIDTH, depth, edge_energy, street

from drivetl.conditions import CATALOG, SETS, Camera, apply, scene_of
from drivetl.conditions.air import KOSCHMIEDER, transmission
from drivetl.conditions.lamps import headlights, image_lamps
from drivetl.conditions.lighting import sensor_noise
from drivetl.conditions.optics import normal, smooth_noise, soften, to_display, to_linear, uniform
from drivetl.conditions.prior import sky_mask, vanishing_point
from drivetl.conditions.road import mirrored
from drivetl.errors import ConfigError, DataError

CAMERA = Camera(FOCAL, HORIZON, WIDTH / 2, CAMERA_M)


def test_linear_light_and_back_is_exact() -> None:
    every = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    assert np.array_equal(to_display(to_linear(every)), every)
    assert to_linear(np.full((1, 1, 3), 255, np.uint8)).max() == 1.0
    assert to_linear(np.full((1, 1, 3), 188, np.uint8))[0, 0, 0] == pytest.approx(0.5, abs=0.005)


def test_transmission_is_the_law() -> None:
    z = np.linspace(1, 400, 400, dtype=np.float32)[None]
    for visibility in CATALOG["fog"].axis:
        assert np.allclose(transmission(z, visibility), np.exp(-KOSCHMIEDER / visibility * z), rtol=1e-4)
    assert transmission(np.array([[150.0]], np.float32), 150)[0, 0] == pytest.approx(0.05, abs=1e-4)


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_rendered_fog_transmits_what_the_true_depth_says(severity: int) -> None:
    """Stripes of two greys: what is left of their difference, at one depth, is t."""
    z = depth()
    z[:, :] = z[:, 200:201]  # one depth a row, so that both stripes have the same
    image = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
    image[:, np.arange(WIDTH) % 16 >= 8] = 140
    image[:10] = 200
    clear, shown = (to_linear(part)[1, HORIZON + 1 :] for part in (image, apply(image, "fog", severity, 3, depth=z)))
    left = (shown[:, 12::16] - shown[:, 4::16]) / (clear[:, 12::16] - clear[:, 4::16])
    z = np.repeat(z[HORIZON + 1 :, :1], left.shape[1], axis=1)
    law = np.exp(-KOSCHMIEDER / CATALOG["fog"].axis[severity - 1] * z)
    for near, far in ((3, 6), (6, 12), (12, 26), (26, 60)):
        where = (z >= near) & (z < far) & (law > 0.08)
        if where.sum() > 50:
            assert np.median(left[where] / law[where]) == pytest.approx(1, abs=0.05), (near, far)


def test_fog_takes_the_far_edges_first() -> None:
    z, before = depth(), edge_energy(street())
    ground = np.zeros((HEIGHT, WIDTH), np.bool_)
    ground[HORIZON + 1 :] = True
    for severity in (1, 3, 5):
        after = edge_energy(apply(street(), "fog", severity, 1, depth=z, camera=CAMERA))
        near, middle, far = (
            after[where].sum() / before[where].sum()
            for where in (ground & (z < 8), ground & (z > 12) & (z < 20), ground & (z > 35))
        )
        assert near > middle > far
        assert near < 1


def test_the_estimated_depth_orders_the_street_too() -> None:
    before = edge_energy(street())
    after = edge_energy(apply(street(), "fog", 3, 1))
    rows = [slice(92, 100), slice(112, 125), slice(160, 190)]
    far, middle, near = (after[part].sum() / before[part].sum() for part in rows)
    assert near > middle > far


def test_airlight_is_bounded_and_there_is_no_dome_at_the_vanishing_point() -> None:
    for image in (street(), np.zeros((96, 160, 3), np.uint8), np.full((96, 160, 3), 255, np.uint8)):
        air = scene_of(image).airlight()
        assert 0.1 <= air.mean() <= 0.62 and np.ptp(air) < 0.2
    foggy = cv2.GaussianBlur(apply(street(), "fog", 4, 2), (0, 0), 3).astype(float).mean(axis=2)
    around = foggy[HORIZON - 20 : HORIZON - 4, WIDTH // 2 - 30 : WIDTH // 2 + 30].mean()
    sky = foggy[5:25, 180:310].mean()
    assert around <= sky + 4


def test_no_halo_wider_than_three_pixels_at_an_edge_against_the_sky() -> None:
    """Dark trees before a bright sky, as one edge: fog must not bleed over it."""
    image = street()
    image[:40], image[40:HORIZON] = 215, 35
    foggy = apply(image, "fog", 3, 1)[..., 1].astype(float)
    column = foggy[20:60].mean(axis=1)
    sky, tree = column[:10].mean(), column[-10:].mean()
    assert sky - tree > 20
    between = (column < sky - 0.2 * (sky - tree)) & (column > tree + 0.2 * (sky - tree))
    assert between.sum() <= 3


def test_headlights_light_the_lane_and_not_its_sides() -> None:
    night = apply(street(), "night", 4, 1, depth=depth(), camera=CAMERA).astype(float).mean(axis=2)
    row = slice(HORIZON + 40, HORIZON + 50)  # about 13 m ahead
    lane = night[row, WIDTH // 2 - 20 : WIDTH // 2 + 20].mean()
    beside = night[row, WIDTH // 2 + 190 :].mean()
    far = night[HORIZON + 4 : HORIZON + 8, WIDTH // 2 - 4 : WIDTH // 2 + 4].mean()
    assert lane > 1.5 * beside and lane > 1.3 * far
    day = street().astype(float).mean(axis=2)
    assert night[:40].mean() < 0.4 * day[:40].mean()


def test_a_tail_lamp_shines_and_a_prohibition_sign_does_not() -> None:
    picture = np.full((192, 480, 3), 105, np.uint8)
    picture[120:123, 100:104] = picture[120:123, 118:122] = (220, 20, 20)
    assert image_lamps(scene_of(picture, camera=CAMERA))[55:65, 45:65, 0].max() > 0.05
    sign = np.full((192, 480, 3), 105, np.uint8)
    cv2.circle(sign, (110, 120), 22, (235, 235, 235), -1)
    cv2.circle(sign, (110, 120), 20, (200, 20, 20), 5)
    cv2.line(sign, (96, 106), (124, 134), (60, 60, 60), 4)  # what lies over it breaks the ring's light, not the ring
    assert image_lamps(scene_of(sign, camera=CAMERA)).max() < 0.2


def test_a_mast_has_no_headlights() -> None:
    assert headlights(scene_of(street(), camera=Camera(height_m=8))).max() == 0


@pytest.mark.parametrize("name", [n for n in SETS["drive"] if n not in ("lens_dirt", "dead_rows")])
def test_a_red_car_stays_red(name: str) -> None:
    car = apply(street(), name, 3, 2, depth=depth(), camera=CAMERA)[CAR].reshape(-1, 3).astype(float)
    red, green, blue = np.median(car, axis=0)
    assert red > green + 3 and red > blue + 3
    assert abs(green - blue) < 0.5 * (red - min(green, blue)) + 3  # neither orange nor magenta


@pytest.mark.parametrize("name", ["snowfall", "rain", "fog", "wet_road", "dusk"])
def test_grey_stays_nearly_grey(name: str) -> None:
    grey = np.full((96, 192, 3), 120, np.uint8)
    result = apply(grey, name, 3, 1).reshape(-1, 3).astype(float)
    assert np.ptp(np.median(result, axis=0)) < 22


def test_a_wet_road_mirrors_what_stands_on_it() -> None:
    below = (slice(CAR[0].stop + 3, CAR[0].stop + 25), CAR[1])
    beside = (below[0], slice(CAR[1].start - 80, CAR[1].start - 20))
    wet = apply(street(), "wet_road", 5, 3, camera=CAMERA).astype(float)
    redness = [(wet[part][..., 0] - wet[part][..., 1]).mean() for part in (below, beside)]
    assert redness[0] > redness[1] + 2


def test_a_wet_road_does_not_mirror_its_markings() -> None:
    plain = np.full((192, 480, 3), 105, np.uint8)
    plain[:HORIZON] = 215
    marked = plain.copy()
    marked[128:134, 230:244] = 230
    scenes = [scene_of(picture, camera=CAMERA) for picture in (plain, marked)]
    without, with_ = (mirrored(scene, scene.linear)[:, 136 // 4 :] for scene in scenes)
    assert np.allclose(without, with_, atol=0.02)


def test_a_wet_road_leaves_trees_beside_it_as_they_are() -> None:
    picture = street()
    slope = (slice(HORIZON + 20, HORIZON + 70), slice(400, 480))
    picture[slope] = np.array([64, 79, 72]) + (picture[slope] // 16)
    wet = apply(picture, "wet_road", 5, 3, camera=CAMERA)
    assert np.abs(wet[slope].astype(float) - picture[slope]).mean() < 6


def test_ego_motion_blurs_the_near_and_not_the_vanishing_point() -> None:
    before = edge_energy(street())
    after = edge_energy(apply(street(), "ego_blur", 4, 1, depth=depth(), camera=CAMERA))
    near = after[170:, :150].sum() / before[170:, :150].sum()
    centre = (slice(HORIZON + 4, HORIZON + 14), slice(220, 260))
    assert near < 0.6 * after[centre].sum() / before[centre].sum()


def test_sensor_noise_has_the_variance_it_says() -> None:
    planes = np.full((3, 200, 200), 0.25, np.float32)
    sensor_noise(planes, np.random.default_rng(1), full_well=1000, read=0.01)
    assert planes.mean() == pytest.approx(0.25, abs=0.001)
    assert planes.var() == pytest.approx(0.25 / 1000 + 0.01**2, rel=0.03)


def test_random_fields_have_the_moments_they_say() -> None:
    rng = np.random.default_rng(4)
    sample, flat = normal(rng, 300, 300), uniform(rng, 300, 300)
    assert abs(sample.mean()) < 0.01 and sample.std() == pytest.approx(1, abs=0.01)
    assert flat.min() > 0 and flat.max() < 1 and flat.mean() == pytest.approx(0.5, abs=0.01)
    fields = np.stack([smooth_noise(rng, 120, 200, 20, octaves) for octaves in (1, 3) for _ in range(20)])
    assert abs(fields.mean()) < 0.08 and fields.std() == pytest.approx(1, abs=0.15)
    assert smooth_noise(rng, 5, 7, 300).shape == (5, 7)


def test_a_wide_blur_at_reduced_size_equals_the_full_one() -> None:
    plane = to_linear(street())[1]
    full = cv2.GaussianBlur(plane, (0, 0), 12)
    assert np.abs(soften(plane, 12) - full)[20:-20, 20:-20].max() < 0.03


def test_the_vanishing_point_is_where_the_lines_meet() -> None:
    image = np.full((240, 640, 3), 110, np.uint8)
    for x in (0, 160, 420, 639):
        cv2.line(image, (300, 100), (x, 239), (230, 230, 230), 3, cv2.LINE_AA)
    column, row = vanishing_point(image)
    assert abs(column - 300) < 20 and abs(row - 100) < 12


def test_without_lines_the_prior_decides() -> None:
    column, row = vanishing_point(np.full((100, 200, 3), 90, np.uint8))
    assert abs(column - 100) < 4 and 40 < row < 52


def test_the_sky_is_found_and_nothing_else() -> None:
    mask = sky_mask(street(), HORIZON)
    assert mask[5:60, 190:300].mean() > 0.95
    assert mask[HORIZON:].max() == 0 and mask[45:80, 20:150].mean() < 0.05
    assert sky_mask(np.zeros((60, 90, 3), np.uint8), 30).max() == 0


@pytest.mark.parametrize("row", [-3.0, 0.0, 192.0, 1e9, float("nan")])
def test_a_horizon_outside_the_picture_is_refused(row: float) -> None:
    with pytest.raises(ConfigError, match="horizon"):
        apply(street(), "fog", 3, 1, camera=Camera(horizon_px=row))


def test_other_impossible_cameras_and_depths_are_refused() -> None:
    with pytest.raises(ConfigError, match="focal_px"):
        apply(street(), "fog", 3, 1, camera=Camera(focal_px=0))
    with pytest.raises(ConfigError, match="vanishing point"):
        apply(street(), "fog", 3, 1, camera=Camera(centre_px=1e6))
    with pytest.raises(DataError, match="shape"):
        apply(street(), "fog", 3, 1, depth=np.ones((3, 3), np.float32))


def test_holes_in_the_depth_are_estimated() -> None:
    holed, whole = depth(), depth()
    holed[100:110] = np.nan
    holed[150:160] = 0
    filled = scene_of(street(), holed, camera=CAMERA).depth
    assert np.isfinite(filled).all()
    assert np.array_equal(filled[112:148], np.minimum(whole, 400)[112:148])
    assert np.all((filled[150:160] > 4) & (filled[150:160] < 16))  # the road there is 8 to 9 m away
