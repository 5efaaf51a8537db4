"""A drive: street, scenery, actors, light, and the motion of the camera car."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from drivetl.sample import buildings, furniture, greenery, traffic
from drivetl.sample.actors import Actor, Ego
from drivetl.sample.camera import Array, Camera
from drivetl.sample.light import Light, light_of
from drivetl.sample.mesh import Material, Piece, Pose, Soup, flatten
from drivetl.sample.street import Street, ground
from drivetl.sample.towns import Town, town_named

DRIVE_FRAMES = (12, 28)
"""Minimum and maximum number of frames of a drive."""
_CLEAR_DAY, _RAINY_DAY = ("day", "clear"), ("day", "rain")
_CLEAR_NIGHT, _RAINY_NIGHT = ("night", "clear"), ("night", "rain")
CONDITIONS = (_CLEAR_DAY, _CLEAR_DAY, _RAINY_DAY, _CLEAR_NIGHT, _CLEAR_DAY, _RAINY_NIGHT)
"""(timeofday, weather) of drives 0, 1, 2, ..., repeating."""
REACH_M = 150.0
"""Length of the modelled street ahead of the camera."""


@dataclass(frozen=True, slots=True)
class World:
    """Everything about a drive that does not depend on the frame."""

    town: Town
    drive: int
    frames: int
    timeofday: str
    weather: str
    street: Street
    light: Light
    ego: Ego
    actors: tuple[Actor, ...]
    scenery: Soup
    """Ground first, then everything on it."""
    ground_pieces: int
    shadows: Soup | None
    """Shadows of buildings, hedges and trees on the ground; None without sun."""
    lamps: Array
    """(K, 2) x and s of the street lamps, metres."""

    def camera(self, frame: int, scale: float = 1.0) -> Camera:
        """The camera at a frame."""
        time_s = frame * self.town.frame_s
        s = self.ego.s(time_s)
        pose = self.street.pose(self.ego.lateral(time_s), s, self.ego.yaw(time_s))
        return self.town.camera.scaled(scale).at(pose.x, pose.z, pose.heading)


def drive_frames(town: str, drive: int, seed: int) -> int:
    """Number of frames of a drive."""
    rng = np.random.default_rng([seed, town_named(town).seed, drive, 1])
    return int(rng.integers(DRIVE_FRAMES[0], DRIVE_FRAMES[1] + 1))


def drive_conditions(drive: int) -> tuple[str, str]:
    """(timeofday, weather) of a drive."""
    return CONDITIONS[drive % len(CONDITIONS)]


@lru_cache(maxsize=3)
def build_world(town_name: str, drive: int, seed: int) -> World:
    """The world of a drive; the same arguments give the same world."""
    town = town_named(town_name)
    rng = np.random.default_rng([seed, town.seed, drive])
    frames, (timeofday, weather) = drive_frames(town_name, drive, seed), drive_conditions(drive)
    night, rain = timeofday == "night", weather == "rain"
    light = light_of(town.name, night, rain, rng)
    ego, street = _ego_and_street(town, frames, rng)
    items = buildings.building_rows(town, street, rng, night)
    items += greenery.avenue(town, street, rng) if town.terraced else greenery.gardens(town, street, rng)
    items += furniture.along_the_street(town, street, rng, night, red=ego.stop_at is not None)
    floor = [greenery.skyline(town, street, rng), *ground(town, street)]
    pieces = [item.piece for item in items]
    poses = [street.pose(0.0, item.s) for item in items]
    if town.rails:
        pieces.append(furniture.wires(street))
        poses.append(Pose())
    scenery = flatten([*floor, *pieces], [Pose()] * len(floor) + poses)
    benches = [(item.x, item.s) for item in items if item.tag == "bench"]
    actors = traffic.make_actors(town, street, ego, frames * town.frame_s, benches, rng, light.lights_on, rain)
    return World(
        town=town,
        drive=drive,
        frames=frames,
        timeofday=timeofday,
        weather=weather,
        street=street,
        light=light,
        ego=ego,
        actors=tuple(actors),
        scenery=scenery,
        ground_pieces=len(floor),
        shadows=_shadows(items, street, light),
        lamps=np.array(furniture.lamp_positions(town, street)),
    )


def _ego_and_street(town: Town, frames: int, rng: np.random.Generator) -> tuple[Ego, Street]:
    """Motion of the camera car, and a street that is long enough for it."""
    duration = frames * town.frame_s
    speed, stops = float(rng.uniform(5.0, 10.5)), bool(rng.random() < 0.4)
    distance = speed * duration
    zebra = float(rng.uniform(22, 40)) if stops else float(rng.uniform(15, max(distance, 20) + 40))
    curve = float(rng.uniform(1 / 900, 1 / 220)) * (1 if rng.random() < 0.5 else -1) if rng.random() < 0.55 else 0.0
    end = (zebra if stops else distance) + REACH_M
    side = float(rng.uniform(zebra + 14, zebra + 40)) if rng.random() < 0.7 else zebra - 14
    street = Street(curve, -14.0, end, zebra, side)
    stop_at = zebra - float(rng.uniform(6.5, 10)) if stops else None
    return Ego(town.ego_x, speed, stop_at, float(rng.uniform(0, 2 * math.pi))), street


def sun_shift(light: Light) -> tuple[float, float]:
    """Metres (x, z) that a shadow moves on the ground per metre of height."""
    x, y, z = light.sun
    return x / y, z / y


def cast_shadow(points: Array, light: Light) -> Array:
    """(N, 3) world -> (N, 3) shadow of each point on the ground, metres."""
    shift_x, shift_z = sun_shift(light)
    up = -points[:, 1]
    return np.stack([points[:, 0] + shift_x * up, np.zeros(len(points)), points[:, 2] + shift_z * up], axis=1)


def _shadows(items: list[buildings.SceneryItem], street: Street, light: Light) -> Soup | None:
    """Buildings and hedges cast the hull of their box, trees the outline of trunk and crown."""
    if light.night or not light.shadow:
        return None
    pieces = []
    for item in items:
        pose, shapes = street.pose(0.0, item.s), []
        if item.footprint is not None:
            x0, x1, z0, z1, height = item.footprint
            corners = np.array([(x, y, z) for x in (x0, x1) for z in (z0, z1) for y in (0.0, -height)])
            shapes = [convex_hull(cast_shadow(pose.apply(corners), light))]
        elif item.tag == "tree":
            trunk, _, crown = (layer.polygons for layer in item.piece.layers[:3])
            outlines = [polygon for polygon in crown if len(polygon) >= 6]
            shapes = [cast_shadow(pose.apply(polygon), light) for polygon in trunk + outlines]
        if shapes:
            piece = Piece()
            piece.add(shapes, (0.0, -1.0, 0.0), (0.0, 0.0, 0.0), Material.ROAD, cull=False, convex=False)
            pieces.append(piece)
    return flatten(pieces, [Pose()] * len(pieces)) if pieces else None


def convex_hull(points: Array) -> Array:
    """(N, 3) points on the ground -> (n, 3) corners of their hull in order."""
    order = cv2.convexHull(points[:, [0, 2]].astype(np.float32), returnPoints=False)[:, 0]
    return np.asarray(points[order])
