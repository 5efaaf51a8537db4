"""Images without labels as a dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from drivetl.coco.records import Dataset, ImageRecord
from drivetl.errors import DataError
from drivetl.files.images import image_size, read_rgb
from drivetl.files.paths import IMAGE_SUFFIXES, list_images, require_directory

OnError = Callable[[str, str], None]
"""Called with the file name of an image that cannot be read and the reason."""


def folder_dataset(folder: Path, categories: Sequence[str], on_error: OnError | None = None) -> Dataset:
    """All images below a folder as a dataset without labels; ids 1..N in the order of their names.

    Raises DataError when the folder has no image, or, without `on_error`, one that cannot be read.
    """
    names = list_images(require_directory(folder, "name a folder of images"))
    if not names:
        raise DataError("holds no images", remedy=f"known suffixes: {', '.join(IMAGE_SUFFIXES)}", file=folder)
    return images_dataset(folder, names, categories, on_error)


def images_dataset(
    root: Path, names: Sequence[str], categories: Sequence[str], on_error: OnError | None = None
) -> Dataset:
    """Images below a root, by their names in order, as a dataset without labels; ids are 1..N.

    Raises DataError for an image that cannot be read; with `on_error` it is left out, unless there is no other.
    """
    records = []
    failure: DataError | None = None
    for number, name in enumerate(names, 1):
        try:
            width, height = image_size(root / name)
        except DataError as error:
            if on_error is None:
                raise
            failure = failure or error
            on_error(name, str(error))
            continue
        records.append(ImageRecord(number, name, width, height))
    if len(names) == 1 and records:
        read_rgb(root / names[0])  # a single image is checked whole, before anything slow is imported
    if failure is not None and not records:
        raise failure
    return Dataset(tuple(categories), records, root)
