"""`drivetl predict`: run a detector on images or a video; write its detections and draw them."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from drivetl import console
from drivetl.commands.flags import add_old_name, input_path, new_path, run_directory, run_or_detector
from drivetl.errors import ConfigError, DataError, check_least

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from drivetl.coco.folders import OnError
    from drivetl.coco.records import Dataset
    from drivetl.metrics.truth import Floats
    from drivetl.prediction.inputs import VideoInput
    from drivetl.prediction.model import Model
    from drivetl.prediction.thresholds import Chosen
    from drivetl.robustness.sweep import SupportsInfer

SHOWN_SKIPPED = 10
"""Skipped images that are named on the console."""
COMPARED = "compare"
"""Folder of the second run's results."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    add = parser.add_argument
    add(
        "source",
        nargs="*",
        metavar="SOURCE",
        help="images, folders or globs; or one video (mp4, avi, mkv, mov, webm, ...); or one dataset json",
    )
    add("--run", dest="run_dir", type=run_directory, metavar="RUN", help="run directory")
    add(
        "--detector",
        type=run_or_detector,
        metavar="DETECTOR",
        help="instead of --run: python:FILE.py:FACTORY, torchvision:NAME or onnx:FILE.onnx, see eval-robustness",
    )
    add("--compare", type=run_or_detector, metavar="RUN|DETECTOR", help="a second one, drawn next to the first")
    add("--data", type=input_path, metavar="DATA.json", help="the images of a COCO dataset json: the same as SOURCE")
    add("--images", metavar="DIR", help="a folder of images, with or without labels: the same as SOURCE")
    add("--out", type=new_path, required=True, metavar="DIR", help="new folder for the results and what is drawn")
    score = add(
        "--score",
        default="0.3",
        metavar="SCORE",
        help="lowest score of a detection: one number, or per class: car=0.5,person=0.3; 0 for AP (default: 0.3)",
    )
    add_old_name(parser, "--threshold", score)
    add(
        "--at",
        metavar="POINT",
        help=(
            "score per class from the run's own validation: recall=0.9 finds 90 %% of the objects there, fp=0.5 has at "
            "most half a false positive of the class per image"
        ),
    )
    add(
        "--format",
        default="coco,csv",
        metavar="NAMES",
        help=(
            "coco: results.json; csv: detections.csv; kitti: KITTI result files in data/; separated by commas "
            "(default: coco,csv)"
        ),
    )
    add("--track", action="store_true", help="give objects an id that lasts from frame to frame, by overlap (IoU)")
    add(
        "--colours",
        choices=("outcome", "class"),
        help="of the boxes: found, missed and invented, or the class (default: outcome where there are labels)",
    )
    add("--codec", default="auto", help="of a drawn video: h264 (mp4, by ffmpeg), vp8 (webm), auto (default: auto)")
    add(
        "--pictures",
        type=int,
        metavar="N",
        help="annotated images to write, evenly spaced (default: 100; of a video none)",
    )
    add(
        "--on-error",
        choices=("skip", "stop"),
        default="skip",
        help=(
            "for an image that cannot be read: skip it and list it in skipped.json (exit code 0), or stop and keep the "
            "results so far (exit code 2); a video that breaks off is such an image (default: skip)"
        ),
    )
    add("--batch-size", type=int, default=8, metavar="N", help="images per forward pass (default: 8)")
    add("--workers", type=int, metavar="N", help="processes that decode images (default: one per core)")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")


@dataclass(frozen=True)
class _Run:
    """A run or another detector of the command line; of a run the detector is not loaded yet."""

    path: Path
    detector: SupportsInfer | None
    categories: tuple[str, ...]
    scores: Floats
    """(K,) lowest score of each class."""
    folder: Path
    """Where its results go."""


def run(args: argparse.Namespace) -> None:
    """Check everything that needs no model, detect, write the results, draw."""
    _check_flags(args)
    from drivetl.files.video import check_codec, choose_codec, video_suffix
    from drivetl.files.write import new_directory
    from drivetl.prediction.inputs import VideoInput
    from drivetl.prediction.results import parse_formats

    args.formats = parse_formats(args.format)
    check_codec(args.codec)
    with new_directory(args.out) as folder:
        runs = _runs(args, folder)
        unreadable: dict[str, str] = {}
        on_error = unreadable.__setitem__ if args.on_error == "skip" else None
        source = _find(args, runs[0].categories, on_error)
        _check_input(source, runs, args)
        if isinstance(source, VideoInput):
            args.codec = choose_codec(args.codec)
        for other in runs[1:]:
            other.folder.mkdir()
        with console.loading("torch"):
            import drivetl.models.checkpoint  # noqa: F401 - torch and torchvision
        if isinstance(source, VideoInput):
            stopped = _video(source, runs, folder, args)
        else:
            stopped = _images(source, runs, folder, args, unreadable)
    if stopped:
        raise stopped
    if isinstance(source, VideoInput):
        console.wrote(args.out / f"{source.path.stem}{video_suffix(args.codec)}")
    _next(args, runs)


def _check_flags(args: argparse.Namespace) -> None:
    """Raises ConfigError for values that no input makes valid."""
    check_least(("--pictures", args.pictures, 0), ("--batch-size", args.batch_size, 1), ("--workers", args.workers, 0))
    if (args.run_dir is None) == (args.detector is None):
        raise ConfigError("needs one of --run and --detector", remedy="--run RUN, or --detector python:FILE.py:FACTORY")
    if args.run_dir is None and args.at:
        raise ConfigError("--at needs the validation of a run", remedy="choose scores with --score")
    if sum(map(bool, (args.source, args.data, args.images))) != 1:
        raise ConfigError(
            "name one input", remedy="images, folders, a video or a dataset json; or use --data or --images instead"
        )


def _find(args: argparse.Namespace, categories: Sequence[str], on_error: OnError | None) -> Dataset | VideoInput:
    from drivetl.prediction.inputs import find_input, labelled_dataset

    if args.data:  # whatever its suffix
        return labelled_dataset(args.data, categories)
    return find_input(_sources(args), categories, on_error)


def _sources(args: argparse.Namespace) -> list[str]:
    if args.source:
        return list(args.source)
    return [str(args.data or args.images)]


def _runs(args: argparse.Namespace, folder: Path) -> list[_Run]:
    """The run or detector, and the one that it is compared with, each with its thresholds."""
    from drivetl.prediction.thresholds import check_names, parse_rule, parse_scores, scores_of

    first = args.run_dir or args.detector
    if args.compare is not None and Path(args.compare).resolve() == Path(first).resolve():
        raise ConfigError("--compare names the same run", remedy="name another one")
    scores = parse_scores(args.score)
    rule = parse_rule(args.at) if args.at else None
    if rule is not None and args.score != "0.3":
        raise ConfigError("--at chooses the scores that --score names", remedy="use one of the two")
    if rule is not None and isinstance(args.compare, str):
        raise ConfigError("--at needs the validation of a run", remedy="choose scores with --score")
    opened = [_open(value, args.device) for value in (first, args.compare) if value is not None]
    check_names(scores, list(dict.fromkeys(name for _, names, _ in opened for name in names)))
    folders = (folder, folder / COMPARED)
    return [
        _Run(path, detector, names, scores_of(scores, names) if rule is None else _at(path, names, *rule), place)
        for (path, names, detector), place in zip(opened, folders, strict=False)
    ]


def _open(value: Path | str, device: str) -> tuple[Path, tuple[str, ...], SupportsInfer | None]:
    """(a path with its name, its classes, the detector) of a run, which is loaded later, or of another detector."""
    from drivetl.files.runs import class_names

    if isinstance(value, Path):
        return value, class_names(value), None
    from drivetl.detectors.spec import open_detector, parse_spec

    with console.loading("torch"):
        detector = open_detector(parse_spec(value), device=device)
    return Path(detector.name), tuple(detector.categories), detector


def _at(run_dir: Path, categories: Sequence[str], rule: str, value: float) -> Floats:
    """(K,) scores of an operating point of the run's own validation, printed with what they give there."""
    import numpy as np

    from drivetl.files.runs import run_root
    from drivetl.prediction.thresholds import operating_points_of

    chosen = operating_points_of(run_root(run_dir), categories, rule, value)
    console.table(
        f"{run_dir.name} at {rule}={value:g}, measured on its own validation images",
        ["class", "score", "recall", "precision", "false positives per image"],
        [(row.name, *_shown(row)) for row in chosen],
    )
    for row in chosen:
        if row.note:
            console.warn(f"{row.name}: {row.note}")
    return np.array([row.point.threshold for row in chosen])


def _shown(row: Chosen) -> list[str]:
    point = row.point
    values = (point.threshold, point.recall, point.precision, point.fp_per_image)
    return ["-" if value != value or value == float("inf") else f"{value:.3f}" for value in values]


def _check_input(source: Dataset | VideoInput, runs: Sequence[_Run], args: argparse.Namespace) -> None:
    """Raises ConfigError and DataError for flags and runs that do not fit the input."""
    from drivetl.prediction.inputs import VideoInput, has_labels
    from drivetl.prediction.results import check_kitti_names

    labelled = not isinstance(source, VideoInput) and has_labels(source)
    if args.colours == "outcome" and not labelled:
        raise ConfigError("--colours outcome needs labels", remedy="run a dataset json that has some")
    if isinstance(source, VideoInput):
        return
    if "kitti" in args.formats:
        check_kitti_names(source)
    for other in runs[1:]:
        if labelled and other.categories != source.categories:
            raise ConfigError(
                f"{other.path} has other classes than the dataset: {', '.join(other.categories)}",
                remedy="compare the two runs on the images alone",
            )


def _video(source: VideoInput, runs: Sequence[_Run], folder: Path, args: argparse.Namespace) -> DataError | None:
    """Run a video; the error that ends the command where it broke off and --on-error is stop."""
    from drivetl.prediction.video import VideoOptions, run_video

    models = _load(runs, args.device)
    options = VideoOptions(args.codec, args.formats, args.batch_size, args.track, args.pictures or 0)
    summary = run_video(source, models, folder, options)
    _tables(models, f"{summary.n_frames} frames")
    _pace(summary.n_frames, "frames", summary.seconds, models)
    if args.codec == "vp8":
        console.say("written as VP8 in WebM; with the program ffmpeg installed it is H.264 in MP4, and faster")
    if summary.cut_off(source.info.n_frames):
        reason = f"{source.path}: breaks off after {summary.n_frames} of {source.info.n_frames} frames"
        if args.on_error == "stop":
            return DataError(f"{reason}, results so far in {args.out}", remedy="or use --on-error skip")
        console.warn(reason)
    return None


def _images(
    dataset: Dataset, runs: Sequence[_Run], folder: Path, args: argparse.Namespace, unreadable: dict[str, str]
) -> DataError | None:
    """Run a dataset; the error that ends the command where an image cannot be read and --on-error is stop."""
    from drivetl.models.runtime import choose_device
    from drivetl.prediction.inputs import has_labels
    from drivetl.prediction.run_images import PICTURES, ImageOptions, run_images
    from drivetl.robustness.sweep import default_workers

    labelled, n_images = has_labels(dataset), len(dataset.images) + len(unreadable)
    models = _load(runs, args.device)
    options = ImageOptions(
        args.formats,
        outcomes=labelled,
        list_images=not _is_dataset(args),
        batch_size=args.batch_size,
        workers=default_workers(choose_device(args.device).type) if args.workers is None else args.workers,
        track=args.track,
        colour_outcomes=labelled and args.colours != "class",
        pictures=PICTURES if args.pictures is None else args.pictures,
        stop=args.on_error == "stop",
    )
    began = time.monotonic()
    done, outcomes = run_images(dataset, models, folder, options, unreadable)
    _tables(models, f"{len(done.images)} images", outcomes)
    _pace(len(done.images), "images", time.monotonic() - began, models)
    console.numbers(skipped=len(unreadable))
    if unreadable and options.stop:
        return DataError(
            f"stopped after {len(done.images)} of {n_images} images, results so far in {args.out}:"
            f" {next(iter(unreadable.values()))}",
            remedy="or use --on-error skip",
        )
    for reason in list(unreadable.values())[:SHOWN_SKIPPED]:
        console.warn(f"skipped {reason}")
    if unreadable:
        console.warn(f"{len(unreadable)} of {n_images} images have no detections: see {args.out / 'skipped.json'}")
    return None


def _load(runs: Sequence[_Run], device: str) -> list[Model]:
    """The detectors of the runs. Raises CheckpointError, and ConfigError for a device that is not there."""
    from drivetl.models.checkpoint import load_detector
    from drivetl.prediction.model import Model

    return [
        Model(
            item.path.name,
            item.detector or load_detector(item.path, device=device),
            item.categories,
            item.scores,
            item.folder,
        )
        for item in runs
    ]


def _tables(models: Sequence[Model], amount: str, outcomes: Sequence[npt.NDArray[np.int64]] = ()) -> None:
    """Print the detections of each model per class, with what was found, missed and invented where that is known."""
    for number, model in enumerate(models):
        of_model = f"{model.name}: " if len(models) > 1 else ""
        title = f"{of_model}{model.counts.total()} detections in {amount}"
        columns = ["class", "detections"]
        rows: list[list[object]] = [[name, model.counts[name]] for name in model.categories]
        if outcomes:
            columns += ["found", "missed", "invented"]
            rows = [row + counts for row, counts in zip(rows, outcomes[number].tolist(), strict=True)]
        console.table(title, columns, rows)
    if outcomes:
        console.say("found: overlaps an object of its class with an IoU of 0.5; invented: overlaps none")


def _pace(count: int, unit: str, seconds: float, models: Sequence[Model]) -> None:
    """Print how many images were done in which time, from the first read to the last drawn."""
    per_second = count / max(seconds, 1e-9)
    console.say(f"{count} {unit} in {seconds:.1f} s: {per_second:.1f} {unit}/s")
    console.numbers(images=count, images_per_second=per_second, detections=models[0].counts)


def _is_dataset(args: argparse.Namespace) -> bool:
    return args.data is not None or Path(_sources(args)[0]).suffix.lower() == ".json"


def _next(args: argparse.Namespace, runs: Sequence[_Run]) -> None:
    """Print what was written and the next command: with labels, every detection, then its evaluation."""
    from drivetl.prediction.results import KITTI_FOLDER, RESULTS, TABLE

    data, first = _sources(args)[0], args.formats[0]
    results = args.out / {"coco": RESULTS, "csv": TABLE, "kitti": KITTI_FOLDER}[first]
    if not _is_dataset(args):
        console.wrote(results)
    elif any((item.scores > 0).any() for item in runs):
        console.say("detections below the threshold are left out; AP needs all of them: --score 0")
        form = "kitti" if first == "kitti" else "coco"
        which = ("--run", args.run_dir) if args.run_dir else ("--detector", args.detector)
        words = (*which, "--data", data, "--format", form, "--score", 0)
        console.wrote(results, console.command("predict", *words, "--out", f"{args.out}_all"))
    elif first == "coco":
        console.wrote(results, console.command("evaluate", "--gt", data, "--predictions", results))
    else:
        console.wrote(results)
