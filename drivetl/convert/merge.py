"""Merge several datasets into one: classes are matched by name, and each image keeps which classes are labelled in it.

A class that a source does not label is unknown in its images, not absent: `labelled` of each image lists the labelled
classes by their merged ids. File names and drives become relative to the folder that all images roots share, so drive
`0005` of `kitti` and `0005` of `city` become `kitti/0005` and `city/0005`, while a drive that two json files take from
the same images root stays one drive.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isclose
from pathlib import Path
from typing import Any

from drivetl.coco.io import read_dataset
from drivetl.coco.records import Dataset, ImageRecord
from drivetl.coco.taxonomy import DrivingClass, Taxonomy, own_labels, parse_taxonomy
from drivetl.convert.split import Split
from drivetl.errors import DataError
from drivetl.files.paths import require_directory

SIDES = ("train", "val")


@dataclass(frozen=True, slots=True)
class Source:
    """A dataset to merge and the file it was read from."""

    path: Path
    dataset: Dataset

    @property
    def name(self) -> str:
        """The `source` in its json, or the name of the file."""
        return str(self.dataset.info.get("source") or self.path.stem)


def read_source(path: Path) -> Source:
    """A dataset json, or the all.json of a folder that a conversion wrote. Raises DataError like `read_dataset`."""
    path = path / "all.json" if path.is_dir() else path
    return Source(path, read_dataset(path))


def merge_datasets(sources: Sequence[Source]) -> Dataset:
    """A new dataset with the images of all sources in order and image ids 1..N.

    Categories are in order of first appearance. `labelled` of an image lists the ids of the classes that its source
    labels; None when these are all classes. An ignore region keeps its classes; one for all classes of its source
    is one for all merged classes. `info` holds what each source labels (`labelled`) and the merged taxonomy.
    Raises DataError for an image file that is in two sources, and for a class whose relation (`from`) differs.
    """
    taxonomy = merge_taxonomies(sources)
    categories = tuple(dict.fromkeys(name for source in sources for name in source.dataset.categories))
    root, prefixes = common_root([source.dataset.images_root for source in sources])
    images: list[ImageRecord] = []
    seen: dict[str, Path] = {}
    for source, prefix in zip(sources, prefixes, strict=True):
        ids = {number: categories.index(name) + 1 for number, name in enumerate(source.dataset.categories, 1)}
        for image in source.dataset.images:
            record = _merged_record(image, len(images) + 1, prefix, ids, len(categories))
            if record.file_name in seen:
                raise DataError(
                    f"image {record.file_name!r} is in {seen[record.file_name]} as well",
                    remedy="leave out one of the two: an image can come from one source only",
                    file=source.path,
                )
            seen[record.file_name] = source.path
            images.append(record)
    return Dataset(categories, images, root, _info(sources, prefixes, taxonomy))


def common_root(roots: Sequence[Path]) -> tuple[Path, list[str]]:
    """The common parent of all images roots, and the path of each below it ("" for the parent itself)."""
    resolved = [root.resolve() for root in roots]
    try:
        common = Path(os.path.commonpath(resolved))
    except ValueError:  # two drives on Windows
        raise DataError(
            "the images roots have no common parent folder", remedy="move the images to one drive", file=roots[0]
        ) from None
    return common, ["" if root == common else root.relative_to(common).as_posix() for root in resolved]


def _merged_record(image: ImageRecord, number: int, prefix: str, ids: Mapping[int, int], n_classes: int) -> ImageRecord:
    """The image with its merged ids, name and drive. `ids` maps the source's category ids to the merged ones."""
    own = ids if image.labelled is None else image.labelled
    labelled = tuple(sorted(ids[category_id] for category_id in set(own)))
    return replace(
        image,
        id=number,
        file_name=f"{prefix}/{image.file_name}" if prefix else image.file_name,
        drive=f"{prefix}/{image.drive}" if prefix and image.drive else image.drive,
        labelled=None if len(labelled) == n_classes else labelled,
        annotations=[replace(item, category_id=ids[item.category_id]) for item in image.annotations],
        ignore_regions=[
            replace(region, category_ids=tuple(sorted(ids[category_id] for category_id in region.category_ids)))
            for region in image.ignore_regions
        ],
    )


def _info(sources: Sequence[Source], prefixes: Sequence[str], taxonomy: Taxonomy) -> dict[str, Any]:
    labelled = [
        entry for source, prefix in zip(sources, prefixes, strict=True) for entry in _labelled_by(source, prefix)
    ]
    return {
        "source": " + ".join(dict.fromkeys(source.name for source in sources)),
        "taxonomy": taxonomy.as_dict(),
        "taxonomy_hash": taxonomy.digest,
        "labelled": labelled,
    }


def _labelled_by(source: Source, prefix: str) -> list[dict[str, Any]]:
    """What a source labels: one entry, or several when it is itself the result of a merge."""
    before = source.dataset.info.get("labelled")
    if not isinstance(before, list) or not all(isinstance(entry, dict) for entry in before):
        dataset = source.dataset
        before = [{"source": source.name, "images": len(dataset.images), "classes": list(dataset.categories)}]
    return [
        entry | {"root": "/".join(part for part in (prefix, str(entry.get("root", ""))) if part)} for entry in before
    ]


def merge_taxonomies(sources: Sequence[Source]) -> Taxonomy:
    """The classes of all sources with their relations (`from`); a source without one takes the other's.

    A label has one rule: a class takes precedence over ignore, ignore over drop, and the first source over later
    ones. `min_height_px` is kept when all sources agree on it.
    Raises DataError that names both files when a class has different relations in two sources.
    """
    taxonomies = [_taxonomy(source) for source in sources]
    grows_from: dict[str, tuple[tuple[str, float], ...]] = {}
    relation_file: dict[str, Path] = {}
    labels: dict[str, str] = {}
    for source, taxonomy in zip(sources, taxonomies, strict=True):
        for item in taxonomy.classes:
            before = grows_from.setdefault(item.name, item.grows_from)
            if before and item.grows_from and not _same(dict(before), dict(item.grows_from)):
                raise DataError(
                    f"class {item.name!r} grows out of {dict(item.grows_from)} here, out of {dict(before)} in "
                    f"{relation_file[item.name]}",
                    remedy="convert both with the same `from`, or rename one of the classes",
                    file=source.path,
                )
            if item.grows_from:
                grows_from[item.name] = before or item.grows_from
                relation_file.setdefault(item.name, source.path)
            for label in item.labels:
                labels.setdefault(label, item.name)
    ignore = _merge_ignore(taxonomies, labels)
    heights = {taxonomy.min_height_px for taxonomy in taxonomies}
    return Taxonomy(
        " + ".join(dict.fromkeys(taxonomy.name for taxonomy in taxonomies)),
        tuple(
            DrivingClass(name, tuple(label for label, owner in labels.items() if owner == name), relation)
            for name, relation in grows_from.items()
        ),
        tuple(ignore.items()),
        tuple(
            label
            for label in dict.fromkeys(label for taxonomy in taxonomies for label in taxonomy.drop)
            if label not in labels and label not in ignore
        ),
        heights.pop() if len(heights) == 1 else 0.0,
    )


def _taxonomy(source: Source) -> Taxonomy:
    """The taxonomy in a dataset's info, with the dataset's classes in the dataset's order."""
    document = source.dataset.info.get("taxonomy")
    if not document:
        taxonomy = own_labels(source.dataset.categories)
    else:
        try:
            taxonomy = parse_taxonomy(document)
        except DataError as error:
            raise error.at(source.path) from None
    known = {item.name: item for item in taxonomy.classes}
    classes = [known.get(name, DrivingClass(name, (name,))) for name in source.dataset.categories]
    return replace(taxonomy, classes=tuple(classes))


def _merge_ignore(taxonomies: Sequence[Taxonomy], labels: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Ignored label -> the classes that it hides, () for all."""
    merged: dict[str, tuple[str, ...]] = {}
    for taxonomy in taxonomies:
        for label, hidden in taxonomy.ignore:
            if label not in labels:
                before = merged.get(label, hidden)
                merged[label] = tuple(dict.fromkeys(before + hidden)) if before and hidden else ()
    return merged


def _same(first: Mapping[str, float], second: Mapping[str, float]) -> bool:
    return first.keys() == second.keys() and all(
        isclose(weight, second[name], abs_tol=1e-9) for name, weight in first.items()
    )


def alike(categories: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of class names that differ only in case and punctuation: most likely one class with two spellings."""
    seen: dict[str, str] = {}
    pairs = []
    for name in categories:
        plain = "".join(filter(str.isalnum, name.casefold()))
        if plain in seen:
            pairs.append((seen[plain], name))
        seen.setdefault(plain, name)
    return pairs


def kept_split(folders: Sequence[Path], sources: Sequence[Source], merged: Dataset) -> Split:
    """The split of each source's own train.json and val.json.

    `folders[i]` is the folder of `sources[i]`; `merged` is the merge of `sources`. An image of all.json that is in
    neither train.json nor val.json is left out.
    Raises DataError for a folder without a split, and for an image on both sides or not in all.json.
    """
    sides: dict[str, list[ImageRecord]] = {"train": [], "val": [], "left out": []}
    images = iter(merged.images)
    for folder, source in zip(folders, sources, strict=True):
        side_of = _sides(require_directory(folder, "--keep-split needs folders that a conversion wrote"))
        for before in source.dataset.images:
            sides[side_of.pop(before.file_name, "left out")].append(next(images))
        if side_of:
            name, side = next(iter(side_of.items()))
            raise DataError(
                f"image {name!r} is not in all.json", remedy="split the dataset again", file=folder / f"{side}.json"
            )
    reason = "every image stays on its side of the split"
    return Split(sides["train"], sides["val"], sides["left out"], "kept", reason)


def _sides(folder: Path) -> dict[str, str]:
    """File name -> train or val."""
    side_of: dict[str, str] = {}
    for side in SIDES:
        path = folder / f"{side}.json"
        for image in read_dataset(path).images:
            if image.file_name in side_of:
                raise DataError(
                    f"image {image.file_name!r} is in {side_of[image.file_name]}.json as well",
                    remedy="split the dataset again",
                    file=path,
                )
            side_of[image.file_name] = side
    return side_of
