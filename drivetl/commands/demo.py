"""`drivetl demo`: the whole workflow on the sample city, with the commands a user would type."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from drivetl.commands.flags import seed
from drivetl.files.shipped import shipped

IMAGES = 35
"""Clean images of the sweep: a number, not a time, so that every machine evaluates the same ones. They are of seven
drives, enough for a headline and for a significant difference (p >= 2^-6)."""
LABELS = 64
"""Labelled frames of town B that both runs (transfer and scratch) are trained on."""
CONDITIONS = "fog,rain,snowfall,night,low_sun,ego_blur,iso_noise,lens_dirt"
"""None of them is trained on; the report proves it from the runs' manifests."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    folder = Path("runs/demo")
    parser.add_argument(
        "--out", type=Path, default=folder, metavar="DIR", help=f"folder for all outputs (default: {folder})"
    )
    parser.add_argument("--seed", type=seed, default=0, help="random seed of towns and training (default: 0)")


def run(args: argparse.Namespace) -> None:
    """Run the steps that are not done yet; a killed demo resumes where it stopped."""
    from drivetl import console
    from drivetl.commands.demo_report import write_demo_report

    began = time.monotonic()
    steps = plan(args.out, args.seed)
    for number, (title, done, argv) in enumerate(steps, 1):
        console.say("", f"[{number}/{len(steps)}] {title}")
        if done.exists():
            console.say(f"already done: {done}")
            continue
        argv = [*argv, *_resume(argv)]
        console.say(f"$ {console.command(*argv)}")
        _call(argv)
    report = write_demo_report(args.out)
    console.say(f"the whole demo took {time.monotonic() - began:.0f} s")
    console.wrote(report)
    console.say("open it in a browser")


def resume_flags(args: argparse.Namespace) -> list[str] | None:
    """Nothing to add: steps that are done, and the state of a training, are kept."""
    return [] if args.out.is_dir() else None


def _resume(argv: list[str]) -> list[str]:
    """--resume for a training that was stopped."""
    if argv[0] != "finetune":
        return []
    from drivetl.files.runs import resumes

    return ["--resume"] if resumes(Path(argv[argv.index("--out") + 1])) else []


def _call(argv: list[str]) -> None:
    """Run one command in this process; its errors end the demo. Its numbers are not the demo's."""
    from drivetl import console
    from drivetl.commands import dispatch

    with console.recording():
        dispatch(argv)


def plan(out: Path, seed: int) -> list[tuple[str, Path, list[str]]]:
    """(title, path that exists when the step is done, arguments of the command) of every step."""
    city, town_a, town_b, robustness = (out / name for name in ("city", "town_a", "town_b", "robustness"))
    source, transfer, scratch = (out / name for name in ("source", "transfer", "scratch"))
    frames = ["--scale", "0.5", "--frames-a", "340", "--frames-b", "400", "--jpeg"]
    train = ["finetune", "--config", str(shipped("configs/finetune/tiny.yaml")), "--seed", str(seed)]
    few = [*_data(town_b), *f"--data.train_images {LABELS} --optim.epochs 16 --eval.every 8".split()]
    augment = ["--data.augment", "photometric"]  # it finds twice as much in town B as a source trained without
    start = ["--model.start", str(source), "--model.norm", "train", *augment]
    runs = ["--run", str(transfer), "--baseline", str(scratch), "--data", str(town_b / "val.json")]
    scope = f"--conditions {CONDITIONS} --severities 1,3,5 --metric AP50 --images {IMAGES} --draws 200".split()
    scope += ["--slices", "weather,timeofday"]
    footage = ["--format", "cvat", *_labels(city, "town_b"), "--val-fraction", "0.7"]
    steps = [
        ("draw two towns with exact labels", city, ["sample", *frames, "--seed", str(seed)]),
        ("town A: KITTI layout to COCO, split by drive", town_a, ["convert-kitti", *_labels(city, "town_a")]),
        ("town B: CVAT footage to COCO, split by drive", town_b, ["convert-footage", *footage]),
        ("train on town A from scratch", source, [*train, *_data(town_a), *augment]),
        (f"adapt it to town B with {LABELS} labelled frames", transfer, [*train, *few, *start]),
        ("train on the same frames from scratch, to compare", scratch, [*train, *few]),
        ("evaluate both in weather that neither was trained on", robustness, ["eval-robustness", *runs, *scope]),
    ]
    last_file = {town_a: "all.json", town_b: "all.json", robustness: "report.html", city: ""}
    return [
        (title, folder / last_file.get(folder, "README.md"), [*argv, "--out", str(folder)])
        for title, folder, argv in steps
    ]


def _labels(city: Path, town: str) -> list[str]:
    return ["--root", str(city / town), "--taxonomy", str(shipped(f"configs/demo/{town}.yaml"))]


def _data(folder: Path) -> list[str]:
    return ["--data.train", str(folder / "train.json"), "--data.val", str(folder / "val.json")]
