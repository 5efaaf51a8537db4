"""What to run a detector on: images, folders, globs, a dataset json or a video. Everything is checked without torch."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from drivetl.coco.folders import OnError, folder_dataset, images_dataset
from drivetl.coco.io import read_dataset
from drivetl.coco.records import Dataset
from drivetl.errors import ConfigError, DataError
from drivetl.files.paths import IMAGE_SUFFIXES, list_images
from drivetl.files.video import VIDEO_SUFFIXES, VideoInfo, check_video


@dataclass(frozen=True)
class VideoInput:
    """A video whose first frame could be decoded."""

    path: Path
    info: VideoInfo


def find_input(
    sources: Sequence[str], categories: Sequence[str], on_error: OnError | None = None
) -> Dataset | VideoInput:
    """The dataset or video that the words of a command line name.

    One dataset json, one video, or any number of image files, folders and globs; images become a dataset of the
    detector's `categories` without labels. Raises ConfigError for a mixture, DataError for what does not exist, cannot
    be read, or is a dataset of other classes; with `on_error` an image that cannot be read is left out, unless there is
    no other.
    """
    kinds = [_kind(source) for source in sources]
    if len(sources) == 1 and kinds[0] == "video":
        return VideoInput(Path(sources[0]), check_video(Path(sources[0])))
    if len(sources) == 1 and kinds[0] == "dataset":
        return labelled_dataset(Path(sources[0]), categories)
    other = next((source for source, kind in zip(sources, kinds, strict=True) if kind in ("video", "dataset")), None)
    if other is not None:
        raise ConfigError(f"{other} is one of {len(sources)} inputs", remedy="run a video or a dataset json by itself")
    if len(sources) == 1 and kinds[0] == "folder":
        return folder_dataset(Path(sources[0]), categories, on_error)
    return files_dataset(_image_files(sources, kinds), categories, on_error)


def labelled_dataset(path: Path, categories: Sequence[str]) -> Dataset:
    """A dataset json of the detector's classes. Raises DataError, and ConfigError for other classes."""
    dataset = read_dataset(path)
    if dataset.categories != tuple(categories):
        raise ConfigError(
            f"{path} has the classes {', '.join(dataset.categories)}, the detector {', '.join(categories)}",
            remedy=f"convert it with the run's taxonomy.yaml, or use its images: {dataset.images_root}",
        )
    if not dataset.images:
        raise DataError("holds no images", remedy="check the conversion and the split", file=path)
    return dataset


def has_labels(dataset: Dataset) -> bool:
    """Whether there is anything to compare detections with."""
    return any(image.annotations for image in dataset.images)


def files_dataset(files: Sequence[Path], categories: Sequence[str], on_error: OnError | None = None) -> Dataset:
    """Image files as a dataset without labels, in the order of their names, below the folder that they share."""
    root = Path(os.path.commonpath([os.path.abspath(file.parent) for file in files]))  # noqa: PTH100 - keeps links
    names = {Path(os.path.abspath(file)).relative_to(root).as_posix() for file in files}  # noqa: PTH100
    return images_dataset(root, sorted(names), categories, on_error)


def _kind(source: str) -> str:
    """video, dataset, folder, image or glob. Raises DataError for a file of another kind, or none at all."""
    path = Path(source)
    suffix = path.suffix.lower()
    if path.is_dir():
        return "folder"
    if path.exists():
        kinds = {".json": "dataset"} | dict.fromkeys(VIDEO_SUFFIXES, "video") | dict.fromkeys(IMAGE_SUFFIXES, "image")
        if suffix not in kinds:
            raise DataError(
                "is not an image, a video or a dataset json by its suffix",
                remedy=f"known: {', '.join((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES, '.json'))}",
                file=source,
            )
        return kinds[suffix]
    if glob.has_magic(source):
        return "glob"
    raise DataError("no such file or folder", remedy="check the path", file=source)


def _image_files(sources: Sequence[str], kinds: Sequence[str]) -> list[Path]:
    """Every image that the sources name. Raises DataError for a source without an image."""
    files: list[Path] = []
    for source, kind in zip(sources, kinds, strict=True):
        if kind == "image":
            files.append(Path(source))
            continue
        matches = [source] if kind == "folder" else sorted(glob.glob(source, recursive=True))  # noqa: PTH207
        found = [file for match in matches for file in _images_at(Path(match))]
        if not found:
            reason = "holds no images" if kind == "folder" else "matches no image"
            raise DataError(reason, remedy=f"known suffixes: {', '.join(IMAGE_SUFFIXES)}", file=source)
        files += found
    return files


def _images_at(path: Path) -> list[Path]:
    if path.is_dir():
        return [path / name for name in list_images(path)]
    return [path] if path.suffix.lower() in IMAGE_SUFFIXES else []
