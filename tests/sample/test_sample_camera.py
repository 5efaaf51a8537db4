"""The pinhole camera, street coordinates, polygon pieces and label rules, without rendering an image."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivetl.errors import ConfigError
from drivetl.sample.camera import Camera
from drivetl.sample.canvas import NEAR_M, Canvas, clip_near
from drivetl.sample.labels import cluster, occlusion_level, truncation
from drivetl.sample.mesh import Material, Piece, Pose, flatten, join, mirrored, placed
from drivetl.sample.street import Street
from drivetl.sample.towns import CLASSES, TOWN_A, TOWN_B, town_named
from drivetl.sample.write_cvat import LABELS

LEVEL = Camera(200, 100, 150.0, 100.0, 40.0, 1.5)


@pytest.mark.parametrize("town", [TOWN_A, TOWN_B], ids=lambda town: town.name)
@pytest.mark.parametrize("scale", [1.0, 0.5, 0.335])
def test_scaling_keeps_every_ray(town, scale):
    whole, small = town.camera, town.camera.scaled(scale)
    points = np.array([[1.0, -0.5, 9.0], [-4.0, 1.2, 30.0], [0.3, 0.1, 4.0]])
    exact = small.width / whole.width
    assert small.width == round(whole.width * scale)
    np.testing.assert_allclose(small.project(points), whole.project(points) * exact, rtol=1e-12)


@given(st.floats(-1 / 150, 1 / 150), st.floats(-12, 12), st.floats(-20, 200))
def test_to_street_is_the_inverse_of_to_world(curvature, x, s):
    street = Street(curvature, -10, 200, 30, 60)
    world_x, world_z = street.to_world(np.array([x]), np.array([s]))[0]
    back_x, back_s = street.to_street(np.array([world_x]), np.array([world_z]))
    assert back_x[0] == pytest.approx(x, abs=1e-4)
    assert back_s[0] == pytest.approx(s, abs=1e-4)


def test_polygons_are_clipped_at_the_near_plane():
    quad = np.array([[-1.0, 1, -2], [1, 1, -2], [1, 1, 6], [-1, 1, 6]])
    kept = clip_near(quad)
    assert kept[:, 2].min() == pytest.approx(NEAR_M)
    assert kept[:, 2].max() == 6
    assert len(clip_near(quad - (0, 0, 10))) == 0
    ahead = quad + np.array([0, 0, 5])
    assert np.array_equal(np.sort(clip_near(ahead), axis=0), np.sort(ahead, axis=0))


def box_piece(z: float) -> Piece:
    piece = Piece()
    piece.box((-1.0, -1.0, z), (1.0, 0.0, z + 1), (0.5, 0.5, 0.5), Material.PAINT)
    return piece


def test_a_painted_box_covers_its_projection_and_has_its_depth():
    soup = flatten([box_piece(10.0)], [Pose()])
    canvas = Canvas(soup, LEVEL, 2.0)
    painted = canvas.paint((0,), keep=True)
    assert painted is not None and painted.box is not None and painted.amodal is not None
    # x = +-1 and y = 0 at the front face, z = 10; the top's far edge, y = -1, at z = 11
    np.testing.assert_allclose(painted.box, [85.0, 40 + 75 / 11, 115.0, 40 + 22.5], atol=1e-9)
    rows, columns = np.nonzero(canvas.ids)
    assert columns.min() / 2 == pytest.approx(85.0, abs=0.5)
    assert (rows.max() + 1) / 2 == pytest.approx(62.5, abs=0.5)
    layer = canvas.ids[110, 200]
    a, b, c = canvas.view.inverse_depth[layer]
    assert 1 / (a * 100 + b * 55 + c) == pytest.approx(10.0, rel=1e-5)
    assert int(np.count_nonzero(painted.amodal)) == int(np.count_nonzero(canvas.ids))


def test_back_faces_are_not_painted():
    piece = Piece()
    piece.add([[(-1, -1, 5), (1, -1, 5), (1, 0, 5), (-1, 0, 5)]], (0.0, 0.0, 1.0), (1, 1, 1), Material.PAINT)
    canvas = Canvas(flatten([piece], [Pose()]), LEVEL, 1.0)
    assert canvas.paint((0,), keep=True).box is None
    assert not canvas.ids.any()


def test_joining_placed_soups_equals_flattening_together():
    poses = [Pose(1.0, 2.0, 0.3), Pose(-2.0, 5.0, -1.0, -0.1)]
    together = flatten([box_piece(3.0), box_piece(4.0)], poses)
    joined = join([placed(flatten([box_piece(z)], [Pose()]), pose) for z, pose in zip((3.0, 4.0), poses, strict=True)])
    for name in together.__slots__:
        np.testing.assert_allclose(getattr(joined, name), getattr(together, name), atol=1e-12, err_msg=name)
    twice = mirrored(mirrored(together))
    np.testing.assert_array_equal(twice.vertices, together.vertices)


@pytest.mark.parametrize(
    ("box", "fraction"),
    [
        ((10, 10, 20, 20), 0.0),
        ((-10, 10, 10, 20), 0.5),
        ((-10, -10, 10, 10), 0.75),
        ((-30, 0, -10, 10), 1.0),
        ((5, 5, 5, 5), 1.0),
    ],
)
def test_truncation_is_the_fraction_outside(box, fraction):
    assert truncation(box, 100, 50) == pytest.approx(fraction)


def test_occlusion_level_increases_with_hidden_fraction():
    levels = [occlusion_level(visible) for visible in (1.0, 0.86, 0.7, 0.4, 0.1)]
    assert levels == [0, 0, 1, 2, 3]


def test_only_neighbouring_boxes_form_a_group():
    row = [((10.0 + 12 * i, 50.0, 18.0 + 12 * i, 58.0), "car") for i in range(4)]
    far = [((180.0, 50.0, 188.0, 58.0), "person")]
    groups = cluster([*row, *far], [], 200, 100)
    assert [(group.kind, group.members) for group in groups] == [("car", 4), ("person", 1)]
    x1, _, x2, _ = groups[0].box_xyxy
    assert x1 <= 10 and x2 >= 54
    assert cluster([], [], 200, 100) == []
    # a labelled object in the middle of the row splits it into two groups
    split = cluster(row, [(30.0, 50.0, 34.0, 58.0)], 200, 100)
    assert [group.members for group in split] == [2, 2]


def test_every_class_has_a_name_in_town_b():
    assert set(LABELS) == set(CLASSES)


def test_an_unknown_town_is_refused():
    with pytest.raises(ConfigError, match="unknown town 'c' - choose from a, b"):
        town_named("c")


def test_headings_turn_right():
    ahead = Pose(heading=math.pi / 2).apply(np.array([[0.0, 0.0, 1.0]]))[0]
    np.testing.assert_allclose(ahead, [1, 0, 0], atol=1e-12)
