"""`drivetl doubt`: labels that are probably wrong, ranked: a table, a page, the images to review for CVAT."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivetl import console
from drivetl.commands.flags import input_path, new_path, run_directory
from drivetl.doubt.kinds import parse_thresholds
from drivetl.errors import ConfigError, check_least
from drivetl.files.write import check_new, new_directory

if TYPE_CHECKING:  # a mistake in the flags is reported before numpy is loaded
    from drivetl.coco.records import Dataset
    from drivetl.doubt.find import Doubt
    from drivetl.metrics.results import Results

TOP = 10
"""Doubts that the screen shows."""
RESULTS = "predictions.json"
COPY = "dataset.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    add = parser.add_argument
    add("data", type=input_path, metavar="DATASET.json", help="dataset json whose labels are checked")
    add("--run", dest="run_dir", type=run_directory, metavar="RUN", help="run directory of the detector")
    add(
        "--predictions",
        type=input_path,
        metavar="RESULTS.json",
        help="in place of --run: detections (COCO results) of a detector that was not trained on these labels",
    )
    add(
        "--out",
        type=new_path,
        metavar="DIR",
        help="new folder for tables, page and CVAT files (default: DATASET_doubt next to the json)",
    )
    add(
        "--threshold",
        default="",
        metavar="DOUBT",
        help=(
            "doubt from which a label is listed: one number from 0 to 1, or per kind: overlooked=0.6,swapped=0.25"
            " (default: measured, see docs/doubt.md)"
        ),
    )
    add(
        "--as-ignore",
        action="store_true",
        help="also write dataset.json, a copy in which what is listed became ignore regions",
    )
    add(
        "--epochs",
        type=int,
        metavar="N",
        help="where the run saw the data: epochs of each of the two trainings (default: the run's own)",
    )
    add("--batch-size", type=int, default=8, metavar="N", help="images per forward pass (default: 8)")
    add("--workers", type=int, metavar="N", help="processes that decode images (default: one per core)")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.epilog = (
        "A run that was trained on these images has learned their faults. Two detectors are then trained from its own "
        "start, each on half of the drives, and each is run on the other half. They are kept in OUT_folds: run the "
        "same command again to continue after a kill."
    )


def resume_flags(args: argparse.Namespace) -> list[str] | None:
    """Nothing to add: the trainings of the folds are kept."""
    return [] if _folds(_out(args)).is_dir() else None


def run(args: argparse.Namespace) -> None:
    """Get the detections, find the doubts, write table, page, CVAT files and, on demand, the copy."""
    _check_flags(args)
    thresholds = parse_thresholds(args.threshold)
    out = _out(args)
    check_new(out)
    import orjson

    from drivetl.adapters.cvat_writer import write_cvat
    from drivetl.coco.io import read_dataset
    from drivetl.coco.writing import encode_datasets

    dataset = read_dataset(args.data)
    results, known, facts = _detections(args, dataset, out)
    from drivetl.doubt.find import find
    from drivetl.doubt.page import html_page
    from drivetl.doubt.write import as_ignore, coco_results, document, table, to_review

    found = find(dataset, results, known)
    doubts = found.beyond(thresholds)
    content = document(dataset, found, thresholds, facts)
    lost: Mapping[str, int] = {}
    with new_directory(out) as folder:
        (folder / "doubt.json").write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))
        (folder / "doubt.csv").write_text(table(dataset, doubts), "utf-8")
        (folder / RESULTS).write_bytes(coco_results(results))
        (folder / "doubt.html").write_text(html_page(dataset, found, content), "utf-8")
        if doubts:
            lost = write_cvat(to_review(dataset, doubts), folder / "cvat")
        if args.as_ignore:
            (folder / COPY).write_bytes(b"".join(encode_datasets({"": as_ignore(dataset, doubts)}, out)[""]))
    for what, count in sorted(lost.items()):
        console.warn(f"{count} {what}: cvat cannot hold them")
    _print(dataset, doubts, content)
    complete = set(dataset.categories) <= set(known)
    _wrote(args, out, bool(doubts), ["--predictions", out / RESULTS] if complete else ["--run", args.run_dir])


def _check_flags(args: argparse.Namespace) -> None:
    """Raises ConfigError for values that no input makes valid."""
    if (args.run_dir is None) == (args.predictions is None):
        raise ConfigError("name one source of detections", remedy="--run RUN, or --predictions RESULTS.json")
    check_least(("--epochs", args.epochs, 1), ("--batch-size", args.batch_size, 1), ("--workers", args.workers, 0))
    if args.epochs is not None and args.run_dir is None:
        raise ConfigError("--epochs is for --run", remedy="leave it out")


def _out(args: argparse.Namespace) -> Path:
    """--out, or DATASET_doubt next to the json."""
    data: Path = args.data
    return args.out or data.with_name(f"{data.stem}_doubt")


def _folds(out: Path) -> Path:
    """Where the trainings of the folds are kept, next to the output."""
    return out.with_name(f"{out.name}_folds")


def _detections(args: argparse.Namespace, dataset: Dataset, out: Path) -> tuple[Results, Sequence[str], dict[str, Any]]:
    """The detections with the category ids of the dataset, the classes that their detector has, and where they are
    from."""
    if args.predictions is not None:
        from drivetl.metrics.results import read_coco_results

        text = f"{args.predictions}, made by a detector that did not train on these labels"
        given = {"source": str(args.predictions), "how": "given", "in_words": text}
        return read_coco_results(args.predictions, dataset), dataset.categories, given
    from drivetl.doubt.seen import seen_by
    from drivetl.files.runs import class_names

    classes = class_names(args.run_dir)
    seen = seen_by(args.run_dir, dataset)
    if not seen.images:
        _check_classes(dataset, classes)
    with console.loading("torch"):
        from drivetl.doubt.predict import Options, detect, detect_out_of_fold
        from drivetl.models.runtime import choose_device
        from drivetl.robustness.sweep import default_workers

    device = choose_device(args.device)
    workers = default_workers(device.type) if args.workers is None else args.workers
    options = Options(args.device, args.batch_size, workers)
    facts: dict[str, Any] = {
        "source": str(args.run_dir),
        "images_seen_in_training": seen.images,
        "unknown": list(seen.unknown),
    }
    for name in seen.unknown:
        console.warn(f"{name} is not there any more: it may have had these images")
    if not seen.images:
        text = f"{args.run_dir.name}, which was not trained on these images"
        if seen.unknown or seen.config is None:
            text = f"{args.run_dir.name}; what it was trained on is unknown in part"
            facts["warning"] = (
                "What the run was trained on is unknown in part. Where it saw these labels, it repeats them"
            )
        return detect(args.run_dir, dataset, options), classes, facts | {"how": "direct", "in_words": text}
    assert seen.config is not None
    n_images = len(dataset.images)
    console.say(
        f"{args.run_dir.name} was trained on {seen.images} of these {n_images} images, so it repeats their labels",
        f"two detectors are trained from {seen.config.model.start}, each on half of the drives, run on the other half",
        f"they are kept in {_folds(out)}",
    )
    results = detect_out_of_fold(dataset, seen.config, _folds(out), options, args.epochs)
    text = (
        f"out of fold: two detectors trained like {args.run_dir.name}, each on half of the drives and run on the other"
    )
    return results, dataset.categories, facts | {"how": "out of fold", "in_words": text}


def _check_classes(dataset: Dataset, classes: Sequence[str]) -> None:
    """Raises ConfigError where dataset and detector have no class in common; warns of what cannot be checked."""
    missing = [name for name in dataset.categories if name not in classes]
    if len(missing) == len(dataset.categories):
        names = ", ".join(dataset.categories) or "none"
        raise ConfigError(
            f"no class in common: the dataset has {names}, the run {', '.join(classes)}",
            remedy="convert the dataset with the run's taxonomy.yaml",
        )
    if missing:
        console.warn(f"the run has no class {', '.join(missing)}: labels of it are not checked")


def _print(dataset: Dataset, doubts: Sequence[Doubt], document: Mapping[str, Any]) -> None:
    """The counts per kind, and the most doubtful labels."""
    from drivetl.doubt.page import worded

    names = {image.id: image.file_name for image in dataset.images}
    console.numbers(images=document["images"], labels=document["labels"], doubts=document["counts"])
    console.table(
        f"{document['images']:,} images, {document['labels']:,} labels",
        ["kind", "doubtful", "scored", "from doubt"],
        [
            (worded(kind), count, document["scored"][kind], f"{document['thresholds'][kind]:g}")
            for kind, count in document["counts"].items()
        ],
    )
    for reason, count in document["not_scored"].items():
        if count:
            console.say(f"not scored: {count:,} {reason}")
    if doubts:
        rows = []
        for rank, row in enumerate(doubts[:TOP], 1):
            label, detected = (dataset.categories[number - 1] for number in (row.category_id, row.detected_id))
            shown = "-" if row.annotation is None else label
            rows.append((f"{rank} {worded(row.kind)}", f"{row.doubt:.2f}", shown, detected, names[row.image_id]))
        console.table("the most doubtful", ["", "doubt", "label", "detected", "image"], rows)


def _wrote(args: argparse.Namespace, out: Path, doubtful: bool, detections: list[object]) -> None:
    """Print the paths and the next command: the copy with ignore regions, from the same detections, or its audit."""
    for name in ("doubt.csv", "doubt.json", *(["cvat"] if doubtful else [])):
        console.wrote(out / name)
    words = ["doubt", args.data, *detections, "--as-ignore", "--out", f"{out}_ignored"]
    words += ["--threshold", args.threshold] if args.threshold else []
    console.wrote(out / "doubt.html", *([] if args.as_ignore else [console.command(*words)]))
    if args.as_ignore:
        console.wrote(out / COPY, console.command("audit", out / COPY))
