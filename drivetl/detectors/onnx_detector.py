"""ONNX files as detectors: our own export, and files of others with a description of their layout next to them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torchvision.ops import batched_nms

from drivetl.coco.detections import Detections
from drivetl.detectors.any_detector import AnyDetector
from drivetl.detectors.classes import labels_of_outputs
from drivetl.detectors.decoders import DECODERS, DENSE, FORMS, Candidates
from drivetl.detectors.exported import OnnxModel
from drivetl.detectors.onnx_layout import Layout, output_names, read_layout
from drivetl.detectors.onnx_session import inputs_and_outputs, open_session, run_session
from drivetl.errors import DataError
from drivetl.files.images import Rgb

NMS_IOU = 0.65
"""YOLOX's own default; Ultralytics evaluates at 0.7."""
DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}


def onnx_detector(path: Path, layout: Path | None = None, threads: int = 0) -> AnyDetector | OnnxModel:
    """An export of drivetl, or a file with a layout: that one, or FILE.yaml next to FILE.onnx.

    threads: of the CPU; 0: as many as torch uses. Raises ConfigError when onnxruntime is missing, DataError for a file
    that cannot be loaded, that has no layout, or whose layout does not fit.
    """
    found = layout or (path.with_suffix(".yaml") if path.with_suffix(".yaml").is_file() else None)
    session = open_session(path, threads)
    metadata: dict[str, str] = session.get_modelmeta().custom_metadata_map
    if "drivetl" in metadata:
        if layout is not None:
            raise DataError(
                "an export of drivetl has its layout in itself", remedy="leave the layout file out", file=path
            )
        return OnnxModel(path, threads)
    if found is None:
        raise DataError(
            f"nothing describes its layout; {inputs_and_outputs(session)}",
            remedy=f"write {path.with_suffix('.yaml').name} next to it, with one of the decoders {known_decoders()} "
            "(docs/any_detector.md)",
            file=path,
        )
    return AnyDetector(ForeignOnnx(path, session, found, metadata))


def known_decoders() -> str:
    """Every decoder with the outputs that it takes, in one line."""
    return ", ".join(f"{name}: {form}" for name, form in FORMS.items())


class Placed(NamedTuple):
    """How an image lies in the network's input: input px = image px * scale + offset."""

    scale_xy: tuple[float, float]
    offset_xy: tuple[int, int]


class ForeignOnnx:
    """A graph of others with one image input, by the layout that describes it."""

    layout = "HWC"

    def __init__(self, path: Path, session: Any, layout_file: Path, metadata: dict[str, str]):
        self.path, self.session, self.name = path, session, path.stem
        self.form = read_layout(layout_file)
        names = output_names(self.form, layout_file, metadata)
        self.n_outputs = len(names)
        self.categories, self.label_of = labels_of_outputs(names)
        self.input, self.size_hw = _input(session, self.form, path, layout_file)
        digest = hashlib.sha256(path.read_bytes() + repr((self.form, names)).encode())
        self.weights_hash = digest.hexdigest()[:16]

    def infer(self, images: list[Rgb]) -> list[Detections]:
        """Detect in (H, W, 3) uint8 RGB arrays, one by one. Raises DataError for outputs of another form."""
        return [self._one(image) for image in images]

    def _one(self, image: Rgb) -> Detections:
        canvas, placed = place(image, self.size_hw, self.form)
        outputs = run_session(self.session, {self.input.name: self._as_input(canvas)}, self.path)
        numbers = {name: np.asarray(value, np.float64) for name, value in outputs.items()}  # half precision is coarse
        try:
            candidates = DECODERS[self.form.decoder](numbers, self.form, self.n_outputs, self.size_hw)
            best = self._best(candidates)
        except DataError as error:
            raise DataError(
                f"decoder {self.form.decoder}: {error.reason}; {inputs_and_outputs(self.session)}",
                remedy=f"{error.remedy}; known: {known_decoders()}",
                file=self.path,
            ) from None
        height, width = image.shape[:2]
        boxes = (best.boxes - np.tile(placed.offset_xy, 2)) / np.tile(placed.scale_xy, 2)
        boxes = np.clip(boxes, 0, np.tile((width, height), 2)).astype(np.float32)
        rows = np.flatnonzero((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))  # not in the padding
        labels = self.label_of[best.numbers[rows]]
        return Detections(boxes[rows], best.scores[rows].astype(np.float32), labels)

    def _as_input(self, canvas: Rgb) -> npt.NDArray[Any]:
        """The (H, W, 3) RGB canvas as the graph's input of one image."""
        form, dtype = self.form, DTYPES[self.input.type]
        pixels: npt.NDArray[Any] = canvas if form.colour == "RGB" else canvas[..., ::-1]
        if dtype != np.uint8:
            scaled = pixels * np.float32(form.white / 255)
            pixels = (scaled - np.array(form.mean, np.float32)) / np.array(form.std, np.float32)
        axes = (2, 0, 1) if form.axes == "NCHW" else (0, 1, 2)
        return np.ascontiguousarray(pixels.transpose(axes)[None], dtype)

    def _best(self, candidates: Candidates) -> Candidates:
        """Those that are a class and reach the threshold, after NMS, best first."""
        boxes, scores, numbers = candidates
        if not np.isfinite(scores).all():
            raise DataError("scores contain NaN or infinity", remedy="check the file, mean and std")
        rows = np.flatnonzero(scores >= self.form.score_threshold)
        if len(rows) and not 0 <= numbers[rows].min() <= numbers[rows].max() < self.n_outputs:
            span = f"{numbers[rows].min()} to {numbers[rows].max()}"
            raise DataError(f"labels from {span}, for {self.n_outputs} names", remedy="correct classes")
        rows = rows[self.label_of[numbers[rows]] > 0]
        if not np.isfinite(boxes[rows]).all():
            raise DataError("boxes contain NaN or infinity", remedy="choose another decoder")
        rows = rows[np.argsort(-scores[rows], kind="stable")]
        iou = self.form.nms_iou or (NMS_IOU if self.form.decoder in DENSE else None)
        if iou is not None and len(rows):
            tensors = (torch.from_numpy(item[rows]) for item in candidates)
            rows = rows[batched_nms(*tensors, iou).numpy()]
        return Candidates(*(item[rows[: self.form.max_detections]] for item in candidates))


def place(image: Rgb, size_hw: tuple[int, int], form: Layout) -> tuple[Rgb, Placed]:
    """The (H, W, 3) image in the network's input size: stretched, or with its aspect ratio and padding."""
    (height, width), (own_height, own_width) = size_hw, image.shape[:2]
    if form.resize == "stretch":
        stretched = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
        return stretched, Placed((width / own_width, height / own_height), (0, 0))
    scale = min(height / own_height, width / own_width)
    new_width, new_height = max(1, round(own_width * scale)), max(1, round(own_height * scale))
    left, top = (0, 0) if form.place == "top_left" else ((width - new_width) // 2, (height - new_height) // 2)
    canvas = np.full((height, width, 3), form.pad, np.uint8)
    small = cv2.resize(image, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
    canvas[top : top + new_height, left : left + new_width] = small
    return canvas, Placed((new_width / own_width, new_height / own_height), (left, top))


def _input(session: Any, form: Layout, path: Path, layout_file: Path) -> tuple[Any, tuple[int, int]]:
    """The graph's input, and the (height, width) of the image in it. Raises DataError for another kind of graph."""
    items = session.get_inputs()
    shape = [side if isinstance(side, int) and side > 0 else None for side in items[0].shape] if items else []
    if len(items) != 1 or items[0].type not in DTYPES or len(shape) != 4 or shape[0] not in (None, 1):
        raise DataError(
            f"not a graph with one input of one image; {inputs_and_outputs(session)}",
            remedy="export it with one input of shape (1, 3, H, W), float32, float16 or uint8",
            file=path,
        )
    channels, *fixed = shape[1:] if form.axes == "NCHW" else (shape[3], *shape[1:3])
    size = form.size or fixed
    if channels not in (None, 3) or any(own not in (None, side) for own, side in zip(fixed, size, strict=True)):
        raise DataError(
            f"size {form.size} and axes {form.axes} do not fit the graph; {inputs_and_outputs(session)}",
            remedy="correct size: [HEIGHT, WIDTH] and axes",
            file=layout_file,
        )
    height, width = size
    if height is None or width is None:
        raise DataError(
            f"no size, and the graph takes any; {inputs_and_outputs(session)}",
            remedy="add size: [HEIGHT, WIDTH]",
            file=layout_file,
        )
    return items[0], (height, width)
