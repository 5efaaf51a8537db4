"""Road users: class, appearance, and position over time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from drivetl.sample import cars, heavy, people
from drivetl.sample.mesh import Colour, Piece, Pose, Soup, flatten, placed
from drivetl.sample.people import Look
from drivetl.sample.street import WALK_M
from drivetl.sample.towns import Town

SKIN: tuple[Colour, ...] = ((0.52, 0.32, 0.22), (0.42, 0.25, 0.16), (0.22, 0.12, 0.07), (0.60, 0.40, 0.29))
HAIR: tuple[Colour, ...] = (
    (0.02, 0.015, 0.012),
    (0.07, 0.04, 0.02),
    (0.25, 0.16, 0.07),
    (0.30, 0.29, 0.28),
    (0.12, 0.05, 0.025),
)


LOADS: tuple[Colour, ...] = (
    (0.70, 0.70, 0.68),
    (0.30, 0.05, 0.04),
    (0.05, 0.13, 0.32),
    (0.08, 0.22, 0.10),
    (0.55, 0.42, 0.08),
)
VAN_PAINTS: tuple[Colour, ...] = (
    (0.75, 0.75, 0.73),
    (0.75, 0.75, 0.73),
    (0.60, 0.42, 0.02),
    (0.03, 0.05, 0.13),
    (0.30, 0.31, 0.33),
)
Size = tuple[float, float, float]
"""(height, width, length) in metres, KITTI's order."""


@dataclass(frozen=True, slots=True)
class Actor:
    """One road user that moves in a straight line in street coordinates."""

    kind: str
    """One of `towns.CLASSES`."""
    track_id: int
    size_hwl: Size
    """metres"""
    x: float
    s: float
    """Street coordinates at time 0, metres."""
    heading: float
    """Radians relative to the street; 0 points along it."""
    speed: float
    """m/s along the heading"""
    model: Soup | None = None
    """Vehicles: parts in local coordinates."""
    look: Look | None = None
    """People: appearance."""
    stride: float = 0.0
    phase: float = 0.0
    frame: Colour = (0.0, 0.0, 0.0)
    lights: bool = False
    follows: bool = False
    """Keeps its distance to the camera car: `s` is relative to it, plus its own motion."""
    level: float = 0.0
    """y of the ground below it, metres; negative is up."""
    limit: float = math.inf
    """It waits at this |x| until it starts to cross, and stops there on the other side."""

    def position(self, time_s: float, ego_s: float) -> tuple[float, float]:
        """(x, s) in metres at a time; `ego_s`: position of the camera car."""
        distance = self.speed * time_s
        x = min(max(self.x + math.sin(self.heading) * distance, -self.limit), self.limit)
        s = self.s + math.cos(self.heading) * distance
        return x, s + ego_s if self.follows else s

    def shape(self, pose: Pose, yaw: float, bearing: float, time_s: float) -> Soup:
        """Its parts in world coordinates; `yaw` of the camera and `bearing` from the camera to it in radians."""
        if self.model is not None:
            return placed(self.model, pose)
        assert self.look is not None
        pace = self.phase + abs(self.speed) * time_s * (4.2 if self.kind == "Pedestrian" else 1.9)
        if self.kind == "Cyclist":
            return people.cyclist(self.look, pace, self.frame, pose, yaw, bearing, lights=self.lights)
        if self.kind == "Person_sitting":
            return people.sitting(self.look, pose, yaw)
        waits = abs(self.x + math.sin(self.heading) * self.speed * time_s) > self.limit
        return people.pedestrian(self.look, pace, 0.0 if waits else self.stride, pose, yaw)


@dataclass(frozen=True, slots=True)
class Ego:
    """Motion of the camera car: constant speed, or braking before the crossing."""

    x: float
    speed: float
    stop_at: float | None
    """Metres along the street where it stops; None: it does not stop."""
    wobble: float
    """Phase of its lateral movement, radians."""

    def s(self, time_s: float) -> float:
        """Metres along the street."""
        if self.stop_at is None:
            return self.speed * time_s
        return self.stop_at * (1 - math.exp(-self.speed * time_s / self.stop_at))

    def yaw(self, time_s: float) -> float:
        """Heading relative to the street in radians, slightly oscillating."""
        return 0.012 * math.sin(0.7 * time_s + self.wobble)

    def lateral(self, time_s: float) -> float:
        """x in street coordinates, metres."""
        return self.x + 0.12 * math.sin(0.5 * time_s + self.wobble)


def _model(parts: Sequence[Piece]) -> Soup:
    return flatten(parts, [Pose()] * len(parts))


class ActorFactory:
    """Creates random actors with consecutive track ids."""

    def __init__(self, town: Town, rng: np.random.Generator, lights: bool, rain: bool):
        self.town, self.rng, self.lights, self.rain = town, rng, lights, rain
        self.actors: list[Actor] = []

    def _colour(self, colours: tuple[Colour, ...]) -> Colour:
        base = colours[int(self.rng.integers(len(colours)))]
        r, g, b = (float(np.clip(c * self.rng.uniform(0.8, 1.2), 0.008, 0.9)) for c in base)
        return r, g, b

    def add(
        self,
        kind: str,
        size: tuple[float, float, float],
        x: float,
        s: float,
        heading: float,
        speed: float,
        **rest: object,
    ) -> None:
        """Append one actor."""
        self.actors.append(Actor(kind, len(self.actors) + 1, size, x, s, heading, speed, **rest))  # type: ignore[arg-type]

    def vehicle(
        self,
        x: float,
        s: float,
        heading: float,
        speed: float,
        *,
        follows: bool = False,
        parked: bool = False,
        truck: float = 0.0,
    ) -> float:
        """Add a car, van or truck (with probability `truck`); returns its length in metres."""
        lit, draw = self.lights and not parked, self.rng.random()
        kind = "Truck" if draw < truck else "Van" if draw < truck + self.town.vans else "Car"
        build = {"Truck": self._truck, "Van": self._van, "Car": self._car}[kind]
        size, parts = build(lit)
        self.add(kind, size, x, s, heading, speed, model=_model(parts), lights=lit, follows=follows)
        return size[2]

    def _truck(self, lit: bool) -> tuple[Size, list[Piece]]:
        rng = self.rng
        length, width = float(rng.uniform(6.5, 11.0)), float(rng.uniform(2.3, 2.55))
        height, load = float(rng.uniform(2.9, 3.8)), self._colour(LOADS)
        cab = self._colour(self.town.paints)
        return (height, width, length), heavy.truck(length, width, height, cab, load, lights=lit)

    def _van(self, lit: bool) -> tuple[Size, list[Piece]]:
        rng = self.rng
        length, width = float(rng.uniform(4.7, 5.7)), float(rng.uniform(1.85, 2.0))
        height, paint = float(rng.uniform(1.95, 2.45)), self._colour(VAN_PAINTS)
        return (height, width, length), [cars.car("van", length, width, height, paint, lights=lit)]

    def _car(self, lit: bool) -> tuple[Size, list[Piece]]:
        rng, town = self.rng, self.town
        style = town.styles[int(rng.integers(len(town.styles)))]
        length, width, height = (float(side * rng.normal(1.0, 0.035)) for side in town.car_size)
        length *= {"hatchback": 0.93, "saloon": 1.08, "estate": 1.08, "suv": 1.04}[style]
        height *= 1.12 if style == "suv" else 1.0
        body = cars.car(style, length, width, height, self._colour(town.paints), lights=lit)
        return (height, width, length), [body]

    def look(self, helmet: bool = False) -> Look:
        """Random appearance of a person of this town."""
        rng, town = self.rng, self.town
        height = float(np.clip(town.person_height * rng.normal(1.0, 0.055), 1.25, 2.0))
        trousers = self._colour(((0.03, 0.04, 0.09), (0.02, 0.02, 0.022), (0.12, 0.10, 0.07), (0.06, 0.06, 0.065)))
        bag = self._colour(town.clothes) if rng.random() < 0.3 else None
        cap = self._colour(town.clothes) if helmet and rng.random() < 0.6 else None
        return Look(
            height=height,
            jacket=self._colour(town.clothes),
            trousers=trousers,
            skin=self._colour(SKIN),
            hair=self._colour(HAIR),
            build=float(rng.uniform(0.9, 1.15)),
            skirt=bool(rng.random() < 0.2),
            bag=bag,
            helmet=cap,
        )

    def walker(self, x: float, s: float, heading: float, speed: float, limit: float = math.inf) -> None:
        """Add a pedestrian; speed 0: standing."""
        look = self.look()
        stride = 0.0 if speed == 0 else float(self.rng.uniform(0.38, 0.52))
        size = (look.height, 0.30 * look.height * look.build + 0.08, 0.45 if speed == 0 else 0.75)
        self.add(
            "Pedestrian",
            size,
            x,
            s,
            heading,
            speed,
            look=look,
            stride=stride,
            phase=float(self.rng.uniform(0, 6.3)),
            level=-WALK_M,
            limit=limit,
        )

    def rider(self, x: float, s: float, heading: float, speed: float) -> None:
        """Add a cyclist."""
        look = self.look(helmet=True)
        scale = look.height / 1.75
        self.add(
            "Cyclist",
            (1.72 * scale, 0.60, 1.76 * scale),
            x,
            s,
            heading,
            speed,
            look=look,
            phase=float(self.rng.uniform(0, 6.3)),
            frame=self._colour(self.town.paints),
            lights=self.lights,
        )

    def tram(self, x: float, s: float, heading: float, speed: float) -> float:
        """Add a tram; returns its length in metres."""
        rng = self.rng
        length, height = float(rng.choice([14.5, 21.0, 27.0])), float(rng.uniform(3.3, 3.55))
        body, band = self.town.tram if rng.random() < 0.75 else self.town.tram[::-1]
        parts = heavy.tram(length, 2.4, height, body, band, lights=self.lights)
        self.add("Tram", (height, 2.4, length), x, s, heading, speed, model=_model(parts), lights=self.lights)
        return length
