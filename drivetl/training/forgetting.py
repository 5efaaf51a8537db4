"""The forgetting ledger: AP lost on the old domain by adapting, for every class of the source.

A class of the source continues in the target classes that surgery made from its rows alone (`kept`); a detection of
any of them counts for it. A class that no target class was made from, or that was merged with others, is gone: it has
no value after adapting, which is not the same as 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from drivetl import console
from drivetl.coco.class_map import fold
from drivetl.coco.drives import drives_in_words
from drivetl.coco.io import read_dataset
from drivetl.coco.records import Dataset
from drivetl.console.text import counted
from drivetl.errors import ConfigError, DataError
from drivetl.metrics import coco_ap
from drivetl.metrics.extra_metrics import plain_values
from drivetl.metrics.match_store import match
from drivetl.metrics.relabel import relabelled
from drivetl.metrics.results import Results
from drivetl.metrics.statistics import draw_weights, few_drives, no_intervals, percentile_interval
from drivetl.metrics.truth import Floats
from drivetl.models.checkpoint import load_detector
from drivetl.models.detector import Detector
from drivetl.models.source import load_source_detector
from drivetl.processes import Group
from drivetl.training.prepare import Prepared
from drivetl.training.separate import copies, image_files
from drivetl.training.validate import validate, validation_loader

DRAWS = 1000


@dataclass(frozen=True)
class OldDomain:
    """Data of the source's domain, and how the labels of the two detectors map to its classes."""

    path: Path
    dataset: Dataset
    names: tuple[str, ...]
    """The source's classes that the old data labels, in the data's order."""
    left_out: tuple[str, ...]
    """Classes of the old data that the source does not have."""
    before: dict[int, int]
    """Label of the source -> category id of the old data."""
    after: dict[int, int]
    """Label of the adapted detector -> category id of the old data."""


def old_domain(path: Path, prepared: Prepared) -> OldDomain:
    """Relate the old data to source and target by class names and the surgery's plan, before training.

    Raises ConfigError when the source is not a detector or shares no class with the data, CheckpointError when it
    cannot be rebuilt, DataError when the data has no images or a file is missing. Warns of images that are trained on.
    """
    dataset = read_dataset(path)
    if not dataset.images:
        raise DataError("no images in it", remedy="give data of the source's own domain", file=path)
    missing = next((image for image in dataset.images if not (dataset.images_root / image.file_name).is_file()), None)
    if missing is not None:
        raise DataError(f"{missing.file_name} is missing", remedy="restore it, or remove it from the json", file=path)
    shared = copies(image_files(dataset), image_files(prepared.train))
    if shared:
        console.warn(
            f"--source-data has images of data.train: {len(shared)} of {len(dataset.images)}, first"
            f" {next(iter(shared))}. More is forgotten than AP on them shows - leave them out of either"
        )
    plan = prepared.surgery.get("classes")
    if not plan:
        raise ConfigError(
            f"--source-data needs a detector to start from, model.start is {prepared.start}",
            remedy="leave --source-data out",
        )
    source = [fold(name) for name in prepared.surgery["source_classes"]]
    before = {
        source.index(fold(name)) + 1: number
        for number, name in enumerate(dataset.categories, 1)
        if fold(name) in source
    }
    if not before:
        raise ConfigError(
            f"{len(dataset.images)} images with classes {', '.join(dataset.categories)}, none of which is a class of"
            f" the source: {', '.join(prepared.surgery['source_classes'])}",
            remedy="give data of the source's own classes",
            file=path,
        )
    model = prepared.config.model
    load_source_detector(model.start, prepared.spec, "cpu", prepared.config.runtime.precision)
    after = {
        label: before[row["rows"][0]]
        for label, row in enumerate(plan)
        if label and row["status"] == "kept" and row["rows"][0] in before
    }
    known = set(before.values())
    names = tuple(name for number, name in enumerate(dataset.categories, 1) if number in known)
    left_out = tuple(name for number, name in enumerate(dataset.categories, 1) if number not in known)
    return OldDomain(path, dataset, names, left_out, before, after)


def ledger(old: OldDomain, before: Results, after: Results, classes: Sequence[str]) -> dict[str, Any]:
    """AP on the old domain before and after, per class of the source, with paired intervals where drives suffice.

    classes: of the adapted detector, in label order. Ready for JSON (forgetting.json): null is "not measured".
    """
    stores = [match(old.dataset, relabelled(*pair)) for pair in ((before, old.before), (after, old.after))]
    units, drives = stores[0].units(), stores[0].truth.drives
    weights = np.vstack([np.ones(len(units)), draw_weights(units, DRAWS)])
    first, second = (coco_ap.class_ap(store, None, weights) for store in stores)  # (1 + B, K)
    ids = [old.dataset.categories.index(name) for name in old.names]
    gone = np.array([number + 1 not in old.after.values() for number in ids])
    counts = stores[0].truth.counts()
    rows = []
    for name, number, is_gone in zip(old.names, ids, gone, strict=True):
        ap_before, ap_after = first[:, number], np.full(len(weights), np.nan) if is_gone else second[:, number]
        counterpart = [classes[label - 1] for label, to in old.after.items() if to == number + 1]
        rows.append({"name": name, "n": int(counts[number]), "counterpart": counterpart} | _change(ap_before, ap_after))
    kept = [number for number, is_gone in zip(ids, gone, strict=True) if not is_gone and counts[number]]
    means = [coco_ap.mean_over_classes(ap[:, kept]) for ap in (first, second)]
    mean = _change(means[0], means[1]) if kept else None
    document = {
        "metric": "AP",
        "data": str(old.path),
        "images": len(old.dataset.images),
        "drives": drives.n_drives,
        "draws": DRAWS,
        "warning": no_intervals(drives) or few_drives(drives),
        "classes": rows,
        "mean": mean,
        "left_out": list(old.left_out),
    }
    plain: dict[str, Any] = plain_values(document)
    return plain


def _change(before: Floats, after: Floats) -> dict[str, Any]:
    """(1 + B,) columns, first the measured value, then the draws -> before, after and their difference, with
    intervals."""
    columns = {"before": before, "after": after, "delta": after - before}
    intervals = {name: percentile_interval(column[1:], float(column[0])) for name, column in columns.items()}
    return {name: {"point": item.point, "low": item.low, "high": item.high} for name, item in intervals.items()}


def measure(old: OldDomain, prepared: Prepared, run: Path, batch_size: int, device: torch.device) -> dict[str, Any]:
    """The ledger of the source and the best checkpoint, both run on the old domain."""
    model, precision = prepared.config.model, prepared.config.runtime.precision
    source = load_source_detector(model.start, prepared.spec, str(device), precision)
    adapted = load_detector(run, "best", str(device), precision)
    before = _detect(source, old, batch_size, "source")
    after = _detect(adapted, old, batch_size, "adapted")
    return ledger(old, before, after, adapted.categories)


def _detect(detector: Detector, old: OldDomain, batch_size: int, title: str) -> Results:
    loader = validation_loader(old.dataset, batch_size, 0, detector.device, Group(), 0.0)
    with console.progress_bar() as bar:
        task = bar.add_task(f"{title} on {old.path.name}", total=len(loader), note="")
        return validate(detector.model, loader, detector.device, detector.precision, Group(), lambda: bar.advance(task))


def show(document: dict[str, Any]) -> None:
    """Print the ledger."""
    images = f"{counted(document['images'], 'image')} of {drives_in_words(document['drives'])}"
    title = f"Forgetting: AP on {document['data']}, {images}"
    console.table(title, ["class", "n", "now", "before", "after", "change (95 %)"], lines(document))
    for remark in remarks(document):
        console.say(remark)


def remarks(document: dict[str, Any]) -> list[str]:
    """Remarks on the numbers: classes left out, intervals that are too narrow."""
    left_out = ", ".join(document["left_out"])
    texts = [f"labelled in this data, but not classes of the source: {left_out}"] if left_out else []
    return texts + ([document["warning"]] if document["warning"] else [])


def lines(document: dict[str, Any]) -> list[list[str]]:
    """A row of text per class, and one for the mean over the classes that are kept."""
    rows = [
        [row["name"], str(row["n"]), ", ".join(row["counterpart"]) or "gone", *_values(row)]
        for row in document["classes"]
    ]
    return rows + ([["mean of kept classes", "", "", *_values(document["mean"])]] if document["mean"] else [])


def _values(row: dict[str, Any]) -> list[str]:
    before, after, delta = row["before"], row["after"], row["delta"]
    text = [_number(before["point"]), _number(after["point"]) if row.get("counterpart", True) else "gone"]
    if delta["point"] is None:
        return [*text, "-"]
    interval = "" if delta["low"] is None else f" ({delta['low']:+.3f} to {delta['high']:+.3f})"
    return [*text, f"{delta['point']:+.3f}{interval}"]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
