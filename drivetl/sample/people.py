"""Pedestrians and cyclists: limbs drawn as flat, shaded shapes that face the camera.

A limb is the outline of two circles; a brighter strip along it makes it look round. Joints move with the gait.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np

from drivetl.sample.camera import Array
from drivetl.sample.mesh import Colour, Material, Piece, Pose, Soup, facing_z, flatten, join, starts_of

_ARC = np.linspace(0.0, math.pi, 6)


@dataclass(frozen=True, slots=True)
class Look:
    """Appearance of a person; height in metres, colours linear RGB."""

    height: float
    jacket: Colour
    trousers: Colour
    skin: Colour
    hair: Colour
    build: float = 1.0
    """Width relative to the average."""
    skirt: bool = False
    bag: Colour | None = None
    helmet: Colour | None = None


@dataclass(slots=True)
class _Limb:
    a: Array
    b: Array
    radius_a: float
    radius_b: float
    colour: Colour
    material: Material = Material.CLOTH


SHOES: Colour = (0.02, 0.018, 0.016)


def _v(*numbers: float) -> Array:
    return np.array(numbers)


def _camera_axes(yaw: float) -> tuple[Array, Array]:
    """(3,) right and (3,) forward direction of a camera with this yaw, in world coordinates."""
    return _v(math.cos(yaw), 0.0, -math.sin(yaw)), _v(math.sin(yaw), 0.0, math.cos(yaw))


def pedestrian(look: Look, phase: float, stride: float, pose: Pose, yaw: float) -> Soup:
    """A walking (stride 0: standing) person in world coordinates, facing a camera with this yaw (radians)."""
    h, w = look.height, look.height * look.build
    limbs: list[_Limb] = []
    hip, shoulder = -0.53 * h, -0.815 * h
    for side in (-1.0, 1.0):
        swing = stride * math.sin(phase) * side
        bend = stride * 1.3 * max(0.0, math.cos(phase) * side) + 0.05
        knee = np.array([side * 0.05 * w, hip + 0.25 * h * math.cos(swing), 0.25 * h * math.sin(swing)])
        shin = swing - bend
        ankle = knee + _v(0.0, 0.24 * h * math.cos(shin), 0.24 * h * math.sin(shin))
        limbs += _leg(np.array([side * 0.045 * w, hip, 0.0]), knee, ankle, h, w, look)
        arm = -swing * 0.8
        start = np.array([side * 0.118 * w, shoulder + 0.015 * h, 0.0])
        elbow = start + _v(side * 0.02 * w, 0.165 * h * math.cos(arm), 0.165 * h * math.sin(arm))
        hand = elbow + _v(0.0, 0.145 * h * math.cos(arm + 0.35), 0.145 * h * math.sin(arm + 0.35))
        limbs += _arm(start, elbow, hand, h, w, look)
    limbs += _head(np.array([0.0, -0.925 * h, 0.015 * h]), h, w, look)
    torso = [(np.array([s * 0.088 * w, shoulder + 0.03 * h, 0.0]), 0.052 * w) for s in (-1, 1)]
    torso += [(np.array([s * 0.05 * w, hip, 0.0]), 0.060 * w) for s in (-1, 1)]
    if look.skirt:
        torso += [(np.array([s * 0.075 * w, -0.36 * h, 0.0]), 0.045 * w) for s in (-1, 1)]
    return _assemble(limbs, torso, look, pose, yaw)


def sitting(look: Look, pose: Pose, yaw: float) -> Soup:
    """A person on a bench, facing the pose's heading."""
    h, w = look.height, look.height * look.build
    seat, shoulder = -0.27 * h, -0.56 * h
    limbs: list[_Limb] = []
    for side in (-1.0, 1.0):
        knee = np.array([side * 0.06 * w, seat, 0.23 * h])
        limbs += _leg(np.array([side * 0.05 * w, seat, 0.0]), knee, knee + _v(0.0, 0.24 * h, 0.02), h, w, look)
        start = np.array([side * 0.115 * w, shoulder + 0.015 * h, 0.0])
        elbow = start + _v(side * 0.02 * w, 0.15 * h, 0.04 * h)
        limbs += _arm(start, elbow, elbow + _v(-side * 0.03 * h, 0.06 * h, 0.13 * h), h, w, look)
    limbs += _head(np.array([0.0, -0.67 * h, 0.02 * h]), h, w, look)
    torso = [(np.array([s * 0.088 * w, shoulder + 0.03 * h, 0.0]), 0.052 * w) for s in (-1, 1)]
    torso += [(np.array([s * 0.055 * w, seat, 0.0]), 0.062 * w) for s in (-1, 1)]
    return _assemble(limbs, torso, look, pose, yaw)


def cyclist(look: Look, phase: float, frame: Colour, pose: Pose, yaw: float, bearing: float, *, lights: bool) -> Soup:
    """A person riding a bicycle; `bearing`: direction from the camera to it, radians."""
    h, w = look.height, look.height * look.build
    scale = h / 1.75
    hip, shoulder = np.array([0.0, -0.98, -0.16]) * scale, np.array([0.0, -1.42, 0.12]) * scale
    crank, bar = np.array([0.0, -0.29, 0.04]) * scale, np.array([0.0, -1.02, 0.46]) * scale
    limbs = _bicycle(frame, scale)
    for side in (-1.0, 1.0):
        turn = phase + (0.0 if side > 0 else math.pi)
        foot = crank + _v(side * 0.09, 0.165 * scale * math.cos(turn), 0.165 * scale * math.sin(turn))
        start = hip + _v(side * 0.055 * w, 0.0, 0.0)
        knee = _joint(start, foot, 0.44 * scale, 0.44 * scale)
        limbs += _leg(start, knee, foot, h, w, look)
        arm = shoulder + _v(side * 0.11 * w, 0.02, 0.0)
        grip = bar + _v(side * 0.24, 0.0, 0.0)
        limbs += _arm(arm, (arm + grip) / 2 + (side * 0.03, 0.06, -0.02), grip, h, w, look)
    limbs += _head(shoulder + _v(0.0, -0.2 * scale, 0.08 * scale), h, w, look)
    torso = [(shoulder + _v(s * 0.085 * w, 0.03, 0.0), 0.052 * w) for s in (-1, 1)]
    torso += [(hip + _v(s * 0.05 * w, 0.0, 0.0), 0.062 * w) for s in (-1, 1)]
    wheels, lamps = Piece(), Piece()
    _wheels(wheels, scale, pose, yaw, bearing)
    parts = [flatten([wheels], [Pose()]), _assemble(limbs, torso, look, pose, yaw)]
    if lights:
        _lamps(lamps, scale, pose)
        parts.append(flatten([lamps], [Pose()]))
    whole = join(parts)
    return replace(whole, piece_start=np.array([0, len(whole.normals)]))


def _joint(a: Array, b: Array, upper: float, lower: float) -> Array:
    """(3,) knee between hip and foot, bent forward: the intersection of two circles in the plane of the limb."""
    line = b - a
    reach = min(float(np.linalg.norm(line)), (upper + lower) * 0.999)
    along = (upper**2 - lower**2 + reach**2) / (2 * reach)
    out = math.sqrt(max(upper**2 - along**2, 0.0))
    unit = line / max(float(np.linalg.norm(line)), 1e-9)
    forward = np.array([0.0, -unit[2], unit[1]])
    if forward[2] < 0:
        forward = -forward
    return np.asarray(a + unit * along + forward * out)


def _bicycle(frame: Colour, scale: float) -> list[_Limb]:
    def at(y: float, z: float, x: float = 0.0) -> Array:
        return np.array([x, -y, z]) * scale

    rear, front, crank, seat, head = (at(0.34, -0.52), at(0.34, 0.54), at(0.29, 0.04), at(0.86, -0.14), at(0.86, 0.40))
    tubes = [(rear, crank), (crank, seat), (seat, rear), (crank, head), (seat, head), (head, front)]
    limbs = [_Limb(a, b, 0.020 * scale, 0.020 * scale, frame, Material.PAINT) for a, b in tubes]
    dark = Material.METAL
    limbs.append(_Limb(at(0.94, -0.26), at(0.94, -0.06), 0.035 * scale, 0.025 * scale, SHOES, dark))
    limbs.append(_Limb(head, at(1.02, 0.44), 0.018 * scale, 0.018 * scale, SHOES, dark))
    limbs.append(_Limb(at(1.02, 0.46, -0.26), at(1.02, 0.46, 0.26), 0.018 * scale, 0.018 * scale, SHOES, dark))
    return limbs


def _wheels(piece: Piece, scale: float, pose: Pose, yaw: float, bearing: float) -> None:
    """Tyres as rings, and as a narrow upright rectangle if seen from the front or the rear."""
    turn = 2 * math.pi * np.arange(20) / 20
    circle = np.stack([np.zeros(20), np.sin(turn), np.cos(turn)], axis=1)
    across = pose.rotation() @ np.array([1.0, 0.0, 0.0])
    turned = abs(math.sin(pose.heading - bearing))
    normal: Colour = (float(across[0]), 0.0, float(across[2]))
    for z in (-0.52, 0.54):
        hub = np.array([0.0, -0.34, z]) * scale
        if turned > 0.10:
            rings = [pose.apply(hub + circle * radius * scale) for radius in (0.34, 0.295)]
            piece.add(rings, normal, (0.02, 0.02, 0.02), Material.METAL, cull=False, convex=False)
        if turned < 0.28:
            flat = np.array([(-0.026, 0.0), (0.026, 0.0), (0.026, -0.68), (-0.026, -0.68)]) * scale
            right, forward = _camera_axes(yaw)
            foot = pose.apply(np.array([[0.0, 0.0, z * scale]]))[0]
            shape = foot + flat[:, :1] * right + flat[:, 1:] * (0.0, 1.0, 0.0)
            facing: Colour = (-float(forward[0]), 0.0, -float(forward[2]))
            piece.add([shape], facing, (0.02, 0.02, 0.02), Material.METAL, cull=False)


def _lamps(piece: Piece, scale: float, pose: Pose) -> None:
    front, rear = (0.92, 0.52, (1.0, 0.95, 0.85), 1.0), (0.62, -0.40, (0.8, 0.03, 0.02), -1.0)
    radius = 0.05
    for y, z, colour, side in (front, rear):
        corners = facing_z(-radius, radius, -y - radius, -y + radius, z)
        normal = pose.rotation() @ np.array([0.0, 0.0, side])
        piece.add([pose.apply(np.array(corners) * scale)], tuple(normal.tolist()), colour, Material.METAL, emission=1.0)


def _leg(hip: Array, knee: Array, foot: Array, h: float, w: float, look: Look) -> list[_Limb]:
    toe = foot + _v(0.0, 0.022 * h, 0.075 * h)
    return [
        _Limb(hip, knee, 0.052 * w, 0.038 * w, look.trousers),
        _Limb(knee, foot, 0.038 * w, 0.026 * w, look.trousers if not look.skirt else look.skin),
        _Limb(foot + _v(0.0, 0.018 * h, -0.01 * h), toe, 0.022 * h, 0.018 * h, SHOES),
    ]


def _arm(shoulder: Array, elbow: Array, hand: Array, h: float, w: float, look: Look) -> list[_Limb]:
    end = hand + (hand - elbow) * 0.12
    return [
        _Limb(shoulder, elbow, 0.036 * w, 0.030 * w, look.jacket),
        _Limb(elbow, hand, 0.030 * w, 0.024 * w, look.jacket),
        _Limb(hand, end, 0.022 * h, 0.020 * h, look.skin),
    ]


def _head(centre: Array, h: float, w: float, look: Look) -> list[_Limb]:
    up = np.array([0.0, -1.0, 0.0])
    limbs = [
        _Limb(centre - up * 0.085 * h, centre - up * 0.05 * h, 0.028 * w, 0.028 * w, look.skin),
        _Limb(centre - up * 0.022 * h, centre + up * 0.012 * h, 0.044 * h, 0.050 * h, look.skin),
    ]
    cap = look.helmet or look.hair
    back = np.array([0.0, 0.0, -0.016 * h])
    limbs.append(_Limb(centre + back - up * 0.012 * h, centre + back + up * 0.026 * h, 0.046 * h, 0.050 * h, cap))
    return limbs


def _assemble(limbs: list[_Limb], torso: list[tuple[Array, float]], look: Look, pose: Pose, yaw: float) -> Soup:
    """Limbs and torso sorted far to near, each a flat shape with a brighter strip."""
    right, forward = _camera_axes(yaw)
    ends = pose.apply(np.array([[limb.a, limb.b] for limb in limbs]).reshape(-1, 3)).reshape(-1, 2, 3)
    flat = np.stack([ends @ right, ends[:, :, 1]], axis=2)  # (C, 2, 2): across, down
    depth = (ends @ forward).mean(axis=1)
    radii = np.array([[limb.radius_a, limb.radius_b] for limb in limbs])
    whole, strip = _outlines(flat, radii), _outlines(_shift(flat, radii), radii * 0.52)
    body = pose.apply(np.array([point for point, _ in torso]))
    jobs = [(depth[i], whole[i], strip[i], limb.colour, limb.material) for i, limb in enumerate(limbs)]
    jobs.append((float((body @ forward).mean()), *_hull(body, torso, right), look.jacket, Material.CLOTH))
    if look.bag is not None:
        jobs.append(_bag(look, torso, pose, right, forward))
    jobs.sort(key=lambda job: -job[0])
    shapes = [shape for job in jobs for shape in job[1:3]]
    counts = [len(shape) for shape in shapes]
    distance = np.repeat([job[0] for job in jobs for _ in range(2)], counts)
    points = np.concatenate(shapes)
    n = len(shapes)
    dark, lit = -forward * 0.75 - right * 0.6, -forward * 0.7 + right * 0.45 + _v(0.0, -0.4, 0.0)
    return Soup(
        points[:, :1] * right + points[:, 1:] * _v(0.0, 1.0, 0.0) + distance[:, None] * forward,
        starts_of(counts),
        np.arange(n + 1),
        np.array([0, n]),
        np.tile(-forward, (n, 1)),
        np.tile([dark / np.linalg.norm(dark), lit / np.linalg.norm(lit)], (len(jobs), 1)),
        np.repeat([job[3] for job in jobs], 2, axis=0),
        np.repeat([int(job[4]) for job in jobs], 2).astype(np.uint8),
        np.zeros(n),
        np.zeros(n, bool),
        np.ones(n, bool),
        np.ones(n),
    )


def _shift(flat: Array, radii: Array) -> Array:
    moved = flat.copy()
    moved[:, :, 0] += 0.36 * radii
    return np.asarray(moved)


def _outlines(flat: Array, radii: Array) -> Array:
    """(C, 2, 2) ends and (C, 2) radii -> (C, 12, 2) outlines around the two circles of each limb."""
    line = flat[:, 1] - flat[:, 0]
    angle = np.arctan2(line[:, 1], line[:, 0])[:, None]
    start = angle + math.pi / 2 + _ARC
    end = angle - math.pi / 2 + _ARC
    a = flat[:, 0, None] + radii[:, 0, None, None] * np.stack([np.cos(start), np.sin(start)], axis=2)
    b = flat[:, 1, None] + radii[:, 1, None, None] * np.stack([np.cos(end), np.sin(end)], axis=2)
    return np.concatenate([a, b], axis=1)


def _hull(body: Array, torso: list[tuple[Array, float]], right: Array) -> tuple[Array, Array]:
    """(n, 2) convex hull of the torso's circles, and its brighter strip."""
    turn = 2 * math.pi * np.arange(8) / 8
    circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    flat = np.stack([body @ right, body[:, 1]], axis=1)
    points = np.concatenate([flat[i] + circle * radius for i, (_, radius) in enumerate(torso)])
    outline = np.asarray(cv2.convexHull(points.astype(np.float32))[:, 0], np.float64)
    centre = (outline.min(axis=0) + outline.max(axis=0)) / 2
    half = (outline[:, 0].max() - outline[:, 0].min()) / 2
    return outline, (outline - centre) * (0.50, 0.95) + centre + (0.30 * half, 0.0)


def _bag(
    look: Look, torso: list[tuple[Array, float]], pose: Pose, right: Array, forward: Array
) -> tuple[float, Array, Array, Colour, Material]:
    """A backpack behind the shoulders."""
    middle = np.mean([point for point, _ in torso], axis=0) + _v(0.0, -0.06 * look.height, -0.1 * look.height)
    centre = pose.apply(middle[None])[0]
    across = 0.085 * look.height * (0.6 + 0.4 * abs(float(np.cos(pose.heading - math.atan2(forward[0], forward[2])))))
    tall = 0.12 * look.height
    turn = 2 * math.pi * np.arange(10) / 10
    shape = np.stack([across * np.cos(turn), tall * np.sin(turn)], axis=1) + _v(float(centre @ right), float(centre[1]))
    colour = look.bag if look.bag is not None else look.jacket
    strip = (shape - shape.mean(axis=0)) * 0.55 + shape.mean(axis=0) + (across * 0.3, 0.0)
    return float(centre @ forward), shape, strip, colour, Material.CLOTH
