"""The actors of a drive in one frame."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from drivetl.sample.actors import Actor
from drivetl.sample.camera import Array, Camera
from drivetl.sample.mesh import Pose, Soup, join
from drivetl.sample.world import REACH_M, World


@dataclass(frozen=True, slots=True)
class Staged:
    """An actor in one frame."""

    actor: Actor
    pose: Pose
    pieces: tuple[int, ...]
    """Indices of its pieces in the frame's soup."""
    z: float
    """Camera z of its centre, metres."""


def stage(world: World, camera: Camera, frame: int) -> tuple[Soup, list[Staged]]:
    """The scenery joined with all actors near the camera, and those actors."""
    time_s = frame * world.town.frame_s
    ego_s = world.ego.s(time_s)
    soups, staged, count = [world.scenery], [], world.scenery.pieces
    for actor in world.actors:
        x, s = actor.position(time_s, ego_s)
        if not ego_s - 6 - actor.size_hwl[2] < s < ego_s + REACH_M - 20:
            continue
        pose = world.street.pose(x, s, actor.heading, actor.level if abs(x) > world.town.kerb_x else 0.0)
        local = camera.to_camera(np.array([[pose.x, 0.0, pose.z]]))[0]
        if _overlaps_ego(camera, local, pose, actor) or _out_of_view(camera, local, actor):
            continue
        bearing = math.atan2(pose.x - camera.x_m, pose.z - camera.z_m)
        soup = actor.shape(pose, camera.yaw_rad, bearing, time_s)
        soups.append(soup)
        staged.append(Staged(actor, pose, tuple(range(count, count + soup.pieces)), float(local[2])))
        count += soup.pieces
    return join(soups), staged


def _out_of_view(camera: Camera, local: Array, actor: Actor) -> bool:
    """Whether neither the actor nor its shadow is visible: behind the camera or far to one side."""
    reach = actor.size_hwl[2] / 2 + 3.0
    ahead = float(local[2]) + reach
    edge = max(camera.cx, camera.width - camera.cx) / camera.focal_px
    return ahead < 0 or abs(float(local[0])) - reach > edge * ahead + 2.0


def _overlaps_ego(camera: Camera, local: Array, pose: Pose, actor: Actor) -> bool:
    """Whether the actor overlaps the camera car (2 m wide, lens 1.5 m behind its front)."""
    reach = actor.size_hwl[2] / 2
    turn = pose.heading - camera.yaw_rad
    lengthwise = abs(math.cos(turn)) * reach + abs(math.sin(turn)) * 0.5
    return bool(abs(local[0]) < 1.0 + actor.size_hwl[1] / 2 and -3.0 - lengthwise < local[2] < 2.2 + lengthwise)
