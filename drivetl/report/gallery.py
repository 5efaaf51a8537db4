"""Pictures for a report: the image, the image in a condition, and what the detector made of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from drivetl.conditions import CLEAN, Cell
from drivetl.console import track
from drivetl.data.dataset import read_image
from drivetl.data.depth import read_depth
from drivetl.draw.objects import Colour, draw_objects, jpeg, resize_to_width
from drivetl.files.images import Rgb
from drivetl.metrics.match_store import MatchStore
from drivetl.metrics.truth import Bools, Floats
from drivetl.robustness.run import FinishedSweep
from drivetl.robustness.sweep import corrupted

WIDTH_PX = 720
FOUND: Colour = (64, 200, 120)
LOST: Colour = (255, 70, 90)
MISSED: Colour = (190, 190, 190)
FALSE: Colour = (255, 176, 32)
ROWS = 8


@dataclass(frozen=True)
class _Shot:
    """One row of the gallery: an image in a cell."""

    image_id: int
    cell: Cell


def make_gallery(swept: FinishedSweep, document: Mapping[str, Any], folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Draw the rows of the gallery, of the worst frames and of the most fragile objects into `folder` as JPEG.

    Returns `{"conditions": rows, "worst": rows}`; a row names its files: clean, condition, judged.
    """
    artist = _Artist(swept, document, folder)
    worst = [
        _Shot(row["image_id"], (row["condition"], row["severity"])) for row in document["road"]["worst_frames"][:6]
    ]
    shots = _shots(swept, document, artist)
    rows = {shot: artist.draw(shot) for shot in track(list(dict.fromkeys([*shots, *worst])), "pictures")}
    return {"conditions": [rows[shot] for shot in shots], "worst": [rows[shot] for shot in worst]}


class _Artist:
    """Draws shots; every cell is matched once."""

    def __init__(self, swept: FinishedSweep, document: Mapping[str, Any], folder: Path):
        self.swept, self.folder = swept, folder
        chosen = document["operating"]["thresholds"]
        self.thresholds: Floats = np.array(
            [np.inf if chosen[name] is None else chosen[name] for name in swept.truth.categories]
        )
        self.stores: dict[Cell, MatchStore] = {}
        self.records = {image.id: image for image in swept.dataset.images}
        self.found_clean = self.found(CLEAN)

    def store(self, cell: Cell) -> MatchStore:
        if cell not in self.stores:
            self.stores[cell] = self.swept.matched("run", cell)
        return self.stores[cell]

    def found(self, cell: Cell) -> Bools:
        return self.store(cell).detected_objects(self.thresholds)

    def lost_per_image(self, cell: Cell) -> Floats:
        """(I,) objects found on the clean image and not in the cell."""
        truth = self.swept.truth
        lost = self.found_clean & ~self.found(cell) & ~truth.crowd
        return np.bincount(truth.image[lost], minlength=len(truth.image_ids)).astype(np.float64)

    def draw(self, shot: _Shot) -> dict[str, Any]:
        """Three pictures of a shot and its counts."""
        record = self.records[shot.image_id]
        root = self.swept.dataset.images_root
        image = read_image(record, root)
        changed = corrupted(image, record, shot.cell, read_depth(record, root))
        clean, _ = self._judged(image, shot.image_id, CLEAN)
        judged, counts = self._judged(changed, shot.image_id, shot.cell)
        name = f"{shot.cell[0]}-{shot.cell[1]}-{shot.image_id}"
        pictures = {"clean": clean, "condition": resize_to_width(changed, WIDTH_PX), "judged": judged}
        files = {}
        for kind, picture in pictures.items():
            files[kind] = f"{name}-{kind}.jpg"
            (self.folder / files[kind]).write_bytes(jpeg(picture, quality=82))
        return {
            "image_id": shot.image_id,
            "file_name": record.file_name,
            "condition": shot.cell[0],
            "severity": shot.cell[1],
            "files": files,
            "size": [WIDTH_PX, int(pictures["condition"].shape[0])],
        } | counts

    def _judged(self, image: Rgb, image_id: int, cell: Cell) -> tuple[Rgb, dict[str, int]]:
        """The picture with truth found, newly missed and missed anyway, and false alarms."""
        store, truth = self.store(cell), self.swept.truth
        place = int(np.searchsorted(truth.image_ids, image_id))
        found = self.found(cell)
        tp, ignored = store.tp_and_ignored()
        alarm = (store.scores >= self.thresholds[store.category]) & ~tp & ~ignored & (store.image == place)
        here = (truth.image == place) & ~truth.crowd
        groups: Sequence[tuple[str, Floats, Sequence[int], Colour, bool]] = [
            (
                "missed",
                truth.boxes_xywh[here & ~found & ~self.found_clean],
                truth.category[here & ~found & ~self.found_clean].tolist(),
                MISSED,
                True,
            ),
            ("false", store.boxes_xywh[alarm], store.category[alarm].tolist(), FALSE, False),
            ("found", truth.boxes_xywh[here & found], truth.category[here & found].tolist(), FOUND, False),
            (
                "lost",
                truth.boxes_xywh[here & ~found & self.found_clean],
                truth.category[here & ~found & self.found_clean].tolist(),
                LOST,
                True,
            ),
        ]
        picture, counts = resize_to_width(image, WIDTH_PX), {}
        for kind, boxes, labels, colour, dashed in groups:
            counts[kind] = len(boxes)
            corners = boxes.copy()
            corners[:, 2:] += corners[:, :2]
            for grown in (0.0, 1.0):  # two pixels of line: the page shows the picture at half its size
                picture = draw_objects(
                    picture,
                    corners * (WIDTH_PX / image.shape[1]) + np.array([-grown, -grown, grown, grown]),
                    [label + 1 for label in labels],
                    colours=[colour] * len(labels),
                    categories=truth.categories,
                    dashed=dashed,
                    show_labels=False,
                )
        return picture, counts


def _shots(swept: FinishedSweep, document: Mapping[str, Any], artist: _Artist) -> list[_Shot]:
    """The conditions that cost most, each in the frame that loses most of those not shown yet."""
    severity = document["road"]["severity_shown"]
    names = document["headline"]["conditions"] or swept.conditions
    value = {row["condition"]: row["value"]["point"] for row in document["cells"] if row["severity"] == severity}
    names = sorted(names, key=lambda name: (value[name] is None, value[name] or 0.0, name))[:ROWS]
    shots: list[_Shot] = []
    used: set[int] = set()
    for name in names:
        lost = artist.lost_per_image((name, severity))
        for place in np.argsort(-lost, kind="stable").tolist():
            image_id = int(swept.truth.image_ids[place])
            if image_id not in used or len(used) == len(lost):
                used.add(image_id)
                shots.append(_Shot(image_id, (name, severity)))
                break
    return shots
