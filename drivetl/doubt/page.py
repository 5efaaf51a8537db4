"""The page of `drivetl doubt`: every doubtful label as a crop with label and detection; no network, no script."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from drivetl import console
from drivetl.audit.thumbnails import crop_window
from drivetl.coco.records import Dataset, ImageRecord
from drivetl.doubt.find import Doubt, Found
from drivetl.doubt.kinds import KINDS, MEANINGS, OVERLOOKED
from drivetl.draw.objects import draw_objects, jpeg
from drivetl.draw.pages import render, style_sheet
from drivetl.draw.palette import ORANGE, SKY_BLUE, UNCOUNTED, css
from drivetl.errors import DataError
from drivetl.files.images import Rgb, read_rgb

LABEL, DETECTION = SKY_BLUE, ORANGE
SHOWN = 120
"""Doubts that the page shows; all are in doubt.csv."""
WORST_IMAGES = 12
_CROP_PX = 420


def html_page(dataset: Dataset, found: Found, document: Mapping[str, Any]) -> str:
    """The page of `write.document`. An image that cannot be read is shown as text."""
    doubts = found.beyond(document["thresholds"])
    shown = _first(doubts, SHOWN)
    records = {image.id: image for image in dataset.images}
    numbers = {id(row): rank for rank, row in enumerate(doubts, 1)}
    cards = [
        _card(dataset, records[row.image_id], row, numbers[id(row)])
        for row in console.track(shown, "drawing doubtful labels", unit="crops")
    ]
    classes = [name for name in dataset.categories if any(name in card["classes"] for card in cards)]
    groups: dict[str, str] = {}
    for card in cards:
        places = [classes.index(name) for name in card["classes"]]
        card["group"] = "-".join(["c", *map(str, places)])
        groups[card["group"]] = "body" + "".join(f":has(#c-{place}:not(:checked))" for place in places)
    return render(
        "doubt/doubt",
        style=style_sheet(),
        name=dataset.file.name if dataset.file else "",
        document=document,
        verdict=verdict(document),
        kinds=[(kind, worded(kind), MEANINGS[kind]) for kind in KINDS],
        overlooked=OVERLOOKED,
        classes=classes,
        groups=[{"name": name, "hides": selector} for name, selector in sorted(groups.items())],
        cards=cards,
        n_doubts=len(doubts),
        colours={"label": css(LABEL), "detection": css(DETECTION)},
        worst=[row for row in document["image_quality"] if row["quality"] < 1][:WORST_IMAGES],
        facts=_facts(document),
    )


def worded(kind: str) -> str:
    """`badly located`."""
    return kind.replace("_", " ")


def verdict(document: Mapping[str, Any]) -> str:
    """`41 of 2,345 labels are doubtful (12 swapped, 29 badly located), and 7 objects may lack one.`"""
    counts, labels = document["counts"], document["labels"]
    of_labels = [f"{counts[kind]:,} {worded(kind)}" for kind in KINDS if kind != OVERLOOKED]
    total = sum(counts[kind] for kind in KINDS if kind != OVERLOOKED)
    missing = counts[OVERLOOKED]
    objects = f"{missing:,} object{'' if missing == 1 else 's'} may lack a label"
    return f"{total:,} of {labels:,} labels are doubtful ({', '.join(of_labels)}), and {objects}."


def _first(doubts: Sequence[Doubt], limit: int) -> list[Doubt]:
    """The first `limit` doubts, but of each kind at least its share of the limit where it has that many."""
    share = limit // len(KINDS)
    kept = [row for kind in KINDS for row in [item for item in doubts if item.kind == kind][:share]]
    chosen = {id(row) for row in kept}
    rest = [row for row in doubts if id(row) not in chosen][: limit - len(kept)]
    chosen |= {id(row) for row in rest}
    return [row for row in doubts if id(row) in chosen]


def _card(dataset: Dataset, record: ImageRecord, row: Doubt, rank: int) -> dict[str, Any]:
    label, detected = (dataset.categories[number - 1] for number in (row.category_id, row.detected_id))
    try:
        image = _crop(read_rgb(dataset.images_root / record.file_name), record, row, label, detected)
        source = "data:image/jpeg;base64," + base64.b64encode(jpeg(image, quality=80)).decode()
    except DataError as error:
        source = ""
        console.warn(f"{record.file_name} cannot be drawn: {error.reason}")
    if row.kind == OVERLOOKED:
        says = f"no label, detected as {detected} {row.confidence:.2f}"
    elif label != detected:
        says = f"labelled {label}, detected as {detected} {row.confidence:.2f}"
    else:
        says = f"{label}, overlap with the detection (IoU) {row.iou:.2f}"
    return {
        "rank": rank,
        "kind": row.kind,
        "worded": worded(row.kind),
        "doubt": f"{row.doubt:.2f}",
        "says": says,
        "image": record.file_name,
        "annotation": row.annotation,
        "source": source,
        "classes": list(dict.fromkeys((label, detected))),
    }


def _crop(image: Rgb, record: ImageRecord, row: Doubt, label: str, detected: str) -> Rgb:
    """(H, W, 3) surroundings of a doubt: the label solid, the detection dashed, other labels thin and grey."""
    boxes = [row.detection_xyxy] + ([] if row.label_xyxy is None else [row.label_xyxy])
    around = np.array([*np.min([box[:2] for box in boxes], axis=0), *np.max([box[2:] for box in boxes], axis=0)])
    x, y, w, h = crop_window(around, image.shape[1], image.shape[0])
    shift, scale = np.array([x, y, x, y]), _CROP_PX / w
    others = [item.bbox_xywh for place, item in enumerate(record.annotations) if place != row.annotation]
    regions = [item.bbox_xywh for item in record.ignore_regions]
    crop = draw_objects(
        np.ascontiguousarray(image[y : y + h, x : x + w]),
        _xyxy(others) - shift,
        [""] * len(others),
        colours=[UNCOUNTED] * len(others),
        ignore_boxes=_xyxy(regions) - shift,
        width=_CROP_PX,
        show_labels=False,
    )
    if row.label_xyxy is not None:  # around the detection, which often has the same place
        grown = (np.array(row.label_xyxy) - shift) * scale + [-3, -3, 3, 3]
        crop = draw_objects(crop, [grown], [label], colours=[LABEL], show_labels=False)
    text = (
        f"{detected} {row.confidence:.2f}" if label == detected else f"{label} \u2192 {detected} {row.confidence:.2f}"
    )
    box = (np.array(row.detection_xyxy) - shift) * scale
    return draw_objects(crop, [box], [text], colours=[DETECTION], dashed=True)


def _xyxy(boxes: Sequence[Sequence[float]]) -> Any:
    """(N, 4) from N xywh."""
    corners = np.array(boxes, np.float64).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    return corners


def _facts(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    thresholds = ", ".join(f"{worded(kind)} from {value:g}" for kind, value in document["thresholds"].items())
    scored = ", ".join(f"{count:,} {worded(kind)}" for kind, count in document["scored"].items())
    skipped = ", ".join(f"{count:,} {reason}" for reason, count in document["not_scored"].items() if count)
    return [
        ("Detections", document["detections"]["in_words"]),
        ("Listed", thresholds),
        ("Scored", f"{scored}; overlooked: confident detections that no label explains"),
        ("Not scored", skipped or "nothing"),
    ]
