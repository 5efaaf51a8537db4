"""Frames with their detections: by class or by outcome, with track ids and masks, one model or two."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from drivetl.coco.boxes import xywh_to_xyxy
from drivetl.coco.masks import Mask, decode
from drivetl.draw import palette
from drivetl.draw.objects import draw_objects, titled
from drivetl.files.images import Rgb
from drivetl.prediction import outcomes
from drivetl.prediction.results import Found

OUTCOME_COLOURS = {
    outcomes.FOUND: palette.FOUND,
    outcomes.INVENTED: palette.INVENTED,
    outcomes.UNCOUNTED: palette.UNCOUNTED,
}
WIDEST = 16 / 9
"""Two frames are shown one above the other when they are wider than this, else next to each other."""


def annotated(image: Rgb, found: Found, categories: Sequence[str], outcome: outcomes.Outcome | None = None) -> Rgb:
    """(H, W, 3) copy of a frame with its detections, labelled with class, track id and score.

    Coloured by class, or, with an outcome, by what was found and invented; missed objects are then dashed, and ignore
    regions hatched.
    """
    detections, height, width = found.detections, *image.shape[:2]
    colours = None
    if outcome is not None:
        image = _with_labels(image, found, categories, outcome)
        colours = [OUTCOME_COLOURS[kind] for kind in outcome.kinds]
    else:
        of_class = palette.colours_of(categories)
        colours = [of_class[categories[int(label) - 1]] for label in detections.labels]
    masks: list[Mask | None] | None = None
    if detections.masks is not None:
        masks = [decode(rle, height, width) for rle in detections.masks]
    names = [categories[int(label) - 1] for label in detections.labels]
    if found.track_ids is not None:
        names = [f"{name} #{number}" for name, number in zip(names, found.track_ids.tolist(), strict=True)]
    return draw_objects(image, detections.boxes, names, detections.scores.tolist(), colours, masks)


def _with_labels(image: Rgb, found: Found, categories: Sequence[str], outcome: outcomes.Outcome) -> Rgb:
    regions = found.record.ignore_regions
    return draw_objects(
        image,
        outcome.missed_boxes,
        outcome.missed_labels.tolist(),
        colours=[palette.MISSED] * len(outcome.missed_labels),
        ignore_boxes=[xywh_to_xyxy(region.bbox_xywh) for region in regions],
        ignore_masks=[
            None if region.segmentation is None else decode(region.segmentation, *image.shape[:2]) for region in regions
        ],
        categories=categories,
        dashed=True,
    )


def together(frames: Sequence[Rgb], titles: Sequence[str]) -> Rgb:
    """One frame as it is; several of one size below their titles, next to each other or one above the other."""
    if len(frames) == 1:
        return frames[0]
    height, width = frames[0].shape[:2]
    return np.concatenate(
        [titled(frame, title) for frame, title in zip(frames, titles, strict=True)],
        axis=0 if width > WIDEST * height else 1,
    )
