"""Video -> frames: `images/<drive>/<index>.jpg`, where the index is the frame number in the video, counted from 0.

Frames are taken on a fixed grid of presentation times, so a variable frame rate is supported. A frame that equals the
last kept one is left out. Extraction resumes from a journal next to the frames; recorded frames are not decoded again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from drivetl import console
from drivetl.coco.io import write_dataset
from drivetl.coco.records import Dataset, ImageRecord
from drivetl.errors import ConfigError, DataError
from drivetl.files.images import image_size
from drivetl.files.read import read_text
from drivetl.files.video import VIDEO_SUFFIXES, grabs, n_expected, opened, refuse_other_track, refuse_unknown_codec
from drivetl.files.write import is_taken, write_atomically

JPEG_QUALITY = 95

THUMBNAIL = 64, 36
"""(width, height) of the thumbnails that are compared: each pixel is the mean of 400 pixels of a 1280 x 720 frame,
which suppresses noise."""

SAME_BELOW = 8.0
"""Grey levels. A frame is a duplicate when no thumbnail pixel differs by this much. Measured largest differences
between neighbouring frames: 49 to 230 on KITTI's drive 0052, 75 to 200 on a fixed motorway camera, 4 for a static
scene of 320 px with noise of 4 levels."""


@dataclass(slots=True)
class ExtractedDrive:
    """The frames extracted from one video."""

    name: str
    frames: list[tuple[int, float]] = field(default_factory=list)
    """(frame number, presentation time in s) of every frame kept."""
    seen: int = 0
    """Frames decoded."""
    duplicates: int = 0
    """Frames on the grid that were left out as duplicates."""
    expected: int = 0
    """Number of frames by the container's header; 0 when it has none."""
    lost: int = 0
    """Frames, or parts of one, that cannot be decoded although later ones can."""
    ends_early: bool = True
    """Whether the last frame is well before the end of the video by the container's header."""
    done: bool = False

    @property
    def cut_off(self) -> bool:
        """Whether the video ended well before the number in its header (which is often off by one or two).

        The number alone does not tell: some containers have a duration only, and a variable frame rate.
        """
        short = self.expected > 0 and self.seen + self.lost < self.expected - max(2, self.expected // 100)
        return short and self.ends_early


def find_videos(path: Path) -> list[Path]:
    """The video itself, or all videos below a folder, sorted. Raises DataError when there are none."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError("no such file or folder", remedy="check --video", file=path)
    videos = sorted(item for item in path.rglob("*") if item.suffix.lower() in VIDEO_SUFFIXES and item.is_file())
    if not videos:
        raise DataError("contains no video", remedy=f"known suffixes: {', '.join(VIDEO_SUFFIXES)}", file=path)
    return videos


def extract_videos(path: Path, out: Path, *, fps: float | None, keep_duplicates: bool = False) -> list[ExtractedDrive]:
    """Extract all videos of a path into out/images and list all frames in out/frames.json.

    fps: frames per second; None takes every frame. Raises DataError for a video that cannot be opened, frames that
    were extracted with other settings, and existing files that no extraction wrote; ConfigError for two videos with
    the same name.
    """
    if fps is not None and not 0 < fps <= 1000:
        raise ConfigError(f"--fps {fps:g} is not a frame rate", remedy="write for example 2, or all")
    videos = find_videos(path)
    names = [video.stem for video in videos]
    duplicate = next((name for name in names if names.count(name) > 1), None)
    if duplicate is not None:
        raise ConfigError(f"two videos are called {duplicate!r}", remedy="extract their folders separately")
    _refuse_other_list(out / "frames.json")
    drives = [extract_drive(video, out / "images", fps=fps, keep_duplicates=keep_duplicates) for video in videos]
    write_dataset(frame_list(drives, out / "images"), out / "frames.json")
    return drives


def _refuse_other_list(path: Path) -> None:
    """Raises DataError when the file exists and no extraction wrote it."""
    if not path.exists():
        return
    try:
        source = json.loads(read_text(path))["info"]["drivetl"]["source"]
    except (DataError, ValueError, KeyError, TypeError, RecursionError):
        source = None
    if source != "video":
        raise DataError(
            "is not a list of extracted frames and is never overwritten",
            remedy="name another folder with --out",
            file=path,
        )


def frame_list(drives: list[ExtractedDrive], images_root: Path) -> Dataset:
    """The frames as a dataset whose images are labelled for no class, so that none counts as empty."""
    records: list[ImageRecord] = []
    for drive in drives:
        for frame, time_s in drive.frames:
            name = frame_name(drive.name, frame)
            width, height = image_size(images_root / name)
            attributes = {"time_s": time_s}
            records.append(
                ImageRecord(len(records) + 1, name, width, height, drive.name, frame, attributes, labelled=())
            )
    return Dataset((), records, images_root, {"source": "video"})


def frame_name(drive: str, frame: int) -> str:
    """<drive>/<frame number, six digits>.jpg."""
    return f"{drive}/{frame:06d}.jpg"


def extract_drive(
    video: Path, images_root: Path, *, fps: float | None, keep_duplicates: bool = False
) -> ExtractedDrive:
    """Extract one video, resuming after the last frame of its journal."""
    drive = ExtractedDrive(video.stem)
    journal = images_root / drive.name / "extraction.jsonl"
    settings = {"video": video.name, "bytes": video.stat().st_size, "fps": fps, "keep_duplicates": keep_duplicates}
    _refuse_other_frames(journal)
    _replay(journal, settings, drive)
    if drive.done:
        return drive
    refuse_other_track(video)
    refuse_unknown_codec(video)
    with opened(video) as capture, console.progress_bar() as bar:
        _make_folder(journal.parent)
        drive.expected = n_expected(video, capture)
        task = bar.add_task(f"extracting {drive.name}", total=drive.expected or None, note="")
        with journal.open("a", encoding="utf-8") as log:
            if log.tell() == 0:
                log.write(json.dumps(settings) + "\n")
            for entry in _entries(capture, drive, images_root, fps, keep_duplicates):
                bar.update(task, completed=drive.seen)
                log.write(json.dumps(entry) + "\n")
                log.flush()
            drive.done = True
            facts = {name: getattr(drive, name) for name in ("seen", "expected", "lost", "ends_early", "done")}
            log.write(json.dumps(facts) + "\n")
    return drive


def _refuse_other_frames(journal: Path) -> None:
    """Raises DataError when the folder of a drive has files but no journal of an extraction."""
    folder = journal.parent
    if not journal.is_file() and is_taken(folder):
        raise DataError(
            "exists already without the journal of an extraction and is never overwritten",
            remedy="name another folder with --out",
            file=folder,
        )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # a file of that name
        raise DataError(
            f"cannot be created ({error.strerror or error})", remedy="name another folder with --out", file=folder
        ) from None


def _replay(journal: Path, settings: dict[str, Any], drive: ExtractedDrive) -> None:
    """Restore a drive from its journal; a truncated last line is ignored."""
    if not journal.is_file():
        return
    complete_lines = ""
    for number, line in enumerate(journal.read_text("utf-8", errors="replace").splitlines(keepends=True)):
        try:
            entry = json.loads(line) if line.endswith("\n") else None
        except ValueError:
            entry = None
        if entry is None:
            break
        if number == 0 and entry != settings:
            raise DataError(
                "these frames were extracted with other settings or from another file",
                remedy="name another folder with --out",
                file=journal.parent,
            )
        complete_lines += line
        if entry.get("kept"):
            drive.frames.append((entry["frame"], entry["time_s"]))
        drive.duplicates += entry.get("kept") is False
        drive.seen, drive.expected = entry.get("seen", drive.seen), entry.get("expected", drive.expected)
        drive.lost, drive.ends_early = entry.get("lost", 0), entry.get("ends_early", True)
        drive.done = bool(entry.get("done"))
    if not drive.done:
        write_atomically(journal, complete_lines)


def _entries(
    capture: cv2.VideoCapture, drive: ExtractedDrive, images_root: Path, fps: float | None, keep_duplicates: bool
) -> Iterator[dict[str, Any]]:
    """Decode to the end; yields a journal entry for every frame on the grid that is not in the journal."""
    rate = capture.get(cv2.CAP_PROP_FPS) or 0.0
    resume_at = drive.seen
    last_kept = drive.frames[-1][0] if drive.frames else -1
    drive.seen, drive.lost, previous_s, slot = 0, 0, -1.0, -1
    reference: npt.NDArray[np.float32] | None = None
    for failed in grabs(capture):
        frame = drive.seen
        drive.seen += 1
        drive.lost += failed
        time_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if frame and not time_s > previous_s:  # the container has no usable times
            time_s = frame / rate if rate > 0 else float(frame)
        previous_s = time_s
        drive.ends_early = rate <= 0 or time_s + 2 / rate < 0.99 * drive.expected / rate
        if fps is not None:
            frame_slot = int(time_s * fps + 1e-6)
            if frame_slot == slot:
                continue
            slot = frame_slot
        if frame < resume_at and frame != last_kept:
            continue
        decoded, image = capture.retrieve()
        if not decoded:
            continue
        thumbnail = _thumbnail(image)
        if frame < resume_at:
            reference = thumbnail
            continue
        kept = keep_duplicates or reference is None or float(np.abs(thumbnail - reference).max()) >= SAME_BELOW
        rounded_s = round(time_s, 4)
        if kept:
            reference = thumbnail
            write_atomically(images_root / frame_name(drive.name, frame), _jpeg(image))
            drive.frames.append((frame, rounded_s))
        else:
            drive.duplicates += 1
        yield {"frame": frame, "time_s": rounded_s, "kept": kept, "seen": drive.seen}


def _thumbnail(image: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """(36, 64) grey levels."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return np.asarray(cv2.resize(grey, THUMBNAIL, interpolation=cv2.INTER_AREA), np.float32)


def _jpeg(image: npt.NDArray[Any]) -> bytes:
    return bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1])
