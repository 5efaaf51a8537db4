"""A file that lists the val side, and the train side where it says so: image files, drives or file stems."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from drivetl.coco.io import load_json
from drivetl.coco.records import ImageRecord
from drivetl.errors import DataError, nearest
from drivetl.files.read import read_text

Lists = dict[str, list[tuple[int | None, str]]]
"""{"val": [(line, name), ...]} and "train" where a json gives it."""

Places = dict[str, list[ImageRecord]]
"""A name -> the images it may mean."""


def read_split_file(path: Path) -> Lists:
    """The lists of a text file or a json. Raises DataError when it holds none."""
    if path.suffix.lower() != ".json":
        lines = enumerate(read_text(path).splitlines(), 1)
        entries = [(number, line.split("#")[0].strip()) for number, line in lines]
        return {"val": [(number, name) for number, name in entries if name]}
    document = load_json(path)
    if isinstance(document, list):
        document = {"val": document}
    if not isinstance(document, dict) or not isinstance(document.get("val"), list):
        raise DataError("no split file: it needs a list `val`", remedy='{"val": ["name", ...]}', file=path)
    chosen = {name: document[name] for name in ("val", "train") if name in document}
    for name, names in chosen.items():
        if not isinstance(names, list) or not all(isinstance(item, str) for item in names):
            raise DataError(f"`{name}` must be a list of names", remedy="write each as text", file=path)
    return {name: [(None, item) for item in names] for name, names in chosen.items()}


def sides_of(images: Sequence[ImageRecord], lists: Lists, path: Path) -> dict[int, str]:
    """Image id -> the list that names it. Raises DataError with the line for an entry that names nothing, or several
    images though it is not a drive, and for an image in both lists."""
    exact, short = _places(images)
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


def _places(images: Sequence[ImageRecord]) -> tuple[Places, Places]:
    """Images by their file name or, where no file is called so, their drive; and by file name without folder,
    with and without suffix."""
    files: Places = {image.file_name: [image] for image in images}
    drives: Places = {}
    short: Places = {}
    for image in images:
        if image.sequence:
            drives.setdefault(image.sequence, []).append(image)
        pure = PurePosixPath(image.file_name)
        for name in {pure.name, pure.stem}:
            short.setdefault(name, []).append(image)
    return drives | files, short


def _named(entry: str, exact: Places, short: Places) -> list[ImageRecord]:
    if entry in exact:
        return exact[entry]
    found = short.get(entry, [])
    if not found:
        raise DataError(
            f"{entry!r} is not an image or a drive of this dataset",
            remedy=nearest(entry, [*exact, *short], "write file names, ids or drives"),
        )
    if len(found) > 1:
        raise DataError(
            f"{entry!r} may be {found[0].file_name!r} or {found[1].file_name!r}",
            remedy="write the file name with its folders, or a drive",
        )
    return found
