"""The two towns and the differences between them."""

from __future__ import annotations

from dataclasses import dataclass

from drivetl.errors import ConfigError
from drivetl.sample.camera import Camera
from drivetl.sample.mesh import Colour

CLASSES = ("Car", "Van", "Truck", "Tram", "Pedestrian", "Person_sitting", "Cyclist")
"""Labelled object classes, by their KITTI names."""


@dataclass(frozen=True, slots=True)
class Town:
    """Everything that differs between the towns. Metres unless stated otherwise; colours are linear RGB albedos."""

    name: str
    camera: Camera
    frame_s: float
    """Seconds between consecutive frames of a drive."""
    ego_x: float
    """Lateral position of the camera car, right of the centre line."""
    lane_x: float
    road_half: float
    parking_x: float
    kerb_x: float
    walk_outer: float
    building_x: float
    rails: bool
    cycle_lane: tuple[float, float] | None
    terraced: bool
    """True: terraced buildings; False: detached houses with gardens."""
    floors: tuple[int, int]
    lamp_gap: float
    walls: tuple[Colour, ...]
    roofs: tuple[Colour, ...]
    paints: tuple[Colour, ...]
    clothes: tuple[Colour, ...]
    road: Colour
    paving: Colour
    car_size: tuple[float, float, float]
    """Mean length, width, height of a car."""
    styles: tuple[str, ...]
    person_height: float
    parked_share: float
    vans: float
    """Fraction of vans among parked and moving cars."""
    per_100m: dict[str, float]
    """Moving actors per 100 m of street: oncoming, ahead, pedestrian, cyclist, truck, tram."""
    tram: tuple[Colour, Colour]
    seed: int


TOWN_A = Town(
    name="a",
    camera=Camera(1242, 375, 721.5377, 609.5593, 172.854, 1.65),
    frame_s=0.5,
    ego_x=1.75,
    lane_x=1.75,
    road_half=5.6,
    parking_x=4.55,
    kerb_x=5.6,
    walk_outer=7.9,
    building_x=11.5,
    rails=False,
    cycle_lane=None,
    terraced=False,
    floors=(2, 3),
    lamp_gap=32.0,
    walls=(
        (0.72, 0.68, 0.58),
        (0.78, 0.76, 0.70),
        (0.70, 0.55, 0.33),
        (0.62, 0.38, 0.25),
        (0.66, 0.62, 0.50),
        (0.50, 0.44, 0.36),
    ),
    roofs=((0.25, 0.075, 0.040), (0.19, 0.065, 0.042), (0.115, 0.065, 0.045), (0.09, 0.09, 0.095)),
    paints=(
        (0.62, 0.63, 0.64),
        (0.42, 0.43, 0.45),
        (0.018, 0.019, 0.021),
        (0.16, 0.17, 0.18),
        (0.74, 0.74, 0.73),
        (0.035, 0.05, 0.12),
        (0.27, 0.022, 0.020),
        (0.46, 0.47, 0.48),
        (0.03, 0.07, 0.05),
        (0.52, 0.40, 0.10),
        (0.12, 0.19, 0.30),
        (0.024, 0.025, 0.028),
        (0.30, 0.31, 0.32),
        (0.72, 0.72, 0.71),
        (0.09, 0.095, 0.10),
    ),
    clothes=(
        (0.05, 0.07, 0.16),
        (0.30, 0.03, 0.03),
        (0.65, 0.63, 0.58),
        (0.03, 0.03, 0.035),
        (0.14, 0.18, 0.09),
        (0.55, 0.33, 0.06),
        (0.12, 0.22, 0.38),
    ),
    road=(0.115, 0.112, 0.108),
    paving=(0.30, 0.285, 0.262),
    car_size=(4.05, 1.68, 1.50),
    styles=("hatchback", "hatchback", "saloon", "saloon", "estate", "suv"),
    person_height=1.76,
    parked_share=0.50,
    vans=0.14,
    per_100m={"oncoming": 2.6, "ahead": 2.2, "pedestrian": 2.8, "cyclist": 2.2, "truck": 0.26, "tram": 0.35},
    tram=((0.62, 0.50, 0.06), (0.10, 0.10, 0.11)),
    seed=101,
)

TOWN_B = Town(
    name="b",
    camera=Camera(1280, 512, 585.0, 640.0, 226.0, 2.25, 0.035),
    frame_s=0.25,
    ego_x=4.75,
    lane_x=4.75,
    road_half=10.0,
    parking_x=8.95,
    kerb_x=10.0,
    walk_outer=13.6,
    building_x=13.6,
    rails=True,
    cycle_lane=(6.45, 7.85),
    terraced=True,
    floors=(4, 8),
    lamp_gap=26.0,
    walls=(
        (0.16, 0.075, 0.050),
        (0.20, 0.19, 0.18),
        (0.26, 0.21, 0.16),
        (0.11, 0.085, 0.075),
        (0.30, 0.29, 0.28),
        (0.17, 0.18, 0.20),
        (0.24, 0.13, 0.08),
    ),
    roofs=((0.07, 0.07, 0.075), (0.06, 0.065, 0.06), (0.10, 0.06, 0.05)),
    paints=(
        (0.80, 0.80, 0.78),
        (0.82, 0.82, 0.80),
        (0.025, 0.025, 0.028),
        (0.08, 0.085, 0.09),
        (0.62, 0.44, 0.04),
        (0.30, 0.31, 0.33),
        (0.10, 0.105, 0.11),
        (0.50, 0.51, 0.52),
        (0.025, 0.10, 0.20),
        (0.40, 0.035, 0.05),
        (0.12, 0.24, 0.24),
        (0.70, 0.66, 0.55),
    ),
    clothes=(
        (0.02, 0.02, 0.025),
        (0.06, 0.06, 0.07),
        (0.50, 0.05, 0.10),
        (0.55, 0.55, 0.10),
        (0.03, 0.20, 0.22),
        (0.70, 0.70, 0.70),
        (0.20, 0.10, 0.25),
        (0.08, 0.06, 0.05),
    ),
    road=(0.072, 0.075, 0.080),
    paving=(0.20, 0.205, 0.215),
    car_size=(3.65, 1.62, 1.66),
    styles=("hatchback", "suv", "suv", "hatchback", "estate"),
    person_height=1.66,
    parked_share=0.34,
    vans=0.12,
    per_100m={"oncoming": 2.2, "ahead": 1.8, "pedestrian": 9.0, "cyclist": 4.5, "truck": 0.36, "tram": 0.9},
    tram=((0.45, 0.05, 0.05), (0.70, 0.68, 0.62)),
    seed=202,
)

TOWNS = {"a": TOWN_A, "b": TOWN_B}


def town_named(name: str) -> Town:
    """Town `a` or `b`. Raises ConfigError for any other name."""
    try:
        return TOWNS[name]
    except KeyError:
        raise ConfigError(f"unknown town {name!r}", remedy=f"choose from {', '.join(TOWNS)}") from None
