"""Masks: a Mask R-CNN from a box detector, on a new city, and with frames that have boxes only.

It starts from the box detector of the five cities, so its mask branch is all that is new. Measured on every second
frame of strasbourg's validation recording: AP of boxes and of masks.
"""

from __future__ import annotations

from pathlib import Path

from studies import city, data
from studies.runs import Job, Scores, measured, worded

from drivetl.data.sampling import spread_over_drives

LABELS, FRAMES = 50, 120
AS_CITY = Path(__file__).parent / "kitti_as_city.yaml"
START: city.Flags = {
    "model.arch": "maskrcnn_mobilenet_v2_lite_fpn",
    "model.anchors": "keep",
    "optim.lr": 5e-4,
    "optim.epochs": 1,
    "optim.batch_size": 2,
    "optim.frozen_stages": 2,
    "eval.every": 1,
}
"""One epoch from the detector of boxes."""
SOURCE = "cities_masks"
LINES = ("adapted", "masks alone", "masks + KITTI boxes")
AGAINST = {"adapted": SOURCE, "masks + KITTI boxes": "masks alone"}
"""Line -> the line it is compared with."""
COLUMNS = (("segm", "mask AP50", "AP50"), ("segm", "mask AP", "AP"), ("bbox", "box AP50", "AP50"))
"""What is matched, its name in the table, the metric."""


def jobs(shared: Path, out: Path) -> list[Job]:
    """The box detector, the Mask R-CNN made of it, then every line seed by seed."""
    first, folder = city.source(shared, out), out / "data"
    whole, cities = data.cities(shared, folder), Path(str(first.flags["data.train"]))
    half = data.thinned(first.measured["val"], 2)
    start = START | {
        "model.start": out / "runs" / first.name,
        "data.val": data.thinned(first.measured["val"], city.GLANCE),
    }
    source = Job(
        SOURCE,
        start | {"data.train": cities, "data.train_images": 240},
        {"half": half},
        (first.name,),
        city.SCORES_FROM,
    )
    every = [first, source]
    boxes = data.kitti(shared, folder, AS_CITY)
    for seed in city.SEEDS:
        adapted = start | city.NAIVE | {"optim.epochs": city.EPOCHS[LABELS]}
        # what was measured as the source: `best` goes by boxes, and may be the weights before the first step
        adapted |= {"model.start": out / "runs" / SOURCE / "checkpoints" / "last", "seed": seed}
        adapted |= {"eval.every": city.EPOCHS[LABELS]}
        adapted |= {"data.train": city.labelled(whole, out, LABELS, seed, "regions")}
        every.append(Job(name("adapted", seed), adapted, source.measured, (SOURCE,), city.SCORES_FROM))
        masked = data.part(
            cities, folder / f"masks_{FRAMES}_{seed}.json", lambda all_, s=seed: spread_over_drives(all_, FRAMES, s)
        )
        both = data.joined([masked, boxes], folder / f"masks_{FRAMES}_{seed}_kitti.json")
        for line, train in (("masks alone", masked), ("masks + KITTI boxes", both)):
            own = start | {"data.train": train, "seed": seed}
            every.append(Job(name(line, seed), own, source.measured, (first.name,), city.SCORES_FROM))
    return every


def name(line: str, seed: int) -> str:
    """A job's name; the source has one seed."""
    return (
        SOURCE if line == SOURCE else f"masks_{line.replace('masks ', '').replace('+ ', '').replace(' ', '-')}_{seed}"
    )


def tables(jobs: list[Job], out: Path) -> list[tuple[str, str, list[dict[str, object]]]]:
    """Every line: AP of masks and boxes, and their difference to the line it is compared with."""
    half = jobs[1].measured["half"]
    scores = {iou_type: Scores(half, out, iou_type) for iou_type in ("segm", "bbox")}
    rows: list[dict[str, object]] = []
    for line in (SOURCE, *LINES):
        other = AGAINST.get(line)
        pairs = [[name(one, seed) for one in (line, other or line)] for seed in city.SEEDS]
        pairs = [pair for pair in pairs if all(measured(out, job, "half") for job in pair)]
        if line == SOURCE:
            pairs = pairs[:1]
        if not pairs:
            continue
        ours, theirs = map(list, zip(*pairs, strict=True))
        row: dict[str, object] = {"line": line, "compared with": other or "-", "seeds": len(ours)}
        for iou_type, title, metric in COLUMNS:
            row[title] = worded(scores[iou_type].over_seeds(ours, "half", metric))
            gained = scores[iou_type].over_seeds(ours, "half", metric, theirs)
            row[f"{title} gain"] = worded(gained, signed=True) if other else "-"
        rows.append(row)
    return [("masks", "Masks: a new branch, a new city, frames with boxes alone", rows)]
