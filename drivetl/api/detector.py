"""A trained detector as a function of images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch

from drivetl.api.images import EXPECTED, ImageLike, as_rgb
from drivetl.api.prediction import Prediction
from drivetl.coco import records
from drivetl.coco.detections import Detections
from drivetl.console import track
from drivetl.detectors.exported import OnnxModel
from drivetl.errors import ConfigError, DataError
from drivetl.files.images import Rgb, described
from drivetl.models import detector as models
from drivetl.models.checkpoint import load_detector
from drivetl.prediction.images import predict


def load(run: str | Path, *, checkpoint: str = "best", device: str = "auto", precision: str = "auto") -> Detector:
    """The trained detector of a run directory (or of one checkpoint folder), or of an exported .onnx file.

    checkpoint: best or last. device: auto, cpu, cuda or cuda:N. precision: auto, fp32 or bf16. An ONNX file runs in
    ONNX Runtime on the CPU and takes none of them. Raises CheckpointError or DataError that says what is missing or
    damaged, ConfigError for an unknown device or precision.
    """
    path = Path(run)
    if path.suffix == ".onnx":
        if (checkpoint, device, precision) != ("best", "auto", "auto"):
            raise ConfigError("an ONNX file has no checkpoint, device or precision", remedy="leave them out", file=path)
        return OnnxDetector(path)
    loaded = load_detector(path, checkpoint, device, precision)
    return TorchDetector(**{field.name: getattr(loaded, field.name) for field in fields(loaded)})


class Detector(ABC):
    """A trained detector. Call it on images; `categories` names its classes."""

    categories: tuple[str, ...]

    @property
    @abstractmethod
    def name(self) -> str:
        """Of the run, or of the file."""

    @abstractmethod
    def infer(self, images: list[torch.Tensor]) -> list[Detections]:
        """Detect in a batch of (3, H, W) uint8 RGB tensors."""

    def __repr__(self) -> str:
        return f"Detector({self.name!r}, {len(self.categories)} classes: {', '.join(self.categories)})"

    @overload
    def __call__(self, images: ImageLike, *, score: float = 0.0, batch_size: int = 8) -> Prediction: ...

    @overload
    def __call__(
        self, images: list[Any] | tuple[Any, ...] | records.Dataset, *, score: float = 0.0, batch_size: int = 8
    ) -> list[Prediction]: ...

    def __call__(
        self,
        images: ImageLike | list[Any] | tuple[Any, ...] | records.Dataset,
        *,
        score: float = 0.0,
        batch_size: int = 8,
    ) -> Prediction | list[Prediction]:
        """Detect in one image, in a list of images, or in all images of a dataset.

        An image is a path, an (H, W, 3) uint8 RGB array, a PIL image or a (3, H, W) uint8 RGB tensor. Returns one
        Prediction for one image, else a list in the order given; those of a dataset know their image's id. score: the
        lowest score to keep. Raises DataError for anything else, which says what it got and what it expects.
        """
        if not 0 <= score <= 1:
            raise ConfigError(f"score is {score}", remedy="pass a score from 0 to 1")
        if batch_size < 1:
            raise ConfigError(f"batch_size is {batch_size}", remedy="it must be at least 1")
        if isinstance(images, records.Dataset):
            return _in_dataset(self, images, score, batch_size)
        if isinstance(images, list | tuple):
            return list(_in_images(self, images, score, batch_size))
        if isinstance(images, str | Path) or hasattr(images, "shape") or hasattr(images, "convert"):
            return next(_in_images(self, [images], score, batch_size, named=False))
        raise DataError(f"the images are {described(images)}", remedy=f"pass {EXPECTED}, a list of those, or a dataset")


def _in_dataset(detector: Detector, dataset: records.Dataset, score: float, batch_size: int) -> list[Prediction]:
    found: dict[int, Prediction] = {}
    stream = predict(detector, dataset, score=score, batch_size=batch_size)
    for record, detections in track(stream, "detecting", total=len(dataset.images)):
        path, size_hw = dataset.images_root / record.file_name, (record.height, record.width)
        found[record.id] = _prediction(detector, detections, path, size_hw, record.id)
    return [found[record.id] for record in dataset.images]


def _in_images(
    detector: Detector, images: Sequence[ImageLike], score: float, batch_size: int, named: bool = True
) -> Iterator[Prediction]:
    """In batches of one image size, so that no image is padded and a batch gives the same as its images one by one."""
    batch: list[tuple[ImageLike, Rgb]] = []
    for index, image in enumerate(images):
        pixels = as_rgb(image, f"images[{index}]" if named else "the image")
        if batch and (len(batch) == batch_size or batch[0][1].shape != pixels.shape):
            yield from _in_batch(detector, batch, score)
            batch = []
        batch.append((image, pixels))
    if batch:
        yield from _in_batch(detector, batch, score)


def _in_batch(detector: Detector, batch: Sequence[tuple[ImageLike, Rgb]], score: float) -> Iterator[Prediction]:
    tensors = [torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))) for _, pixels in batch]
    for (image, pixels), detections in zip(batch, detector.infer(tensors), strict=True):
        source = Path(image) if isinstance(image, str | Path) else pixels
        yield _prediction(detector, detections, source, pixels.shape[:2]).above(score)


def _prediction(
    detector: Detector, found: Detections, source: Path | Rgb, size_hw: tuple[int, ...], image_id: int | None = None
) -> Prediction:
    height, width = size_hw
    return Prediction(found, detector.categories, source, (height, width), image_id)


class TorchDetector(models.Detector, Detector):
    """The model of a run on its device."""

    def __repr__(self) -> str:
        return f"{Detector.__repr__(self)[:-1]}; on {self.device})"


class OnnxDetector(OnnxModel, Detector):
    """The model of an exported file."""
