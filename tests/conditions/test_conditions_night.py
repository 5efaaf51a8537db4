"""The night's rungs and lamps: where they stand, what they light, and what they must not touch."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from street_cases import CAMERA_M, CAR, FOCAL, HEIGHT, HORIZON, WIDTH, street

from drivetl.conditions import CATALOG, Camera, apply, scene_of
from drivetl.conditions.road import film_share, water_depth_mm, wet_ground
from drivetl.conditions.scene import Scene
from drivetl.conditions.street import lamp_row, lit_windows, street_lamps, street_light
from drivetl.conditions.traffic import placed, vehicle_lamps
from drivetl.errors import DataError

CAMERA = Camera(FOCAL, HORIZON, WIDTH / 2, CAMERA_M)
CAR_BOX = np.array([[CAR[1].start, CAR[0].start, CAR[1].stop, CAR[0].stop]], np.float32)
NONE = np.zeros((0, 4), np.float32)
SEEDS = range(40)


def plain(vehicles: np.ndarray | None) -> Scene:
    """A grey street with nothing in it."""
    return scene_of(np.full((HEIGHT, WIDTH, 3), 105, np.uint8), None, None, CAMERA, vehicles)


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("vehicles", [None, NONE, CAR_BOX], ids=["unknown", "none", "one"])
def test_every_rung_is_darker_and_keeps_less_structure(vehicles: np.ndarray | None) -> None:
    image = street()
    fine = image.astype(np.float32) - cv2.GaussianBlur(image, (0, 0), 4)
    light, kept = [], []
    for severity in range(1, 6):
        shown = [apply(image, "night", severity, seed, camera=CAMERA, vehicles=vehicles) for seed in range(5)]
        light.append(np.mean(shown))
        kept.append(np.mean([(fine * (s - cv2.GaussianBlur(s, (0, 0), 4).astype(np.float32))).sum() for s in shown]))
    assert np.all(np.diff(light) < -1.5), light
    assert np.all(np.diff(kept) < 0) and kept[0] > 2.5 * kept[4] > 0, kept


def test_lamps_stand_in_the_lower_half_of_their_box_as_far_from_either_side() -> None:
    boxes = np.array([[20, 100, 70, 140], [250, 105, 310, 135], [330, 60, 420, 180], [100, 90, 115, 130]], np.float32)
    for seed in SEEDS:
        lamps = placed(plain(boxes), rng(seed))
        assert lamps.x.shape == (4, 2)
        assert np.all((lamps.y > boxes[:, 1:2] + 0.5 * (boxes[:, 3:] - boxes[:, 1:2])) & (lamps.y < boxes[:, 3:]))
        assert np.all((lamps.x > boxes[:, :1]) & (lamps.x < boxes[:, 2:3]))
        middle = (lamps.face[:, 0] + lamps.face[:, 2]) / 2
        assert np.allclose(lamps.x.mean(axis=1), middle, atol=1e-3)
        assert np.all(lamps.power[3] == [lamps.power[3, 0], 0]), "a motorcycle has one lamp"


def test_the_rule_of_the_road_decides_where_no_red_is_seen_and_red_lamps_otherwise() -> None:
    boxes = np.array([[60, 110, 110, 150], [330, 110, 380, 150]], np.float32)
    assert placed(plain(boxes), rng(0)).red.tolist() == [[False, False], [True, True]]
    image = np.full((HEIGHT, WIDTH, 3), 105, np.uint8)
    image[128:132, 64:70] = image[128:132, 100:106] = (220, 20, 20)
    assert placed(scene_of(image, None, None, CAMERA, boxes), rng(0)).red.tolist() == [[True, True]] * 2
    aside = placed(plain(np.array([[60, 110, 160, 140]], np.float32)), rng(0))
    assert sorted(aside.red[0].tolist()) == [False, True] and np.all(np.diff(aside.x) > 85)


def test_three_in_ten_vehicles_are_dark_and_hidden_lamps_too() -> None:
    boxes = np.array([[60, 110, 110, 150]], np.float32)
    lit = [placed(plain(boxes), rng(seed)).power.any() for seed in range(300)]
    assert np.mean(lit) == pytest.approx(0.7, abs=0.08)
    behind = np.array([[60, 110, 110, 150], [80, 100, 150, 170]], np.float32)
    both = [placed(plain(behind), rng(seed)) for seed in SEEDS]
    assert all(lamps.power[0, 1] == 0 for lamps in both), "the nearer vehicle hides the right lamp"
    assert any(lamps.power[0, 0] > 0 for lamps in both) and any(lamps.power[1].all() for lamps in both)


@pytest.mark.parametrize("boxes", [NONE, [], [[50, 60, 50, 60]], [[50, 60, 53, 63]], [[-50, -50, -10, -10]]])
def test_no_box_no_size_or_outside_is_no_lamp(boxes: object) -> None:
    vehicles = np.asarray(boxes, np.float32)
    spots, road = vehicle_lamps(plain(vehicles), rng(1))
    assert not spots.any() and not road.any()
    empty = apply(street(), "night", 3, 1, vehicles=NONE)
    assert apply(street(), "night", 3, 1, vehicles=vehicles).shape == empty.shape


def test_a_box_over_the_edge_lights_what_is_seen_of_it() -> None:
    for box in ([-30, 100, 20, 140], [460, 100, 900, 400], [-1e6, -1e6, 1e6, 1e6]):
        assert apply(street(), "night", 5, 1, vehicles=np.array([box], np.float32)).shape == street().shape


@pytest.mark.parametrize("boxes", [[[0, 0, np.nan, 5]], [[0, 0, np.inf, 5]], [[1, 2, 3]], [1, 2, 3, 4]])
def test_boxes_of_another_form_are_refused(boxes: list) -> None:
    with pytest.raises(DataError, match="vehicles"):
        apply(street(), "night", 3, 1, vehicles=np.asarray(boxes, np.float32))


def test_a_vehicles_lamps_change_night_and_dusk_near_it_and_no_other_condition() -> None:
    image, changed = street(), set()
    for name in CATALOG:
        seeds = (1, 2, 3) if name in ("night", "dusk") else (1,)
        if any(
            not np.array_equal(
                apply(image, name, 4, s, vehicles=CAR_BOX, camera=CAMERA),
                apply(image, name, 4, s, vehicles=NONE, camera=CAMERA),
            )
            for s in seeds
        ):
            changed.add(name)
    assert changed == {"night", "dusk"}
    seed = next(s for s in SEEDS if placed(plain(CAR_BOX), rng_of_night(s)).power.any())
    with_, without = (apply(image, "night", 5, seed, vehicles=v, camera=CAMERA).astype(int) for v in (CAR_BOX, NONE))
    red = (with_ - without)[..., 0]
    assert red[CAR].max() > 60 and np.abs(red[:, :100]).max() < 12


def rng_of_night(seed: int) -> np.random.Generator:
    """The generator as `night` hands it to the vehicles: the lamps' colour and place are drawn before."""
    generator = rng(seed)
    generator.bit_generator.random_raw(2)
    return generator


def test_vehicles_belong_to_the_cached_scene() -> None:
    cache: dict[str, object] = {}
    image, boxes = street(), CAR_BOX.copy()
    for vehicles in (boxes, None, NONE, boxes):
        cached = apply(image, "night", 4, 3, cache=cache, vehicles=vehicles)
        assert np.array_equal(cached, apply(image, "night", 4, 3, vehicles=vehicles))


@pytest.mark.parametrize("per_km", [6, 15, 40])
def test_the_light_of_an_endless_row_of_lamps_is_the_sum_over_its_lamps(per_km: float) -> None:
    scene = plain(None)
    shown = street_light(scene, per_km, 7.0)
    side, above = lamp_row(scene)
    height, spacing = above + CAMERA_M, 1000 / per_km
    rows, columns = np.array([150, 170, 190]) // 2, np.array([120, 240, 360]) // 2
    for row in rows:
        for column in columns:
            z = float(scene.depth[2 * row, 2 * column])
            x = (2 * column - WIDTH / 2) * z / FOCAL
            total = 0.0
            for sign in (-1, 1):
                lamps_z = 7.0 + (sign + 1) / 4 * spacing + spacing * np.arange(-4000, 4000)
                total += (1 / (1 + ((lamps_z - z) ** 2 + (x - sign * side) ** 2) / height**2)).sum()
            mean = 2 * np.pi * height**2 / (spacing * np.hypot(height, side))
            assert shown[row, column] == pytest.approx(total / mean, rel=0.12), (row, column)


def test_street_lamps_stand_above_the_horizon_on_both_sides_and_none_on_an_unlit_road() -> None:
    scene = plain(None)
    layer = street_lamps(scene, 25, 10.0)
    rows, columns = np.nonzero(layer > 0.05)
    assert rows.max() < HORIZON / 2 and columns.min() < WIDTH / 4 < columns.max()
    assert not street_lamps(scene, 0, 0.0).any() and np.all(street_light(scene, 0, 0.0) == 1)


def test_windows_are_lit_in_a_wall_and_not_in_leaves_or_on_the_road() -> None:
    image = np.full((HEIGHT, WIDTH, 3), 150, np.uint8)
    image[:20] = 225
    leaves = np.random.default_rng(3).integers(20, 160, (60, 120, 1)).astype(np.uint8).repeat(3, axis=2)
    image[25:85, 340:460] = cv2.GaussianBlur(leaves, (0, 0), 1)
    window = (slice(40, 56), slice(60, 72))
    image[window] = 35
    image[150:166, 200:212] = 35
    lit = lit_windows(scene_of(image, None, None, CAMERA), rng(0), 1.0)
    assert lit[20:28, 30:36].mean() > 0.2
    lit[19:29, 29:37] = 0
    assert lit[:, :160].max() == 0 and (lit[:, 160:] > 0).mean() < 0.01 and lit[HORIZON // 2 :].max() == 0
    assert not lit_windows(scene_of(image, None, None, CAMERA), rng(0), 0.0).any()


def test_the_film_of_water_closes_with_the_rain() -> None:
    depth = [water_depth_mm(rate) for rate in CATALOG["rain"].axis]
    share = [film_share(rate) for rate in CATALOG["rain"].axis]
    assert np.all(np.diff(depth) > 0) and depth[0] < 0 < depth[2], "drizzle leaves the tips of the texture dry"
    assert np.all(np.diff(share) > 0) and share[0] < 0.1 and share[4] > 0.99
    assert water_depth_mm(0) == pytest.approx(-0.8)


def test_drizzle_mirrors_far_less_than_heavy_rain_and_is_as_dark() -> None:
    scene = scene_of(street(), None, None, CAMERA)
    below = (slice(CAR[0].stop + 3, CAR[0].stop + 25), CAR[1])
    beside = (below[0], slice(CAR[1].start - 80, CAR[1].start - 20))
    redness = []
    for closed in (film_share(2), film_share(25)):
        wet = wet_ground(scene, scene.linear, rng(2), 0.6, closed)
        redness.append(float((wet[0] - wet[1])[below].mean() - (wet[0] - wet[1])[beside].mean()))
    assert 0 <= redness[0] < 0.25 * redness[1]
    dry = wet_ground(scene, scene.linear, rng(2), 0.6, 0.0)[:, below[0]]
    assert dry.mean() < 0.92 * scene.linear[:, below[0]].mean()
