"""A COCO dataset for use in Python."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivetl.coco import io, records
from drivetl.errors import ConfigError

if TYPE_CHECKING:
    from drivetl.data.dataset import IndexedDataset


class Dataset(records.Dataset):
    """A COCO dataset in memory: `categories`, `images` (with their annotations and ignore regions), `images_root`."""

    def __repr__(self) -> str:
        n_objects = sum(len(image.annotations) for image in self.images)
        classes = ", ".join(self.categories)
        return f"Dataset({len(self.images)} images, {n_objects} objects, {len(self.categories)} classes: {classes})"

    def torch(self, augment: str | Path | Callable[..., Any] | None = None, *, masks: bool = False) -> IndexedDataset:
        """A `torch.utils.data.Dataset` of (image, target) by index; use `collate_fn=drivetl.collate` in a DataLoader.

        image: (3, H, W) uint8 RGB. target: `boxes` (N, 4) float32 xyxy px, `labels` (N,) int64 1..K, `image_id`,
        `ignore_boxes` (M, 4), `labelled` (K + 1,) bool: the classes that are labelled in this image; with `masks` also
        `masks` (N, H, W) uint8 and `has_mask` (N,) bool. N may be 0.

        augment: a preset (none, photometric, weather, severe, mixed), a YAML file of that form, or a function of
        (sample, numpy generator). Random numbers come from torch's generator: torch.manual_seed repeats them. Raises
        ConfigError for an unknown or invalid preset, and for `auto`, which only a training can choose for.
        """
        from drivetl.data import augment as presets
        from drivetl.data.dataset import IndexedDataset

        if isinstance(augment, str | Path):
            augment = presets.build(presets.load_preset(str(augment)))
        if augment is not None and not callable(augment):
            raise ConfigError(
                f"augment is a {type(augment).__name__}", remedy="pass a preset, a YAML file or a function, or None"
            )
        return IndexedDataset(self, with_masks=masks, augment=augment)


def read_dataset(path: str | Path, images_root: str | Path | None = None) -> Dataset:
    """Read a COCO dataset json that drivetl wrote, or one of the same form (category ids 1..K).

    images_root: the folder that file names are relative to; default: as the json says. Raises DataError with the
    record, its line and its value.
    """
    dataset = io.read_dataset(Path(path), None if images_root is None else Path(images_root))
    return Dataset(**{field.name: getattr(dataset, field.name) for field in fields(dataset)})
