"""Images that are evaluated must not be trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from drivetl import console
from drivetl.coco.drives import shared_drives
from drivetl.coco.hashes import file_hash
from drivetl.coco.records import Dataset, ImageRecord
from drivetl.console.text import counted, first_of
from drivetl.errors import ConfigError

Files = Mapping[Path, Any]
"""Image files, in order."""
END = 4096
"""Bytes at the end of a file that are compared before all of it is read."""


def image_files(dataset: Dataset) -> dict[Path, ImageRecord]:
    """The image files of a dataset, with their records."""
    root = dataset.images_root.resolve()
    return {root / image.file_name: image for image in dataset.images}


def copies(ours: Files, theirs: Files) -> dict[Path, Path]:
    """Our file -> theirs that it is, or whose bytes it has.

    Of a file only the size is read, its end where the other side has a file of that size, and all of it where one has
    that end too: among thousands of JPEG files most sizes occur on both sides.
    """
    left: dict[Path, Any] = dict.fromkeys(file for file in ours if file not in theirs and file.is_file())
    right: dict[Path, Any] = dict.fromkeys(file for file in theirs if left and file.is_file())
    for mark in (_size, _end, file_hash):
        left, right = _alike(left, right, mark)
    originals = {its: file for file, its in reversed(right.items())}
    return {file: originals[left[file]] if file in left else file for file in ours if file in theirs or file in left}


def _alike(left: Files, right: Files, mark: Callable[[Path], object]) -> list[dict[Path, object]]:
    """The files of either side whose mark one of the other side has too, with their marks."""
    marks = [{file: mark(file) for file in files} for files in (left, right)]
    shared = set(marks[0].values()) & set(marks[1].values())
    return [{file: its for file, its in of_side.items() if its in shared} for of_side in marks]


def _size(file: Path) -> int:
    return file.stat().st_size


def _end(file: Path) -> bytes:
    with file.open("rb") as stream:
        stream.seek(max(0, _size(file) - END))
        return stream.read()


def check_separate(name: str, trained: Dataset, of: str, evaluated: Dataset, file: Path) -> None:
    """Images that are evaluated, or copies of them, must not be trained on. Raises ConfigError for the first; warns of
    common drives.

    name: the key of the trained dataset, `of`: that of the evaluated one; file: what the error names.
    """
    for ours, theirs in copies(image_files(trained), image_files(evaluated)).items():
        copied = f" (a copy of {theirs})" if ours != theirs else ""
        raise ConfigError(
            f"{name} has {ours}{copied}, which {of} evaluates on",
            remedy="leave out the images of either dataset, by drive",
            file=file,
        )
    drives = shared_drives(trained.images, evaluated.images)
    if drives:
        listed = f"{counted(len(drives), 'drive')} ({first_of(drives, 1)})"
        console.warn(
            f"in {name} and in {of}: {listed}. Unless only their names are equal, the score will be too high - split by"
            " drive"
        )
