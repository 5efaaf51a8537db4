"""Road users of a drive: parked, driving, cycling, walking, waiting to cross."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from drivetl.sample.actors import Actor, ActorFactory, Ego
from drivetl.sample.street import WALK_M, Street
from drivetl.sample.towns import Town


def make_actors(
    town: Town,
    street: Street,
    ego: Ego,
    duration_s: float,
    benches: list[tuple[float, float]],
    rng: np.random.Generator,
    lights: bool,
    rain: bool,
) -> list[Actor]:
    """All actors of a drive. `benches`: (x, s) in metres; `lights`: vehicles drive with lamps on."""
    factory = ActorFactory(town, rng, lights, rain)
    _parked(factory, street, ego)
    _lanes(factory, street, ego, duration_s)
    _bicycles(factory, street, duration_s)
    _pavements(factory, street, benches, rain)
    _crossing(factory, street, duration_s, busy=ego.stop_at is not None)
    return factory.actors


def _free(street: Street, s: float, length: float) -> bool:
    """Whether a vehicle parked at s is clear of the zebra crossing and of the side street."""
    zebra, mouth = street.crossing, street.side_street
    clear_zebra = s + length / 2 < zebra - 3 or s - length / 2 > zebra + 7
    return clear_zebra and abs(s - mouth) > street.gap / 2 + length / 2 - 1


def _parked(factory: ActorFactory, street: Street, ego: Ego) -> None:
    town, rng = factory.town, factory.rng
    for side in (-1.0, 1.0):
        share, s = town.parked_share * float(rng.uniform(0.3, 1.4)), street.start
        while s < street.end - 40:
            if rng.random() < share and _free(street, s + 3, 8.0):
                heading = (0.0 if side > 0 else math.pi) + float(rng.normal(0, 0.02))
                x = side * (town.parking_x + float(rng.normal(0, 0.08)))
                s += factory.vehicle(x, s + 3.0, heading, 0.0, parked=True, truck=0.03)
                s += float(rng.uniform(0.8, 2.2))
            else:
                s += 5.5


def _lanes(factory: ActorFactory, street: Street, ego: Ego, duration_s: float) -> None:
    """Oncoming traffic, traffic ahead, and trams."""
    town, rng = factory.town, factory.rng
    rate, end = town.per_100m, street.end - 30
    if ego.stop_at is None:
        pace = float(rng.uniform(7, 12))
        s, last = 6.0 + float(rng.exponential(100 / rate["oncoming"]) * 0.5), end + pace * duration_s * 0.5
    else:
        pace, s, last = 0.0, street.crossing + 9.5, min(end, street.crossing + 45)
    truck = rate["truck"] / max(rate["oncoming"], 1e-6)
    while s < last:
        length = factory.vehicle(-town.lane_x + float(rng.normal(0, 0.1)), s, math.pi, pace, truck=truck)
        s += length + 3.0 + float(rng.exponential(100 / rate["oncoming"] - 6) if pace else rng.uniform(0, 2.5))
    ahead = float(rng.uniform(11, 45))
    drift = float(rng.uniform(0.0, 1.2))
    if ego.stop_at is not None:
        ahead, drift = street.crossing + float(rng.uniform(8, 20)), float(rng.uniform(4, 8))
    while ahead < 110:
        length = factory.vehicle(
            town.lane_x + float(rng.normal(0, 0.12)), ahead, 0.0, drift, follows=ego.stop_at is None, truck=truck
        )
        ahead += length + 5.0 + float(rng.exponential(100 / rate["ahead"] - 8))
    for side in (-1.0, 1.0):
        track = side * 1.6 if town.rails else side * town.lane_x
        s = street.start + 20 + float(rng.exponential(100 / rate["tram"]))
        speed = float(rng.uniform(5, 9))
        while s < end and ego.stop_at is None:
            if town.rails or side < 0:
                if not town.rails:
                    _clear_lane(factory, track)
                factory.tram(track, s, 0.0 if side > 0 else math.pi, speed)
            s += 40 + float(rng.exponential(100 / rate["tram"]))


def _clear_lane(factory: ActorFactory, x: float) -> None:
    """Remove moving vehicles from a lane that a tram uses."""
    kept = [actor for actor in factory.actors if actor.speed == 0 or abs(actor.x - x) > 1.0]
    factory.actors[:] = [replace(actor, track_id=number) for number, actor in enumerate(kept, 1)]


def _bicycles(factory: ActorFactory, street: Street, duration_s: float) -> None:
    town, rng = factory.town, factory.rng
    lane = sum(town.cycle_lane) / 2 if town.cycle_lane else town.parking_x - 1.35
    spread = 0.32 if town.cycle_lane else 0.08
    gap = 200 / town.per_100m["cyclist"] * (1.8 if factory.rain else 1.0)
    for side in (-1.0, 1.0):
        speed = float(rng.uniform(3.6, 5.6))
        s = street.start + float(rng.exponential(gap))
        while s < street.end - 50:
            factory.rider(side * (lane + float(rng.normal(0, spread))), s, 0.0 if side > 0 else math.pi, speed)
            s += 2.6 + float(rng.exponential(gap))


def _pavements(factory: ActorFactory, street: Street, benches: list[tuple[float, float]], rain: bool) -> None:
    town, rng = factory.town, factory.rng
    low, high = town.kerb_x + 1.3, town.walk_outer - 0.45
    gap = 200 / town.per_100m["pedestrian"] * (1.6 if rain else 1.0)
    for side in (-1.0, 1.0):
        s = street.start + float(rng.exponential(gap))
        while s < street.end - 40:
            group = 1 + int(rng.random() < 0.35) + int(rng.random() < 0.12)
            heading, speed = (0.0 if rng.random() < 0.5 else math.pi), float(rng.uniform(0.9, 1.6))
            if rng.random() < 0.15:
                heading, speed = float(rng.uniform(0, 6.3)), 0.0
            x = float(rng.uniform(low, high))
            for number in range(group):
                member_x = float(np.clip(x + 0.62 * number, low, high))
                factory.walker(side * member_x, s + float(rng.normal(0, 0.3)), heading, speed)
            s += 1.2 + float(rng.exponential(gap))
    for x, s in benches:
        if rng.random() < 0.6 and not rain:
            look = factory.look()
            side = 1.0 if x > 0 else -1.0
            size = (0.76 * look.height, 0.30 * look.height + 0.08, 0.42 * look.height)
            heading, sitting_s = -side * math.pi / 2, s + float(rng.uniform(-0.4, 0.4))
            factory.add("Person_sitting", size, x + side * 0.22, sitting_s, heading, 0.0, look=look, level=-WALK_M)


def _crossing(factory: ActorFactory, street: Street, duration_s: float, busy: bool) -> None:
    """People on the zebra crossing if the camera car stops for them (`busy`); otherwise some wait at the kerb."""
    town, rng = factory.town, factory.rng
    for _ in range(int(rng.integers(3, 8)) if busy else int(rng.integers(0, 3))):
        side = 1.0 if rng.random() < 0.5 else -1.0
        s = street.crossing + float(rng.uniform(0.5, 3.2))
        if busy:
            speed = float(rng.uniform(0.9, 1.5))
            x = side * float(rng.uniform(-0.6 * town.kerb_x, town.kerb_x + speed * duration_s * 0.6))
            factory.walker(x, s, -side * math.pi / 2, speed, limit=town.kerb_x + float(rng.uniform(0.4, 1.4)))
        else:
            factory.walker(side * (town.kerb_x + float(rng.uniform(0.5, 1.0))), s, -side * math.pi / 2, 0.0)
