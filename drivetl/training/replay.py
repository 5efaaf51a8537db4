"""Replay: labelled images of the source's domain, trained on next to the target's.

The classes of data.source are related to those of data.train by their names and taxonomies (`class_map`). What the
source does not label is unknown in its images, not absent; what may or may not be an object of the target is an ignore
region; what the target does not know is background.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from drivetl.coco.class_map import ClassMap, class_map
from drivetl.coco.drives import Drives
from drivetl.coco.io import read_dataset
from drivetl.coco.records import Dataset, IgnoreRegion, ImageRecord
from drivetl.coco.taxonomy import dataset_taxonomy
from drivetl.config import FinetuneConfig, is_auto
from drivetl.console.text import counted, printable
from drivetl.data.sampling import Extra
from drivetl.errors import ConfigError
from drivetl.training.separate import check_separate

DEFAULT_SHARE = 0.5
"""The share of data.source where the config leaves it to the recipe (`data.source_share: auto`)."""


def source_share(config: FinetuneConfig) -> float:
    """Share of the images of every batch that come from data.source; 0 without one."""
    if not config.data.source:
        return 0.0
    return DEFAULT_SHARE if is_auto(config.data.source_share) else config.data.source_share


def with_source_share(config: FinetuneConfig) -> FinetuneConfig:
    """The config with a number for `data.source_share`."""
    return dataclasses.replace(config, data=dataclasses.replace(config.data, source_share=source_share(config)))


def shares(config: FinetuneConfig) -> tuple[float, ...]:
    """The shares of the datasets that are trained on next to data.train."""
    source, data = source_share(config), config.data
    return ((source,) if source else ()) + ((data.unlabelled_share,) if data.unlabelled or data.pseudo else ())


@dataclass(frozen=True)
class Replay:
    """Images of the source's domain under the target's classes."""

    path: Path
    dataset: Dataset
    """Under the target's categories."""
    classes: ClassMap
    source_names: tuple[str, ...]
    """The source's own categories in id order."""
    share: float

    @property
    def extra(self) -> Extra:
        """The stream of the images, for `EpochBatches`."""
        return Extra(len(self.dataset.images), self.share)

    def in_words(self) -> str:
        """`120 images of 4 drives, 25 % of every batch`."""
        images = f"{counted(len(self.dataset.images), 'image')} of {Drives.of(self.dataset.images).in_words()}"
        return f"{images}, {100 * self.share:g} % of every batch"

    def classes_in_words(self) -> str:
        """What became of every class: `car, person as pedestrian; ignore regions: bicycle; ...`."""
        ours, theirs = self.dataset.categories, self.source_names
        renamed = {
            number: "" if theirs[number - 1] == ours[to - 1] else f" as {ours[to - 1]}"
            for number, to in self.classes.objects.items()
        }
        parts = {
            "objects": [theirs[number - 1] + suffix for number, suffix in renamed.items()],
            "ignore regions": [
                f"{theirs[number - 1]} (may be {' or '.join(ours[to - 1] for to in hidden)})"
                for number, hidden in self.classes.ignored.items()
            ],
            "background": [theirs[number - 1] for number in self.classes.background],
            "not labelled there": [ours[number - 1] for number in self.classes.unknown],
        }
        return printable("; ".join(f"{name}: {', '.join(names)}" for name, names in parts.items() if names))


def under_classes(source: Dataset, categories: tuple[str, ...], classes: ClassMap) -> Dataset:
    """The source's dataset under the target's categories; images, ids and files are unchanged.

    A class of the target is labelled in an image when every class of the source that maps to it is.
    """
    images = [_mapped(image, classes, len(categories)) for image in source.images]
    return dataclasses.replace(source, categories=categories, images=images, info={})


def _mapped(image: ImageRecord, classes: ClassMap, n_classes: int) -> ImageRecord:
    not_labelled = set() if image.labelled is None else set(classes.objects) - set(image.labelled)
    unknown = set(classes.unknown) | {classes.objects[number] for number in not_labelled}
    annotations = [
        dataclasses.replace(item, category_id=classes.objects[item.category_id])
        for item in image.annotations
        if item.category_id in classes.objects
    ]
    regions = [
        IgnoreRegion(item.bbox_xywh, item.area, classes.ignored[item.category_id], item.segmentation, item.attributes)
        for item in image.annotations
        if item.category_id in classes.ignored
    ]
    hidden = [(region, _hidden(region, classes)) for region in image.ignore_regions]
    return dataclasses.replace(
        image,
        labelled=tuple(number for number in range(1, n_classes + 1) if number not in unknown) if unknown else None,
        annotations=annotations,
        ignore_regions=regions
        + [dataclasses.replace(region, category_ids=ids) for region, ids in hidden if ids or not region.category_ids],
    )


def _hidden(region: IgnoreRegion, classes: ClassMap) -> tuple[int, ...]:
    """The classes of the target that an ignore region of the source hides; none if it hides all, or none of them."""
    to = [
        (classes.objects[number],) if number in classes.objects else classes.ignored.get(number, ())
        for number in region.category_ids
    ]
    return tuple(sorted({number for numbers in to for number in numbers}))


def read_replay(config: FinetuneConfig, train: Dataset, val: Dataset) -> Replay | None:
    """data.source under the classes of data.train; None where the config has none.

    Raises ConfigError without images, where no class of it is one of the target's, or where an image is one of data.val
    or a copy; DataError for a file that cannot be read. Warns of drives that it shares with data.val.
    """
    share = source_share(config)
    if not share:
        return None
    path = Path(config.data.source)
    source = read_dataset(path)
    if not source.images:
        raise ConfigError("data.source: no images in it", remedy="convert and split it again", file=path)
    taxonomies = dataset_taxonomy(source, path), dataset_taxonomy(train, config.data.train)
    classes = class_map(source.categories, train.categories, *taxonomies)
    if not classes.objects:
        raise ConfigError(
            f"data.source has classes {', '.join(source.categories)}, none of which is a class of data.train"
            f" ({config.data.train}): {', '.join(train.categories)}",
            remedy="relate them by `labels` or `from` in a taxonomy and convert again, or leave data.source out",
            file=path,
        )
    replay = Replay(path, under_classes(source, train.categories, classes), classes, source.categories, share)
    check_separate("data.source", source, "data.val", val, path)
    return replay
