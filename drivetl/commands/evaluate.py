"""COCO or KITTI metrics of any detector's results."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import orjson

from drivetl.coco.drives import Drives
from drivetl.coco.io import load_json, read_dataset
from drivetl.commands.flags import seed
from drivetl.console import say, table, warn, wrote
from drivetl.errors import ConfigError, DataError
from drivetl.files.read import read_text
from drivetl.files.write import write_atomically
from drivetl.metrics import coco_ap, kitti_ap, kitti_objects
from drivetl.metrics.extra_metrics import extra_metrics, plain_values
from drivetl.metrics.match_store import MatchStore, match
from drivetl.metrics.results import count_repeated, read_coco_results
from drivetl.metrics.truth import from_coco


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    parser.add_argument("--gt", type=Path, required=True, help="COCO json with the truth, or a KITTI label folder")
    parser.add_argument(
        "--predictions",
        type=Path,
        required=True,
        nargs="+",
        help="COCO results json (several parts of one are joined), or a folder of KITTI result files",
    )
    parser.add_argument("--protocol", choices=("coco", "kitti"), default="coco", help="whose rules (default coco)")
    parser.add_argument("--iou-type", choices=("bbox", "segm"), default="bbox", help="match boxes or masks (coco)")
    parser.add_argument(
        "--out",
        type=Path,
        help="json for the numbers: COCO's as fractions, KITTI's AP in percent as its devkit prints it",
    )
    parser.add_argument("--frames", type=Path, help="kitti: a file naming one frame a line, like ImageSets/val.txt")
    parser.add_argument(
        "--details",
        action="store_true",
        help="coco: intervals over drives, thresholds, oLRP, calibration, confusion, TIDE errors, slices",
    )
    parser.add_argument(
        "--threshold-rule",
        choices=("f1", "lrp", "recall", "fp_per_image"),
        default="f1",
        help="details: how the operating threshold of each class is chosen (default f1)",
    )
    parser.add_argument(
        "--threshold-value",
        type=float,
        help="details: the recall (0 to 1), or the false positives per image, that is wanted",
    )
    parser.add_argument(
        "--slices", default="", metavar="NAME,NAME", help="details: further attributes to slice by, like weather"
    )
    parser.add_argument("--draws", type=int, default=1000, help="details: bootstrap draws (default 1000)")
    parser.add_argument("--seed", type=seed, default=0, help="details: seed of the bootstrap (default 0)")


def run(args: argparse.Namespace) -> None:
    """Read, match, print the tables, write the json."""
    numbers = _kitti(args) if args.protocol == "kitti" else _coco(args)
    if args.out:
        write_numbers(numbers, args.out)
        wrote(args.out)


def write_numbers(numbers: dict[str, Any], path: Path) -> None:
    """Write a metrics json. Raises DataError when the file exists with other numbers: nothing is overwritten."""
    content = orjson.dumps(plain_values(numbers), option=orjson.OPT_INDENT_2) + b"\n"
    if path.exists() and path.read_bytes() != content:
        raise DataError("exists already with other numbers", remedy="name another file with --out", file=path)
    write_atomically(path, content)


def _coco(args: argparse.Namespace) -> dict[str, Any]:
    if args.draws < 2:
        raise ConfigError(f"--draws {args.draws} gives no interval", remedy="use 1000")
    if args.slices and not args.details:
        raise ConfigError("--slices is for --details", remedy="add it, or leave it out")
    wanted_rate = _threshold_value(args.threshold_rule, args.threshold_value)
    truth = from_coco(load_json(args.gt), args.gt)
    results = read_coco_results(args.predictions, truth)
    silent = len(set(truth.image_ids.tolist()) - set(results.image_id.tolist()))
    if silent:
        warn(f"{silent} of {len(truth.image_ids)} images have no detections: they count as such")
    repeated = count_repeated(results)
    if repeated:
        warn(f"{repeated} detections repeat another one exactly: they count as false positives")
    try:
        store = match(truth, results, args.iou_type)
    except DataError as error:
        raise error.at(args.predictions[0]) from None
    if store.dropped_unlabelled:
        warn(f"{store.dropped_unlabelled} detections of classes that their image's source does not label: left out")
    metrics = coco_ap.summarize(store)
    _print_coco(store, metrics, args.iou_type)
    numbers = metrics.as_dict() | {"iou_type": args.iou_type, "images": store.n_images}
    if args.details:
        say("")
        wanted = _slices(args.slices, store)
        extra = extra_metrics(store, args.threshold_rule, wanted_rate, wanted, args.draws, args.seed)
        _print_details(extra, store.truth.drives)
        numbers["details"] = extra
    return numbers


def _threshold_value(rule: str, value: float | None) -> float:
    """--threshold-value, when its rule takes it. Raises ConfigError."""
    if rule not in ("recall", "fp_per_image"):
        if value is not None:
            raise ConfigError(f"--threshold-value goes with recall or fp_per_image, not {rule}", remedy="leave it out")
        return 0.0
    if value is None or not 0 < value <= (1 if rule == "recall" else float("inf")):
        said = "missing" if value is None else f"{value:g}"
        example = "0.8" if rule == "recall" else "0.1"
        raise ConfigError(f"--threshold-value of {rule} is {said}", remedy=f"name one, for example {example}")
    return value


def _slices(text: str, store: MatchStore) -> list[str]:
    """Attribute names that somebody gave to an object or its image. Raises ConfigError with those there are."""
    wanted = [name for name in text.split(",") if name]
    said = [*store.truth.attributes, *store.truth.image_attributes]
    known = sorted({name for one in said for name in one})
    unknown = next((name for name in wanted if name not in known), None)
    if unknown is not None:
        raise ConfigError(
            f"--slices: neither object nor image says {unknown!r}",
            remedy=f"known are {', '.join(known) or 'none: leave it out'}",
        )
    return wanted


def _print_coco(store: MatchStore, metrics: coco_ap.CocoMetrics, iou_type: str) -> None:
    say(f"COCO {iou_type}: {store.n_images} images, {int(store.truth.counts().sum())} objects")
    table("", ["metric", "value"], [(name, number(value)) for name, value in metrics.named().items()])
    columns = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")
    table(
        "per class",
        ["class", *columns, "objects"],
        [(name, *(number(row[key]) for key in columns), int(row["n_gt"])) for name, row in metrics.per_class.items()],
    )


def number(value: float | None) -> str:
    """Three digits after the point; a dash for what could not be measured."""
    return "-" if value is None or value != value else f"{value:.3f}"


def _print_details(extra: dict[str, Any], drives: Drives) -> None:
    intervals = extra["intervals"]
    rows = [
        (name, number(one["point"]), f"{number(one['low'])} .. {number(one['high'])}")
        for name, one in intervals.items()
        if isinstance(one, dict)
    ]
    say(f"95 % intervals over {drives.units_in_words()}")
    table("", ["metric", "value", "interval"], rows)
    if intervals["warning"]:
        warn(intervals["warning"])
    operating = extra["operating"]
    keys = ("threshold", "recall", "precision", "miss_rate", "fp_per_image")
    say(f"operating points, chosen by {operating['rule']}")
    table(
        "",
        ["class", "threshold", "recall", "precision", "missed", "FP/image", "oLRP"],
        [
            (name, *(number(point[key]) for key in keys), number(extra["lrp"]["classes"][name]["olrp"]))
            for name, point in operating["classes"].items()
        ],
    )
    if "tide" in extra:
        errors = extra["tide"]
        say(f"what each kind of error costs (TIDE; AP50 {number(errors['AP50'])})")
        table(
            "",
            ["error", "dAP50", "count"],
            [(name, number(cost), errors["counts"].get(name, "")) for name, cost in errors["delta_ap"].items()],
        )
    measured = extra["calibration"]
    say(
        f"calibration ({measured['matching']}, scores from {measured['score_floor']}): "
        f"D-ECE {number(measured['d_ece'])}, LaECE {number(measured['la_ece'])}"
    )
    say("recall at the operating point")
    table(
        "",
        ["slice", "bin", "objects", "drives", "recall", "interval", "AP"],
        [
            (
                one["slice"],
                one["bin"],
                one["n_gt"],
                "unknown" if one["n_drives"] is None else one["n_drives"],
                number(one["recall"]["point"]),
                f"{number(one['recall']['low'])} .. {number(one['recall']['high'])}",
                number(one["ap"]),
            )
            for one in extra["slices"]
        ],
    )


def _kitti(args: argparse.Namespace) -> dict[str, Any]:
    if args.details or args.iou_type == "segm":
        raise ConfigError("--details and --iou-type segm go with --protocol coco", remedy="leave them out")
    truth, found = _kitti_files(args) if args.gt.is_file() else _kitti_folders(args)
    results = kitti_ap.evaluate(truth, found)
    rows = [
        (name, level, one.n_gt, _percent(one.ap40), _percent(one.ap11))
        for name, levels in results.items()
        for level, one in levels.items()
    ]
    say(f"KITTI 2-D: {len(truth.frames)} frames, average precision in %")
    table("", ["class", "difficulty", "objects", "AP40", "AP11"], rows)
    silent = [name for name in results if name not in found.names]
    if silent:
        warn(f"no detections at all of {', '.join(silent)}: counted as zero precision, not left out")
    return {
        name: {
            level: {"AP40": 100 * one.ap40, "AP11": 100 * one.ap11, "precision_41": one.precision_41, "n_gt": one.n_gt}
            for level, one in levels.items()
        }
        for name, levels in results.items()
    }


def _kitti_folders(args: argparse.Namespace) -> tuple[kitti_objects.KittiObjects, kitti_objects.KittiObjects]:
    if len(args.predictions) > 1:
        raise ConfigError("--protocol kitti takes one folder of results", remedy="join the folders first")
    frames = None
    if args.frames:
        frames = [word for line in read_text(args.frames).splitlines() for word in line.split()[:1]]
    truth = kitti_objects.read_labels(args.gt, frames)
    return truth, kitti_objects.read_results(args.predictions[0], truth.frames)


def _kitti_files(args: argparse.Namespace) -> tuple[kitti_objects.KittiObjects, kitti_objects.KittiObjects]:
    """KITTI's rules on a dataset that convert-kitti wrote, and on COCO results: from the source's own labels."""
    if args.frames:
        raise ConfigError("--frames goes with label folders", remedy="split the dataset instead")
    dataset = read_dataset(args.gt)
    results = read_coco_results(args.predictions, dataset)
    return kitti_objects.labels_of(dataset), kitti_objects.detections_of(results, dataset)


def _percent(value: float) -> str:
    return "-" if value != value else f"{100 * value:.2f}"
