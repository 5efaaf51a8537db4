"""Split files: a list of val (and optionally train) entries, each an image file, a drive or a file stem."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from drivetl.coco.io import load_json
from drivetl.coco.records import ImageRecord
from drivetl.errors import DataError, nearest
from drivetl.files.read import read_text

Lists = dict[str, list[tuple[int | None, str]]]
"""{"val": [(line, name), ...]}, and "train" when a json has it."""

ByName = dict[str, list[ImageRecord]]
"""A name -> the images it may refer to."""


def read_split_file(path: Path) -> Lists:
    """The lists of a text file or a json. Raises DataError when a json has no list `val` or a name is not a text."""
    if path.suffix.lower() != ".json":
        lines = enumerate(read_text(path).splitlines(), 1)
        entries = [(number, line.split("#")[0].strip()) for number, line in lines]
        return {"val": [(number, name) for number, name in entries if name]}
    document = load_json(path)
    if isinstance(document, list):
        document = {"val": document}
    if not isinstance(document, dict) or not isinstance(document.get("val"), list):
        raise DataError("not a split file: the list `val` is missing", remedy='write {"val": ["name", ...]}', file=path)
    chosen = {name: document[name] for name in ("val", "train") if name in document}
    for name, names in chosen.items():
        if not isinstance(names, list) or not all(isinstance(item, str) for item in names):
            raise DataError(f"`{name}` must be a list of names", remedy="write each name as a text", file=path)
    return {name: [(None, item) for item in names] for name, names in chosen.items()}


def sides_of(images: Sequence[ImageRecord], lists: Lists, path: Path) -> dict[int, str]:
    """Image id -> `val` or `train`.

    Raises DataError with the line for an unknown entry, for a file name or stem of several images, and for an image
    in both lists.
    """
    exact, short = _by_name(images)
    side: dict[int, str] = {}
    for name, entries in lists.items():
        for line, entry in entries:
            try:
                for image in _named(entry, exact, short):
                    if side.setdefault(image.id, name) != name:
                        raise DataError(
                            f"image {image.file_name!r} is in val and in train", remedy="keep it on one side"
                        )
            except DataError as error:
                raise error.at(path, line) from None
    return side


def _by_name(images: Sequence[ImageRecord]) -> tuple[ByName, ByName]:
    """(by file name or drive, by file name without folder, with and without suffix). File names win over drives."""
    files: ByName = {image.file_name: [image] for image in images}
    drives: ByName = {}
    short: ByName = {}
    for image in images:
        if image.drive:
            drives.setdefault(image.drive, []).append(image)
        pure = PurePosixPath(image.file_name)
        for name in {pure.name, pure.stem}:
            short.setdefault(name, []).append(image)
    return drives | files, short


def _named(entry: str, exact: ByName, short: ByName) -> list[ImageRecord]:
    if entry in exact:
        return exact[entry]
    matches = short.get(entry, [])
    if not matches:
        raise DataError(
            f"{entry!r} is not an image or a drive of this dataset",
            remedy=nearest(entry, [*exact, *short], "write file names, stems or drives"),
        )
    if len(matches) > 1:
        raise DataError(
            f"{entry!r} may be {matches[0].file_name!r} or {matches[1].file_name!r}",
            remedy="write the file name with its folders, or a drive",
        )
    return matches
