"""A COCO dataset for use in Python."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from drivetl.coco import io, records


class Dataset(records.Dataset):
    """A COCO dataset in memory: `categories`, `images` (with their annotations and ignore regions), `images_root`."""

    def __repr__(self) -> str:
        n_objects = sum(len(image.annotations) for image in self.images)
        classes = ", ".join(self.categories)
        return f"Dataset({len(self.images)} images, {n_objects} objects, {len(self.categories)} classes: {classes})"


def read_dataset(path: str | Path, images_root: str | Path | None = None) -> Dataset:
    """Read a COCO dataset json that drivetl wrote, or one of the same form (category ids 1..K).

    images_root: the folder that file names are relative to; default: as the json says. Raises DataError with the
    record, its line and its value.
    """
    dataset = io.read_dataset(Path(path), None if images_root is None else Path(images_root))
    return Dataset(**{field.name: getattr(dataset, field.name) for field in fields(dataset)})
