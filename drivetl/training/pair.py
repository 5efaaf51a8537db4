"""The two datasets of a training, read before torch is loaded."""

from __future__ import annotations

from pathlib import Path

from drivetl.coco.io import read_dataset
from drivetl.coco.records import Dataset
from drivetl.config import FinetuneConfig
from drivetl.errors import ConfigError


def read_pair(config: FinetuneConfig) -> tuple[Dataset, Dataset]:
    """Both datasets, checked against each other. Raises ConfigError for different classes, or without images or
    classes."""
    train, val = read_dataset(Path(config.data.train)), read_dataset(Path(config.data.val))
    if train.categories != val.categories:
        raise ConfigError(
            f"data.train has classes {list(train.categories)}, data.val {list(val.categories)}",
            remedy="convert both with one taxonomy",
        )
    for key, dataset in (("data.train", train), ("data.val", val)):
        if not dataset.images or not dataset.categories:
            raise ConfigError(
                f"{key}: no {'classes' if dataset.images else 'images'} in it", remedy="convert and split it again"
            )
    return train, val
