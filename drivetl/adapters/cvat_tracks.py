"""CVAT's video export: tracks -> frames.

Missing frames between two shapes of a track are interpolated (boxes and polygons of equal length linearly, other
shapes held), unless the first of the two is `outside`; a rotated box turns by the smaller angle. A track ends at its
last shape. When some frames of the drive are on disk, only those become images.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath

from drivetl.adapters.cvat_shapes import NO_REGIONS, REGIONS, Meta, Task, parse_shape, set_attribute
from drivetl.adapters.reading import ImageIndex, Reading, folder_drive, is_nonzero
from drivetl.adapters.shapes import box_of, pairs, rotated_box
from drivetl.adapters.xml import Node
from drivetl.coco.records import Box, SourceImage, SourceObject
from drivetl.errors import DataError
from drivetl.files.fields import whole
from drivetl.files.images import image_size

MAX_FRAMES = 5_000_000
"""A larger number of frames (two days at 30 per second) is treated as an error."""


@dataclass(slots=True)
class Track:
    """One `<track>`: its shapes by frame."""

    id: str
    label: str
    task_id: str
    group_id: str
    line: int
    shapes: list[tuple[int, Node]] = field(default_factory=list)
    """(frame number in the video, element), ascending."""


def parse_track(reading: Reading, node: Node, path: Path) -> Track:
    """A track with its shapes in order; a shape with an invalid or duplicated frame is an error, or rejected."""
    value = node.attributes.get
    track = Track(value("id", ""), value("label", ""), value("task_id", ""), value("group_id", ""), node.line)
    seen: set[int] = set()
    for child in node.children:
        if child.tag in REGIONS or child.tag in NO_REGIONS:
            with reading.object(track.label or "(no label)", path, child.line):
                frame = whole(child.need("frame"), "frame")
                if frame in seen:
                    raise DataError(f"frame {frame} is duplicated in a track", remedy="remove one of the two shapes")
                seen.add(frame)
                track.shapes.append((frame, child))
    track.shapes.sort(key=lambda pair: pair[0])
    return track


def visible_labels(tracks: list[Track]) -> list[str]:
    """The labels of all shapes that are not outside, to count a video that cannot be read."""
    return [
        track.label or "(no label)"
        for track in tracks
        for _, shape in track.shapes
        if not is_nonzero(shape.attributes.get("outside"))
    ]


def video_images(
    reading: Reading, tracks: list[Track], meta: Meta, path: Path, index: ImageIndex, prefix: str, drive: str
) -> Iterator[SourceImage]:
    """All labelled frames of the video tasks of a file, including frames without objects."""
    tasks = meta.tasks or {"": Task()}
    only = next(iter(tasks)) if len(tasks) == 1 else None
    for task_id, task in tasks.items():
        own = [track for track in tracks if only is not None or track.task_id == task_id]
        name = drive or PurePosixPath(meta.source).stem or task.name or path.stem
        if only is None:
            name = task.name or f"task_{task_id}"
        aliases = [name, task.name, *([PurePosixPath(meta.source).stem, path.stem] if only is not None else [])]
        with reading.file(path, partial(visible_labels, own)):
            own = _in_video_numbers(own, task)
            saved = _saved_names(index, prefix, task) if meta.is_project else []
            names = saved or _names_of_drive(index, prefix, aliases)
            folder = prefix or _folder_name(aliases[0]) or "clip"
            frames = _Frames(index.root, folder, names, task.offset if saved else 0)
            numbers, size = _frame_numbers(own, task), _video_size(own, task, frames)
            if not saved:
                _refuse_other_numbers(sorted(frames.by_number), numbers, task)
            files = {frame: frames.of(frame) for frame in {*numbers, *_frames_of_shapes(own)}}
            for image in _task_images(reading, own, numbers, size, meta, path, files):
                image.drive = name
                yield image
    unlisted = [track for track in tracks if only is None and track.task_id not in tasks]
    if unlisted:
        with reading.file(path, partial(visible_labels, unlisted)):
            raise DataError(
                f"track {unlisted[0].id} belongs to task {unlisted[0].task_id!r}, which <meta> does not list",
                remedy="export the video from CVAT again",
                line=unlisted[0].line,
            )


def _refuse_other_numbers(on_disk: list[int], numbers: range, task: Task) -> None:
    """Raises DataError when the numbers in the file names of the images count from elsewhere than the frames."""
    if not on_disk or not numbers:
        return
    if task.mode == "annotation" and task.size is not None and on_disk != list(range(task.size)):
        raise DataError(
            f"task {task.name!r} is of images, and its tracks name them by their position 0..{task.size - 1}; the "
            f"numbers in the file names are {on_disk[0]}..{on_disk[-1]}",
            remedy='export it from CVAT as "CVAT for images", which writes file names',
        )
    if numbers.step == 1 and (on_disk[0], on_disk[-1]) == (numbers[0] + 1, numbers[-1] + 1):
        raise DataError(
            f"the frames are numbered {numbers[0]}..{numbers[-1]}, the images {on_disk[0]}..{on_disk[-1]}: CVAT counts "
            "from 0, ffmpeg from 1",
            remedy="rename the images so that they count from 0 (ffmpeg -start_number 0)",
        )


def _in_video_numbers(tracks: list[Track], task: Task) -> list[Track]:
    """The tracks of a task with the frame numbers of its video: the offset of a project export is subtracted.

    Raises DataError with the line for a visible shape on a frame that belongs to another task.
    """
    if not task.offset:
        return tracks
    end = task.offset + task.start + task.step * task.size if task.size is not None else None
    for track in tracks:
        for frame, node in track.shapes:
            is_visible = not is_nonzero(node.attributes.get("outside"))
            if is_visible and not (task.offset <= frame and (end is None or frame < end)):
                raise DataError(
                    f"frame {frame} is not in task {task.name!r}, whose frames are numbered from "
                    f"{task.offset + task.start} in this project export",
                    remedy="export the project, or this task alone, from CVAT again",
                    line=node.line,
                )
    return [replace(track, shapes=[(frame - task.offset, node) for frame, node in track.shapes]) for track in tracks]


def _saved_names(index: ImageIndex, prefix: str, task: Task) -> list[str]:
    """The images that CVAT saved in a project export: <subset>/frame_<running number>.<suffix>."""
    outer = f"{prefix}/" if prefix else ""
    folders = tuple(f"{outer}{inner}{task.subset or 'default'}/frame_" for inner in ("images/", ""))
    return [name for name in index.names if name.startswith(folders)]


class _Frames:
    """Finds the image of a frame by the frame number at the end of its file name."""

    def __init__(self, root: Path, folder: str, names: list[str], offset: int):
        """folder: for names of frames that are not on disk; offset: what the file names add to the frame number."""
        self.root, self.folder, self.offset = root, folder, offset
        self.by_number: dict[int, list[str]] = {}
        for name in names:
            digits = re.search(r"(\d{1,15})$", PurePosixPath(name).stem)
            if digits:
                self.by_number.setdefault(int(digits[1]) - offset, []).append(name)

    def of(self, frame: int) -> tuple[str, bool]:
        """(file name, whether it is on disk). Raises DataError when several images have this number."""
        names = self.by_number.get(frame, [])
        if len(names) > 1:
            raise DataError(
                f"frame {frame} may be {names[0]!r} or {names[1]!r}", remedy="name the drive's folder with --images"
            )
        return (names[0], True) if names else (f"{self.folder}/{frame:06d}.jpg", False)


def _folder_name(drive: str) -> str:
    return re.sub(r"[^\w.\- ]", "_", drive)


def _names_of_drive(index: ImageIndex, prefix: str, aliases: list[str]) -> list[str]:
    """The images of a drive: below the folder of its export, in a folder of its name, or without folder in the root.

    aliases: possible names of the drive. Raises DataError when all images are in folders of other drives.
    """
    if prefix:
        return [name for name in index.names if name.startswith(prefix + "/")]
    for alias in filter(None, aliases):
        folder_names = {alias, _folder_name(alias)}
        if inside := [name for name in index.names if folder_names & set(PurePosixPath(name).parent.parts)]:
            return inside
    without_folder = [name for name in index.names if not folder_drive(name)]
    if index.names and not without_folder:
        folders = sorted({folder_drive(name) for name in index.names})
        more = f" and {len(folders) - 3} more" if len(folders) > 3 else ""
        raise DataError(
            f"no folder contains frames of drive {aliases[0]!r}; folders are {', '.join(map(repr, folders[:3]))}{more}",
            remedy="rename the drive's folder, or name it with --images",
        )
    return without_folder


def _task_images(
    reading: Reading,
    tracks: list[Track],
    numbers: range,
    size: tuple[int, int],
    meta: Meta,
    path: Path,
    files: dict[int, tuple[str, bool]],
) -> Iterator[SourceImage]:
    some_on_disk = any(on_disk for _, on_disk in files.values())
    objects: dict[int, list[SourceObject]] = {}
    for track in tracks:
        for frame, item in _track_objects(reading, track, numbers, path, size, meta):
            objects.setdefault(frame, []).append(item)
    for frame in sorted({*numbers, *objects}):
        name, on_disk = files[frame]
        if not on_disk and some_on_disk:
            reading.note("labelled frames that were not extracted, left out with their objects")
            for item in objects.get(frame, []):
                reading.drop(item.label, "on a frame that was not extracted")
            continue
        if not on_disk:
            reading.note("frames that are not on disk; their size is taken from the labels")
        yield SourceImage(name, *size, objects.get(frame, []), frame_index=frame, label_file=path)


def _frames_of_shapes(tracks: list[Track]) -> set[int]:
    return {frame for track in tracks for frame, _ in track.shapes}


def _frame_numbers(tracks: list[Track], task: Task) -> range:
    """The labelled frames of a task, as numbers in the video: of its jobs, else start..stop, else of its shapes."""
    first, last = task.start, task.stop
    if len(task.segments) > 0:
        first = task.start + min(start for start, _ in task.segments) * task.step
        last = task.start + max(stop for _, stop in task.segments) * task.step
    if last is None and task.size is not None:
        last = task.start + (task.size - 1) * task.step
    if last is None:
        shape_frames = _frames_of_shapes(tracks)
        first, last = min(shape_frames, default=0), max(shape_frames, default=-1)
    numbers = range(first, last + 1, task.step)
    if len(numbers) > MAX_FRAMES:
        raise DataError(f"{len(numbers)} frames from {first} to {last}", remedy="fix the frame numbers")
    return numbers


def _video_size(tracks: list[Track], task: Task, frames: _Frames) -> tuple[int, int]:
    """(width, height) of the video: of <meta>, else of a frame on disk. Raises DataError when both are missing."""
    if task.width_height is not None:
        return task.width_height
    name = next(
        (names[0] for frame in sorted(_frames_of_shapes(tracks)) if (names := frames.by_number.get(frame))), None
    )
    if name is None:
        raise DataError(
            "the video's size is unknown", remedy="add <original_size>, or name the folder of the frames with --images"
        )
    return image_size(frames.root / name)


def _track_objects(
    reading: Reading, track: Track, numbers: range, path: Path, size: tuple[int, int], meta: Meta
) -> Iterator[tuple[int, SourceObject]]:
    """(frame, object) of every frame in which a track is visible."""
    previous: tuple[int, SourceObject] | None = None
    for frame, node in track.shapes:
        outside = is_nonzero(node.attributes.get("outside"))
        between = _numbers_between(numbers, previous[0], frame) if previous is not None else range(0)
        if outside:
            reading.note("track positions marked outside")
        item = _shape_at(reading, track, node, path, size, meta) if not outside or between else None
        if item is not None:
            if previous is not None and between:
                reading.note("objects interpolated between two shapes of a track", len(between))
                for number in between:
                    share = (number - previous[0]) / (frame - previous[0])
                    yield number, interpolated(previous[1], item, share)
            if not outside:
                yield frame, item
        previous = (frame, item) if item is not None and not outside else None


def _numbers_between(numbers: range, first: int, last: int) -> range:
    """The frames of the task strictly between two frames."""
    low = max(0, (first - numbers.start) // numbers.step + 1)
    high = min(len(numbers), -((numbers.start - last) // numbers.step))
    return numbers[low:high] if high > low else range(0)


def _shape_at(
    reading: Reading, track: Track, node: Node, path: Path, size: tuple[int, int], meta: Meta
) -> SourceObject | None:
    item = parse_shape(reading, node, node.attributes.get("label") or track.label, path, size, meta)
    if item is not None:
        set_attribute(item.attributes, "track_id", track.id)
        if track.group_id:
            item.attributes.setdefault("group_id", track.group_id)
    return item


def interpolated(first: SourceObject, second: SourceObject, share: float) -> SourceObject:
    """The object at `share` (0..1) between two shapes: linear for boxes and polygons of equal length.

    Everything else, including attributes, is that of the first shape.
    """
    item = replace(first, attributes=first.attributes | {"interpolated": True}, line=first.line)
    old, new = first.segmentation, second.segmentation
    if old is None and new is None:
        _interpolate_box(item, _upright(first), _upright(second), share)
    elif isinstance(old, list) and isinstance(new, list) and [len(ring) for ring in old] == [len(ring) for ring in new]:
        rings = [
            [a + (b - a) * share for a, b in zip(ring, other, strict=True)]
            for ring, other in zip(old, new, strict=True)
        ]
        item.segmentation, item.box_xyxy = rings, box_of(pairs([value for ring in rings for value in ring]))
    return item


def _upright(item: SourceObject) -> tuple[Box, float]:
    """(box before its rotation, rotation in degrees)."""
    if "unrotated_box_xyxy" not in item.attributes:
        return item.box_xyxy, 0.0
    x1, y1, x2, y2 = item.attributes["unrotated_box_xyxy"]
    return (x1, y1, x2, y2), item.attributes["rotation"]


def _interpolate_box(item: SourceObject, first: tuple[Box, float], second: tuple[Box, float], share: float) -> None:
    """Set the box of `item` to the one at `share` between two (box, degrees), rotated by the smaller angle."""
    x1, y1, x2, y2 = (a + (b - a) * share for a, b in zip(first[0], second[0], strict=True))
    turn = (second[1] - first[1] + 180) % 360 - 180
    degrees = (first[1] + turn * share) % 360
    item.box_xyxy = x1, y1, x2, y2
    if first[1] or second[1]:
        item.attributes |= {"rotation": degrees, "unrotated_box_xyxy": [x1, y1, x2, y2]}
        item.box_xyxy = rotated_box(item.box_xyxy, degrees)
