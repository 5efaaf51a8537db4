"""Write the sample city: town A in KITTI's layout, town B as annotated footage.

    write_city(Path("data/city"), frames_a=600, frames_b=400)

The same arguments give the same bytes with any number of processes.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from drivetl import __version__
from drivetl.errors import ConfigError
from drivetl.files.write import new_directory
from drivetl.sample import write_cityscapes, write_cvat, write_kitti
from drivetl.sample.camera import Array
from drivetl.sample.render import SampleFrame, render_frame
from drivetl.sample.towns import town_named
from drivetl.sample.world import drive_conditions, drive_frames
from drivetl.workers import run_jobs

JPEG_QUALITY = 92
CITY = "townb"
"""The city part of Cityscapes file names."""

MASKS_FILE = "instance_masks.cvat"
"""Not .xml, so that converting the folder reads each object once, from annotations.xml."""

Progress = Callable[[int], None]
"""Called with the number of frames written since the last call."""


@dataclass(frozen=True, slots=True)
class Options:
    """Options for writing frames."""

    seed: int = 0
    scale: float = 1.0
    jpeg: bool = False
    """Town A's images as JPEG instead of PNG."""
    depth: bool = False
    """Town A's depth maps as 16-bit PNG."""
    processes: int = 0
    """0: one per core."""


@dataclass(slots=True)
class Summary:
    """Counts of what was written."""

    frames: int = 0
    drives: int = 0
    objects: Counter[str] = field(default_factory=Counter)
    """label -> labelled objects"""
    groups: int = 0
    """DontCare / ignore regions"""
    conditions: Counter[str] = field(default_factory=Counter)
    """"day, clear" -> frames"""


@dataclass(frozen=True, slots=True)
class _DriveJob:
    """The work for one drive; sent to another process."""

    town: str
    drive: int
    frames: int
    ids: tuple[int, ...]
    """Town A: index of each frame in the training set."""
    root: Path
    options: Options


@dataclass(slots=True)
class _DriveResult:
    drive: int
    frames: int
    objects: Counter[str]
    groups: int
    images: list[tuple[str, int, int, str, str]]
    """Town B: (name, width, height, boxes, masks) for the XML."""


def drives_for(town: str, frames: int, seed: int) -> list[tuple[int, int]]:
    """(drive, frames) of the drives that give the requested number of frames; the last drive may be shortened."""
    drives: list[tuple[int, int]] = []
    left, drive = frames, 0
    while left > 0:
        count = min(left, drive_frames(town, drive, seed))
        drives.append((drive, count))
        left, drive = left - count, drive + 1
    return drives


def write_city(
    root: Path,
    frames_a: int = 600,
    frames_b: int = 400,
    seed: int = 0,
    *,
    scale: float = 1.0,
    jpeg: bool = False,
    depth: bool = False,
    processes: int = 0,
    progress: Progress | None = None,
) -> dict[str, Summary]:
    """Write `root/town_a` and `root/town_b` (a town with 0 frames is left out); returns a summary per town.

    Raises DataError if `root` exists and is not empty, ConfigError for invalid numbers.
    """
    options = _checked(Options(seed, scale, jpeg, depth, processes), frames_a, frames_b)
    written: dict[str, Summary] = {}
    with new_directory(root) as work:
        if frames_a:
            written["a"] = _fill_town_a(work / "town_a", frames_a, options, progress)
        if frames_b:
            written["b"] = _fill_town_b(work / "town_b", frames_b, options, progress)
    return written


def write_town_a(
    root: Path,
    frames: int,
    seed: int = 0,
    *,
    scale: float = 1.0,
    jpeg: bool = False,
    depth: bool = False,
    processes: int = 0,
    progress: Progress | None = None,
) -> Summary:
    """Write town A in KITTI's layout: training/{image_2,label_2,calib}, mapping/, attributes.csv, and with `depth`
    depth/. Raises as `write_city`."""
    options = _checked(Options(seed, scale, jpeg, depth, processes), frames)
    with new_directory(root) as work:
        return _fill_town_a(work, frames, options, progress)


def _checked(options: Options, *frames: int) -> Options:
    if min(frames) < 0 or max(frames) == 0:
        raise ConfigError(f"{min(frames)} frames requested", remedy="request at least one (--frames-a, --frames-b)")
    if not 0.1 <= options.scale <= 2.0:
        raise ConfigError(
            f"scale {options.scale:g} is out of range", remedy="use a value from 0.1 to 2 (--scale, --width)"
        )
    if options.seed < 0:
        raise ConfigError(f"seed {options.seed} is negative", remedy="use 0 or more (--seed)")
    return options


def _fill_town_a(root: Path, frames: int, options: Options, progress: Progress | None) -> Summary:
    drives = drives_for("a", frames, options.seed)
    rows = [(drive, frame) for drive, count in drives for frame in range(count)]
    order = np.random.default_rng([options.seed, 77]).permutation(len(rows)) + 1
    index_of_line = {int(line): index for index, line in enumerate(order)}
    for folder in ("image_2", "label_2", "calib"):
        (root / "training" / folder).mkdir(parents=True)
    if options.depth:
        (root / "depth").mkdir()
    jobs, line = [], 1
    for drive, count in drives:
        ids = tuple(index_of_line[line + frame] for frame in range(count))
        jobs.append(_DriveJob("a", drive, count, ids, root, options))
        line += count
    mapping, rand = write_kitti.mapping_files(rows, order.tolist(), round(town_named("a").frame_s * 10))
    (root / "mapping").mkdir()
    (root / "mapping" / "train_mapping.txt").write_text(mapping)
    (root / "mapping" / "train_rand.txt").write_text(rand)
    _attributes_csv(root, rows, order.tolist(), ".jpg" if options.jpeg else ".png", options.depth)
    return _summary("a", root, _run(jobs, options, progress), options)


def _attributes_csv(
    root: Path, rows: Sequence[tuple[int, int]], order: Sequence[int], suffix: str, depth: bool
) -> None:
    lines = [f"file_name,sequence,frame_index,timeofday,weather{',depth' if depth else ''}\n"]
    for number, line in enumerate(order):
        drive, frame = rows[line - 1]
        timeofday, weather = drive_conditions(drive)
        lines.append(
            f"{number:06d}{suffix},{write_kitti.drive_name(drive)[1]},{frame},{timeofday},{weather}"
            f"{f',depth/{number:06d}.png' if depth else ''}\n"
        )
    (root / "attributes.csv").write_text("".join(lines))


def _fill_town_b(root: Path, frames: int, options: Options, progress: Progress | None) -> Summary:
    for folder in ("images", "videos", f"cityscapes/gtFine/train/{CITY}", f"cityscapes/leftImg8bit/train/{CITY}"):
        (root / folder).mkdir(parents=True)
    jobs = [_DriveJob("b", drive, count, (), root, options) for drive, count in drives_for("b", frames, options.seed)]
    results = _run(jobs, options, progress)
    for name, column in (("annotations.xml", 3), (MASKS_FILE, 4)):
        images = [(image[0], image[1], image[2], str(image[column])) for result in results for image in result.images]
        (root / name).write_text(write_cvat.document(images, "town_b"))
    return _summary("b", root, results, options)


def _summary(town: str, root: Path, results: Sequence[_DriveResult], options: Options) -> Summary:
    """The totals of all drives; also writes them to sample.json."""
    summary = Summary(drives=len(results))
    for result in results:
        summary.frames += result.frames
        summary.objects += result.objects
        summary.groups += result.groups
        summary.conditions[", ".join(drive_conditions(result.drive))] += result.frames
    facts: dict[str, Any] = {
        "town": town,
        "version": __version__,
        "seed": options.seed,
        "scale": options.scale,
        "camera": asdict(town_named(town).camera.scaled(options.scale)),
        "frames": summary.frames,
        "drives": summary.drives,
        "objects": dict(sorted(summary.objects.items())),
        "groups": summary.groups,
        "conditions": {
            str(result.drive): dict(zip(("timeofday", "weather"), drive_conditions(result.drive), strict=True))
            for result in results
        },
    }
    (root / "sample.json").write_text(json.dumps(facts, indent=1) + "\n")
    return summary


def _run(jobs: Sequence[_DriveJob], options: Options, progress: Progress | None) -> list[_DriveResult]:
    """Write all drives, in this process or in several; results are sorted by drive."""
    processes = min(options.processes or os.cpu_count() or 1, len(jobs))
    if processes <= 1 or sum(job.frames for job in jobs) < 12:
        results = _collected(map(_write_drive, jobs), progress)
    else:
        results = _collected(run_jobs(_write_drive_in_worker, jobs, processes, flag="--processes"), progress)
    return sorted(results, key=lambda result: result.drive)


def _collected(results: Iterable[_DriveResult], progress: Progress | None) -> list[_DriveResult]:
    collected = []
    for result in results:
        collected.append(result)
        if progress:
            progress(result.frames)
    return collected


def _write_drive_in_worker(job: _DriveJob) -> _DriveResult:
    cv2.setNumThreads(1)  # there is one process per core
    return _write_drive(job)


def _write_drive(job: _DriveJob) -> _DriveResult:
    """Render and write all frames of one drive."""
    result = _DriveResult(job.drive, job.frames, Counter(), 0, [])
    video = _Video(job) if job.town == "b" else None
    for number in range(job.frames):
        frame = render_frame(job.town, job.drive, number, job.options.seed, job.options.scale)
        labels = (item.label for item in frame.objects)
        if video is None:
            _write_kitti_frame(job, job.ids[number], frame)
            result.objects.update(labels)
        else:
            result.images.append(_write_footage_frame(job, number, frame))
            video.add(frame.image)
            result.objects.update(write_cvat.LABELS[label] for label in labels)
        result.groups += len(frame.ignore)
    if video is not None:
        video.close()
    return result


def _write_kitti_frame(job: _DriveJob, number: int, frame: SampleFrame) -> None:
    training, name = job.root / "training", f"{number:06d}"
    suffix = ".jpg" if job.options.jpeg else ".png"
    (training / "image_2" / (name + suffix)).write_bytes(encode_image(frame.image, suffix))
    (training / "label_2" / f"{name}.txt").write_text(write_kitti.label_lines(frame))
    (training / "calib" / f"{name}.txt").write_text(write_kitti.calibration(frame.camera))
    if job.options.depth:
        (job.root / "depth" / f"{name}.png").write_bytes(write_kitti.depth_png(frame.depth))


def _write_footage_frame(job: _DriveJob, number: int, frame: SampleFrame) -> tuple[str, int, int, str, str]:
    drive = f"drive_{job.drive:04d}"
    path = job.root / "images" / drive / f"{number:06d}.jpg"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(encode_image(frame.image, ".jpg"))
    stem = f"{CITY}_{job.drive:06d}_{number:06d}"
    city = job.root / "cityscapes"
    (city / "gtFine" / "train" / CITY / f"{stem}_gtFine_polygons.json").write_text(write_cityscapes.polygons(frame))
    _link(path, city / "leftImg8bit" / "train" / CITY / f"{stem}.jpg")
    shapes = write_cvat.shapes(frame, job.drive)
    height, width = frame.image.shape[:2]
    return f"{drive}/{number:06d}.jpg", width, height, shapes.boxes, shapes.masks


def _link(source: Path, target: Path) -> None:
    """Hard link `target` to `source`; a copy if the file system does not support links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1]
PNG += [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY]
PNG += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_PAETH]
"""Half the time of the default at the same file size: sensor noise has no repetitions to compress."""


def encode_image(image: Array, suffix: str) -> bytes:
    """(H, W, 3) RGB uint8 -> the bytes of a .png or .jpg."""
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if suffix == ".jpg" else PNG
    return bytes(cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1])


class _Video:
    """The drive as a video: MPEG-4, or motion JPEG if this build of OpenCV cannot write MPEG-4."""

    def __init__(self, job: _DriveJob):
        camera = town_named(job.town).camera.scaled(job.options.scale)
        size, rate = (camera.width, camera.height), 1 / town_named(job.town).frame_s
        stem = job.root / "videos" / f"drive_{job.drive:04d}"
        self.writer = cv2.VideoWriter(str(stem.with_suffix(".mp4")), cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
        if not self.writer.isOpened():
            self.writer = cv2.VideoWriter(str(stem.with_suffix(".avi")), cv2.VideoWriter.fourcc(*"MJPG"), rate, size)

    def add(self, image: Array) -> None:
        """Append a (H, W, 3) RGB frame."""
        self.writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        """Finish the file."""
        self.writer.release()
