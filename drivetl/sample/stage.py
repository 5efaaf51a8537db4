"""The actors of a drive at one moment, placed in front of the camera."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from drivetl.sample.actors import Actor
from drivetl.sample.camera import Camera
from drivetl.sample.mesh import Piece, Pose, Soup, flatten, join
from drivetl.sample.world import REACH_M, World


@dataclass(frozen=True, slots=True)
class Staged:
    """An actor at one moment."""

    actor: Actor
    pose: Pose
    pieces: tuple[int, ...]
    """Its pieces in the frame's soup, far to near."""
    z: float
    """Camera z of its middle."""


def stage(world: World, camera: Camera, frame: int) -> tuple[Soup, list[Staged]]:
    """All actors near the camera, placed, flattened and joined to the scenery."""
    time_s = frame * world.town.frame_s
    ego_s = world.ego.s(time_s)
    parts: list[tuple[Piece, Pose]] = []
    entries: list[tuple[Actor, Pose, int, int]] = []
    for actor in world.actors:
        x, s = actor.place(time_s, ego_s)
        if not ego_s - 6 - actor.size_hwl[2] < s < ego_s + REACH_M - 20:
            continue
        level = actor.level if abs(x) > world.town.kerb_x else 0.0
        pose = world.street.pose(x, s, actor.heading, level)
        if _touches(camera, pose, actor, world):
            continue
        bearing = math.atan2(pose.x - camera.x_m, pose.z - camera.z_m)
        pieces = actor.pieces(pose, camera.yaw_rad, bearing, time_s)
        entries.append((actor, pose, len(parts), len(parts) + len(pieces)))
        parts += pieces
    moving = flatten([piece for piece, _ in parts], [pose for _, pose in parts])
    soup = join([world.scenery, moving]) if parts else join([world.scenery])
    base = world.scenery.pieces
    staged = []
    for actor, pose, first, last in entries:
        at = camera.to_camera(np.array([[pose.x, 0.0, pose.z]]))[0]
        numbers = tuple(base + number for number in range(first, last))
        staged.append(Staged(actor, pose, numbers, float(at[2])))
    return soup, staged


def _touches(camera: Camera, pose: Pose, actor: Actor, world: World) -> bool:
    """The actor would stand in the camera car (2 m wide, lens 1.5 m behind its nose)."""
    local = camera.to_camera(np.array([[pose.x, 0.0, pose.z]]))[0]
    reach = actor.size_hwl[2] / 2
    lengthwise = (
        abs(math.cos(pose.heading - camera.yaw_rad)) * reach
        + abs(math.sin(pose.heading - camera.yaw_rad)) * 0.5
    )
    return bool(
        abs(local[0]) < 1.0 + actor.size_hwl[1] / 2 and -3.0 - lengthwise < local[2] < 2.2 + lengthwise
    )
