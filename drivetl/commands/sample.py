"""`drivetl sample`: write the sample city."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from drivetl import console
from drivetl.commands.flags import new_path, seed
from drivetl.errors import ConfigError
from drivetl.files.shipped import shipped


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    add = parser.add_argument
    add("--out", type=new_path, required=True, metavar="DIR", help="new folder; it must not exist yet")
    add(
        "--town",
        choices=("a", "b", "both"),
        default="both",
        help="a: KITTI layout; b: footage with CVAT and Cityscapes labels (default: both)",
    )
    add("--frames-a", type=int, default=600, metavar="N", help="frames of town A (default: 600)")
    add("--frames-b", type=int, default=400, metavar="N", help="frames of town B (default: 400)")
    add("--seed", type=seed, default=0, help="random seed; every seed gives another city (default: 0)")
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--scale", type=float, metavar="X", help="scale of images and intrinsics (default: 1 = 1242x375 and 1280x512)"
    )
    size.add_argument("--width", type=int, metavar="PX", help="the scale, given as the image width of town A")
    add("--jpeg", action="store_true", help="write town A's images as JPEG (smaller, faster)")
    add("--depth", action="store_true", help="write town A's depth maps too (16-bit PNG, metres x 256)")
    add(
        "--processes",
        type=int,
        default=0,
        metavar="N",
        help="worker processes; the files are the same for any number (default: 0 = one per core)",
    )


def run(args: argparse.Namespace) -> int:
    """Write the selected towns and print what they contain."""
    from drivetl.sample.towns import TOWN_A
    from drivetl.sample.write import write_city

    scale = args.scale if args.scale is not None else (args.width / TOWN_A.camera.width if args.width else 1.0)
    frames = {"a": args.frames_a if args.town != "b" else 0, "b": args.frames_b if args.town != "a" else 0}
    if args.processes < 0:
        raise ConfigError(f"--processes {args.processes} is negative", remedy="use 0 for one per core")
    started = time.monotonic()
    with console.progress_bar() as bar:
        task = bar.add_task("rendering", total=sum(frames.values()), note="")
        written = write_city(
            args.out,
            frames["a"],
            frames["b"],
            args.seed,
            scale=scale,
            jpeg=args.jpeg,
            depth=args.depth,
            processes=args.processes,
            progress=lambda count: bar.advance(task, count),
        )
    seconds = time.monotonic() - started
    for name, summary in written.items():
        rows: list[tuple[object, object]] = [("frames", summary.frames), ("drives", summary.drives)]
        rows += [(f"frames by {condition}", count) for condition, count in sorted(summary.conditions.items())]
        rows += [(label, count) for label, count in summary.objects.most_common()]
        rows.append(("groups too far to label", summary.groups))
        console.table(f"town {name.upper()}", ("what", "count"), rows)
    total = sum(summary.frames for summary in written.values())
    console.numbers(frames={name: summary.frames for name, summary in written.items()}, seconds=seconds)
    console.say(f"{total} frames in {seconds:.0f} s ({60 * total / max(seconds, 1e-9):.0f} a minute)")
    console.wrote(args.out, *_next_commands(args.out, list(written)))
    return 0


def _next_commands(out: Path, towns: list[str]) -> list[str]:
    commands = {"a": ("convert-kitti",), "b": ("convert-footage", "--format", "cvat")}
    return [
        console.command(
            *commands[town],
            *("--root", out / f"town_{town}", "--out", out / f"coco_{town}"),
            *("--taxonomy", shipped(f"datasets/sample_town_{town}/taxonomy.yaml")),
        )
        for town in towns
    ]
