"""Checks of the dataset as a whole: classes, frames without objects, drives."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

import numpy as np

from drivetl.audit.findings import Finding, about_images, about_records
from drivetl.audit.tables import Ints, Tables
from drivetl.coco.drives import Drives

RARE = 50
"""With fewer objects a class cannot be trained or evaluated reliably: a single object shifts its AP by points."""
FULL = 5
"""An empty frame is suspicious if the frames before and after have at least this many objects."""
IMBALANCE = 100
"""Ratio of the most to the least frequent class."""


def objects_per_class(tables: Tables) -> dict[str, int]:
    """Number of objects of each category, ordered by category id; ignore regions do not count."""
    counts = Counter(tables.category_ids[tables.objects()].tolist())
    return {tables.names[number]: counts[number] for number in sorted(tables.names)}


def objects_per_image(tables: Tables) -> Ints:
    """(I,) number of objects in each image."""
    rows = tables.image_rows[tables.objects()]
    return np.asarray(np.bincount(rows, minlength=len(tables.image_records)), np.int64)


def check_classes(tables: Tables) -> list[Finding]:
    """Empty classes, rare classes and class imbalance."""
    counts = objects_per_class(tables)
    if not counts:
        return []
    findings = about_records(
        [f"{name}: no objects" for name, count in counts.items() if count == 0],
        len(counts),
        "classes",
        "class-empty",
        "warning",
        "Classes without objects",
        "remove them from the taxonomy, or add data: their AP is undefined",
    )
    findings += about_records(
        [f"{name}: {count} objects" for name, count in counts.items() if 0 < count < RARE],
        len(counts),
        "classes",
        "class-rare",
        "warning",
        f"Classes with fewer than {RARE} objects",
        "merge them with a related class, or add data; their AP has a wide confidence interval",
    )
    present = {name: count for name, count in counts.items() if count}
    if present and max(present.values()) > IMBALANCE * min(present.values()):
        most, least = max(present, key=present.__getitem__), min(present, key=present.__getitem__)
        findings += about_records(
            [f"{most}: {present[most]}, {least}: {present[least]} ({present[most] / present[least]:.0f} : 1)"],
            len(counts),
            "classes",
            "class-imbalance",
            "note",
            f"Class imbalance above {IMBALANCE}:1",
            "oversample frames with rare classes in training; compare AP per class, not only the mean",
        )
    return findings


def check_empty_images(tables: Tables) -> list[Finding]:
    """Images without objects. They are normal samples, unless most or all images are empty."""
    if not tables.image_records:
        return about_records(
            ["`images` is empty"],
            1,
            "datasets",
            "no-images",
            "error",
            "The dataset has no images",
            "check the source folder and the split",
        )
    counts = objects_per_image(tables)
    empty = np.flatnonzero(counts == 0)
    share = len(empty) / len(counts)
    severity = "error" if share == 1 else "warning" if share > 0.5 else "note"
    return about_images(
        tables,
        empty,
        "image-empty",
        severity,  # type: ignore[arg-type]
        "Images without objects" if share < 1 else "No image has objects",
        (
            "valid if nothing is visible; check that no labels were lost"
            if share <= 0.5
            else "check that label files and image files have the same names"
        ),
    )


def in_order(tables: Tables, rows: Iterable[int]) -> list[int]:
    """The rows of images whose drive is known, ordered by drive and frame."""
    return sorted(
        (row for row in rows if tables.drives[row]),
        key=lambda row: (tables.drives[row], tables.frame_indices[row] or 0, tables.file_names[row]),
    )


def check_suddenly_empty(tables: Tables) -> list[Finding]:
    """Empty images between two images with many objects: more likely lost labels than an empty street."""
    counts, names = objects_per_image(tables), tables.drives
    ordered = in_order(tables, range(len(names)))
    suspicious = [
        row
        for before, row, after in zip(ordered, ordered[1:], ordered[2:], strict=False)
        if counts[row] == 0
        and min(counts[before], counts[after]) >= FULL
        and names[before] == names[row] == names[after]
    ]
    return about_images(
        tables,
        sorted(suspicious),
        "image-suddenly-empty",
        "note",
        f"Images without objects between two frames with {FULL} or more",
        "check the example images: if labels were lost, label or remove the images - otherwise training "
        "treats their vehicles as background",
    )


def check_drives(tables: Tables) -> list[Finding]:
    """Drive and frame index of the images: a split needs them to keep a drive on one side. Unknown drives are
    findings."""
    places = Drives(tuple(tables.drives)).places()
    without = places.pop("", [])
    if not places:
        return about_images(
            tables,
            range(len(tables.image_records)),
            "sequence-missing",
            "warning",
            "No image has a drive (`sequence`)",
            "convert with --sequence-from or --mapping-dir: a random split puts near-identical frames in train and val",
        )
    single = sorted(rows[0] for rows in places.values() if len(rows) == 1)
    findings = about_images(
        tables,
        single,
        "sequence-single",
        "note",
        "Images in a drive of only one frame",
        "if this affects all frames, the drive is probably taken from the frame name: check --sequence-from",
        lambda row: f"drive {tables.drives[row]!r}",
    )
    findings += about_images(
        tables,
        without,
        "sequence-partly-missing",
        "warning",
        "Images without a drive, although others have one",
        "set their `sequence`: the split treats each of them as a separate drive",
    )
    rows_of_frame = defaultdict(list)
    for row, drive in enumerate(tables.drives):
        if drive and tables.frame_indices[row] is not None:
            rows_of_frame[drive, tables.frame_indices[row]].append(row)
    return findings + about_images(
        tables,
        [row for rows in rows_of_frame.values() for row in rows[1:]],
        "frame-repeated",
        "warning",
        "Images with the same drive and frame_index as another image",
        "use a separate `sequence` for each camera of a drive; otherwise a frame was exported twice",
        lambda row: f"drive {tables.drives[row]!r}, frame {tables.frame_indices[row]}",
    )
