"""Detections in columns, read from any detector's COCO results."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as rle_tools

from drivetl.coco import masks, rules
from drivetl.coco.detections import Detections
from drivetl.coco.io import load_json_with_nan
from drivetl.coco.records import Box, Dataset, Segmentation
from drivetl.errors import DataError
from drivetl.files.arrays import numbers, read_npz
from drivetl.files.fields import whole
from drivetl.files.images import MAX_PIXELS
from drivetl.files.write import write_atomically
from drivetl.metrics.truth import Floats, GroundTruth, Ints, from_dataset


@dataclass(slots=True)
class Results:
    """N detections in their original order; ids as in the dataset. N may be 0."""

    image_id: Ints
    """(N,)"""
    category_id: Ints
    """(N,)"""
    boxes_xywh: Floats
    """(N, 4) px."""
    scores: Floats
    """(N,)"""
    segmentations: list[Segmentation | None] | None = None
    """N RLEs (or polygons), where the detector gives masks."""

    @classmethod
    def of(
        cls,
        image_id: npt.ArrayLike,
        category_id: npt.ArrayLike,
        boxes_xywh: npt.ArrayLike,
        scores: npt.ArrayLike,
        segmentations: list[Segmentation | None] | None = None,
    ) -> Results:
        """Columns of any numeric type, converted to int64 and float64.

        Raises DataError for columns of another shape or of different lengths, and for ids that are not whole.
        """
        columns = {
            "image_id": numbers(image_id, "image_id", ("N",), whole=True),
            "category_id": numbers(category_id, "category_id", ("N",), whole=True),
            "boxes_xywh": numbers(boxes_xywh, "boxes_xywh", ("N", 4)),
            "scores": numbers(scores, "scores", ("N",)),
        }
        lengths = {name: len(column) for name, column in columns.items()}
        lengths |= {} if segmentations is None else {"segmentations": len(segmentations)}
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"{count} {name}" for name, count in lengths.items())
            raise DataError(f"{listed}", remedy="pass one value of each for every detection")
        image, category = (columns[name].astype(np.int64, copy=False) for name in ("image_id", "category_id"))
        boxes, score = (columns[name].astype(np.float64, copy=False) for name in ("boxes_xywh", "scores"))
        return cls(image, category, boxes, score, segmentations)

    def __len__(self) -> int:
        return len(self.scores)

    def where(self, keep: npt.NDArray[Any]) -> Results:
        """The detections selected by a boolean mask or by indices."""
        rows = np.flatnonzero(keep) if keep.dtype == bool else keep
        chosen = None if self.segmentations is None else [self.segmentations[row] for row in rows]
        return Results(self.image_id[rows], self.category_id[rows], self.boxes_xywh[rows], self.scores[rows], chosen)


def concatenate(parts: Iterable[Results]) -> Results:
    """All detections of the parts in order; masks are kept if every part that is not empty has them."""
    parts = list(parts)
    if not parts:
        return Results.of([], [], [], [])
    have_masks = all(part.segmentations is not None for part in ([part for part in parts if len(part)] or parts))
    return Results(
        np.concatenate([part.image_id for part in parts]),
        np.concatenate([part.category_id for part in parts]),
        np.concatenate([part.boxes_xywh for part in parts]),
        np.concatenate([part.scores for part in parts]),
        [mask for part in parts for mask in part.segmentations or ()] if have_masks else None,
    )


def of_image(image_id: int, detections: Detections) -> Results:
    """One image's detections as columns, boxes converted from xyxy to xywh."""
    boxes = detections.boxes.astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    masks_of: list[Segmentation | None] | None = None if detections.masks is None else list(detections.masks)
    return Results.of(np.full(len(boxes), image_id), detections.labels, boxes, detections.scores, masks_of)


_COLUMNS = ("image_id", "category_id", "boxes_xywh", "scores")


def save_results(path: Path, results: Results) -> None:
    """Store boxes, classes, scores and masks losslessly, in a compressed file without pickle.

    Raises DataError for a polygon mask, which does not state the size of its image.
    """
    kept: dict[str, npt.NDArray[Any]] = {name: getattr(results, name) for name in _COLUMNS}
    if results.segmentations is not None:
        kept |= mask_columns(results.segmentations)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **kept)  # type: ignore[arg-type]
    write_atomically(path, buffer.getvalue())


def load_results(path: Path) -> Results:
    """Read what `save_results` wrote. Raises DataError for a missing or damaged file, or one over 2 GiB unpacked."""
    try:
        arrays = read_npz(path)
        image, category, boxes, scores = (arrays[name] for name in _COLUMNS)
        check_columns(boxes, scores, image, category)
        rles = masks_of_columns(arrays, len(image)) if "mask_hw" in arrays else None
        return Results.of(image, category, boxes, scores, rles)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"stored detections cannot be read ({error})", remedy="detect again", file=path) from None


def check_columns(boxes: npt.NDArray[Any], scores: npt.NDArray[Any], *integers: npt.NDArray[Any]) -> None:
    """Raises ValueError unless boxes are (N, 4) and scores (N,) floats, and the others (N,) integers, of one N."""
    if len({column.shape[:1] for column in (boxes, scores, *integers)}) != 1:
        raise ValueError("columns differ in length")
    if boxes.shape[1:] != (4,) or any(column.ndim != 1 for column in (scores, *integers)):
        raise ValueError("a column has another shape")
    if boxes.dtype.kind != "f" or scores.dtype.kind != "f" or any(column.dtype.kind not in "iu" for column in integers):
        raise ValueError("a column has another type")


def mask_columns(segmentations: Iterable[Segmentation | None]) -> dict[str, npt.NDArray[Any]]:
    """N RLEs as columns: `mask_hw` (N, 2), `mask_counts` (N,) bytes; a missing mask has size 0 x 0.

    Raises DataError for polygons.
    """
    sizes, counts = [], []
    for position, mask in enumerate(segmentations):
        if isinstance(mask, list):
            raise DataError(f"[{position}] is a polygon", remedy="store its mask as an RLE, which has a size")
        rle = None if mask is None else masks.to_rle(mask, *mask["size"])
        sizes.append([0, 0] if rle is None else rle["size"])
        counts.append(b"" if rle is None else rle["counts"])
    return {"mask_hw": np.array(sizes, np.int32).reshape(-1, 2), "mask_counts": np.array(counts, dtype=np.bytes_)}


def masks_of_columns(arrays: Mapping[str, npt.NDArray[Any]], n_detections: int) -> list[Any]:
    """The RLEs (counts as text) or None that `mask_columns` stored.

    Raises KeyError or ValueError unless there is one valid mask, or none, per detection.
    """
    sizes, counts = arrays["mask_hw"], arrays["mask_counts"]
    if sizes.shape != (n_detections, 2) or counts.shape != (n_detections,) or counts.dtype.kind != "S":
        raise ValueError("masks and boxes differ in number")
    rles: list[Any] = []
    for (height, width), text in zip(sizes.tolist(), counts.tolist(), strict=True):
        if not height and not width and not text:
            rles.append(None)
            continue
        rle = {"size": [height, width], "counts": text.decode("ascii")}
        problem = masks.problem(rle, height, width)
        if problem or not 0 < height * width <= MAX_PIXELS:
            raise ValueError(problem or f"a mask of {height} x {width} px")
        rles.append(rle)
    return rles


def from_records(records: Sequence[Mapping[str, Any]]) -> Results:
    """The columns of a COCO results list. A record with a mask and no box gets the mask's box.

    Raises DataError naming the position of an invalid record.
    """
    try:
        segmentations = [record.get("segmentation") for record in records]
        boxes: list[Any] = [record.get("bbox") for record in records]
        if type(None) in set(map(type, boxes)):
            boxes = [
                rle_tools.toBbox(_rle(record["segmentation"])) if box is None else box
                for box, record in zip(boxes, records, strict=True)
            ]
        return Results.of(
            _ids([record["image_id"] for record in records]),
            _ids([record["category_id"] for record in records]),
            _numbers(boxes, (len(boxes), 4)) if boxes else [],
            _numbers([record["score"] for record in records], (len(records),)),
            segmentations if any(segmentations) else None,
        )
    except (DataError, KeyError, TypeError, ValueError, AttributeError, OverflowError):
        rows = rules.each("", records, _detection)
        masks_of = [row[4] for row in rows]
        return Results.of(
            [row[0] for row in rows],
            [row[1] for row in rows],
            [row[2] for row in rows],
            [row[3] for row in rows],
            masks_of if any(masks_of) else None,
        )


def _ids(values: list[Any]) -> Ints:
    """(N,) integers. Raises DataError for another number, which a cast would truncate to another id."""
    ids = np.asarray(values)
    if ids.dtype.kind == "i" and ids.ndim == 1:
        return ids
    return np.array([whole(value, "id", texts=False) for value in values], np.int64)


def _numbers(rows: list[Any], shape: tuple[int, ...]) -> Floats:
    """Numbers of this shape. Raises ValueError for anything else."""
    numbers = np.asarray(rows)
    if numbers.dtype.kind not in "iuf" or numbers.shape != shape:
        raise ValueError("not numbers of that shape")
    return numbers.astype(np.float64, copy=False)


def _detection(record: object) -> tuple[int, int, Box, float, Segmentation | None]:
    """Image and category id, box, score and mask of a detection. NaN is left to `check_results`."""
    fields = rules.record(record)
    image_id, category_id = rules.integer_id(fields, "image_id"), rules.integer_id(fields, "category_id")
    mask = fields.get("segmentation")
    if fields.get("bbox") is None and mask is not None:
        box = rules.four_numbers(rle_tools.toBbox(_rle(mask)))
    else:
        box = rules.four_numbers(rules.required(fields, "bbox"))
    score = rules.required(fields, "score")
    return image_id, category_id, box, score if isinstance(score, float) else rules.score(score), mask


def _rle(segmentation: Segmentation) -> dict[str, Any]:
    """The compressed RLE of a mask without a box. Raises DataError when it is not usable."""
    if not isinstance(segmentation, dict):
        raise DataError("a mask without a box must be an RLE", remedy="write its bbox")
    shape = rules.shape_problem(segmentation)
    if shape is not None or len(segmentation["size"]) != 2:
        raise DataError(shape or "an RLE's size is not [height, width]", remedy=masks.REMEDY)
    height, width = (whole(side, "RLE size", texts=False) for side in segmentation["size"])
    problem = masks.problem(segmentation, height, width)
    if problem or not 0 < height * width <= MAX_PIXELS:
        raise DataError(problem or f"a mask of {height} x {width} px", remedy=masks.REMEDY)
    return masks.to_rle(segmentation, height, width)


def check_results(results: Results, truth: GroundTruth) -> None:
    """Check ids, scores and boxes against the truth.

    Raises DataError naming the first detection with an unknown image or class id, a score that is not finite, or a box
    that is not finite or has a negative size.
    """
    boxes = results.boxes_xywh
    unknown_image, unknown_category = (
        "image_id {} is not in the ground truth",
        "category_id {} is not in the ground truth",
    )
    problems: list[tuple[Any, Callable[[int], object]]] = [
        (
            ~np.isin(results.image_id, truth.image_ids),
            lambda row: _refuse(unknown_image.format(results.image_id[row]), "are these the results of another split?"),
        ),
        (
            ~np.isin(results.category_id, truth.category_ids),
            lambda row: _refuse(
                unknown_category.format(results.category_id[row]), f"its classes are: {_classes(truth)}"
            ),
        ),
        (~np.isfinite(results.scores), lambda row: rules.score(float(results.scores[row]))),
        (
            ~(np.abs(boxes) < rules.FAR_PX).all(axis=1) | (boxes[:, 2:] < 0).any(axis=1),
            lambda row: rules.box_xywh(boxes[row].tolist()),
        ),
    ]
    for wrong, refuse in problems:
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            more = f" (and {int(wrong.sum()) - 1} more)" if wrong.sum() > 1 else ""
            try:
                refuse(row)
            except DataError as error:
                raise DataError(f"[{row}]: {error.reason}{more}", remedy=error.remedy) from None


def _refuse(reason: str, remedy: str) -> None:
    raise DataError(reason, remedy=remedy)


def count_repeated(results: Results) -> int:
    """Number of exact duplicates: legitimate false positives, but more often a file that was concatenated twice."""
    rows = np.column_stack([results.image_id, results.category_id, results.boxes_xywh, results.scores])
    unique = np.unique(np.ascontiguousarray(rows).view([("", np.void, rows.itemsize * rows.shape[1])]))
    return len(rows) - len(unique)


def _classes(truth: GroundTruth) -> str:
    pairs = [f"{number} {name}" for number, name in zip(truth.category_ids, truth.categories, strict=True)]
    return ", ".join(pairs[:12]) + (", ..." if len(pairs) > 12 else "")


def read_coco_results(paths: Path | Sequence[Path], truth: GroundTruth | Dataset) -> Results:
    """Read one COCO results json, or several parts of one, checked against the truth.

    Raises DataError when a file is missing, is not a results list, is named twice, or has an invalid detection.
    """
    truth = from_dataset(truth) if isinstance(truth, Dataset) else truth
    parts, seen = [], dict[str, Path]()
    for path in [paths] if isinstance(paths, Path) else paths:
        document, _ = load_json_with_nan(path)
        if not isinstance(document, list):
            raise DataError(
                "not COCO results: the file must hold a list of detections",
                remedy="a ground truth goes to --gt",
                file=path,
            )
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if document and digest in seen:
            raise DataError(f"the same detections as {seen[digest]}", remedy="name each results file once", file=path)
        seen[digest] = path
        try:
            part = from_records(document)
            check_results(part, truth)
        except DataError as error:
            raise error.at(path) from None
        parts.append(part)
    return concatenate(parts)
