"""Checks of the dataset as a whole: classes, frames without objects, sequences."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

import numpy as np

from drivetl.audit.findings import Finding, about_images, about_records
from drivetl.audit.tables import Ints, Tables

RARE = 50
"""Objects below which a class is neither learnt nor measured: its AP moves by points with single objects."""
FULL = 5
"""Objects in the frames before and after from which an empty frame is suspicious."""
IMBALANCE = 100
"""Most frequent over least frequent class."""


def objects_per_class(tables: Tables) -> dict[str, int]:
    """Objects of each listed category, by id; ignore regions do not count."""
    counts = Counter(tables.category_ids[tables.objects()].tolist())
    return {tables.names[number]: counts[number] for number in sorted(tables.names)}


def objects_per_image(tables: Tables) -> Ints:
    """(I,) objects of each image."""
    rows = tables.image_rows[tables.objects()]
    return np.asarray(np.bincount(rows, minlength=len(tables.image_records)), np.int64)


def check_classes(tables: Tables) -> list[Finding]:
    """Classes that never occur, hardly occur, or drown among the others."""
    counts = objects_per_class(tables)
    if not counts:
        return []
    findings = about_records(
        [f"{name}: no object" for name, count in counts.items() if count == 0],
        len(counts),
        "classes",
        "class-empty",
        "warning",
        "Classes without a single object",
        "drop them from the taxonomy, or add footage: they have no AP and pull the mean",
    )
    findings += about_records(
        [f"{name}: {count} objects" for name, count in counts.items() if 0 < count < RARE],
        len(counts),
        "classes",
        "class-rare",
        "warning",
        f"Classes with fewer than {RARE} objects",
        "merge them with a related class or add footage; read their AP with its interval",
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
            f"The most frequent class is more than {IMBALANCE} times the rarest",
            "let training draw frames with rare classes more often; read AP per class, not the mean alone",
        )
    return findings


def check_empty_images(tables: Tables) -> list[Finding]:
    """Images without objects: normal samples, unless they are most of the data or all of it."""
    if not tables.image_records:
        return about_records(
            ["`images` is empty"],
            1,
            "datasets",
            "no-images",
            "error",
            "The dataset holds no image",
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
        "Images without an object" if share < 1 else "No image has an object",
        (
            "fine when nothing is there; look whether labels were lost"
            if share <= 0.5
            else "check that label files and images carry the same names"
        ),
    )


def in_order(tables: Tables, rows: Iterable[int]) -> list[int]:
    """Those of the images that have a sequence, drive by drive in the order of their frames."""
    return sorted(
        (row for row in rows if tables.sequences[row]),
        key=lambda row: (tables.sequences[row], tables.frame_indices[row] or 0, tables.file_names[row]),
    )


def check_suddenly_empty(tables: Tables) -> list[Finding]:
    """Images without objects between two full ones: traffic seldom vanishes for one frame, labels do."""
    counts, names = objects_per_image(tables), tables.sequences
    ordered = in_order(tables, range(len(names)))
    found = [
        row
        for before, row, after in zip(ordered, ordered[1:], ordered[2:], strict=False)
        if counts[row] == 0
        and min(counts[before], counts[after]) >= FULL
        and names[before] == names[row] == names[after]
    ]
    return about_images(
        tables,
        sorted(found),
        "image-suddenly-empty",
        "note",
        f"Images without an object between two frames of {FULL} and more",
        "look at the pictures: if their labels were lost, label them or leave them out - as they are, "
        "they teach that vehicles are background",
    )


def check_sequences(tables: Tables) -> list[Finding]:
    """Whether frames know their drive: without it no split can keep neighbours apart."""
    named = [row for row, name in enumerate(tables.sequences) if name]
    if not named:
        return about_images(
            tables,
            range(len(tables.image_records)),
            "sequence-missing",
            "warning",
            "No image says which drive it belongs to",
            "convert with --sequence-from or --mapping-dir: a random split of footage tests on its neighbours",
        )
    sizes = Counter(tables.sequences[row] for row in named)
    single = [row for row in named if sizes[tables.sequences[row]] == 1]
    findings = about_images(
        tables,
        single,
        "sequence-single",
        "note",
        "Frames that are the only one of their sequence",
        "if all are, the sequence is probably the frame's own name: check --sequence-from",
        lambda row: f"sequence {tables.sequences[row]!r}",
    )
    without = [row for row, name in enumerate(tables.sequences) if not name]
    findings += about_images(
        tables,
        without,
        "sequence-partly-missing",
        "warning",
        "Images without a sequence, where others have one",
        "name their drive: the split takes each of them for a drive of its own",
    )
    places = defaultdict(list)
    for row in named:
        if tables.frame_indices[row] is not None:
            places[tables.sequences[row], tables.frame_indices[row]].append(row)
    return findings + about_images(
        tables,
        [row for rows in places.values() for row in rows[1:]],
        "frame-repeated",
        "warning",
        "Frames that share sequence and frame_index with another image",
        "two cameras of one drive need two sequences; otherwise a frame was exported twice",
        lambda row: f"sequence {tables.sequences[row]!r}, frame {tables.frame_indices[row]}",
    )
