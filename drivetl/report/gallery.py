"""Images for a report: the clean image, the image under a condition, and the detections on both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from drivetl.conditions import CLEAN, Cell
from drivetl.console import track
from drivetl.data.dataset import read_image
from drivetl.data.depth import read_depth
from drivetl.data.vehicles import vehicle_boxes
from drivetl.draw.objects import draw_objects, jpeg, resize_to_width
from drivetl.draw.palette import FOUND, INVENTED, MISSED, UNCOUNTED, Colour
from drivetl.files.images import Rgb
from drivetl.metrics.match_store import MatchStore
from drivetl.metrics.truth import Bools, Floats, Ints
from drivetl.robustness.run import FinishedSweep
from drivetl.robustness.sweep import corrupted

WIDTH_PX = 720
ROWS, WORST_ROWS = 8, 6


@dataclass(frozen=True)
class _Example:
    """One row of the gallery: an image in a cell."""

    image_id: int
    cell: Cell


def make_gallery(swept: FinishedSweep, document: Mapping[str, Any], folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Draw the rows of the gallery, of the worst frames and of the most fragile objects into `folder` as JPEG.

    Returns `{"conditions": rows, "worst": rows}`; a row names its files: clean, condition, judged.
    """
    artist = _Artist(swept, document, folder)
    examples = _choose_examples(swept, document, artist)
    frames = document["road"]["worst_frames"]
    worst = [_Example(row["image_id"], (row["condition"], row["severity"])) for row in frames]
    worst = [example for example in worst if example not in examples][:WORST_ROWS]
    rows = {example: artist.draw(example) for example in track([*examples, *worst], "images")}
    return {"conditions": [rows[example] for example in examples], "worst": [rows[example] for example in worst]}


class _Artist:
    """Draws examples; every cell is matched only once."""

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

    def draw(self, example: _Example) -> dict[str, Any]:
        """Write the three images of an example; its row of the gallery."""
        record = self.records[example.image_id]
        root = self.swept.dataset.images_root
        image = read_image(record, root)
        vehicles = vehicle_boxes(record, self.swept.dataset.categories)
        changed = corrupted(image, record, example.cell, read_depth(record, root), vehicles)
        clean, _ = self._evaluated(image, example.image_id, CLEAN)
        evaluated, counts = self._evaluated(changed, example.image_id, example.cell)
        name = f"{example.cell[0]}-{example.cell[1]}-{example.image_id}"
        images = {"clean": clean, "condition": resize_to_width(changed, WIDTH_PX), "judged": evaluated}
        files = {}
        for kind, pixels in images.items():
            files[kind] = f"{name}-{kind}.jpg"
            (self.folder / files[kind]).write_bytes(jpeg(pixels, quality=82))
        return {
            "image_id": example.image_id,
            "file_name": record.file_name,
            "condition": example.cell[0],
            "severity": example.cell[1],
            "files": files,
            "size": [WIDTH_PX, int(images["condition"].shape[0])],
        } | counts

    def _evaluated(self, image: Rgb, image_id: int, cell: Cell) -> tuple[Rgb, dict[str, int]]:
        """(image with objects found, newly missed, missed on clean too, and false alarms; their counts)."""
        store, truth = self.store(cell), self.swept.truth
        index = int(np.searchsorted(truth.image_ids, image_id))
        found = self.found(cell)
        tp, ignored = store.tp_and_ignored()
        alarm = (store.scores >= self.thresholds[store.category]) & ~tp & ~ignored & (store.image == index)
        here = (truth.image == index) & ~truth.crowd
        missed, lost = here & ~found & ~self.found_clean, here & ~found & self.found_clean
        groups: list[tuple[str, Floats, Ints, Colour, bool]] = [
            ("missed", truth.boxes_xywh[missed], truth.category[missed], UNCOUNTED, True),
            ("false", store.boxes_xywh[alarm], store.category[alarm], INVENTED, False),
            ("found", truth.boxes_xywh[here & found], truth.category[here & found], FOUND, False),
            ("lost", truth.boxes_xywh[lost], truth.category[lost], MISSED, True),
        ]
        drawn, counts = resize_to_width(image, WIDTH_PX), {}
        for kind, boxes, labels, colour, dashed in groups:
            counts[kind] = len(boxes)
            corners = boxes.copy()
            corners[:, 2:] += corners[:, :2]
            for grown in (0.0, 1.0):  # a line of two pixels: the page shows the image at half its size
                drawn = draw_objects(
                    drawn,
                    corners * (WIDTH_PX / image.shape[1]) + np.array([-grown, -grown, grown, grown]),
                    (labels + 1).tolist(),
                    colours=[colour] * len(labels),
                    categories=truth.categories,
                    dashed=dashed,
                    show_labels=False,
                )
        return drawn, counts


def _choose_examples(swept: FinishedSweep, document: Mapping[str, Any], artist: _Artist) -> list[_Example]:
    """The conditions that cost most, each on the image that loses most objects among those not shown yet."""
    severity = document["road"]["severity_shown"]
    names = document["headline"]["conditions"] or swept.conditions
    names = [name for name in names if (name, severity) not in swept.missing]
    value = {row["condition"]: row["value"]["point"] for row in document["cells"] if row["severity"] == severity}
    names = sorted(names, key=lambda name: (value[name] is None, value[name] or 0.0, name))[:ROWS]
    examples: list[_Example] = []
    used: set[int] = set()
    for name in names:
        lost = artist.lost_per_image((name, severity))
        for index in np.argsort(-lost, kind="stable").tolist():
            image_id = int(swept.truth.image_ids[index])
            if image_id not in used or len(used) == len(lost):
                used.add(image_id)
                examples.append(_Example(image_id, (name, severity)))
                break
    return examples
