"""Rendered frames: the same seed gives the same bytes, and labels agree with the pixels."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from drivetl.sample.mesh import Material
from drivetl.sample.render import SampleFrame, render_frame
from drivetl.sample.shade import SKY_DEPTH_M
from drivetl.sample.world import CONDITIONS, build_world, drive_frames

SCALE = 0.5
FRAMES = [("a", 0, 3), ("a", 1, 6), ("a", 2, 8), ("a", 5, 4), ("b", 0, 6), ("b", 1, 2), ("b", 3, 9), ("b", 4, 1)]


@pytest.fixture(scope="module")
def frames() -> dict[tuple[str, int, int], SampleFrame]:
    return {key: render_frame(*key, 0, SCALE) for key in FRAMES}


@pytest.fixture(scope="module")
def objects(frames):
    return [(frame, item) for frame in frames.values() for item in frame.objects]


def test_frames_depend_on_the_seed_only(frames):
    first = frames["a", 2, 8]
    build_world.cache_clear()
    again, other = render_frame("a", 2, 8, 0, SCALE), render_frame("a", 2, 8, 1, SCALE)
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.depth, again.depth)
    assert [item.box_xyxy for item in first.objects] == [item.box_xyxy for item in again.objects]
    assert not np.array_equal(first.image, other.image)


def test_shapes_types_and_attributes(frames):
    for (town, drive, _), frame in frames.items():
        assert frame.image.shape == (frame.camera.height, frame.camera.width, 3)
        assert frame.image.dtype == np.uint8
        assert frame.depth.dtype == np.float32
        assert frame.depth.shape == frame.material.shape == frame.image.shape[:2]
        assert np.isfinite(frame.depth).all()
        assert (frame.attributes["timeofday"], frame.attributes["weather"]) == CONDITIONS[drive % len(CONDITIONS)]
        assert town in "ab"


def test_both_towns_have_labelled_objects(objects):
    for town_height in (188, 256):
        labels = {item.label for frame, item in objects if frame.camera.height == town_height}
        assert {"Car", "Pedestrian"} <= labels
    assert len(objects) > 40


def test_ground_depth_is_f_h_over_row_minus_horizon(frames):
    for frame in frames.values():
        camera = frame.camera
        flat = np.isin(frame.material, (Material.ROAD, Material.MARKING, Material.COBBLE))
        rows = np.arange(camera.height) + 0.5
        below = np.maximum((rows - camera.horizon_row) * np.cos(camera.pitch_rad), 1e-9)
        expected = np.broadcast_to((camera.focal_px * camera.height_m / below)[:, None], flat.shape)
        near = flat & (expected < 60)
        assert near.sum() > 5000
        np.testing.assert_allclose(frame.depth[near], expected[near], rtol=1e-3)


def test_the_sky_is_above_the_horizon_and_far(frames):
    for frame in frames.values():
        sky = frame.material == Material.SKY
        assert np.all(frame.depth[sky] == SKY_DEPTH_M)
        assert np.nonzero(sky)[0].max() <= frame.camera.horizon_row + 1


def test_masks_are_inside_their_boxes_and_visible_boxes_are_tight(objects):
    for _, item in objects:
        mask = item.mask
        rows, columns = np.nonzero(mask)
        x1, y1, x2, y2 = item.visible_box_xyxy
        assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (x1, y1, x2, y2)
        bx1, by1, bx2, by2 = item.box_xyxy
        # the centre of a mask pixel is inside the box, with a tolerance of half a px for painted edges
        assert columns.min() + 0.5 >= bx1 - 0.5 and columns.max() + 0.5 <= bx2 + 0.5
        assert rows.min() + 0.5 >= by1 - 0.5 and rows.max() + 0.5 <= by2 + 0.5


def test_boxes_are_inside_the_image_with_subpixel_coordinates(objects):
    for frame, item in objects:
        x1, y1, x2, y2 = item.box_xyxy
        assert 0 <= x1 < x2 <= frame.camera.width and 0 <= y1 < y2 <= frame.camera.height
    fractions = [item.box_xyxy[2] % 1 for _, item in objects if item.truncation == 0]
    assert len({round(value, 3) for value in fractions}) > 0.8 * len(fractions)


def test_no_pixel_belongs_to_two_objects(frames):
    for frame in frames.values():
        count = np.zeros(frame.depth.shape, np.int64)
        for item in frame.objects:
            count += item.mask
        assert count.max(initial=0) <= 1


def test_fully_visible_objects_fill_their_box(objects):
    whole = [item for _, item in objects if item.visible > 0.999 and item.truncation == 0]
    assert len(whole) > 5
    for item in whole:
        difference = np.abs(np.subtract(item.box_xyxy, item.visible_box_xyxy))
        assert difference.max() <= (1.0 if item.dimensions_hwl[1] > 1 else 1.6), item  # tyres are thinner than a px


def test_truncation_is_zero_inside_and_positive_at_the_edge(objects):
    for frame, item in objects:
        x1, y1, x2, y2 = item.box_xyxy
        inside = x1 > 0 and y1 > 0 and x2 < frame.camera.width and y2 < frame.camera.height
        assert (item.truncation == 0) == inside
        assert 0 <= item.truncation <= 0.9 or x2 - x1 >= 0.05 * frame.camera.width


def test_occluders_are_nearer_than_the_occluded_object(frames):
    """Hidden pixels of a partly occluded object have a smaller depth than the object."""
    checked = 0
    for frame in frames.values():
        for item in frame.objects:
            if item.visible > 0.8 or item.occlusion == 0:
                continue
            row, column = item.amodal_corner
            crop = item.amodal_crop
            window = (slice(row, row + crop.shape[0]), slice(column, column + crop.shape[1]))
            hidden = crop & ~item.mask[window]
            depth = frame.depth[window]
            checked += 1
            assert np.median(depth[hidden]) < item.location_xyz[2] + item.dimensions_hwl[2] / 2 + 0.5
    assert checked > 3


def test_box_height_is_f_h_over_z(objects):
    """For people and cars that are not truncated. The roof of a car is visible too, so its length matters."""
    checked = 0
    for frame, item in objects:
        if item.truncation or item.label not in ("Pedestrian", "Cyclist", "Car"):
            continue
        height_px, z = item.box_xyxy[3] - item.box_xyxy[1], item.location_xyz[2]
        reach = item.dimensions_hwl[2] / 2
        low = frame.camera.focal_px * item.dimensions_hwl[0] / (z + reach)
        high = frame.camera.focal_px * (item.dimensions_hwl[0] + 0.15) / (z - reach)
        high += frame.camera.focal_px * frame.camera.height_m * (1 / (z - reach) - 1 / (z + reach))
        assert 0.88 * low - 1 <= height_px <= high + 1.5, item
        checked += 1
    assert checked > 20


def test_kitti_angles_agree_with_the_location(objects):
    for _, item in objects:
        x, _, z = item.location_xyz
        turn = item.rotation_y - item.alpha - math.atan2(x, z)
        assert abs(math.remainder(turn, 2 * math.pi)) < 1e-9
        assert -math.pi <= item.alpha <= math.pi


def test_oncoming_traffic_is_on_the_left():
    """Right-hand traffic: moving vehicles left of the camera car come towards it, those in its lane drive away."""
    checked = 0
    for town, drive in itertools.product("ab", range(3)):
        world = build_world(town, drive, 0)
        for actor in world.actors:
            if actor.kind in ("Car", "Van", "Truck") and abs(actor.x) < world.town.parking_x - 1.2:
                assert math.cos(actor.heading) == pytest.approx(-1.0 if actor.x < 0 else 1.0, abs=0.01)
                checked += 1
    assert checked > 20


def test_actors_stay_between_the_buildings():
    for town, drive in itertools.product("ab", range(6)):
        world = build_world(town, drive, 0)
        for actor in world.actors:
            for frame in range(world.frames):
                x, _ = actor.position(frame * world.town.frame_s, 0.0)
                assert abs(x) <= world.town.walk_outer


def test_track_ids_are_stable_within_a_drive():
    first, second = render_frame("b", 6, 10, 0, 0.25), render_frame("b", 6, 11, 0, 0.25)
    before = {item.track_id: item for item in first.objects}
    both = [(before[item.track_id], item) for item in second.objects if item.track_id in before]
    assert len(both) >= 4
    for old, new in both:
        assert old.label == new.label
        assert old.dimensions_hwl == new.dimensions_hwl
        assert np.linalg.norm(np.subtract(old.location_xyz, new.location_xyz)) < 30 * 0.25
    assert len({item.track_id for item in second.objects}) == len(second.objects)


def test_ignored_groups_are_small_and_inside(frames):
    groups = [(frame, group) for frame in frames.values() for group in frame.ignore]
    assert groups
    for frame, group in groups:
        x1, y1, x2, y2 = group.box_xyxy
        assert 0 <= x1 < x2 <= frame.camera.width and 0 <= y1 < y2 <= frame.camera.height
        at_the_edge = x1 == 0 or x2 == frame.camera.width
        assert y2 - y1 < 0.2 * frame.camera.height or (at_the_edge and x2 - x1 < 0.06 * frame.camera.width)


def test_scaling_a_frame_scales_its_boxes():
    large, small = render_frame("a", 1, 6, 0, 0.5), render_frame("a", 1, 6, 0, 0.25)
    boxes = {item.track_id: item.box_xyxy for item in large.objects}
    exact = small.camera.width / large.camera.width
    shared = [item for item in small.objects if item.track_id in boxes]
    assert len(shared) >= 3
    for item in shared:
        np.testing.assert_allclose(item.box_xyxy, np.array(boxes[item.track_id]) * exact, atol=0.6)


def test_night_is_darker_and_rain_greyer_than_a_clear_day():
    clear, rain, night = (render_frame("a", drive, 4, 0, 0.25).image.astype(float) for drive in (0, 2, 3))
    assert night.mean() < 0.5 * clear.mean()

    def chroma(image):
        return (image.max(axis=2) - image.min(axis=2)).mean()

    assert chroma(rain) < chroma(clear)


def test_the_towns_differ():
    """Town B has cooler colours, more pedestrians, and shorter and taller cars."""
    warmth, people, cars = {}, {}, {}
    for town in "ab":
        worlds = [build_world(town, drive, 0) for drive in (0, 1, 4)]
        shots = [render_frame(town, drive, 3, 0, 0.25) for drive in (0, 1)]
        warmth[town] = np.mean([shot.image[..., 0].mean() / shot.image[..., 2].mean() for shot in shots])
        kinds = [actor.kind for world in worlds for actor in world.actors]
        people[town] = kinds.count("Pedestrian") / sum(world.street.end for world in worlds)
        cars[town] = np.mean([a.size_hwl for world in worlds for a in world.actors if a.kind == "Car"], axis=0)
    assert warmth["a"] > warmth["b"] + 0.03
    assert people["b"] > 1.5 * people["a"]
    assert cars["a"][2] > cars["b"][2] + 0.2
    assert cars["a"][0] < cars["b"][0]


def test_drives_have_12_to_28_frames():
    for town, drive, seed in itertools.product("ab", range(20), (0, 1)):
        assert 12 <= drive_frames(town, drive, seed) <= 28
