"""Footage without labels: its frames, from a folder, a dataset json or an edited pseudo.json."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from drivetl import console
from drivetl.coco.folders import folder_dataset
from drivetl.coco.io import load_json, read_dataset
from drivetl.coco.records import Dataset
from drivetl.config import FinetuneConfig
from drivetl.errors import ConfigError
from drivetl.training.separate import check_separate, copies, image_files


@dataclass(frozen=True)
class Footage:
    """Frames without labels."""

    name: str
    """What the config calls it."""
    dataset: Dataset
    """Its images; annotations are those of the file, which are not used unless `edited`."""
    edited: bool = False
    """The file is a dataset of pseudo-labels (`data.pseudo`): its annotations are trained on."""

    @property
    def path(self) -> Path:
        """The file or folder that names the frames."""
        return self.dataset.file or self.dataset.images_root


def read_unlabelled(config: FinetuneConfig, train: Dataset, val: Dataset) -> Footage | None:
    """The frames of data.unlabelled, or of an edited pseudo.json in data.pseudo; None where the config has neither.

    Labels in a file of frames are reported and not used; images of data.train are left out, and reported. Raises
    ConfigError without images, or where an image is one of data.val or a copy; DataError for a file that cannot be
    read. Warns of drives that it shares with data.val.
    """
    frames, labels = config.data.unlabelled, config.data.pseudo
    if not frames and not labels:
        return None
    if labels and _is_results(Path(labels)):
        footage = Footage("data.unlabelled", frames_of_results(frames, Path(labels)))
    elif labels:
        footage = Footage("data.pseudo", read_dataset(Path(labels)), edited=True)
        if frames:
            console.say(f"data.pseudo: {labels} names its own frames, data.unlabelled ({frames}) is not read")
    else:
        footage = Footage("data.unlabelled", _frames(Path(frames)))
    if not footage.dataset.images:
        raise ConfigError(f"{footage.name}: no images in it", remedy="name frames, or leave it out", file=footage.path)
    labelled = sum(bool(image.annotations or image.ignore_regions) for image in footage.dataset.images)
    if labelled and not footage.edited:
        images = f"{labelled} of {len(footage.dataset.images)} images"
        console.say(
            f"data.unlabelled: {footage.path} has labels in {images}; they are not used - to train on them, name it as"
            " data.train or data.source"
        )
    check_separate(footage.name, footage.dataset, "data.val", val, footage.path)
    return _without_labelled(footage, train)


def _without_labelled(footage: Footage, train: Dataset) -> Footage:
    """The frames that are not also images of data.train, whose labels are better. Raises ConfigError without any."""
    ours = image_files(footage.dataset)
    shared = copies(ours, image_files(train))
    if not shared:
        return footage
    if len(shared) == len(ours):
        raise ConfigError(
            f"all {len(ours)} frames of {footage.name} are images of data.train",
            remedy="name frames that have no labels there, or leave it out",
            file=footage.path,
        )
    console.say(f"{footage.name}: {len(shared)} of {len(ours)} frames are images of data.train and are left out")
    root = footage.dataset.images_root.resolve()
    images = [image for image in footage.dataset.images if root / image.file_name not in shared]
    return dataclasses.replace(footage, dataset=footage.dataset.subset(images))


def _frames(path: Path) -> Dataset:
    return folder_dataset(path, ()) if path.is_dir() else read_dataset(path)


def frames_of_results(frames: str, results: Path) -> Dataset:
    """The frames that a results list is of. Raises ConfigError unless a dataset json with classes names them."""
    remedy = "set data.unlabelled to the dataset json whose images and classes the detections are of"
    if not frames:
        raise ConfigError("data.pseudo is a results list, which names no images", remedy=remedy, file=results)
    dataset = _frames(Path(frames))
    if not dataset.categories:
        reason = f"data.pseudo is a results list with class ids, and {frames} names no classes"
        raise ConfigError(reason, remedy=remedy, file=results)
    return dataset


def _is_results(path: Path) -> bool:
    """Whether a json is a COCO results list; a dataset otherwise."""
    return isinstance(load_json(path), list)
