"""`drivetl predict`: run a detector on images; write its detections and annotated images."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from drivetl import console
from drivetl.errors import ConfigError, DataError
from drivetl.workers import dead_workers_as_errors

if TYPE_CHECKING:
    from drivetl.coco.detections import Detections
    from drivetl.coco.records import Dataset, ImageRecord
    from drivetl.models.detector import Detector

SKIPPED = "skipped.json"
SHOWN_SKIPPED = 10
"""Skipped images that are named on the console."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    add = parser.add_argument
    add("--run", dest="run_dir", type=Path, required=True, metavar="RUN", help="run directory")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, metavar="DATA.json", help="the images of a COCO dataset json")
    source.add_argument("--images", type=Path, metavar="DIR", help="a folder of images, with or without labels")
    add("--out", type=Path, required=True, metavar="DIR", help="new folder for the results and the annotated images")
    add("--score", type=float, default=0.3, help="lowest score of a detection; 0 for AP (default: 0.3)")
    add(
        "--format",
        choices=("coco", "kitti"),
        default="coco",
        help="coco: results.json; kitti: KITTI result files in data/ (default: coco)",
    )
    add(
        "--pictures", type=int, default=100, metavar="N", help="annotated images to write, evenly spaced (default: 100)"
    )
    add(
        "--on-error",
        choices=("skip", "stop"),
        default="skip",
        help=(
            "for an image that cannot be read: skip it and list it in skipped.json (exit code 0), or stop and keep the "
            "results so far (exit code 2) (default: skip)"
        ),
    )
    add("--batch-size", type=int, default=8, metavar="N", help="images per forward pass (default: 8)")
    add("--workers", type=int, metavar="N", help="processes that decode images (default: one per core)")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")


def run(args: argparse.Namespace) -> None:
    """Detect, write the results, draw."""
    for flag, value, least in (
        ("--pictures", args.pictures, 0),
        ("--batch-size", args.batch_size, 1),
        ("--workers", args.workers, 0),
    ):
        if value is not None and value < least:
            raise ConfigError(f"{flag} is {value}", remedy=f"it must be at least {least}")
    if not 0 <= args.score <= 1:
        raise ConfigError(f"--score is {args.score}", remedy="name a score from 0 to 1")

    from drivetl.coco.io import read_dataset
    from drivetl.files.write import new_directory
    from drivetl.models.checkpoint import load_detector
    from drivetl.robustness.predict import folder_dataset

    unreadable: dict[str, str] = {}
    with new_directory(args.out) as folder:
        detector = load_detector(args.run_dir, device=args.device)
        on_error = unreadable.__setitem__ if args.on_error == "skip" else None
        dataset = read_dataset(args.data) if args.data else folder_dataset(args.images, detector.categories, on_error)
        if args.data and dataset.categories != detector.categories:
            raise ConfigError(
                f"{args.data} has the classes {', '.join(dataset.categories)}, the run"
                f" {', '.join(detector.categories)}",
                remedy=f"convert it with the run's taxonomy.yaml, or use its images: --images {dataset.images_root}",
            )
        n_images = len(dataset.images) + len(unreadable)
        detections = _detect(detector, dataset, args, unreadable)
        _write_skipped(folder, dataset, detections, unreadable)
        dataset = dataset.subset([image for image in dataset.images if image.id in detections])
        _write(detections, dataset, detector.categories, folder, args)
        _draw(detections, dataset, detector.categories, folder / "pictures", args.pictures)
    counts = Counter(detector.categories[int(label) - 1] for found in detections.values() for label in found.labels)
    console.table(
        f"{sum(counts.values())} detections with a score of at least {args.score:g} in {len(detections)} images",
        ["class", "detections"],
        [(name, counts[name]) for name in detector.categories],
    )
    if unreadable and args.on_error == "stop":
        raise DataError(
            f"stopped after {len(detections)} of {n_images} images, results so far in {args.out}:"
            f" {next(iter(unreadable.values()))}",
            remedy="or use --on-error skip",
        )
    for reason in list(unreadable.values())[:SHOWN_SKIPPED]:
        console.warn(f"skipped {reason}")
    if unreadable:
        console.warn(f"{len(unreadable)} of {n_images} images have no detections: see {args.out / SKIPPED}")
    _next(args)


@dead_workers_as_errors("--workers")
def _detect(
    detector: Detector, dataset: Dataset, args: argparse.Namespace, unreadable: dict[str, str]
) -> dict[int, Detections]:
    """Image id -> its detections; adds the images that cannot be read to `unreadable` (file name -> reason).

    With `--on-error stop` the first of them ends it. Raises DataError when no image can be read.
    """
    from drivetl.robustness.predict import predict
    from drivetl.robustness.sweep import default_workers

    workers = default_workers(detector.device.type) if args.workers is None else args.workers

    def on_error(name: str, reason: str) -> None:
        unreadable[name] = reason
        if args.on_error == "stop":
            raise _Stopped

    stream = predict(
        detector, dataset, score=args.score, batch_size=args.batch_size, workers=workers, on_error=on_error
    )
    detections: dict[int, Detections] = {}
    with suppress(_Stopped):
        for record, of_image in console.track(stream, "detecting", total=len(dataset.images)):
            detections[record.id] = of_image
    if unreadable and not detections:
        raise DataError(next(iter(unreadable.values())))
    return detections


class _Stopped(Exception):  # noqa: N818 - not an error
    """Detection ends here."""


def _write_skipped(
    folder: Path, dataset: Dataset, detections: dict[int, Detections], unreadable: dict[str, str]
) -> None:
    """skipped.json: file name and reason of every image without detections; written only when there are some."""
    missing = dict.fromkeys(image.file_name for image in dataset.images if image.id not in detections)
    reasons = dict.fromkeys(missing, "not reached") | unreadable
    rows = [{"file_name": name, "reason": reasons[name]} for name in sorted(reasons)]
    if rows:
        (folder / SKIPPED).write_text(json.dumps(rows, indent=1) + "\n", "utf-8")


def _write(
    detections: dict[int, Detections], dataset: Dataset, names: tuple[str, ...], folder: Path, args: argparse.Namespace
) -> None:
    import orjson

    from drivetl.robustness.predict import coco_results, images_document, kitti_lines, kitti_names

    if args.format == "kitti":
        files = kitti_names(dataset)
        (folder / "data").mkdir()
        for image_id, of_image in detections.items():
            (folder / "data" / files[image_id]).write_text(kitti_lines(of_image, names), "utf-8")
        return
    rows = [row for image in dataset.images for row in coco_results(image.id, detections[image.id])]
    (folder / "results.json").write_bytes(orjson.dumps(rows, option=orjson.OPT_SERIALIZE_NUMPY))
    if args.images:
        document = images_document(dataset)
        (folder / "images.json").write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))


def _draw(
    detections: dict[int, Detections], dataset: Dataset, names: tuple[str, ...], folder: Path, limit: int
) -> None:
    """Write at most `limit` annotated images, evenly spaced; names that differ in the suffix alone keep it."""
    step = max(1, -(-len(dataset.images) // limit)) if limit else len(dataset.images) + 1
    chosen = dataset.images[::step] if limit else []
    taken: set[PurePosixPath] = set()
    for record in console.track(chosen, "drawing"):
        name = PurePosixPath(record.file_name)
        duplicate = name.with_suffix("") in taken
        taken.add(name.with_suffix(""))
        path = folder / (f"{name}.jpg" if duplicate else name.with_suffix(".jpg"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(annotated_jpeg(record, dataset.images_root, detections[record.id], names))


def annotated_jpeg(record: ImageRecord, root: Path, detections: Detections, names: tuple[str, ...]) -> bytes:
    """The image with its detections, as a JPEG file."""
    from drivetl.coco.masks import decode
    from drivetl.data.dataset import read_image
    from drivetl.draw.objects import draw_objects, jpeg

    masks = None
    if detections.masks is not None:
        masks = [decode(rle, record.height, record.width) for rle in detections.masks]
    drawn = draw_objects(
        read_image(record, root),
        detections.boxes,
        detections.labels.tolist(),
        scores=detections.scores.tolist(),
        categories=names,
        masks=masks,
    )
    return jpeg(drawn, quality=90)


def _next(args: argparse.Namespace) -> None:
    results = args.out / ("data" if args.format == "kitti" else "results.json")
    if args.data and args.score > 0:
        console.say(f"detections below {args.score:g} are left out; AP needs all of them: --score 0")
        words = ("--run", args.run_dir, "--data", args.data, "--format", args.format, "--score", 0)
        console.wrote(results, console.command("predict", *words, "--out", f"{args.out}_all"))
    elif args.data and args.format == "coco":
        console.wrote(results, console.command("evaluate", "--gt", args.data, "--predictions", results))
    else:
        console.wrote(results)
