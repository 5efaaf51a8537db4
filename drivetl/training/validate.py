"""The validation pass between epochs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from drivetl.coco.records import Dataset
from drivetl.data.dataset import DetectionDataset, Item, loader_options
from drivetl.metrics import coco_ap
from drivetl.metrics.match_store import MatchStore
from drivetl.metrics.results import Results, concatenate, of_image
from drivetl.models.detector import detect
from drivetl.processes import Group


class InOrder:
    """Batches of (0, index) over one process's share of the images, in order."""

    def __init__(self, n_images: int, batch_size: int, group: Group):
        self.indices = range(group.rank, n_images, group.world)
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.indices) // self.batch_size)

    def __iter__(self) -> Iterator[list[Item]]:
        for first in range(0, len(self.indices), self.batch_size):
            yield [(0, index) for index in self.indices[first : first + self.batch_size]]


def validation_loader(
    dataset: Dataset, batch_size: int, workers: int, device: torch.device, group: Group, cache_gb: float
) -> DataLoader[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
    """This process's share of the images, in order and without augmentation; decoded only once if they fit into
    `cache_gb`."""
    data = DetectionDataset(dataset, cache_gb=cache_gb)
    batches = InOrder(len(data), batch_size, group)
    # a separate generator: how often validation runs must not change the training
    generator = torch.Generator().manual_seed(0)
    return DataLoader(data, batch_sampler=batches, generator=generator, **loader_options(workers, device))


def validate(
    model: nn.Module,
    loader: DataLoader[tuple[torch.Tensor, dict[str, torch.Tensor]]],
    device: torch.device,
    precision: torch.dtype,
    group: Group,
    after_batch: Callable[[], None] = lambda: None,
) -> Results:
    """Detections on the whole validation set; the same results on every process."""
    was_training = model.training
    model.eval()
    parts: list[Results] = []
    for images, targets in loader:
        detections = detect(model, images, device, precision)
        ids = [int(target["image_id"]) for target in targets]
        parts += [of_image(image_id, item) for image_id, item in zip(ids, detections, strict=True)]
        after_batch()
    model.train(was_training)
    return concatenate(group.gather(parts))


def headline(store: MatchStore) -> dict[str, Any]:
    """AP, AP50, AP75 and AP50 per class; NaN where a class does not occur."""
    metrics = coco_ap.summarize(store)
    named = metrics.named()
    per_class = {name: row["AP50"] for name, row in metrics.per_class.items()}
    return {"AP": named["AP"], "AP50": named["AP50"], "AP75": named["AP75"], "AP50_per_class": per_class}
