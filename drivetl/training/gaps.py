"""Gaps of one frame in pseudo-labels of footage whose frames follow each other.

What a detector finds in the frame before and in the frame after is hardly ever gone in between: it was missed there.
Where the frame has nothing of the class at that place, an ignore region covers it, so that a missed object is not
trained on as background. Frames are linked by overlap (`drivetl.coco.tracks`); an object that moves by more than that
between two frames is not linked, and nothing is filled.
"""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from statistics import median

import numpy as np
import numpy.typing as npt

from drivetl.coco.boxes import area, intersection, xywh_to_xyxy
from drivetl.coco.drives import Drives
from drivetl.coco.records import Dataset, IgnoreRegion, ImageRecord
from drivetl.coco.tracks import MIN_IOU, NO_TRACKS, Boxes, associate

FILLED = "fills_gap"
"""Attribute of the ignore regions that are added."""
FAR = 1.5
"""Frames further apart than this many times the drive's median distance do not follow each other."""


def fill_gaps(labelled: Dataset) -> Dataset:
    """The dataset with an ignore region for every object that is in the frames before and after and missing in one.

    Frames follow each other by `frame_index` in a drive; images without either are as they were. The region is of the
    object's class, at the box between the two, by their distance in time. The input is not changed.
    """
    images = list(labelled.images)
    for drive, places in Drives.of(images).places().items():
        known = [place for place in places if drive and images[place].frame_index is not None]
        for place, regions in _gaps([labelled.images[place] for place in known]).items():
            image = images[known[place]]
            images[known[place]] = dataclasses.replace(image, ignore_regions=image.ignore_regions + regions)
    return dataclasses.replace(labelled, images=images)


def n_filled(labelled: Dataset) -> int:
    """Number of ignore regions that `fill_gaps` added."""
    return sum(FILLED in region.attributes for image in labelled.images for region in image.ignore_regions)


def _gaps(drive: list[ImageRecord]) -> dict[int, list[IgnoreRegion]]:
    """Place of a frame of one drive -> regions of its gaps."""
    times = [image.frame_index or 0 for image in drive]
    order = sorted(range(len(drive)), key=lambda place: (times[place], drive[place].file_name))
    steps = [times[after] - times[before] for before, after in pairwise(order)]
    gaps: dict[int, list[IgnoreRegion]] = {}
    tracks, seen = NO_TRACKS, list[dict[int, int]]()  # of the frames in a row: track id -> row of its object
    for number, place in enumerate(order):
        if number and not 0 < steps[number - 1] <= FAR * median(steps):
            tracks, seen = NO_TRACKS, []
        boxes, labels = _objects(drive[place])
        tracks, ids = associate(tracks, boxes, labels, patience=1)
        seen.append({track: row for row, track in enumerate(ids.tolist())})
        if len(seen) < 3:
            continue
        before, missed = order[number - 2], order[number - 1]
        part = steps[number - 2] / (steps[number - 2] + steps[number - 1])
        for track in sorted((seen[-3].keys() & seen[-1].keys()) - seen[-2].keys()):
            first, last = _objects(drive[before])[0][seen[-3][track]], boxes[seen[-1][track]]
            between, category = (1 - part) * first + part * last, int(labels[seen[-1][track]])
            if not _is_taken(drive[missed], between, category):
                gaps.setdefault(missed, []).append(_region(between, category))
    return gaps


def _objects(image: ImageRecord) -> tuple[Boxes, npt.NDArray[np.int64]]:
    """((N, 4) xyxy px, (N,) category ids)."""
    boxes = [xywh_to_xyxy(item.bbox_xywh) for item in image.annotations]
    ids = [item.category_id for item in image.annotations]
    return np.array(boxes, np.float64).reshape(-1, 4), np.array(ids, np.int64)


def _is_taken(image: ImageRecord, box: Boxes, category: int) -> bool:
    """Whether an object or ignore region of the class, or one of all classes, is at the box (4,) already."""
    there = [item.bbox_xywh for item in image.annotations if item.category_id == category]
    there += [item.bbox_xywh for item in image.ignore_regions if not item.category_ids or category in item.category_ids]
    boxes = np.array([xywh_to_xyxy(item) for item in there], np.float64).reshape(-1, 4)
    shared = intersection(box[None], boxes)[0]
    return bool((shared >= MIN_IOU * (area(box[None]) + area(boxes) - shared)).any())


def _region(box: Boxes, category: int) -> IgnoreRegion:
    x1, y1, x2, y2 = (round(float(side), 2) for side in box)
    w, h = round(x2 - x1, 2), round(y2 - y1, 2)
    return IgnoreRegion((x1, y1, w, h), round(w * h, 2), (category,), None, {FILLED: True})
