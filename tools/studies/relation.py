"""Head surgery by relation under another label set, and a small source: KITTI first."""

from __future__ import annotations

from pathlib import Path

from studies import city, data
from studies.runs import Job, Scores, measured, worded

LABELS = 50
RENAMED = Path(__file__).parent / "renamed.yaml"
LINES: dict[str, tuple[str, str, city.Flags]] = {
    "five cities, reset head": ("reset", "renamed", city.NAIVE),
    "five cities, surgery": ("cities", "renamed", city.NAIVE),
    "KITTI first": ("kitti", "val", city.LINES["features alone"][2]),
}
"""Line -> start, label set of the target, the config's keys."""
AGAINST = {"five cities, surgery": "five cities, reset head", "KITTI first": "features alone"}
"""Line -> the line it is compared with; `features alone` is the study `city`'s."""


def jobs(shared: Path, out: Path) -> list[Job]:
    """KITTI's detector (66 frames), then every line seed by seed."""
    first = city.jobs(shared, out)[0]
    frames = data.kitti(shared, out / "data")
    kitti = Job(
        "kitti",
        city.LINES["features alone"][2]
        | {"data.train": frames, "model.start": first.flags["model.start"]}
        | {"data.val": data.thinned(frames, city.GLANCE)}
        | {"optim.epochs": 8, "eval.every": 8},
        first.measured,
        score_threshold=city.SCORES_FROM,
    )
    sets = {"val": data.cities(shared, out / "data"), "renamed": data.cities(shared, out / "data", RENAMED)}
    val = {
        key: data.part(whole, out / "data" / f"val_{key}.json", lambda all_: data.named(all_, city.VAL))
        for key, whole in sets.items()
    }
    every = [first, kitti]
    for seed in city.SEEDS:
        for line, (start, labels, flags) in LINES.items():
            run = out / "runs" / ("cities_reset" if start == "reset" else start)
            own: city.Flags = {"model.start": run, "seed": seed, "optim.epochs": city.EPOCHS[LABELS]}
            own |= {"data.train": city.labelled(sets[labels], out, LABELS, seed, "regions")}
            own |= {"data.val": data.thinned(val[labels], city.GLANCE)}
            own |= {"eval.every": city.EPOCHS[LABELS]}
            needs = ("kitti" if start == "kitti" else first.name,)
            every.append(Job(name(line, seed), own | flags, {labels: val[labels]}, needs, city.SCORES_FROM))
    return every


def name(line: str, seed: int) -> str:
    """A job's name."""
    if line not in LINES:
        return city.name(line, LABELS, seed)
    return f"relation_{line.replace(', ', ' ').replace(' ', '-').lower()}_{seed}"


def tables(jobs: list[Job], out: Path) -> list[tuple[str, str, list[dict[str, object]]]]:
    """Each line and its difference to the line above it in its pair."""
    rows: list[dict[str, object]] = []
    val = {key: path for job in jobs for key, path in job.measured.items()}
    shown = [(line, labels, other) for line, (_, labels, _) in LINES.items() for other in (AGAINST.get(line, line),)]
    shown.insert(2, ("features alone", "val", "features alone"))
    for line, labels, other in shown:
        seeds = [s for s in city.SEEDS if all(measured(out, name(one, s), labels) for one in (line, other))]
        if not seeds:
            continue
        ours, theirs = ([name(each, seed) for seed in seeds] for each in (line, other))
        scores = Scores(val[labels], out)
        row: dict[str, object] = {"line": line, "label set": labels, "labels": LABELS, "seeds": len(seeds)}
        for metric in ("AP50", "AP"):
            row[metric] = worded(scores.over_seeds(ours, labels, metric))
            gained = "-" if line == other else worded(scores.over_seeds(ours, labels, metric, theirs), signed=True)
            row[f"{metric} gain"] = gained
        rows.append(row)
    return [("relation", "Another label set; a small source first", rows)]
