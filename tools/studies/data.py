"""The studies' datasets, made once from the real material: cities, highway camera, fog photos, KITTI."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from drivetl.cli import main
from drivetl.coco.io import read_dataset
from drivetl.coco.records import Dataset, ImageRecord
from drivetl.coco.writing import write_dataset
from drivetl.convert.merge import Source, merge_datasets

DATASETS = Path(__file__).parents[2] / "datasets"


def cities(shared: Path, out: Path, taxonomy: Path = DATASETS / "cityscapes_yolo" / "taxonomy.yaml") -> Path:
    """Six Cityscapes cities with visible masks; blocks of 1,000 frame numbers (a minute) of a recording are one
    drive."""
    return _converted(
        out / ("cities" if taxonomy.parent.parent == DATASETS else taxonomy.stem),
        *("--format", "yolo", "--root", str(shared / "cityscapes_400"), "--visible-masks"),
        *("--taxonomy", str(taxonomy)),
        *("--sequence-from", r"^(\w+?_\d+_\d{3})", "--split", "sequence"),
    )


def highway(shared: Path, out: Path) -> Path:
    """One motorway camera: a dry day, a wet day, a night."""
    return _converted(
        out / "highway",
        *("--format", "yolo", "--root", str(shared / "highway_camera")),
        *("--attributes", str(shared / "highway_camera" / "attributes.csv"), "--split", "sequence"),
        *("--taxonomy", str(DATASETS / "highway_camera" / "taxonomy.yaml")),
    )


def fog(shared: Path, out: Path) -> Path:
    """Photos of real fog, no two of one drive."""
    return _converted(
        out / "fog",
        *("--format", "voc", "--root", str(shared / "dawn_fog"), "--split", "random"),
        *("--taxonomy", str(DATASETS / "dawn" / "taxonomy.yaml")),
    )


def kitti(shared: Path, out: Path, taxonomy: Path = DATASETS / "kitti" / "taxonomy.yaml") -> Path:
    """KITTI's frames: boxes, no masks."""
    folder = out / ("kitti" if taxonomy.parent.parent == DATASETS else taxonomy.stem)
    if not (folder / "summary.json").is_file():
        words = ("--root", str(shared / "kitti"), "--taxonomy", str(taxonomy), "--split", "random")
        _run("convert-kitti", *words, "--out", str(folder))
    return folder / "all.json"


def joined(parts: list[Path], target: Path) -> Path:
    """Several datasets as one, as `drivetl merge` does it: what a part does not label stays unknown in its images."""
    if not target.is_file():
        write_dataset(merge_datasets([Source(path, read_dataset(path)) for path in parts]), target)
    return target


def part(source: Path, target: Path, keep: Callable[[list[ImageRecord]], list[ImageRecord]]) -> Path:
    """Write the images that `keep` returns, given all in the order of their names, as a dataset of their own."""
    if not target.is_file():
        dataset: Dataset = read_dataset(source)
        images = sorted(dataset.images, key=lambda image: image.file_name)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_dataset(dataset.subset(sorted(keep(images), key=lambda image: image.id)), target)
    return target


def union(whole: Path, target: Path, parts: list[Path]) -> Path:
    """Write the images of several parts of one dataset as a dataset; images keep their ids."""
    ids = {image.id for path in parts for image in read_dataset(path).images}
    return part(whole, target, lambda all_: [image for image in all_ if image.id in ids])


def thinned(source: Path, every: int) -> Path:
    """One of `every` images in the order of their names, written next to the dataset."""
    return part(source, source.with_name(f"{source.stem}_every_{every}.json"), lambda all_: all_[::every])


def named(images: list[ImageRecord], pattern: str) -> list[ImageRecord]:
    """Those whose file name, without folders, matches from its start."""
    return [image for image in images if re.match(pattern, Path(image.file_name).name)]


def _converted(folder: Path, *words: str) -> Path:
    if not (folder / "summary.json").is_file():
        _run("convert-footage", *words, "--out", str(folder))
    return folder / "all.json"


def _run(*words: str) -> None:
    if main(list(words)):
        raise SystemExit(2)
