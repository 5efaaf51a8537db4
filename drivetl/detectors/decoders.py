"""From the outputs of an exported detector to boxes: one function per layout in use, for one image.

A decoder gets the outputs by name (numbers in float64), the layout, the number C of class outputs and the (height,
width) of the network's input. It returns boxes (N, 4) xyxy px of that input, scores (N,) and output numbers (N,) from
0. N is every candidate: thresholds and NMS come after it. It raises DataError for outputs of another form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from drivetl.detectors.onnx_layout import Layout
from drivetl.errors import DataError

Array = npt.NDArray[Any]
Outputs = Mapping[str, Array]

YOLOX_STRIDES = (8, 16, 32)
DENSE = ("ultralytics", "yolox")
"""Decoders whose candidates need NMS."""
ROLES = {
    "boxes": ("box", "det"),
    "scores": ("score", "conf"),
    "labels": ("label", "class", "cls"),
    "logits": ("logit", "score", "class", "cls", "label"),
}
"""What an output is for -> words in its name, the first that fits."""


class Candidates(NamedTuple):
    """What a network proposes in an image."""

    boxes: Array
    """(N, 4) xyxy px of the network's input."""
    scores: Array
    """(N,) 0..1."""
    numbers: Array
    """(N,) numbers of class outputs, from 0."""


def after_nms(outputs: Outputs, layout: Layout, n_classes: int, size_hw: tuple[int, int]) -> Candidates:
    """Outputs boxes (N, 4), scores (N,) and labels (N,), or one of (N, 6): box, score, label; each may have a first
    axis of 1. The box is in the form that the layout says."""
    if len(outputs) == 1:
        rows = _rows(next(iter(outputs.values())), 6, "(N, 6): box, score, label")
        boxes, scores, labels = rows[:, :4], rows[:, 4], rows[:, 5]
    else:
        boxes = _rows(_output(outputs, "boxes", layout), 4, "boxes (N, 4)")
        scores, labels = (_output(outputs, role, layout).reshape(-1) for role in ("scores", "labels"))
    if not len(boxes) == len(scores) == len(labels):
        raise DataError(f"{len(boxes)} boxes, {len(scores)} scores, {len(labels)} labels", remedy=_OTHER)
    if not np.isfinite(labels).all():
        raise DataError("labels contain NaN or infinity", remedy=_OTHER)
    boxes = _xyxy(boxes, layout.box_format)
    if layout.box_unit == "fraction":
        boxes = boxes * np.tile(size_hw[::-1], 2)
    return Candidates(boxes, scores, labels.astype(np.int64))


def ultralytics(outputs: Outputs, layout: Layout, n_classes: int, size_hw: tuple[int, int]) -> Candidates:
    """One output (1, 4 + C, N): centre x, centre y, width, height in px, and a score per class; the best one counts."""
    (table,) = _exactly(outputs, 1)
    if table.ndim != 3 or table.shape[:2] != (1, 4 + n_classes):
        raise DataError(f"its shape is {table.shape}, not (1, {4 + n_classes}, N)", remedy=_OTHER)
    rows = table[0].T  # (N, 4 + C)
    scores = _activated(rows[:, 4:], layout)
    best = scores.argmax(1)
    return Candidates(_xyxy(rows[:, :4], "cxcywh"), np.take_along_axis(scores, best[:, None], 1)[:, 0], best)


def detr(outputs: Outputs, layout: Layout, n_classes: int, size_hw: tuple[int, int]) -> Candidates:
    """Logits (1, Q, C) and boxes (1, Q, 4) as centre and size in fractions of the input.

    softmax: the best class of each query, after an additional last output, no object. Otherwise every pair of query and
    class is a candidate, as in Deformable DETR and its successors.
    """
    _exactly(outputs, 2)
    n_outputs = n_classes + (layout.activation == "softmax")
    boxes = _rows(_output(outputs, "boxes", layout), 4, "boxes (1, Q, 4)")
    logits = _rows(_output(outputs, "logits", layout), n_outputs, f"logits (1, Q, {n_outputs})")
    if len(boxes) != len(logits):
        raise DataError(f"{len(boxes)} boxes, {len(logits)} rows of logits", remedy=_OTHER)
    boxes = _xyxy(boxes, "cxcywh") * np.tile(size_hw[::-1], 2)
    scores = _activated(logits, layout)[:, :n_classes]
    if layout.activation == "softmax":
        best = scores.argmax(1)
        return Candidates(boxes, np.take_along_axis(scores, best[:, None], 1)[:, 0], best)
    query, number = np.divmod(np.arange(scores.size), n_classes)
    return Candidates(boxes[query], scores.reshape(-1), number)


def yolox(outputs: Outputs, layout: Layout, n_classes: int, size_hw: tuple[int, int]) -> Candidates:
    """One output (1, N, 5 + C) over grids of stride 8, 16 and 32, row by row (Ge et al. 2021, demo/ONNXRuntime).

    centre = (row[0:2] + cell) * stride, size = exp(row[2:4]) * stride, score = row[4] * row[5:]; the best class counts.
    """
    (table,) = _exactly(outputs, 1)
    cells, strides = _grid(size_hw)
    if table.shape != (1, len(cells), 5 + n_classes):
        raise DataError(f"its shape is {table.shape}, not (1, {len(cells)}, {5 + n_classes})", remedy=_OTHER)
    rows = _activated_rows(table[0], layout)
    centre = (rows[:, :2] + cells) * strides
    with np.errstate(over="ignore"):  # an overflow is infinite, which is told after the threshold
        size = np.exp(rows[:, 2:4]) * strides
    scores = rows[:, 4:5] * rows[:, 5:]
    best = scores.argmax(1)
    boxes = np.concatenate([centre - size / 2, centre + size / 2], 1)
    return Candidates(boxes, np.take_along_axis(scores, best[:, None], 1)[:, 0], best)


DECODERS: dict[str, Callable[[Outputs, Layout, int, tuple[int, int]], Candidates]] = {
    "boxes": after_nms,
    "ultralytics": ultralytics,
    "detr": detr,
    "yolox": yolox,
}
FORMS = {
    "boxes": "boxes (N, 4), scores (N), labels (N), or one output (N, 6)",
    "ultralytics": "(1, 4 + K, N)",
    "detr": "logits (1, Q, K), boxes (1, Q, 4)",
    "yolox": "(1, N, 5 + K) over grids",
}
"""Decoder -> the outputs that it takes."""

_OTHER = "choose another decoder, or correct classes and size"


def _grid(size_hw: tuple[int, int]) -> tuple[Array, Array]:
    """(N, 2) x, y of every cell of every grid, and (N, 1) their strides."""
    height, width = size_hw
    cells, strides = [], []
    for stride in YOLOX_STRIDES:
        y, x = np.mgrid[: height // stride, : width // stride]
        cells.append(np.stack([x.ravel(), y.ravel()], 1))
        strides.append(np.full((x.size, 1), stride))
    return np.concatenate(cells), np.concatenate(strides)


def _xyxy(boxes: Array, form: str) -> Array:
    first, second = boxes[:, :2], boxes[:, 2:]
    if form == "cxcywh":
        return np.concatenate([first - second / 2, first + second / 2], 1)
    return np.concatenate([first, first + second], 1) if form == "xywh" else boxes


def _activated(values: Array, layout: Layout) -> Array:
    """(N, C) scores of raw outputs."""
    if layout.activation == "sigmoid":
        values = 0.5 * (1 + np.tanh(0.5 * values))  # without overflow
    elif layout.activation == "softmax":
        powers = np.exp(values - values.max(1, keepdims=True))
        values = powers / powers.sum(1, keepdims=True)
    return values


def _activated_rows(rows: Array, layout: Layout) -> Array:
    """YOLOX's rows, whose objectness and class scores may lack their sigmoid."""
    return np.concatenate([rows[:, :4], _activated(rows[:, 4:], layout)], 1)


def _exactly(outputs: Outputs, count: int) -> list[Array]:
    if len(outputs) != count:
        raise DataError(f"{len(outputs)} outputs, the decoder takes {count}", remedy=_OTHER)
    return list(outputs.values())


def _rows(array: Array, columns: int, form: str) -> Array:
    """(N, columns) without a first axis of 1."""
    rows = array[0] if array.ndim == 3 and len(array) == 1 else array
    if rows.ndim != 2 or rows.shape[1] != columns:
        raise DataError(f"an output of {array.shape} is not {form}", remedy=_OTHER)
    return rows


def _output(outputs: Outputs, role: str, layout: Layout) -> Array:
    """The output for that role: as the layout names it, else by its name."""
    name = layout.outputs.get(role)
    if name is not None and name not in outputs:
        raise DataError(f"no output {name!r}", remedy="correct outputs in the layout file")
    if name is None:
        taken = set(layout.outputs.values())
        fitting = [[key for key in outputs if word in key.lower() and key not in taken] for word in ROLES[role]]
        name = next((names[0] for names in fitting if len(names) == 1), None)
    if name is None:
        raise DataError(f"no output is named like {role}", remedy=f"add outputs: {{{role}: NAME}} to the layout file")
    return outputs[name]
