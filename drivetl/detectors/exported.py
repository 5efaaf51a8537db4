"""An exported file as a detector, run by ONNX Runtime: what is deployed is what is evaluated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from drivetl.coco.detections import Detections
from drivetl.coco.masks import encode
from drivetl.detectors.onnx_session import inputs_and_outputs, open_session, run_session
from drivetl.errors import DataError
from drivetl.models.detector import check_images


class OnnxModel:
    """A file that `drivetl export` wrote; its metadata says which classes and which image size it has."""

    run = None
    precision = None
    device = None

    def __init__(self, path: Path, threads: int = 0) -> None:
        """threads: of the CPU; 0: as many as torch uses.

        Raises ConfigError when onnxruntime is missing, DataError for another file.
        """
        self.path = path
        self.session = open_session(path, threads)
        about: Mapping[str, str] = self.session.get_modelmeta().custom_metadata_map
        try:
            names = json.loads(about["classes"])[1:]  # without the background
            self.size_hw = _size_hw(about["input_size"])
            self.augmentation: dict[str, Any] | None = json.loads(about.get("augmentation", "null"))
            self.weights_hash = about["weights_hash"]
        except (KeyError, ValueError, TypeError, RecursionError) as error:
            raise DataError(
                f"not an ONNX file of this version of drivetl (metadata: {error!r}; "
                f"{inputs_and_outputs(self.session)})",
                remedy="export it again with drivetl export",
                file=path,
            ) from None
        self.categories = tuple(map(str, names))

    @property
    def name(self) -> str:
        """Of the file, without its suffix."""
        return self.path.stem

    def infer(self, images: list[torch.Tensor]) -> list[Detections]:
        """Detect in (3, H, W) uint8 RGB tensors, one by one.

        Raises DataError for an image that is not of the file's size.
        """
        check_images(images)
        return [self._one(image) for image in images]

    def _one(self, image: torch.Tensor) -> Detections:
        height, width = image.shape[1:]
        if self.size_hw not in (None, (height, width)):
            raise DataError(
                f"takes images of {self.size_hw[1]} x {self.size_hw[0]} px, this one is {width} x {height} px",
                remedy="export it with --any-size, or letterbox the images (docs/onnx.md)",
                file=self.path,
            )
        outputs = run_session(self.session, {"image": image.cpu().numpy()}, self.path)
        masks = outputs.get("masks")
        return Detections(
            outputs["boxes"],
            outputs["scores"],
            outputs["labels"],
            None if masks is None else [encode(mask) for mask in masks[:, 0] > 0.5],
        )


def _size_hw(text: str) -> tuple[int, int] | None:
    """Height and width in px of the metadata; None for any size."""
    if text == "any":
        return None
    size = json.loads(text)
    return int(size["height"]), int(size["width"])
