"""Small footage trees of three images each: one with objects, one without objects, one special case."""

from __future__ import annotations

from pathlib import Path

from footage_files import (
    SIZE,
    Files,
    bdd100k,
    blank_png,
    cityscapes,
    coco,
    cvat_images,
    cvat_video,
    labelme,
    mot,
    nuimages,
    voc,
    yolo,
)

from drivetl.adapters.footage import Source, read_footage
from drivetl.adapters.reading import Reading
from drivetl.coco.records import Dataset
from drivetl.coco.taxonomy import Taxonomy
from drivetl.convert.build import Account, build_dataset

__all__ = [
    "SAMPLES",
    "SHARED",
    "SIZE",
    "Files",
    "bdd100k",
    "blank_png",
    "boxes",
    "cityscapes",
    "coco",
    "convert_tree",
    "cvat_images",
    "cvat_video",
    "labelme",
    "mot",
    "nuimages",
    "read_tree",
    "voc",
    "write_tree",
    "yolo",
]

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
SAMPLES = SHARED / "annotation_samples"


def write_tree(root: Path, files: Files) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def read_tree(
    format_name: str, root: Path, *, sequence_from: str | None = None, attributes: Path | None = None, **options
) -> tuple[Source, Account]:
    reading = Reading(root, **options)
    source = read_footage(format_name, reading, sequence_from=sequence_from, attributes=attributes)
    return source, reading.account


def convert_tree(
    format_name: str, root: Path, taxonomy: Taxonomy | None = None, *, on_error: str = "stop", **options
) -> tuple[Dataset, Account]:
    source, account = read_tree(format_name, root, taxonomy=taxonomy, on_error=on_error, **options)
    dataset = build_dataset(
        source.images, source.taxonomy, source.images_root, source=format_name, account=account, on_error=on_error
    )
    assert account.balanced(), account.as_dict()
    return dataset, account


def boxes(dataset: Dataset, file_name: str) -> list[tuple[str, tuple[float, ...]]]:
    """(class, xywh rounded to 1e-3) of an image, sorted."""
    image = next(image for image in dataset.images if image.file_name == file_name)
    return sorted(
        (dataset.categories[item.category_id - 1], tuple(round(value, 3) for value in item.bbox_xywh))
        for item in image.annotations
    )
