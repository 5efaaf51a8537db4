"""A COCO dataset as training samples: decode, augment, return uint8 tensors."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from drivetl.coco import masks as coco_masks
from drivetl.coco.boxes import xywh_to_xyxy
from drivetl.coco.records import Dataset, ImageRecord
from drivetl.data.sample import Sample
from drivetl.data.sharing import PREFETCHED_BATCHES, Batch, PipedBatch, share
from drivetl.data.vehicles import vehicle_boxes
from drivetl.errors import DataError
from drivetl.files.images import Rgb, read_rgb
from drivetl.workers import end_with_parent

Augment = Callable[[Sample, np.random.Generator], Sample]
Item = tuple[int, ...]
"""(epoch, index), or (epoch, index, 1..) for another copy of the image in the same epoch: apart from the seed, all that
a sample's randomness depends on."""

TorchSample = tuple[Tensor, dict[str, Tensor]]
"""((3, H, W) uint8, target)."""
TorchSamples = TorchDataset[TorchSample]

MOST_IN_A_ROW = 16
"""More images than this that cannot be read, one after the other, are an error also where they are skipped: a disk or a
folder is missing."""
MIN_SIDE_PX = 1.0
"""Thinner boxes cannot be encoded as regression targets; they are treated as ignore regions."""


class DetectionDataset(TorchSamples):
    """Samples of a COCO dataset by (epoch, index) or (epoch, index, copy); identical for any number of workers.

    stream: number of the dataset among those of a training; from 1 on it is also in every target.
    loss_weights: of classification and box losses, in every target where they are not 1 (`drivetl.models.ignore`).
    skip_bad: the next image that can be read, augmented in another way, takes the place of one that cannot, whose index
    is then `skipped` in the target; else it is a DataError.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        with_masks: bool = False,
        augment: Augment | None = None,
        seed: int = 0,
        cache_gb: float = 0.0,
        stream: int = 0,
        loss_weights: tuple[float, float] = (1.0, 1.0),
        skip_bad: bool = False,
    ):
        self.images, self.root, self.categories = dataset.images, dataset.images_root, dataset.categories
        self.file = dataset.file
        self.with_masks, self.augment, self.seed = with_masks, augment, seed
        self.stream, self.loss_weights, self.skip_bad = stream, loss_weights, skip_bad
        self._cache: dict[int, Rgb] | None = {} if decoded_gb(self.images) <= cache_gb else None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, item: Item) -> TorchSample:
        epoch, wanted, *copy = item
        index, pixels = self._readable(wanted)
        sample = read_sample(self.images[index], pixels, self.with_masks, self.file)
        own = [self.stream, *copy] if self.stream or copy else []
        own += [wanted] if index != wanted else []
        if self.augment is not None:
            sample.vehicles = vehicle_boxes(self.images[index], self.categories)
            sample = self.augment(sample, np.random.default_rng([self.seed, epoch, index, *own]))
        image, target = to_tensors(sample, len(self.categories))
        target |= {"stream": torch.tensor(self.stream)} if self.stream else {}
        target |= {"loss_weights": torch.tensor(self.loss_weights)} if self.is_weighted else {}
        return image, target | ({"skipped": torch.tensor(wanted)} if index != wanted else {})

    @property
    def is_weighted(self) -> bool:
        """Whether its images count otherwise than by 1."""
        return self.loss_weights != (1.0, 1.0)

    def _readable(self, wanted: int) -> tuple[int, Rgb]:
        """(index, pixels) of an image, or, where bad ones are skipped, of the next one that can be read."""
        for index in range(wanted, wanted + min(MOST_IN_A_ROW, len(self))):
            try:
                return index % len(self), self._image(index % len(self))
            except DataError as error:
                if not self.skip_bad:
                    raise
                reason = str(error)
        raise DataError(
            f"{index - wanted + 1} images in a row cannot be read, the last: {reason}",
            remedy="check that the folder of the images is complete",
            file=self.root,
        )

    def reason_to_skip(self, index: int) -> str:
        """Why an image cannot be read, with its path."""
        try:
            read_image(self.images[index], self.root)
        except DataError as error:
            return str(error)
        return f"{self.root / self.images[index].file_name}: could be read at another time"

    def _image(self, index: int) -> Rgb:
        if self._cache is None:
            return read_image(self.images[index], self.root)
        if index not in self._cache:
            self._cache[index] = read_image(self.images[index], self.root)
        return self._cache[index].copy()


class IndexedDataset(TorchSamples):
    """Samples of a COCO dataset by index 0..N-1, as a DataLoader with a sampler of torch asks for them.

    Each access draws a new augmentation from torch's random generator: `torch.manual_seed` makes a run repeatable, for
    a given number of workers. `DetectionDataset`, which our training uses, is the same for any number. Every target has
    `labelled`.
    """

    def __init__(self, dataset: Dataset, *, with_masks: bool = False, augment: Augment | None = None):
        self.categories = dataset.categories
        self._samples = DetectionDataset(dataset, with_masks=with_masks, augment=augment)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> TorchSample:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} of {len(self)} images")
        drawn = int(torch.randint(2**31, ())) if self._samples.augment is not None else 0
        image, target = self._samples[drawn, int(index) % len(self)]
        every = torch.ones(len(self.categories) + 1, dtype=torch.bool)
        return image, target | {"labelled": target.get("labelled", every)}


def decoded_gb(images: Sequence[ImageRecord]) -> float:
    """Memory that the decoded images take, GB."""
    return sum(3 * image.width * image.height for image in images) / 1e9


def read_image(record: ImageRecord, root: Path) -> Rgb:
    """The record's pixels, (H, W, 3) uint8 RGB. Raises DataError when the size is not the one in the json."""
    path = root / record.file_name
    image = read_rgb(path)
    if image.shape[:2] != (record.height, record.width):
        actual, expected = f"{image.shape[1]} x {image.shape[0]}", f"{record.width} x {record.height}"
        raise DataError(f"is {actual}, the json says {expected}", remedy="convert the dataset again", file=path)
    return image


def read_sample(record: ImageRecord, image: Rgb, with_masks: bool, file: Path | None = None) -> Sample:
    """A record and its pixels as a sample. Boxes thinner than MIN_SIDE_PX become ignore regions.

    Raises DataError with `file`, the json, for a mask that does not fit the image.
    """
    boxes = np.array([xywh_to_xyxy(item.bbox_xywh) for item in record.annotations], np.float32).reshape(-1, 4)
    labels = np.array([item.category_id for item in record.annotations], np.int64)
    ignore = np.array([xywh_to_xyxy(item.bbox_xywh) for item in record.ignore_regions], np.float32).reshape(-1, 4)
    kept = np.all(boxes[:, 2:] - boxes[:, :2] >= MIN_SIDE_PX, axis=1)
    sample = Sample(
        image, boxes[kept], labels[kept], np.concatenate([ignore, boxes[~kept]]), record.id, labelled=record.labelled
    )
    if with_masks:
        objects = [item for item, keep in zip(record.annotations, kept, strict=True) if keep]
        empty = np.zeros((record.height, record.width), np.uint8)
        masks = [coco_masks.of_object(item, record, file) for item in objects]
        rows = [empty if mask is None else mask for mask in masks]
        sample.masks = np.stack(rows) if rows else np.zeros((0, record.height, record.width), np.uint8)
        sample.has_mask = np.asarray(sample.masks.any(axis=(1, 2)), np.bool_)
    return sample


def to_tensors(sample: Sample, n_classes: int) -> TorchSample:
    """((3, H, W) uint8, target) with the keys that torchvision and the ignore-aware heads read.

    `labelled` is there only where some class is not labelled, so that the losses need not ask the device.
    """
    target = {
        "boxes": torch.from_numpy(np.ascontiguousarray(sample.boxes, np.float32)),
        "labels": torch.from_numpy(np.ascontiguousarray(sample.labels, np.int64)),
        "ignore_boxes": torch.from_numpy(np.ascontiguousarray(sample.ignore_boxes, np.float32)),
        "image_id": torch.tensor(sample.image_id),
    }
    if sample.labelled is not None and len(set(sample.labelled)) < n_classes:
        target["labelled"] = torch.zeros(n_classes + 1, dtype=torch.bool)
        target["labelled"][[0, *sample.labelled]] = True
    if sample.masks is not None and sample.has_mask is not None:
        target["masks"] = torch.from_numpy(np.ascontiguousarray(sample.masks))
        target["has_mask"] = torch.from_numpy(np.ascontiguousarray(sample.has_mask))
    return torch.from_numpy(np.ascontiguousarray(sample.image.transpose(2, 0, 1))), target


def collate(items: list[TorchSample]) -> Batch:
    """A batch stays a list: images may differ in size until the network's resize."""
    return [image for image, _ in items], [target for _, target in items]


def collate_in_worker(items: list[TorchSample]) -> Batch | PipedBatch:
    """`collate` in a loader process: the batch is ready to be sent."""
    return share(collate(items))


def single_threaded(_: int) -> None:
    """Worker initialisation: there is one process per core, so libraries must not start threads of their own; and the
    worker ends with its parent."""
    end_with_parent()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def loader_processes(setting: int, device: torch.device) -> int:
    """Number of loader processes; a negative setting means up to 8 with a GPU, and none on a CPU, where the network
    needs the cores itself."""
    if setting >= 0:
        return setting
    return min(8, max(0, (os.cpu_count() or 1) - 1)) if device.type == "cuda" else 0


def loader_options(workers: int, device: torch.device) -> dict[str, Any]:
    """DataLoader arguments that keep the device busy without oversubscribing the CPU cores."""
    options: dict[str, Any] = {"num_workers": workers, "collate_fn": collate, "pin_memory": device.type == "cuda"}
    if workers:
        options |= {"persistent_workers": True, "prefetch_factor": PREFETCHED_BATCHES}
        options |= {"collate_fn": collate_in_worker, "worker_init_fn": single_threaded}
    return options
