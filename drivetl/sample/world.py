"""A drive: its street, what stands along it, who moves on it, its light, and the way of the camera car."""

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
"""Frames of a drive, fewest and most."""
CONDITIONS = (
    ("day", "clear"),
    ("day", "clear"),
    ("day", "rain"),
    ("night", "clear"),
    ("day", "clear"),
    ("night", "rain"),
)
"""(timeofday, weather) of drives 0, 1, 2, ...; then from the start again."""
REACH_M = 150.0


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
    """Ground first, then what stands on it."""
    ground_pieces: int
    shadows: Soup | None
    """The ground that buildings, hedges and trees keep the sun from; None when there is no sun."""
    lamps: Array
    """(K, 2) x and s of the street lamps."""

    def camera(self, frame: int, scale: float = 1.0) -> Camera:
        """The camera at a frame."""
        time_s = frame * self.town.frame_s
        s = self.ego.s(time_s)
        pose = self.street.pose(self.ego.lateral(time_s), s, self.ego.yaw(time_s))
        return self.town.camera.scaled(scale).at(pose.x, pose.z, pose.heading)


def drive_frames(town: str, drive: int, seed: int) -> int:
    """How many frames a drive has."""
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
    ego, street = _way(town, frames, rng)
    things = buildings.rows(town, street, rng, night)
    things += greenery.avenue(town, street, rng) if town.terraced else greenery.gardens(town, street, rng)
    things += furniture.along_the_street(town, street, rng, night, red=ego.stop_at is not None)
    floor = [greenery.skyline(town, street, rng), *ground(town, street)]
    pieces = [thing.piece for thing in things]
    poses = [street.pose(0.0, thing.s) for thing in things]
    if town.rails:
        pieces.append(furniture.wires(street))
        poses.append(Pose())
    scenery = flatten([*floor, *pieces], [Pose()] * len(floor) + poses)
    benches = [(thing.x, thing.s) for thing in things if thing.tag == "bench"]
    actors = traffic.cast(town, street, ego, frames * town.frame_s, benches, rng, light.lights_on, rain)
    return World(
        town,
        drive,
        frames,
        timeofday,
        weather,
        street,
        light,
        ego,
        tuple(actors),
        scenery,
        len(floor),
        _shadows(things, street, light),
        np.array(furniture.lamp_places(town, street)),
    )


def _way(town: Town, frames: int, rng: np.random.Generator) -> tuple[Ego, Street]:
    """How the camera car drives, and a street long enough for it."""
    duration = frames * town.frame_s
    speed, stops = float(rng.uniform(5.0, 10.5)), bool(rng.random() < 0.4)
    distance = speed * duration
    zebra = float(rng.uniform(22, 40)) if stops else float(rng.uniform(15, max(distance, 20) + 40))
    curve = float(rng.uniform(1 / 900, 1 / 220)) * (1 if rng.random() < 0.5 else -1) if rng.random() < 0.55 else 0.0
    end = (zebra if stops else distance) + REACH_M
    side = float(rng.uniform(zebra + 14, zebra + 40)) if rng.random() < 0.7 else zebra - 14
    street = Street(curve, -14.0, end, zebra, side)
    ego = Ego(
        town.ego_x, speed, zebra - float(rng.uniform(6.5, 10)) if stops else None, float(rng.uniform(0, 2 * math.pi))
    )
    return ego, street


def sun_shift(light: Light) -> tuple[float, float]:
    """Metres (x, z) that a shadow moves on the ground per metre of height."""
    x, y, z = light.sun
    return x / y, z / y


def cast_shadow(points: Array, light: Light) -> Array:
    """(N, 3) world -> (N, 3): where the shadow of each point falls on the ground."""
    shift_x, shift_z = sun_shift(light)
    up = -points[:, 1]
    return np.stack([points[:, 0] + shift_x * up, np.zeros(len(points)), points[:, 2] + shift_z * up], axis=1)


def _shadows(things: list[buildings.Placed], street: Street, light: Light) -> Soup | None:
    """Boxes throw the hull of their foot and of their roof's shadow, trees the outline of trunk and crown."""
    if light.night or not light.shadow:
        return None
    pieces = []
    for thing in things:
        pose, shapes = street.pose(0.0, thing.s), []
        if thing.footprint is not None:
            x0, x1, z0, z1, height = thing.footprint
            corners = np.array([(x, y, z) for x in (x0, x1) for z in (z0, z1) for y in (0.0, -height)])
            shapes = [convex_hull(cast_shadow(pose.apply(corners), light))]
        elif thing.tag == "tree":
            trunk, _, crown = (layer.polygons for layer in thing.piece.layers[:3])
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
