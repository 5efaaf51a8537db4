"""A rendered frame in KITTI's object format: label lines, calibration, depth, and the devkit's drive mapping."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

import cv2
import numpy as np

from drivetl.files.kitti_text import KittiLine, rounded, write_line
from drivetl.sample.camera import Array, Camera
from drivetl.sample.render import SampleFrame

DEPTH_UNITS_PER_M = 256.0
"""Depth PNGs contain metres times 256, as KITTI's do; 0: no depth (sky, or beyond 255 m)."""


def label_lines(frame: SampleFrame) -> str:
    """The label file: 15 columns per line, objects far to near, then DontCare lines with KITTI's placeholder values."""
    lines = [
        KittiLine(
            item.label,
            item.box_xyxy,
            item.truncation,
            item.occlusion,
            item.alpha,
            item.dimensions_hwl,
            item.location_xyz,
            item.rotation_y,
        )
        for item in frame.objects
    ]
    lines += [KittiLine("DontCare", group.box_xyxy) for group in frame.ignore]
    return "".join(write_line(line, rounded) + "\n" for line in lines)


def calibration(camera: Camera) -> str:
    """The calib file: four identical cameras, no rotation, the laser scanner at the camera."""

    def row(name: str, matrix: Array) -> str:
        return f"{name}: " + " ".join(f"{value:.12e}" for value in np.asarray(matrix).ravel())

    identity = np.hstack([np.eye(3), np.zeros((3, 1))])
    to_camera = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0]])
    rows = [row(f"P{number}", camera.projection_matrix()) for number in range(4)]
    rows += [row("R0_rect", np.eye(3)), row("Tr_velo_to_cam", to_camera), row("Tr_imu_to_velo", identity)]
    return "\n".join(rows) + "\n\n"


def depth_png(depth: Array) -> bytes:
    """(H, W) metres -> bytes of a 16-bit PNG."""
    units = np.rint(depth * DEPTH_UNITS_PER_M)
    units[units > 65535] = 0
    return bytes(cv2.imencode(".png", units.astype(np.uint16), [cv2.IMWRITE_PNG_COMPRESSION, 1])[1])


def drive_name(drive: int) -> tuple[str, str]:
    """(date, drive) in KITTI's format; the date changes every six drives."""
    day = (datetime.date(2026, 3, 2) + datetime.timedelta(days=drive // 6)).strftime("%Y_%m_%d")
    return day, f"{day}_drive_{drive:04d}_sync"


def mapping_files(rows: Sequence[tuple[int, int]], order: Sequence[int], frame_step: int) -> tuple[str, str]:
    """train_mapping.txt and train_rand.txt: frame i of the training set is line order[i], counted from 1.

    `rows` are (drive, frame); frames are numbered at the 10 Hz of KITTI's camera.
    """
    lines = [
        f"{date} {drive} {frame * frame_step:010d}\n" for number, frame in rows for date, drive in [drive_name(number)]
    ]
    return "".join(lines), ",".join(str(number) for number in order) + "\n"
