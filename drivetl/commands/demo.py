"""`drivetl demo`: the whole road on the sample city, with the commands a user would type."""

from __future__ import annotations

import argparse
import shlex
import time
from pathlib import Path

from drivetl.commands.flags import seed

LABELS = 64
"""Labelled frames of town B that both contestants learn from."""


CONDITIONS = "fog,rain,snowfall,night,low_sun,ego_blur,iso_noise,lens_dirt"
"""None is trained on; the report proves it from the runs' manifests."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--out, --seed."""
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder of everything the demo makes")
    parser.add_argument("--seed", type=seed, default=0, help="another seed, other towns")


def run(args: argparse.Namespace) -> None:
    """Run what is not done yet, step by step; a killed demo goes on where it stopped."""
    from drivetl import console
    from drivetl.commands.demo_report import write_demo_report

    began = time.monotonic()
    steps = plan(args.out, args.seed)
    for number, (title, done, argv) in enumerate(steps, 1):
        console.say(f"\n[{number}/{len(steps)}] {title}")
        if done.exists():
            console.say(f"done before: {done}")
            continue
        console.say(f"$ drivetl {shlex.join(argv)}")
        _call(argv)
    report = write_demo_report(args.out)
    console.say(f"the whole demo took {time.monotonic() - began:.0f} s")
    console.wrote(report, f"open {report} in a browser")


def _call(argv: list[str]) -> None:
    """Run one command in this process; its errors are the demo's."""
    from drivetl.commands import dispatch

    dispatch(argv)


def plan(out: Path, seed: int) -> list[tuple[str, Path, list[str]]]:
    """(what it is, the file that says it is done, the command) of every step."""
    from drivetl.files.shipped import shipped

    city, town_a, town_b = out / "city", out / "town_a", out / "town_b"
    tiny = ["finetune", "--config", str(shipped("configs/finetune/tiny.yaml")), "--seed", str(seed)]
    few = [*_data(town_b), "--data.train_images", str(LABELS), "--optim.epochs", "16", "--eval.every", "4"]
    frames = ["--scale", "0.5", "--frames-a", "340", "--frames-b", "240", "--jpeg"]
    to_a = ["--root", str(city / "town_a"), "--taxonomy", str(shipped("configs/demo/town_a.yaml"))]
    to_b = ["--root", str(city / "town_b"), "--taxonomy", str(shipped("configs/demo/town_b.yaml"))]
    runs = {name: out / name for name in ("source", "transfer", "scratch")}
    transfer = ["--model.start", str(runs["source"]), "--model.norm", "train", "--data.augment", "photometric"]
    contest = ["--run", str(runs["transfer"]), "--baseline", str(runs["scratch"]), "--data", str(town_b / "val.json")]
    scope = [
        "--conditions",
        CONDITIONS,
        "--severities",
        "1,3,5",
        "--metric",
        "AP50",
        "--budget",
        "16s",
        "--draws",
        "200",
        "--slices",
        "weather,timeofday",
    ]
    return [
        ("draw two towns with exact labels", city, ["sample", "--out", str(city), *frames, "--seed", str(seed)]),
        (
            "town A: KITTI layout to COCO, split by drive",
            town_a / "all.json",
            ["convert-kitti", *to_a, "--out", str(town_a)],
        ),
        (
            "town B: CVAT footage to COCO, split by drive",
            town_b / "all.json",
            ["convert-footage", "--format", "cvat", *to_b, "--val-fraction", "0.4", "--out", str(town_b)],
        ),
        (
            "learn town A from nothing",
            runs["source"] / "README.md",
            [*tiny, *_data(town_a), "--out", str(runs["source"])],
        ),
        (
            f"carry it over to town B with {LABELS} labelled frames",
            runs["transfer"] / "README.md",
            [*tiny, *few, *transfer, "--out", str(runs["transfer"])],
        ),
        (
            "learn the same frames from nothing, to compare",
            runs["scratch"] / "README.md",
            [*tiny, *few, "--out", str(runs["scratch"])],
        ),
        (
            "how both hold up in weather neither has seen",
            out / "robustness" / "report.html",
            ["eval-robustness", *contest, *scope, "--out", str(out / "robustness")],
        ),
    ]


def _data(folder: Path) -> list[str]:
    return ["--data.train", str(folder / "train.json"), "--data.val", str(folder / "val.json")]
