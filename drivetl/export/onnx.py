"""Export of a detector to one ONNX file, verified against the PyTorch model.

Input `image`: (3, H, W) uint8 RGB, of one fixed size or of any; scaling to 0..1, normalisation and the network's resize
are in the graph. Outputs: `boxes` (N, 4) float32 xyxy px of the input image, `labels` (N,) int64 1..K, `scores` (N,)
float32 in descending order, and for a Mask R-CNN `masks` (N, 1, H, W) float32 0..1. N varies per image. A graph of one
size takes other images after `letterbox`. The metadata says all of this; docs/onnx.md shows how to use a file.
"""

from __future__ import annotations

import importlib.util
import json
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drivetl import __version__
from drivetl.errors import ConfigError, DrivetlError
from drivetl.files.images import Rgb, check_rgb
from drivetl.files.write import write_atomically
from drivetl.models.detector import Detector

OPSET = 17
BOX_TOLERANCE_PX = 0.05
SCORE_TOLERANCE = 1e-3
"""For scores and mask probabilities: allows for a different summation order; a wrong graph differs far more."""
MOST_DIFFERING = 0.05
"""Share of the detections that may differ: where two scores are equal to the last digits, the summation order decides
which of two boxes survives. In a wrong graph nearly all differ."""
MAX_SIDE = 8192


class BytesToDetections(nn.Module):
    """(3, H, W) uint8 -> (boxes, labels, scores[, masks]) of one image. ONNX needs a tuple, not a dict."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        outputs: dict[str, Tensor] = self.model([image.float() / 255.0])[0]
        return tuple(outputs[name] for name in ("boxes", "labels", "scores", "masks") if name in outputs)


@dataclass(frozen=True, slots=True)
class Check:
    """ONNX Runtime compared with the PyTorch model."""

    images: int
    detections: int
    """Of the model, or of ONNX Runtime where it gives more."""
    differing: int
    """Those without a counterpart of the same class, box, score and mask within the tolerances."""
    box_px: float
    """Largest difference of a box coordinate among the others, px."""
    score: float
    """Largest difference of a score or mask probability among the others."""


def export(
    detector: Detector, path: Path, height: int, width: int, images: Sequence[Rgb] = (), *, any_size: bool = False
) -> Check:
    """Export the detector to `path` for inputs of height x width px, or for inputs of any size.

    Before writing, ONNX Runtime is compared with the model on noise, on smooth shapes and on `images`, each (H, W, 3)
    uint8 RGB; a graph of one size sees them letterboxed, one of any size is compared at several sizes. Raises
    ConfigError if the onnx extra is missing, the size is out of range or the file exists, DataError for
    images of another form, and DrivetlError if the outputs differ; nothing is written in these cases.
    """
    if missing := [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]:
        raise ConfigError(f"export needs {' and '.join(missing)}", remedy="pip install 'drivetl[onnx]'")
    if path.exists():
        raise ConfigError("already exists and is never overwritten", remedy="choose another file with --out", file=path)
    if not (32 <= height <= MAX_SIDE and 32 <= width <= MAX_SIDE):
        raise ConfigError(
            f"invalid input size {width} x {height} px", remedy=f"--height and --width range from 32 to {MAX_SIDE}"
        )
    for number, image in enumerate(images):
        check_rgb(image, f"images[{number}]")
    graph = to_graph(detector, height, width, any_size)
    samples = [_noise(height, width), _smooth_shapes(height, width)]
    if any_size:  # a constant of the traced size that stayed in the graph shows at another one
        samples += [_smooth_shapes(max(32, 2 * height // 3), max(32, width // 2)), _smooth_shapes(width, height)]
    fill = fill_colour(detector)
    samples += [_to_chw(image if any_size else letterbox(image, height, width, fill)[0]) for image in images]
    check = _compare(_traceable(detector), graph, samples)
    if check.differing > MOST_DIFFERING * check.detections:
        raise DrivetlError(
            f"{check.differing} of {check.detections} detections of ONNX Runtime and the model differ by more than "
            f"{BOX_TOLERANCE_PX:g} px or {SCORE_TOLERANCE:g} in score",
            remedy="nothing was written; please report this with the versions of torch, onnx and onnxruntime",
        )
    write_atomically(path, graph)
    return check


@torch.inference_mode()
def _outputs(model: nn.Module, sample: Tensor) -> list[str]:
    return ["boxes", "labels", "scores", "masks"][: len(model(sample))]


def to_graph(detector: Detector, height: int, width: int, any_size: bool = False) -> bytes:
    """The serialised ONNX graph with its metadata, not compared with the model."""
    model, sample = _traceable(detector), _noise(height, width)
    names = _outputs(model, sample)
    return _with_metadata(
        _trace(model, sample, names, any_size), detector, names, None if any_size else (height, width)
    )


def _traceable(detector: Detector) -> nn.Module:
    return BytesToDetections(detector.model.cpu().float()).eval()


def fill_colour(detector: Detector) -> tuple[int, int, int]:
    """The RGB colour that the network's normalisation maps to about 0, which is what it pads with itself."""
    transform: Any = detector.model.transform
    red, green, blue = (round(255 * mean) for mean in transform.image_mean)
    return red, green, blue


def letterbox(image: Rgb, height: int, width: int, fill: tuple[int, int, int]) -> tuple[Rgb, float]:
    """The (h, w, 3) image scaled with its aspect ratio into the top left of height x width px of the colour `fill`.

    Also returns the scale: boxes of the result divided by it are boxes of the image.
    """
    scale = min(height / image.shape[0], width / image.shape[1])
    size_wh = (min(width, round(scale * image.shape[1])), min(height, round(scale * image.shape[0])))
    canvas = np.empty((height, width, 3), np.uint8)
    canvas[:] = fill
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas[: size_wh[1], : size_wh[0]] = cv2.resize(image, size_wh, interpolation=interpolation)
    return canvas, scale


def _trace(model: nn.Module, sample: Tensor, names: list[str], any_size: bool) -> bytes:
    """The serialised ONNX graph, by the TorchScript exporter: the torch.export one fails on the data-dependent loop of
    torchvision's NMS (torch 2.15, torchvision 0.29)."""
    axes = {name: {0: "detections"} for name in names}
    if any_size:
        axes["image"] = {1: "height", 2: "width"}
        if "masks" in names:
            axes["masks"] |= {2: "height", 3: "width"}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns of all that it makes constant; the comparison would show it
        torch.onnx.export(
            model,
            (sample,),
            file := Path(folder) / "model.onnx",
            dynamo=False,
            opset_version=OPSET,
            input_names=["image"],
            output_names=names,
            dynamic_axes=axes,
        )
        return file.read_bytes()


def _with_metadata(graph: bytes, detector: Detector, names: list[str], size_hw: tuple[int, int] | None) -> bytes:
    """The graph with metadata (classes, inputs, outputs), read by `session.get_modelmeta().custom_metadata_map`."""
    import onnx

    transform: Any = detector.model.transform
    model = onnx.load_model_from_string(graph)
    metadata = {
        "classes": json.dumps(["__background__", *detector.categories]),
        "input": "image: (3, H, W) uint8 RGB; scaling, normalisation and resize are in the graph",
        "outputs": f"{', '.join(names)}; boxes are xyxy px of the input image, labels index classes",
        "input_size": "any" if size_hw is None else json.dumps({"height": size_hw[0], "width": size_hw[1]}),
        "other_sizes": other_sizes(detector, size_hw),
        "resize": json.dumps({"min_size": int(transform.min_size[-1]), "max_size": int(transform.max_size)}),
        "normalisation": json.dumps({"mean": list(transform.image_mean), "std": list(transform.image_std)}),
        "weights_hash": detector.weights_hash,
        "drivetl": __version__,
    }
    if detector.augmentation is not None:
        metadata["augmentation"] = json.dumps(detector.augmentation)
    onnx.helper.set_model_props(model, metadata)
    model.producer_name, model.producer_version = "drivetl", __version__
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def other_sizes(detector: Detector, size_hw: tuple[int, int] | None) -> str:
    """What to do with an image of another size, in words."""
    if size_hw is None:
        return "any height and width are taken as they are"
    height, width = size_hw
    return (
        f"scale a w x h image by s = min({width} / w, {height} / h), place it at the top left of {width} x {height} px "
        f"of RGB {fill_colour(detector)}, divide the boxes by s"
    )


@torch.inference_mode()
def _compare(model: nn.Module, graph: bytes, samples: list[Tensor]) -> Check:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only: it warns of every shape that differs from the traced one
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    detections, differing, box_px, score = 0, 0, 0.0, 0.0
    for sample in samples:
        expected = [item.numpy() for item in model(sample)]
        actual = session.run(None, {"image": sample.numpy()})
        pairs = agreeing(expected, actual)
        n_largest = max(len(expected[0]), len(actual[0]))
        detections, differing = detections + n_largest, differing + n_largest - len(pairs)
        for i, j in pairs:
            box_px = max(box_px, _difference(expected[0][i], actual[0][j]))
            score = max(score, *(_difference(a[i], b[j]) for a, b in zip(expected[2:], actual[2:], strict=True)))
    return Check(len(samples), detections, differing, box_px, score)


def agreeing(expected: Sequence[Any], actual: Sequence[Any]) -> list[tuple[int, int]]:
    """Pairs (expected, actual) of detections of one class that agree within the tolerances, each used once.

    Both are boxes (N, 4), labels (N,), scores (N,), and masks (N, 1, H, W) or nothing. Equal scores may be in another
    order.
    """
    distance = np.abs(expected[0][:, None] - actual[0][None]).max(axis=2, initial=0.0)  # (N, M)
    near = (distance <= BOX_TOLERANCE_PX) & (np.abs(expected[2][:, None] - actual[2][None]) <= SCORE_TOLERANCE)
    distance[~(near & (expected[1][:, None] == actual[1][None]))] = np.inf
    pairs = []
    for i in range(len(distance)):
        j = int(distance[i].argmin()) if distance.shape[1] else -1
        if j < 0 or not np.isfinite(distance[i, j]):
            continue
        if all(_difference(a[i], b[j]) <= SCORE_TOLERANCE for a, b in zip(expected[3:], actual[3:], strict=True)):
            pairs.append((i, j))
        distance[:, j] = np.inf
    return pairs


def _difference(a: Any, b: Any) -> float:
    return float(np.abs(a.astype(np.float64) - b).max())


def _noise(height: int, width: int) -> Tensor:
    """(3, height, width) uint8."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


def _smooth_shapes(height: int, width: int) -> Tensor:
    """Smooth random shapes with some noise: large objects to detect, and few equal scores that leave the order open."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand((1, 3, 6, 10), generator=generator) * 255
    smooth = F.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)[0]
    return (0.9 * smooth + 0.1 * _noise(height, width)).to(torch.uint8)


def _to_chw(image: Rgb) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
