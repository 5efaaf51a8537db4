"""Does `drivetl doubt` find wrong labels? Faults planted in a city that the detector never saw.

Strasbourg's labels with 5 % of the boxes removed, 5 % given another class and 5 % shifted by 30 % of their size, five
times with other seeds. The detector is that of the five other cities. One of the two recordings chose formulas and
thresholds (`THRESHOLDS`: the least doubt at which half of what is listed is a planted fault), the other is reported.
Faults that Cityscapes has itself count as right labels, so the precision is a lower bound.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from studies import city, data
from studies.runs import DRAWS, Job, finished, written

from drivetl.coco.boxes import xywh_to_xyxy
from drivetl.coco.drives import Drives
from drivetl.coco.io import read_dataset
from drivetl.coco.records import Annotation, Dataset
from drivetl.doubt.find import CONFIDENT, Doubt, detections_of, find, labels_of
from drivetl.doubt.kinds import BADLY_LOCATED, KINDS, OVERLOOKED, SWAPPED, THRESHOLDS
from drivetl.doubt.predict import Options, detect
from drivetl.doubt.scores import Boxes, Floats, Ints, iou, similarity
from drivetl.label_curve.fit import seed_multipliers
from drivetl.metrics.results import Results, load_results, save_results
from drivetl.metrics.statistics import draw_weights
from drivetl.robustness.score_cells import interval

SEEDS = range(5)
SHARE, SHIFT = 0.05, 0.3
TUNED, REPORTED = city.POOL, city.VAL
SET = "strasbourg"
LARGE_PX = 32.0
"""Height of what counts as large; frames are 800 x 400 px."""
SAME = 0.5
"""IoU from which a listed detection is the object whose label was removed."""


@dataclass(frozen=True)
class Fault:
    """A planted fault."""

    kind: str
    image_id: int
    true: Annotation
    """The label as it was."""
    annotation: int | None
    """Position among the labels of its image; None where it was removed."""


def plant(dataset: Dataset, seed: int, share: float = SHARE) -> tuple[Dataset, list[Fault]]:
    """A copy with faults, and what they are: of all labels, `share` removed, as many with another class of the dataset
    (as frequent there as in the labels), as many shifted by SHIFT of their size in any direction. No label twice."""
    rng = np.random.default_rng(seed)
    places = [(image.id, place) for image in dataset.images for place in range(len(image.annotations))]
    items = [item for image in dataset.images for item in image.annotations]
    count = round(share * len(items))
    chosen = rng.permutation(len(items))[: len(KINDS) * count]
    kind_of = {places[row]: KINDS[number // count] for number, row in enumerate(chosen.tolist())}
    frequency = np.bincount([item.category_id for item in items], minlength=len(dataset.categories) + 1)[1:]
    images, faults = [], []
    for image in dataset.images:
        labels: list[Annotation] = []
        for place, item in enumerate(image.annotations):
            kind = kind_of.get((image.id, place))
            if kind is not None:
                faults.append(Fault(kind, image.id, item, None if kind == OVERLOOKED else len(labels)))
            if kind == SWAPPED:
                others = np.where(np.arange(1, len(frequency) + 1) == item.category_id, 0, frequency)
                item = replace(item, category_id=int(rng.choice(len(others), p=others / others.sum())) + 1)
            elif kind == BADLY_LOCATED:
                item = _shifted(item, float(rng.uniform(0, 2 * np.pi)))
            if kind != OVERLOOKED:
                labels.append(item)
        images.append(replace(image, annotations=labels))
    return dataset.subset(images), faults


def _shifted(item: Annotation, angle: float) -> Annotation:
    x, y, w, h = item.bbox_xywh
    box = (x + SHIFT * w * float(np.cos(angle)), y + SHIFT * h * float(np.sin(angle)), w, h)
    return replace(item, bbox_xywh=box, segmentation=None)


@dataclass(frozen=True)
class Ranking:
    """What one way of ranking lists for one kind and seed, the most doubtful first."""

    image: Ints
    """(N,) position of each row's image in the dataset."""
    score: Floats
    """(N,) falling."""
    right: Floats
    """(N,) 1 for a planted fault, found for the first time."""


def ranked(dataset: Dataset, doubts: Sequence[Doubt], faults: Sequence[Fault]) -> Ranking:
    """Compare doubts of one kind, by falling doubt, with the faults of that kind."""
    place_of = {image.id: place for place, image in enumerate(dataset.images)}
    left: dict[int, list[Fault]] = {}
    for fault in faults:
        left.setdefault(fault.image_id, []).append(fault)
    right = np.zeros(len(doubts))
    for row, doubt in enumerate(doubts):
        here = left.get(doubt.image_id, [])
        hit = next((fault for fault in here if _is(doubt, fault)), None)
        if hit is not None:
            here.remove(hit)
            right[row] = 1
    places = np.array([place_of[doubt.image_id] for doubt in doubts], np.int64)
    return Ranking(places, np.array([doubt.doubt for doubt in doubts]), right)


def _is(doubt: Doubt, fault: Fault) -> bool:
    if fault.annotation is not None:
        return doubt.annotation == fault.annotation
    true = np.array([xywh_to_xyxy(fault.true.bbox_xywh)])
    return bool(iou(np.array([doubt.detection_xyxy]), true)[0, 0] >= SAME)


def average_precision(ranking: Ranking, n_faults: Floats, weights: Floats) -> Floats:
    """(B,) area under precision against recall; n_faults (I,) of each image, weights (B, I)."""
    each = weights[:, ranking.image]
    total = np.cumsum(each, axis=1)
    right = each * ranking.right
    precision = np.divide(np.cumsum(right, axis=1), total, out=np.zeros_like(total), where=total > 0)
    return np.asarray((right * precision).sum(axis=1) / (weights @ n_faults))


def at_threshold(ranking: Ranking, n_faults: Floats, threshold: float, weights: Floats) -> tuple[Floats, Floats]:
    """(B,) precision and recall of the rows that reach a threshold."""
    each = weights[:, ranking.image] * (ranking.score >= threshold)
    right, listed = (each * ranking.right).sum(axis=1), each.sum(axis=1)
    precision = np.divide(right, listed, out=np.full_like(right, np.nan), where=listed > 0)
    return precision, np.asarray(right / (weights @ n_faults))


Scored = dict[str, Floats]
"""Kind -> doubt of each label (of each detection, for overlooked), NaN where it has none."""


def ours(dataset: Dataset, results: Results) -> list[Doubt]:
    """The ranking of `drivetl doubt`."""
    return find(dataset, results).doubts


def by_confidence(dataset: Dataset, results: Results) -> list[Doubt]:
    """Confidence alone. Overlooked: that of detections from CONFIDENT on without a label of their class and place (IoU
    SAME or more).
    Swapped and badly located: 1 - the highest confidence of a detection of the label's class and place."""

    def of_image(labels: Boxes, detections: Boxes) -> Scored:
        at_place = iou(labels.xyxy, detections.xyxy) >= SAME
        same = (labels.classes[:, None] == detections.classes[None]) & at_place
        doubt = 1 - np.where(same, detections.confidence, 0.0).max(axis=1, initial=0.0)
        free = ~same.any(axis=0) & (detections.confidence >= CONFIDENT)
        missing = np.where(free, detections.confidence, np.nan)
        return {OVERLOOKED: missing, SWAPPED: doubt, BADLY_LOCATED: doubt}

    return _doubts(dataset, results, of_image)


def objectlab(dataset: Dataset, results: Results) -> list[Doubt]:
    """Our reconstruction of ObjectLab, without what `drivetl.doubt.scores` changes: a detection of 0.95 or more (0.5
    for the place) speaks about every label of its image."""

    def of_image(labels: Boxes, detections: Boxes) -> Scored:
        fit = similarity(labels.xyxy, detections.xyxy)
        same = labels.classes[:, None] == detections.classes[None]
        sure, likely = detections.confidence >= 0.95, detections.confidence >= 0.5
        nearest = np.where(same, fit, 0.0).max(axis=0, initial=0.0)
        missing = np.where(same.any(axis=0), 1 - nearest, detections.confidence)
        other = np.where(~same & sure, fit, 0.0).max(axis=1, initial=0.0)
        own = np.where(same & likely, fit, 0.0).max(axis=1, initial=0.0)
        apart = np.where((same & likely).any(axis=1), 1 - own, 0.0)
        return {OVERLOOKED: np.where(sure, missing, np.nan), SWAPPED: other, BADLY_LOCATED: apart}

    return _doubts(dataset, results, of_image)


def at_random(dataset: Dataset, results: Results) -> list[Doubt]:
    """The labels in a random order, and the detections that `by_confidence` ranks."""
    rng = np.random.default_rng(0)
    doubts = by_confidence(dataset, results)
    return sorted((replace(doubt, doubt=float(rng.random())) for doubt in doubts), key=lambda row: -row.doubt)


OURS = "drivetl doubt"
RANKINGS: Mapping[str, Callable[[Dataset, Results], list[Doubt]]] = {
    OURS: ours,
    "scores after ObjectLab": objectlab,
    "confidence alone": by_confidence,
    "random": at_random,
}


def _doubts(dataset: Dataset, results: Results, of_image: Callable[[Boxes, Boxes], Scored]) -> list[Doubt]:
    """Doubts by falling score, from the labels and detections that `find` compares."""
    order = np.argsort(results.image_id, kind="stable")
    ids = results.image_id[order]
    doubts = []
    for image in dataset.images:
        first, last = np.searchsorted(ids, [image.id, image.id + 1])
        labels = labels_of(image)
        detections = detections_of(image, results, order[first:last], Counter())
        for kind, scored in of_image(labels, detections).items():
            boxes = detections if kind == OVERLOOKED else labels
            for row in np.flatnonzero(~np.isnan(scored)).tolist():
                x1, y1, x2, y2 = map(float, boxes.xyxy[row])
                class_id, place = int(boxes.classes[row]), None if kind == OVERLOOKED else row
                score, sure = float(scored[row]), float(boxes.confidence[row])
                doubts.append(Doubt(kind, image.id, score, class_id, class_id, sure, 0.0, (x1, y1, x2, y2), place))
    return sorted(doubts, key=lambda doubt: -doubt.doubt)


@dataclass(frozen=True)
class Measured:
    """One ranking of one kind over all seeds."""

    n_faults: int
    ap: Floats
    """(1 + B,) in percent, as are the others: as measured, then under each draw of drives and seeds."""
    precision: Floats
    recall: Floats
    n_listed: int


def measure(
    dataset: Dataset, results: Results, rank: Callable[[Dataset, Results], list[Doubt]], heights_px: Sequence[float]
) -> dict[tuple[float, str], Measured]:
    """(least height of the objects, kind) -> what a ranking is worth on faults planted with every seed; the threshold
    is that of THRESHOLDS."""
    n_images = len(dataset.images)
    weights = np.vstack([np.ones(n_images), draw_weights(Drives.of(dataset.images).units(), DRAWS)])
    place_of = {image.id: place for place, image in enumerate(dataset.images)}
    rows: dict[tuple[float, str], list[tuple[int, Floats, Floats, Floats, int]]] = {}
    for seed in SEEDS:
        faulty, faults = plant(dataset, seed)
        doubts = rank(faulty, results)
        for least, kind in product(heights_px, KINDS):
            of_kind = [fault for fault in faults if fault.kind == kind and fault.true.bbox_xywh[3] >= least]
            ranking = ranked(faulty, [row for row in doubts if row.kind == kind and _height(row) >= least], of_kind)
            per_image = np.bincount([place_of[fault.image_id] for fault in of_kind], minlength=n_images).astype(float)
            found = at_threshold(ranking, per_image, THRESHOLDS[kind], weights)
            count = int((ranking.score >= THRESHOLDS[kind]).sum())
            row = (len(of_kind), average_precision(ranking, per_image, weights), *found, count)
            rows.setdefault((least, kind), []).append(row)
    return {
        key: Measured(
            sum(row[0] for row in each),
            _over_seeds(np.stack([row[1] for row in each])),
            _over_seeds(np.stack([row[2] for row in each])),
            _over_seeds(np.stack([row[3] for row in each])),
            sum(row[4] for row in each),
        )
        for key, each in rows.items()
    }


def _height(row: Doubt) -> float:
    box = row.label_xyxy or row.detection_xyxy
    return box[3] - box[1]


def _over_seeds(each: Floats) -> Floats:
    """(S, 1 + B) -> (1 + B,) percent: the mean over seeds, and its draws of drives and seeds."""
    points, mean = each[:, 0], each.mean(axis=0)
    spread = seed_multipliers(each.shape[1] - 1, len(each)) @ (points - points.mean())
    return 100 * np.concatenate([mean[:1], mean[1:] + spread])


def jobs(shared: Path, out: Path) -> list[Job]:
    """The detector of the five other cities."""
    return [city.source(shared, out)]


def strasbourg(out: Path) -> Path:
    """Both recordings of the city as a dataset."""
    return data.part(
        out / "data" / "cities" / "all.json", out / "data" / f"{SET}.json", lambda all_: data.named(all_, SET)
    )


def detections(out: Path) -> Path:
    """The detections of the source on both recordings."""
    return out / "found" / "cities" / f"{SET}.npz"


def finish(jobs: list[Job], out: Path) -> None:
    """Detect on both recordings, once."""
    if finished(jobs[0], out) and not detections(out).is_file():
        results = detect(out / "runs" / jobs[0].name, read_dataset(strasbourg(out)), Options(), "last")
        save_results(detections(out), results)


def tables(jobs: list[Job], out: Path) -> list[tuple[str, str, list[dict[str, object]]]]:
    """Every ranking of every kind on the reported recording, and ours on the one that chose and on large objects."""
    if not detections(out).is_file():
        return []
    whole, results = read_dataset(strasbourg(out)), load_results(detections(out))
    rows = []
    for recording, name in (("reported", REPORTED), ("tuned", TUNED)):
        part = whole.subset(data.named(whole.images, name))
        of_part = results.where(np.isin(results.image_id, [image.id for image in part.images]))
        for ranking, rank in RANKINGS.items():
            own = ranking == OURS
            if not own and recording == "tuned":
                continue
            for (least, kind), found in measure(part, of_part, rank, (0.0, LARGE_PX) if own else (0.0,)).items():
                row: dict[str, object] = {"kind": kind.replace("_", " "), "ranking": ranking}
                row |= {"objects": f"{least:g} px high or more" if least else "all", "recording": recording}
                row |= {"frames": len(part.images), "faults": found.n_faults, "AP": _cell(found.ap)}
                row |= {"threshold": THRESHOLDS[kind] if own else "-", "listed": found.n_listed if own else "-"}
                row |= {"precision": _cell(found.precision) if own else "-"}
                rows.append(row | {"recall": _cell(found.recall) if own else "-"})
    rows.sort(key=lambda row: (row["recording"] != "reported", KINDS.index(str(row["kind"]).replace(" ", "_"))))
    return [("doubt", "Wrong labels planted in strasbourg: what is found", rows)]


def _cell(values: Floats) -> str:
    return written(interval(values[0], values[1:]))
