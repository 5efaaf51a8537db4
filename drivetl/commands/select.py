"""`drivetl select`: which frames of unlabelled footage to label next, with pre-labels to start from."""

from __future__ import annotations

import argparse
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from drivetl import console
from drivetl.commands.flags import input_path, new_path, run_directory, seed
from drivetl.errors import ConfigError, check_least
from drivetl.files.write import new_directory

if TYPE_CHECKING:
    from drivetl.metrics.truth import Floats
    from drivetl.models.detector import Detector
    from drivetl.selection.pool import Pool
    from drivetl.selection.run import Options, Selection

MOST_DRIVES = 30
"""In the printed table."""
SHOWN_SKIPPED = 5
"""Unreadable images that are named on the console."""
CVAT = "cvat"
"""Folder of the pre-labels for CVAT."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    add = parser.add_argument
    add(
        "source",
        nargs="+",
        metavar="UNLABELLED",
        help="images, folders or globs; or one video; or one dataset json, whose labels are not used",
    )
    add("--run", dest="run_dir", type=run_directory, required=True, metavar="RUN", help="run directory")
    add("--count", type=int, default=50, metavar="N", help="number of frames to label (default: 50)")
    add("--out", type=new_path, required=True, metavar="DIR", help="new folder for the list, sheet and pre-labels")
    add(
        "--labelled",
        type=input_path,
        metavar="TRAIN.json",
        help="frames that are labelled already: they and their near-duplicates are not chosen, nor what resembles them",
    )
    add(
        "--gap",
        type=float,
        default=2.0,
        metavar="SECONDS",
        help="least time between two frames of one drive; 0: any (default: 2)",
    )
    add(
        "--fps",
        type=float,
        metavar="RATE",
        help="frames per second of numbered images, from which their times follow; a video knows its own",
    )
    add(
        "--score",
        default="0.3",
        metavar="SCORE",
        help="lowest score of a pre-label: one number, or per class: car=0.5,person=0.3 (default: 0.3)",
    )
    add("--seed", type=seed, default=0, help="order of frames that are equally good (default: 0)")
    add("--batch-size", type=int, default=8, metavar="N", help="images per forward pass (default: 8)")
    add("--workers", type=int, metavar="N", help="processes that decode images (default: one per core)")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")


def resume_flags(args: argparse.Namespace) -> list[str] | None:
    """Nothing to add: what the detector has seen is kept next to the output."""
    return [] if _partial(args.out).is_dir() else None


def _partial(out: Path) -> Path:
    """The folder in which the detections are kept until the selection is written."""
    return out.parent / f".{out.name}.partial"


def run(args: argparse.Namespace) -> None:
    """Check everything that needs no model, look at the frames, choose, write, say what to do next."""
    _check_flags(args)
    from drivetl.files.runs import class_names
    from drivetl.prediction.thresholds import check_names, parse_scores, scores_of
    from drivetl.selection.pool import find_pool, frames_in_words

    categories = class_names(args.run_dir)
    scores = parse_scores(args.score)
    check_names(scores, categories)
    unreadable: dict[str, str] = {}
    with new_directory(args.out) as work:
        pool = find_pool(args.source, categories, args.fps, args.gap, unreadable.__setitem__)
        console.say(f"{frames_in_words(pool.frames)} to choose from{_left_out(pool, args)}")
        _remark(pool, args)
        with console.loading("torch"):
            import drivetl.models.checkpoint  # noqa: F401 - torch and torchvision
        selection, options = _select(pool, args, unreadable)
        _report(selection, options, unreadable)
        _write(selection, scores_of(scores, categories), work, args)
    shutil.rmtree(_partial(args.out), ignore_errors=True)
    _next(selection, args)


def _check_flags(args: argparse.Namespace) -> None:
    """Raises ConfigError for values that no input makes valid."""
    check_least(("--count", args.count, 1), ("--batch-size", args.batch_size, 1), ("--workers", args.workers, 0))
    if not 0 <= args.gap < math.inf:
        raise ConfigError(f"--gap is {args.gap:g}", remedy="write seconds, for example 2, or 0")
    if args.fps is not None and not 0 < args.fps <= 1000:
        raise ConfigError(f"--fps is {args.fps:g}", remedy="write the frames per second of the recording")


def _left_out(pool: Pool, args: argparse.Namespace) -> str:
    if not pool.skipped:
        return ""
    return f"; {pool.skipped} others are less than {args.gap / 4:g} s after one of them"


def _remark(pool: Pool, args: argparse.Namespace) -> None:
    """Say what of the source is not used, and which rule cannot be applied."""
    if pool.n_labels:
        console.warn(f"{pool.n_labels} labels of {args.source[0]} are not used: it is taken as unlabelled")
    if pool.video is not None and args.fps is not None:
        raise ConfigError("--fps is for numbered images, a video knows its rate", remedy="leave it out")
    unknown = sum(frame.time_s is None for frame in pool.frames)
    if unknown and args.gap:
        remedy = "name the rate of the recording with --fps" if args.fps is None else "number the files"
        console.warn(
            f"{unknown} of {len(pool.frames)} frames have no time, so --gap cannot keep them apart; {remedy}"
            " (near-duplicates are left out all the same)"
        )


def _select(pool: Pool, args: argparse.Namespace, unreadable: dict[str, str]) -> tuple[Selection, Options]:
    from drivetl.files.runs import run_root
    from drivetl.models.checkpoint import load_detector
    from drivetl.models.runtime import choose_device
    from drivetl.robustness.sweep import default_workers
    from drivetl.selection.detect import Seen
    from drivetl.selection.run import Options, difficulties, select

    detector: Detector = load_detector(args.run_dir, device=args.device)
    workers = default_workers(choose_device(args.device).type) if args.workers is None else args.workers
    options = Options(args.count, args.gap, args.seed, args.fps, args.batch_size, workers)
    weights, qualities, why_not = difficulties(run_root(args.run_dir), detector.categories)
    _say_weights(detector.categories, weights, qualities, why_not)
    seen = Seen(_partial(args.out), detector)
    selection = select(pool, detector, weights, seen, options, unreadable.__setitem__, args.labelled)
    return selection, options


def _say_weights(categories: tuple[str, ...], weights: Floats, qualities: Floats, why_not: str) -> None:
    if why_not:
        console.say(f"all classes weigh the same: {why_not}")
        return
    rows = [
        [name, "-" if quality != quality else f"{quality:.2f}", f"{weight:.2f}"]
        for name, quality, weight in zip(categories, qualities, weights, strict=True)
    ]
    console.table("difficulty of the classes on the run's validation images", ["class", "quality", "weight"], rows)


def _report(selection: Selection, options: Options, unreadable: dict[str, str]) -> None:
    """Print how many frames were chosen of each drive, and what became of the others."""
    from drivetl.selection.write import drive_rows

    frames, chosen, n_chosen = selection.pool.frames, selection.chosen, len(selection.selected)
    for reason in list(unreadable.values())[:SHOWN_SKIPPED]:
        console.warn(f"skipped {reason}")
    if len(unreadable) > SHOWN_SKIPPED:
        console.warn(f"skipped {len(unreadable)} images in all")
    rows = drive_rows(frames, selection.selected)
    title = f"{n_chosen} of {len(frames)} frames"
    if len(rows) <= MOST_DRIVES:
        console.table(title, ["drive", "frames", "chosen"], [[name or "(unknown)", *rest] for name, *rest in rows])
    else:
        touched = sum(row[2] > 0 for row in rows)
        console.say(f"{title}, from {touched} of {len(rows)} drives")
    left_out = [
        f"{selection.n_labelled} labelled already" if selection.n_labelled else "",
        f"{chosen.near} near-duplicates of a chosen or labelled frame" if chosen.near else "",
        f"{chosen.close} less than {options.gap_s:g} s from one" if chosen.close else "",
    ]
    if any(left_out):
        console.say(f"left out: {', '.join(filter(None, left_out))}")
    if n_chosen < options.count:
        console.warn(f"only {n_chosen} of {options.count} frames can be chosen: no others are left")
    console.numbers(
        chosen=n_chosen,
        frames=len(frames),
        drives=len(rows),
        near_duplicates=chosen.near,
        closer_than_gap=chosen.close,
        labelled=selection.n_labelled,
        skipped=len(unreadable),
    )


def _write(selection: Selection, scores: Floats, work: Path, args: argparse.Namespace) -> None:
    """All files of the selection."""
    from drivetl.adapters.cvat_writer import write_cvat
    from drivetl.selection import write

    pool, selected = selection.pool, selection.selected
    images, dataset = pool.dataset.images_root, pool.dataset
    if pool.video is not None:
        images, dataset = work / write.IMAGES, replace(dataset, images_root=args.out / write.IMAGES)
        write.write_video_frames(pool.video, selected, images)
    dataset = write.pre_labelled(dataset, selected, scores)
    write.write_dataset_for(dataset, work, args.out)
    write.write_tables(selected, dataset, work)
    write_cvat(dataset, work / CVAT)
    write.write_attributes(dataset.images, work / write.ATTRIBUTES)
    name = Path(args.source[0]).name if len(args.source) == 1 else f"{len(args.source)} sources"
    heading = f"{len(selected)} of {len(pool.frames)} frames of {name} to label next, by {args.run_dir.name}"
    write.write_sheet(selected, images, dataset.categories, scores, heading, work / write.SHEET)
    console.numbers(pre_labels=sum(len(image.annotations) for image in dataset.images))


def _next(selection: Selection, args: argparse.Namespace) -> None:
    """Print what was written, and how the corrected labels come back."""
    from drivetl.selection import write

    out, pool = args.out, selection.pool
    root = out / write.IMAGES if pool.video is not None else pool.dataset.images_root
    has_attributes = (out / write.ATTRIBUTES).is_file()
    console.say(
        f"look at {out / write.SHEET}; label the images of {out / write.NAMES} in CVAT, starting from "
        f"{out / CVAT / 'annotations.xml'}, put its export in place of that file, and convert it:"
    )
    words = ["--format", "cvat", "--root", out / CVAT, "--images", root, "--taxonomy", out / CVAT / "taxonomy.yaml"]
    words += ["--attributes", out / write.ATTRIBUTES] if has_attributes else []
    console.wrote(
        out / write.DATASET, console.command("convert-footage", *words, "--out", out.with_name(f"{out.name}_labelled"))
    )
