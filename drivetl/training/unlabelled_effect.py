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
from drivetl.console.text import counted
from drivetl.metrics.match_store import match
from drivetl.metrics.operating import at_threshold, score_curve
from drivetl.models.checkpoint import load_detector
from drivetl.processes import Group
from drivetl.training.bands import per_class
from drivetl.training.unlabelled import Pseudo, detect_all

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
    before, n = per_class(frames), len(frames.images)
    least = np.array([pseudo.threshold(name, config.data.pseudo_threshold) for name in before])
    store = match(_all_labelled(frames), found)
    sure = found.scores >= least[found.category_id - 1]
    after = np.bincount(found.category_id[sure], minlength=len(before) + 1)[1:]
    rows = [
        {
            "name": name,
            "threshold": float(least[number]),
            "before": count / n,
            "after": float(after[number]) / n,
            "found_again": at_threshold(score_curve(store, number), least[number], n).recall,
            "n": count,
        }
        for number, (name, count) in enumerate(before.items())
    ]
    return {"frames": n, "of_frames": len(images), "classes": rows}


def _all_labelled(frames: Dataset) -> Dataset:
    """The frames as if every class was labelled: detections of a class that the teacher does not know count too."""
    return dataclasses.replace(frames, images=[dataclasses.replace(image, labelled=None) for image in frames.images])


def show(document: dict[str, Any], has_verdict: bool, compares: bool) -> None:
    """Print the numbers, and what they do not say. has_verdict: the run was compared with its start; compares: the same
    training without the footage follows."""
    some, every = document["frames"], document["of_frames"]
    frames = f"{some} of {every} frames" if some < every else counted(every, "frame")
    title = f"Detections per frame without labels, {frames}"
    rows = []
    for row in document["classes"]:
        again = f"{100 * row['found_again']:.0f} % of {row['n']}" if row["n"] else "-"
        rows.append([row["name"], f"{row['threshold']:.3g}", f"{row['before']:.2f}", f"{row['after']:.2f}", again])
    console.table(title, ["class", "from score", "pseudo-labels", "after", "found again"], rows)
    compared = "This run is compared with its start" if has_verdict else "This run is compared with nothing; its AP is"
    console.say(
        f"These counts prove nothing. {compared} on data.val, which shows a gain on the footage only if it has labelled"
        " frames of the same kind",
        "What the footage added is not known yet: the same training without it follows, and the comparison of the two"
        if compares
        else "The same training without the footage was not run, so what the footage added is not known: the last two"
        " commands below run it and compare the two, paired",
    )
