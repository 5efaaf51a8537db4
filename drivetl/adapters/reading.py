"""What all footage readers share: the account they fill, typed access to foreign values, names and drives.

A reader is `read(reading) -> Footage`. It hands over every object it can; one it cannot hand over it counts itself,
so that objects read = kept + ignored + dropped + rejected holds from the first byte on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from drivetl.coco.records import JsonPlace, SourceImage
from drivetl.coco.taxonomy import Taxonomy
from drivetl.convert.build import Account
from drivetl.errors import DataError
from drivetl.files.images import image_size
from drivetl.files.paths import IMAGE_SUFFIXES, files_below, list_images, safe_relative

NAMED_PLACES = 10
"""So many places of one kind of trouble are named one by one; all are counted."""

_SPLIT_WORDS = {
    "",
    "images",
    "image",
    "img",
    "jpegimages",
    "train",
    "training",
    "val",
    "valid",
    "validation",
    "test",
    "testing",
    "data",
    "default",
    "obj_train_data",
    "obj_valid_data",
    "obj_test_data",
    "leftimg8bit",
}

_KIND_WORDS = {
    "images",
    "image",
    "img",
    "jpegimages",
    "labels",
    "label",
    "annotations",
    "json",
    "xml",
    "train",
    "training",
    "val",
    "valid",
    "validation",
    "test",
    "testing",
}
"""Folders that say what is in them, not which drive it is of."""


@dataclass
class Reading:
    """What a reader is asked for, and where it keeps count."""

    root: Path
    """A folder, or for single-file formats the file itself."""
    images: Path | None = None
    """The images root, where the user names it."""
    account: Account = field(default_factory=Account)
    on_error: str = "stop"
    """"stop" at the first broken record, or "skip" it, counted and named."""
    taxonomy: Taxonomy | None = None
    """Known: work for labels that it drops can be spared."""
    rotated: str = "enclose"
    """Rotated boxes: "enclose" in an upright box and count, or "refuse"."""
    visible_masks: bool = False
    """YOLO polygons: paint back to front and keep what stays visible."""
    _named: dict[str, list[str]] = field(default_factory=dict)

    def wants_mask(self, label: str) -> bool:
        """Whether anybody will look at the mask of an object with this label."""
        return self.taxonomy is None or label not in self.taxonomy.drop

    def drop(self, label: str, reason: str, file: Path | None = None, line: int | None = None) -> None:
        """Count an object that is read and left out; with a file its place is named too."""
        self.account.read[label] += 1
        self.account.dropped[reason] += 1
        if file is not None:
            self.name(reason, file, line)

    def note(self, text: str, count: int = 1) -> None:
        """Count something worth saying once."""
        self.account.notes[text] += count

    def name(self, what: str, file: Path, line: int | None = None) -> None:
        """Remember a place of trouble for the summary, relative to the root."""
        place = file.relative_to(self.root).as_posix() if file.is_relative_to(self.root) else file.name
        self._named.setdefault(what, []).append(place if line is None else f"{place}:{line}")

    def close(self) -> None:
        """Turn the remembered places into notes; called once, when everything is read."""
        for what, places in sorted(self._named.items()):
            more = f", and {len(places) - NAMED_PLACES} more" if len(places) > NAMED_PLACES else ""
            self.note(f"{what}: {', '.join(places[:NAMED_PLACES])}{more}", len(places))
        self._named.clear()

    @contextmanager
    def object(self, label: str, file: Path | str, line: int | JsonPlace | None = None) -> Iterator[None]:
        """Around the parsing of one object: an error gets its place, or the object is rejected."""
        try:
            yield
        except DataError as error:
            self.account.place(error, file, line, self.on_error)
            if self.on_error != "skip":
                raise
            self.account.reject(error, [label])

    @contextmanager
    def file(
        self, file: Path | str, labels: Callable[[], list[str]] | None = None, line: JsonPlace | None = None
    ) -> Iterator[None]:
        """Around a whole label file or image entry: an error gets its place, or the file is left out.

        labels: asked only then, for the labels of the objects that are lost with it. Whoever uses it parses what can
        fail first and counts objects after, so that none is counted twice.
        """
        try:
            yield
        except DataError as error:
            self.account.place(error, file, line, self.on_error)
            if self.on_error != "skip":
                raise
            self.account.reject(error, _lost(labels))
            self.note("label files or images left out because they cannot be read")


def _lost(labels: Callable[[], list[str]] | None) -> list[str]:
    try:
        found = labels() if labels is not None else []
    except DataError:
        found = []
    return found or ["unreadable record"]


def labels_of(records: object, key: str) -> list[str]:
    """The labels of a foreign list of objects, as far as they can be read."""
    found = [record.get(key) if isinstance(record, dict) else None for record in _list(records)]
    return [label if isinstance(label, str) and label else "(no label)" for label in found]


def _list(records: object) -> list[Any]:
    return records if isinstance(records, list) else []


@dataclass
class Footage:
    """What a reader found: images on their root, and the labels the source declares in order."""

    images_root: Path
    images: Iterator[SourceImage]
    declared: tuple[str, ...] = ()
    """Labels of formats whose ids refer to a closed list, in that list's order."""
    sized_by_files: bool = False
    """The sizes were read from the pictures themselves."""
    ordered: bool = False
    """The declared order is to be kept when there is no taxonomy (COCO: the order of ids)."""


Reader = Callable[[Reading], Footage]


def is_below(file_name: str) -> bool:
    """Whether a foreign file name stays under its root, so that it may be looked at."""
    try:
        safe_relative(file_name)
    except DataError:
        return False
    return True


def folder_drive(file_name: str) -> str:
    """The folder of an image as its drive; empty when the folders only say `images` or `train`."""
    parts = [part for part in PurePosixPath(file_name).parent.parts if part.lower().lstrip(".") not in _SPLIT_WORDS]
    return "/".join(parts)


class Sizes:
    """Sizes of images on disk, from their headers, each read once."""

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
        """label_files: names of the label files, where their folders may be called anything (`jsons` beside
        `frames`)."""
        self.root = root
        self._label_folders = None if label_files is None else {_drive(name) for name in label_files}
        self.names = list_images(root) if root.is_dir() else []
        self._names = set(self.names)
        self._folders = {_drive(name) for name in self.names}
        self._by_stem: dict[str, list[str]] = {}
        for name in self.names:
            self._by_stem.setdefault(PurePosixPath(name).stem, []).append(name)

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def exact(self, *candidates: str) -> str | None:
        """The first of these names that is there as it stands."""
        return next((name for name in candidates if name in self._names), None)

    def find(self, *candidates: str) -> str | None:
        """The first candidate that is there: as it stands, with another suffix, or by its file stem alone.

        A stem that several images share is no answer, nor is one in another folder than the first candidate's.
        """
        if (found := self.exact(*candidates)) is not None:
            return found
        for name in candidates:
            bare = str(PurePosixPath(name).with_suffix("")) if name.lower().endswith(IMAGE_SUFFIXES) else name
            for suffix in IMAGE_SUFFIXES:
                if bare + suffix in self._names:
                    return bare + suffix
        for name in candidates:
            pure = PurePosixPath(name)
            same = self._by_stem.get(pure.stem if name.lower().endswith(IMAGE_SUFFIXES) else pure.name, [])
            if len(same) == 1 and self._may_be_of_one_drive(candidates[0], same[0]):
                return same[0]
        return None

    def _may_be_of_one_drive(self, wanted: str, there: str) -> bool:
        """Whether the last folders of two names, which may be of any kind where none stands on both sides, agree."""
        ours, theirs = _drive(wanted), _drive(there)
        if ours == theirs or not ours or not theirs:
            return True
        nested = any("/" in str(PurePosixPath(name).parent) for name in (wanted, there))
        if self._label_folders is None or nested:
            return False
        return theirs not in self._label_folders and ours not in self._folders


def _drive(name: str) -> str:
    """The last folder of a name that is not one of _KIND_WORDS, or ''."""
    folders = [part for part in PurePosixPath(name).parent.parts if part.lower() not in _KIND_WORDS]
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
    found = [Path(name) for name in files_below(root, suffix)]
    if not found:
        raise DataError(f"no *{suffix} file in it", remedy="check --root and --format", file=root)
    return found
