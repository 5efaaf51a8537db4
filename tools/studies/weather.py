"""Do the weather presets help on real weather that was never trained on?

Two detectors trained on clear days only. A motorway camera: dry-day frames, then the same camera's real night and real
wet road. Cities: five clear cities, then photos of real fog. Each is trained with and without the presets of
configs/weather, from the same start, on the same frames, for the same steps. A preset is chosen on the first half of
the real frames (`tuned`) and reported on the other (`reported`).
"""

from __future__ import annotations

from pathlib import Path

from studies import city, data
from studies.runs import Job, Scores, finished, worded

SEEDS = (0, 1, 2)
PRESETS = ("none", "weather", "severe", "photometric")
DRY, WET, NIGHT = "pagi", "adit", "malam"
CAMERA = {
    "train": (DRY, slice(0, 180)),
    "dry": (DRY, slice(190, None)),
    "night_tuned": (NIGHT, slice(0, 65)),
    "night_reported": (NIGHT, slice(75, None)),
    "wet_tuned": (WET, slice(0, 65)),
    "wet_reported": (WET, slice(75, None)),
}
"""Part -> clip and frames of it; ten frames are left out between parts of a clip."""
FOG = {"fog_tuned": slice(0, None, 2), "fog_reported": slice(1, None, 2)}


def jobs(shared: Path, out: Path) -> list[Job]:
    """The source on clear cities first, then the presets seed by seed."""
    source = city.source(shared, out)
    camera, fog = camera_parts(shared, out), fog_parts(shared, out)
    fog["clear"] = Path(str(source.flags["data.val"]))
    dry = {"data.train": camera.pop("train"), "data.val": camera["dry"]}
    dry |= {"model.min_size": 360, "model.max_size": 640, "optim.epochs": 3, "eval.every": 3}
    clear = {"data.train": source.flags["data.train"], "data.val": data.thinned(source.measured["val"], city.GLANCE)}
    clear |= {"data.train_images": 240, "optim.epochs": 1, "optim.batch_size": 2, "optim.frozen_stages": 2}
    every = [source]
    for presets in (PRESETS[:2], PRESETS[2:]):
        for kind, flags, measured in (("highway", dry, camera), ("fog", clear, fog)):
            for seed in SEEDS:
                for preset in presets:
                    own = {"data.augment": preset, "seed": seed, "optim.lr": 5e-4}
                    own |= {"model.start": out / "runs" / source.name}
                    every.append(Job(f"{kind}_{preset}_{seed}", own | flags, measured, needs=(source.name,)))
    return every


def camera_parts(shared: Path, out: Path) -> dict[str, Path]:
    """Part of the motorway camera -> its dataset json."""
    whole = data.highway(shared, out / "data")
    return {
        name: data.part(
            whole, out / "data" / f"highway_{name}.json", lambda all_, c=clip, s=cut: data.named(all_, c)[s]
        )
        for name, (clip, cut) in CAMERA.items()
    }


def fog_parts(shared: Path, out: Path) -> dict[str, Path]:
    """Half of the photos of real fog -> its dataset json."""
    photos = data.fog(shared, out / "data")
    return {
        name: data.part(photos, out / "data" / f"{name}.json", lambda all_, s=cut: all_[s]) for name, cut in FOG.items()
    }


def tables(jobs: list[Job], out: Path) -> list[tuple[str, str, list[dict[str, object]]]]:
    """AP50 of every preset on every set, and its difference to no augmentation, seeds and draws paired."""
    rows: list[dict[str, object]] = []
    done = {job.name for job in jobs if finished(job, out)}
    for kind in ("highway", "fog"):
        measured = next(job.measured for job in jobs if job.name.startswith(kind))
        for name, path in measured.items():
            scores = Scores(path, out)
            for preset in PRESETS:
                seeds = [s for s in SEEDS if {f"{kind}_{preset}_{s}", f"{kind}_none_{s}"} <= done]
                if not seeds:
                    continue
                ours, plain = ([f"{kind}_{p}_{s}" for s in seeds] for p in (preset, "none"))
                row: dict[str, object] = {"measured on": name, "images": len(scores.data.images)}
                row |= {"trained with": preset, "seeds": len(seeds)}
                for metric in ("AP50", "AP"):
                    row[metric] = worded(scores.over_seeds(ours, name, metric))
                    difference = scores.over_seeds(ours, name, metric, plain)
                    row[f"{metric} - none"] = "-" if preset == "none" else worded(difference, signed=True)
                rows.append(row)
    return [("weather", "Do the weather presets help on real night, wet road and fog?", rows)]
