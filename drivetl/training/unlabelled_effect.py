"""What training on footage without labels changed in it, as far as that can be seen without labels.

Detections per frame and class before and after, at the score of a pseudo-object, and the share of pseudo-objects that
are found again. Neither is a proof: more detections may be more objects or more inventions.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch

from drivetl import console
from drivetl.coco.records import Dataset
from drivetl.config import FinetuneConfig
from drivetl.metrics.match_store import match
from drivetl.metrics.operating import at_threshold, score_curve
from drivetl.models.checkpoint import load_detector
from drivetl.processes import Group
from drivetl.training.unlabelled import Pseudo, detect_all, per_class

EFFECT = "unlabelled.json"
"""The numbers, in the run."""
MOST_FRAMES = 200
"""At most this many frames are compared, spread evenly."""


def effect(pseudo: Pseudo, run: Path, config: FinetuneConfig, device: torch.device) -> dict[str, Any]:
    """The best checkpoint of a run against the pseudo-labels it was trained on, ready for JSON."""
    images = pseudo.dataset.images
    frames = pseudo.dataset.subset(images[:: max(1, -(-len(images) // MOST_FRAMES))])
    detector = load_detector(run, "best", str(device), config.runtime.precision)
    found = detect_all(detector, frames, config, Group(), "after, on data.unlabelled")
    threshold = config.data.pseudo_threshold
    store = match(_all_labelled(frames), found)
    before, n = per_class(frames), len(frames.images)
    after = np.bincount(found.category_id[found.scores >= threshold], minlength=len(before) + 1)[1:]
    rows = [
        {
            "name": name,
            "before": count / n,
            "after": float(after[number]) / n,
            "found_again": at_threshold(score_curve(store, number), threshold, n).recall,
            "n": count,
        }
        for number, (name, count) in enumerate(before.items())
    ]
    return {"frames": n, "of_frames": len(images), "threshold": threshold, "classes": rows}


def _all_labelled(frames: Dataset) -> Dataset:
    """The frames as if every class was labelled: detections of a class that the teacher does not know count too."""
    return dataclasses.replace(frames, images=[dataclasses.replace(image, labelled=None) for image in frames.images])


def show(document: dict[str, Any]) -> None:
    """Print the numbers, and what they do not say."""
    some, every = document["frames"], document["of_frames"]
    frames = f"{some} of {every} frames" if some < every else f"{every} frames"
    title = f"Detections per frame without labels, at score {document['threshold']:g}, {frames}"
    rows = [
        [row["name"], f"{row['before']:.2f}", f"{row['after']:.2f}", f"{100 * row['found_again']:.0f} % of {row['n']}"]
        if row["n"]
        else [row["name"], "0.00", f"{row['after']:.2f}", "-"]
        for row in document["classes"]
    ]
    console.table(title, ["class", "pseudo-labels", "after", "found again"], rows)
    console.say(
        "These counts prove nothing: AP above is of data.val, which shows a gain on the unlabelled footage only if it"
        " has labelled frames of the same kind"
    )
