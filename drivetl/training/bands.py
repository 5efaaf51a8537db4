"""From detections to pseudo-labels: what is an object, what an ignore region, and how many objects a frame may have."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping

import numpy as np

from drivetl import console
from drivetl.coco.records import Annotation, Dataset, IgnoreRegion
from drivetl.files.runs import PSEUDO
from drivetl.metrics.results import Results


def with_bands(
    frames: Dataset, found: Results, thresholds: tuple[float, float], of_class: Mapping[int, float] | None = None
) -> Dataset:
    """The frames with the detections as labels, best first: objects from thresholds[0] on, or from that of their class,
    ignore regions of their class from thresholds[1] on. Scores are in the attributes. Labels that the frames had are
    gone."""
    sure, unsure = thresholds
    order = np.lexsort((np.arange(len(found)), -found.scores))
    rows: dict[int, list[int]] = {image.id: [] for image in frames.images}
    for row in order.tolist():
        rows[int(found.image_id[row])].append(row)
    images = []
    for image in frames.images:
        objects, regions = [], []
        for row in rows[image.id]:
            x, y, w, h = (round(float(side), 2) for side in found.boxes_xywh[row])
            category, score = int(found.category_id[row]), round(float(found.scores[row]), 4)
            if found.scores[row] >= (of_class or {}).get(category, sure):
                objects.append(Annotation(category, (x, y, w, h), round(w * h, 2), None, {"score": score}))
            elif found.scores[row] >= unsure:
                regions.append(IgnoreRegion((x, y, w, h), round(w * h, 2), (category,), None, {"score": score}))
        images.append(dataclasses.replace(image, annotations=objects, ignore_regions=regions, labelled=None, extra={}))
    return dataclasses.replace(frames, images=images, info={"source": "pseudo-labels"})


def without_masks(dataset: Dataset) -> Dataset:
    """The boxes alone."""
    images = [
        dataclasses.replace(
            image, annotations=[dataclasses.replace(item, segmentation=None) for item in image.annotations]
        )
        for image in dataset.images
    ]
    return dataclasses.replace(dataset, images=images)


def most_objects(labelled: Dataset) -> int:
    """The number of objects of the labelled image that has most, at least 1."""
    return max([1, *(len(image.annotations) for image in labelled.images)])


def capped(pseudo: Dataset, most: int) -> Dataset:
    """At most `most` objects an image: those of the lowest scores beyond it become ignore regions. Warns of it."""
    images, over = [], []
    for image in pseudo.images:
        objects = sorted(image.annotations, key=lambda item: -float(item.attributes.get("score", 1.0)))
        if len(objects) > most:
            over.append(len(objects))
            regions = [
                IgnoreRegion(item.bbox_xywh, item.area, (item.category_id,), None, item.attributes)
                for item in objects[most:]
            ]
            image = dataclasses.replace(
                image, annotations=objects[:most], ignore_regions=image.ignore_regions + regions
            )
        images.append(image)
    if over:
        console.warn(
            f"{len(over)} of {len(images)} unlabelled frames have more than {most} pseudo-objects (up to {max(over)}),"
            f" and no labelled image of data.train has more: those of lower scores become ignore regions. Either these"
            f" scenes are busier, or the teacher invents objects: look at {PSEUDO}, and raise data.pseudo_threshold"
        )
    return dataclasses.replace(pseudo, images=images)


def per_class(dataset: Dataset) -> dict[str, int]:
    """Class -> number of objects."""
    counts = Counter(item.category_id for image in dataset.images for item in image.annotations)
    return {name: counts[number] for number, name in enumerate(dataset.categories, 1)}
