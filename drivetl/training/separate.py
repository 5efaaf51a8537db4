"""Images that are evaluated must not be trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from drivetl import console
from drivetl.coco.drives import shared_drives
from drivetl.coco.hashes import file_hash
from drivetl.coco.records import Dataset
from drivetl.errors import ConfigError

Files = Mapping[Path, None]
"""Image files, in order."""


def image_files(dataset: Dataset) -> Files:
    """The image files of a dataset."""
    root = dataset.images_root.resolve()
    return dict.fromkeys(root / image.file_name for image in dataset.images)


def copies(ours: Files, theirs: Files) -> Files:
    """Our files that are also theirs, or copies of theirs; a file is only read where the other side has its size."""
    sizes = {file.stat().st_size for file in ours if file.is_file()}
    by_size: dict[int, set[str]] = {}
    for file in theirs:
        if file.is_file() and (size := file.stat().st_size) in sizes:
            by_size.setdefault(size, set()).add(file_hash(file))

    def is_copy(file: Path) -> bool:
        hashes = by_size.get(file.stat().st_size) if file.is_file() else None
        return hashes is not None and file_hash(file) in hashes

    return dict.fromkeys(file for file in ours if file in theirs or is_copy(file))


def refuse_shared(name: str, trained: Dataset, evaluated: Dataset, of: str, shared: Files, file: Path) -> None:
    """Raises ConfigError for the first of the `shared` image files; warns of common drives.

    name: the key of the trained dataset, `of`: that of the evaluated one; file: what the error names.
    """
    if shared:
        raise ConfigError(
            f"{name} has {next(iter(shared))}, which {of} evaluates on",
            remedy="leave out the images of either dataset, by drive",
            file=file,
        )
    drives = shared_drives(trained.images, evaluated.images)
    if drives:
        console.warn(
            f"{len(drives)} drives ({drives[0]}, ...) are in {name} and in {of}: unless only their names are equal, the"
            " score will be too high - split by drive"
        )
