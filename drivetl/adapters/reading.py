"""Shared by all footage readers: options, counts, names of images and drives.

A reader is `read(reading) -> Footage`. It yields every object that it can and counts the others itself, so that
objects read = kept + ignored + dropped + rejected always holds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from drivetl.coco.records import JsonPlace, SourceImage
from drivetl.coco.taxonomy import Taxonomy
from drivetl.convert.build import Account
from drivetl.convert.split import FOLDER_SIDES
from drivetl.errors import DataError
from drivetl.files.images import image_size
from drivetl.files.paths import IMAGE_SUFFIXES, files_below, list_images, safe_relative
from drivetl.files.read import read_text

MAX_LISTED_FILES = 10
"""At most this many files of one note are listed; all are counted."""

_NOT_DRIVES = {
    *("", "images", "image", "img", "jpegimages", "leftimg8bit", "data", "default"),
    *("train", "training", "val", "valid", "validation", "test", "testing"),
    *("obj_train_data", "obj_valid_data", "obj_test_data"),
}
"""Folder names that are not drives."""

_COUNTER = re.compile(r"[A-Za-z]{0,8}[_-]?[0-9]+")
"""File stems that several drives have: 000001, frame_000001, img-7."""

FOUND_ELSEWHERE = "images found by their base name, because their labels name another folder"

_CONTENT_FOLDERS = {
    *("images", "image", "img", "jpegimages", "labels", "label", "annotations", "json", "xml"),
    *("train", "training", "val", "valid", "validation", "test", "testing"),
}
"""Folder names that describe the content of a folder; label and image folders may differ in them."""


@dataclass
class Reading:
    """The options of a reader, and its counts."""

    root: Path
    """A folder, or for single-file formats the file itself."""
    images: Path | None = None
    """The images root, when the user names it."""
    account: Account = field(default_factory=Account)
    on_error: str = "stop"
    """"stop" at the first broken record, or "skip" and count it."""
    taxonomy: Taxonomy | None = None
    """When given, masks of labels that it drops are not computed."""
    rotated: str = "enclose"
    """Rotated boxes: "enclose" them in an upright box, or "refuse" them."""
    visible_masks: bool = False
    """YOLO polygons: paint them back to front and keep the visible parts."""
    _listed: dict[str, list[str]] = field(default_factory=dict)

    def needs_mask(self, label: str) -> bool:
        """Whether the mask of an object with this label is needed."""
        return self.taxonomy is None or label not in self.taxonomy.drop

    def drop(self, label: str, reason: str, file: Path | None = None, line: int | None = None) -> None:
        """Count an object as dropped; with a file, list its place in the summary too."""
        self.account.read[label] += 1
        self.account.dropped[reason] += 1
        if file is not None:
            self.list_place(reason, file, line)

    def note(self, text: str, count: int = 1) -> None:
        """Count a remark for the summary."""
        self.account.notes[text] += count

    def list_place(self, text: str, file: Path, line: int | None = None) -> None:
        """Add a file, and a line of it, to a remark for the summary; the path is relative to the root."""
        place = file.relative_to(self.root).as_posix() if file.is_relative_to(self.root) else file.name
        self._listed.setdefault(text, []).append(place if line is None else f"{place}:{line}")

    def close(self) -> None:
        """Turn the listed places into notes; called once, after everything is read."""
        for text, places in sorted(self._listed.items()):
            more = f", and {len(places) - MAX_LISTED_FILES} more" if len(places) > MAX_LISTED_FILES else ""
            self.note(f"{text}: {', '.join(places[:MAX_LISTED_FILES])}{more}", len(places))
        self._listed.clear()

    @contextmanager
    def object(self, label: str, file: Path | str, line: int | JsonPlace | None = None) -> Iterator[None]:
        """Block that parses one object: an error gets file and line, or with "skip" the object is rejected."""
        try:
            yield
        except DataError as error:
            self.account.locate(error, file, line, self.on_error)
            if self.on_error != "skip":
                raise
            self.account.reject(error, [label])

    @contextmanager
    def file(
        self, file: Path | str, labels: Callable[[], list[str]] | None = None, line: JsonPlace | None = None
    ) -> Iterator[None]:
        """Block that reads a label file or image record: an error gets file and line, or with "skip" it is left out.

        labels: called on an error for the labels of the objects that are left out. The block must parse everything
        that can fail before it counts objects, so that none is counted twice.
        """
        try:
            yield
        except DataError as error:
            self.account.locate(error, file, line, self.on_error)
            if self.on_error != "skip":
                raise
            self.account.reject(error, _labels_or_default(labels))
            self.note("label files or images left out because they cannot be read")


def _labels_or_default(labels: Callable[[], list[str]] | None) -> list[str]:
    try:
        names = labels() if labels is not None else []
    except DataError:
        names = []
    return names or ["unreadable record"]


def labels_of(records: object, key: str) -> list[str]:
    """The labels of a list of objects; `(no label)` where one is not a text."""
    labels = [record.get(key) if isinstance(record, dict) else None for record in _list(records)]
    return [label if isinstance(label, str) and label else "(no label)" for label in labels]


def _list(records: object) -> list[Any]:
    return records if isinstance(records, list) else []


@dataclass
class Footage:
    """The images that a reader yields, and the labels that the source declares, in order."""

    images_root: Path
    images: Iterator[SourceImage]
    declared: tuple[str, ...] = ()
    """Labels of formats with a closed list of labels, in the order of the list."""
    sized_by_files: bool = False
    """True when the sizes were read from the image files."""
    ordered: bool = False
    """True when classes keep the declared order without a taxonomy (COCO: the order of ids)."""


Reader = Callable[[Reading], Footage]


def is_below(file_name: str) -> bool:
    """Whether a file name stays below its root, so that the file may be read."""
    try:
        safe_relative(file_name)
    except DataError:
        return False
    return True


def is_nonzero(value: object) -> bool:
    """Whether a foreign field is set: a number other than 0, true, or one of both as text; yes and on are set too."""
    if isinstance(value, str):
        value = {"true": 1, "yes": 1, "on": 1, "": 0}.get(value.strip().lower(), value)
    try:
        return float(value) != 0  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False


def marked_ignore(attributes: Mapping[str, object]) -> bool:
    """Whether an object is marked `difficult` or `ignore`, as CVAT, LabelMe and VOC write it in their attributes."""
    return is_nonzero(attributes.get("difficult")) or is_nonzero(attributes.get("ignore"))


class Subsets:
    """The side of each image by the list files of an export: `train.txt`, `val.txt`, ..., one image per line."""

    def __init__(self, files: Iterable[Path]):
        """files: those with another name than a side are left out. Raises DataError for one that cannot be read."""
        self._sides: dict[str, set[str]] = {}
        for path in files:
            side = FOLDER_SIDES.get(path.stem.lower())
            for line in read_text(path).splitlines() if side else ():
                for tail in _tails(line.strip()):
                    self._sides.setdefault(tail, set()).add(side or "")

    def attributes(self, reading: Reading, name: str) -> dict[str, Any]:
        """{"subset": side} of an image; {}, with a note, when no list or more than one names it."""
        sides = next((self._sides[tail] for tail in _tails(name) if tail in self._sides), set())
        if len(sides) == 1:
            return {"subset": next(iter(sides))}
        if self._sides:
            reading.note("images that the lists of the export (train.txt, val.txt, ...) do not put on one side")
        return {}


def _tails(name: str) -> list[str]:
    """`a/b/c.png` -> a/b/c, b/c, c."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    if parts and parts[-1].lower().endswith(IMAGE_SUFFIXES):
        parts[-1] = parts[-1].rpartition(".")[0]
    return ["/".join(parts[start:]) for start in range(len(parts))]


def folder_drive(file_name: str) -> str:
    """The folder of an image as its drive; empty when all folders are generic (`images`, `train`)."""
    parts = [part for part in PurePosixPath(file_name).parent.parts if part.lower().lstrip(".") not in _NOT_DRIVES]
    return "/".join(parts)


class Sizes:
    """Sizes of images on disk, each header read once."""

    def __init__(self, root: Path):
        self.root = root
        self._known: dict[str, tuple[int, int]] = {}

    def of(self, name: str) -> tuple[int, int]:
        """(width, height) in px. Raises DataError when the image is missing or unreadable."""
        if name not in self._known:
            self._known[name] = image_size(self.root / name)
        return self._known[name]


class ImageIndex:
    """All images under a folder, found by name, by stem or by frame number."""

    def __init__(self, root: Path, label_files: Iterable[str] | None = None):
        """label_files: the label files, when their folders may have any name (`jsons` next to `frames`)."""
        self.root = root
        self._label_folders = None if label_files is None else {_drive(name) for name in label_files}
        self.names = list_images(root) if root.is_dir() else []
        self._names = set(self.names)
        self._folders = {_drive(name) for name in self.names}
        self._by_stem: dict[str, list[str]] = {}
        self._base_names = {PurePosixPath(name).name for name in self.names}
        for name in self.names:
            self._by_stem.setdefault(PurePosixPath(name).stem, []).append(name)

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def exact(self, *candidates: str) -> str | None:
        """The first of these names that exists."""
        return next((name for name in candidates if name in self._names), None)

    def find(self, *candidates: str) -> str | None:
        """The first candidate that exists: by its name, with another suffix, or by its stem in any folder.

        A stem does not count when several images share it, or when its folder is another drive than the first
        candidate's.
        """
        if (name := self.exact(*candidates)) is not None:
            return name
        for name in candidates:
            bare = str(PurePosixPath(name).with_suffix("")) if name.lower().endswith(IMAGE_SUFFIXES) else name
            for suffix in IMAGE_SUFFIXES:
                if bare + suffix in self._names:
                    return bare + suffix
        for name in candidates:
            pure = PurePosixPath(name)
            same = self._by_stem.get(pure.stem if name.lower().endswith(IMAGE_SUFFIXES) else pure.name, [])
            if len(same) == 1 and self._may_be_one_drive(candidates[0], same[0]):
                return same[0]
        return None

    def elsewhere(self, written: str, below: str = "") -> str | None:
        """The image of a name that is absolute or relative to another root, found by its base name.

        Several images of that base name are distinguished by their folders. None when no image or more than one
        remains, or when its folder is another drive than the one that is written and the base name a mere counter.
        below: only images whose names begin with it.
        """
        parts = [part for part in re.split(r"[/\\]+|\?d=", written) if part not in ("", ".", "..")]
        if not parts:
            return None
        if parts[-1] not in self._base_names:  # a URL: a query after the name, or %20 for a blank
            parts[-1] = unquote(parts[-1].partition("?")[0])
        has_suffix = parts[-1].lower().endswith(IMAGE_SUFFIXES)
        if not has_suffix:  # CVAT writes frames of a video without a suffix
            same = self._by_stem.get(parts[-1], [])
        else:
            same = [
                name
                for name in self._by_stem.get(PurePosixPath(parts[-1]).stem, [])
                if PurePosixPath(name).name == parts[-1]
            ]
        same = [name for name in same if name.startswith(below)]
        shared_parts = {name: _n_equal(parts[-2::-1], name.split("/")[-2::-1]) for name in same}
        nearest_names = [name for name in same if shared_parts[name] == max(shared_parts.values())]
        if len(nearest_names) != 1:
            return None
        name = nearest_names[0]
        if self._may_be_one_drive("/".join(parts), name) or not _COUNTER.fullmatch(PurePosixPath(name).stem):
            return name
        return None

    def _may_be_one_drive(self, candidate: str, existing: str) -> bool:
        """Whether the last folders of two names do not name two different drives."""
        ours, theirs = _drive(candidate), _drive(existing)
        if ours == theirs or not ours or not theirs:
            return True
        nested = any("/" in str(PurePosixPath(name).parent) for name in (candidate, existing))
        if self._label_folders is None or nested:
            return False
        return theirs not in self._label_folders and ours not in self._folders


def _n_equal(first: list[str], second: list[str]) -> int:
    """Number of equal items at the beginning of two lists."""
    count = 0
    while count < min(len(first), len(second)) and first[count] == second[count]:
        count += 1
    return count


def _drive(name: str) -> str:
    """The last folder of a name that is not one of _CONTENT_FOLDERS, or ''."""
    folders = [part for part in PurePosixPath(name).parent.parts if part.lower() not in _CONTENT_FOLDERS]
    return folders[-1] if folders else ""


def first_folder(root: Path, *names: str) -> Path:
    """The first of these sub-folders that exists, else the root itself."""
    return next((root / name for name in names if (root / name).is_dir()), root)


def label_files(root: Path, suffix: str) -> list[Path]:
    """All label files below a root, sorted by their relative name; the root itself when it is such a file.

    Raises DataError when there are none.
    """
    if root.is_file():
        return [root]
    if not root.exists():
        raise DataError("no such file or folder", remedy="check --root", file=root)
    files = [Path(name) for name in files_below(root, suffix)]
    if not files:
        raise DataError(f"contains no *{suffix} file", remedy="check --root and --format", file=root)
    return files
