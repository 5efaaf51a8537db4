"""An exported file as a detector, run by ONNX Runtime: what is deployed is what is evaluated."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from drivetl.coco.detections import Detections
from drivetl.coco.masks import encode
from drivetl.errors import ConfigError, DataError
from drivetl.models.detector import check_images


class OnnxModel:
    """A file that `drivetl export` wrote; its metadata says which classes and which image size it has."""

    run = None
    precision = None
    device = None

    def __init__(self, path: Path, threads: int = 0) -> None:
        """threads: of the CPU; 0: one per core.

        Raises ConfigError when onnxruntime is missing, DataError for another file.
        """
        if importlib.util.find_spec("onnxruntime") is None:
            raise ConfigError("an ONNX file needs onnxruntime", remedy="pip install 'drivetl[onnx]'", file=path)
        self.path = path
        self.session = _session(path, threads)
        about: Mapping[str, str] = self.session.get_modelmeta().custom_metadata_map
        try:
            names = json.loads(about["classes"])[1:]  # without the background
            self.size_hw = _size_hw(about["input_size"])
            self.augmentation: dict[str, Any] | None = json.loads(about.get("augmentation", "null"))
            self.weights_hash = about["weights_hash"]
        except (KeyError, ValueError, TypeError, RecursionError) as error:
            inputs = ", ".join(f"{item.name} {item.shape} {item.type}" for item in self.session.get_inputs())
            raise DataError(
                f"not an ONNX file of this version of drivetl (metadata: {error!r}; inputs: {inputs})",
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
        outputs = dict(zip(self.outputs, self.session.run(None, {"image": image.cpu().numpy()}), strict=True))
        masks = outputs.get("masks")
        return Detections(
            outputs["boxes"],
            outputs["scores"],
            outputs["labels"],
            None if masks is None else [encode(mask) for mask in masks[:, 0] > 0.5],
        )

    @property
    def outputs(self) -> list[str]:
        """The names of the outputs: boxes, labels, scores, and masks where there are any."""
        return [item.name for item in self.session.get_outputs()]


def _session(path: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors only: it warns of every shape that differs from the traced one
    try:
        return onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})", remedy="check the path", file=path) from None
    except Exception as error:  # onnxruntime's own classes, which all derive from Exception
        raise DataError(
            f"not an ONNX file ({str(error).splitlines()[0]})", remedy="export it again with drivetl export", file=path
        ) from None


def _size_hw(text: str) -> tuple[int, int] | None:
    """Height and width in px of the metadata; None for any size."""
    if text == "any":
        return None
    size = json.loads(text)
    return int(size["height"]), int(size["width"])
