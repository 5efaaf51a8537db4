"""`drivetl evaluate`: COCO or KITTI metrics of any detector's results."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivetl import console
from drivetl.commands.flags import input_path, seed
from drivetl.console import say, table, warn, wrote
from drivetl.errors import ConfigError, DataError
from drivetl.files.read import read_text
from drivetl.files.write import write_atomically

if TYPE_CHECKING:  # a mistake in the flags is reported before numpy is loaded
    from drivetl.api.evaluation import Evaluation
    from drivetl.coco.drives import Drives
    from drivetl.metrics.kitti_objects import KittiObjects
    from drivetl.metrics.match_store import MatchStore


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    add = parser.add_argument
    add("--gt", type=input_path, required=True, metavar="PATH", help="ground truth: COCO json or KITTI label folder")
    add(
        "--predictions",
        type=input_path,
        required=True,
        nargs="+",
        metavar="PATH",
        help="COCO results json (several files are joined), or a folder of KITTI result files",
    )
    add("--protocol", choices=("coco", "kitti"), default="coco", help="evaluation rules (default: coco)")
    add("--iou-type", choices=("bbox", "segm"), default="bbox", help="coco: match boxes or masks (default: bbox)")
    add(
        "--out",
        type=Path,
        metavar="FILE.json",
        help="json file for the metrics: COCO as fractions, KITTI AP in percent, as each devkit prints it",
    )
    add("--frames", type=input_path, metavar="FILE", help="kitti: one frame name per line, like ImageSets/val.txt")
    add(
        "--details",
        action="store_true",
        help="coco: also intervals, thresholds, oLRP, calibration, confusion, TIDE errors and slices",
    )
    add(
        "--threshold-rule",
        choices=("f1", "lrp", "recall", "fp_per_image"),
        default="f1",
        help="with --details: how the score threshold of each class is chosen (default: f1)",
    )
    add(
        "--threshold-value",
        type=float,
        metavar="VALUE",
        help="with --threshold-rule recall or fp_per_image: the recall (0 to 1), or the false positives per image",
    )
    add(
        "--slices",
        default="",
        metavar="NAME,NAME",
        help="with --details: more attributes of objects or images to slice by, like weather",
    )
    add("--draws", type=int, default=1000, metavar="N", help="with --details: bootstrap draws (default: 1000)")
    add("--seed", type=seed, default=0, help="with --details: random seed of the bootstrap (default: 0)")


def run(args: argparse.Namespace) -> None:
    """Read, match, print the tables, write the json."""
    numbers = _kitti(args) if args.protocol == "kitti" else _coco(args)
    if args.out:
        write_numbers(numbers, args.out)
        wrote(args.out)


def write_numbers(numbers: dict[str, Any], path: Path) -> None:
    """Write a metrics json.

    Raises DataError when it cannot be written, or exists as a folder or with other numbers: nothing is overwritten.
    """
    import orjson

    from drivetl.metrics.extra_metrics import plain_values

    content = orjson.dumps(plain_values(numbers), option=orjson.OPT_INDENT_2) + b"\n"
    try:
        existing = path.read_bytes() if path.exists() else content
    except OSError as error:
        raise DataError(
            f"cannot be written ({error.strerror or error})", remedy="name another file with --out", file=path
        ) from None
    if existing != content:
        raise DataError("exists already with other numbers", remedy="name another file with --out", file=path)
    write_atomically(path, content)


def _coco(args: argparse.Namespace) -> dict[str, Any]:
    if args.draws < 2:
        raise ConfigError(f"--draws {args.draws} gives no interval", remedy="use 1000")
    if args.slices and not args.details:
        raise ConfigError("--slices needs --details", remedy="add --details, or leave --slices out")
    threshold_value = _threshold_value(args.threshold_rule, args.threshold_value)

    from drivetl.api.evaluation import evaluate
    from drivetl.metrics.extra_metrics import extra_metrics

    evaluation = evaluate(args.gt, args.predictions, iou_type=args.iou_type)
    store, metrics = evaluation.store, evaluation.metrics
    _print_coco(evaluation)
    console.numbers(**evaluation.named(), images=evaluation.n_images, objects=evaluation.n_objects)
    numbers = metrics.as_dict() | {"iou_type": args.iou_type, "images": store.n_images}
    if args.details:
        say("")
        slices = _slices(args.slices, store)
        extra = extra_metrics(store, args.threshold_rule, threshold_value, slices, args.draws, args.seed)
        _print_details(extra, store.truth.drives)
        numbers["details"] = extra
    return numbers


def _threshold_value(rule: str, value: float | None) -> float:
    """The checked --threshold-value; 0 for a rule that takes none. Raises ConfigError."""
    if rule not in ("recall", "fp_per_image"):
        if value is not None:
            raise ConfigError(
                f"--threshold-value needs the rule recall or fp_per_image, not {rule}", remedy="leave it out"
            )
        return 0.0
    if value is None or not 0 < value <= (1 if rule == "recall" else float("inf")):
        shown = "missing" if value is None else f"{value:g}"
        example = "0.8" if rule == "recall" else "0.1"
        raise ConfigError(
            f"--threshold-value for {rule} is {shown}", remedy=f"give a positive value, for example {example}"
        )
    return value


def _slices(text: str, store: MatchStore) -> list[str]:
    """Attribute names of --slices. Raises ConfigError for a name that no object and no image has."""
    names = [name for name in text.split(",") if name]
    attributes = [*store.truth.attributes, *store.truth.image_attributes]
    known = sorted({name for values in attributes for name in values})
    unknown = next((name for name in names if name not in known), None)
    if unknown is not None:
        raise ConfigError(
            f"--slices: no object and no image has the attribute {unknown!r}",
            remedy=f"known: {', '.join(known) or 'none, leave it out'}",
        )
    return names


def _print_coco(evaluation: Evaluation) -> None:
    from drivetl.api.evaluation import class_table, number

    say(f"COCO {evaluation.store.iou_type}: {evaluation.n_images} images, {evaluation.n_objects} objects")
    table("", ["metric", "value"], [(name, number(value)) for name, value in evaluation.named().items()])
    table("per class", *class_table(evaluation.metrics))


def low_high(interval: dict[str, Any]) -> str:
    """`0.289 .. 0.337`, or a dash where there is no interval."""
    from drivetl.api.evaluation import number

    return "-" if interval["low"] is None else f"{number(interval['low'])} .. {number(interval['high'])}"


def _print_details(extra: dict[str, Any], drives: Drives) -> None:
    from drivetl.api.evaluation import number
    from drivetl.metrics.statistics import allows_intervals

    intervals = extra["intervals"]
    rows = [
        (name, number(value["point"]), low_high(value)) for name, value in intervals.items() if isinstance(value, dict)
    ]
    say(f"95 % intervals over {drives.units_in_words()}" if allows_intervals(drives) else "no intervals")
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
                row["slice"],
                row["bin"],
                row["n_gt"],
                "unknown" if row["n_drives"] is None else row["n_drives"],
                number(row["recall"]["point"]),
                low_high(row["recall"]),
                number(row["ap"]),
            )
            for row in extra["slices"]
        ],
    )


def _kitti(args: argparse.Namespace) -> dict[str, Any]:
    if args.details or args.iou_type == "segm":
        raise ConfigError("--details and --iou-type segm need --protocol coco", remedy="leave them out")

    from drivetl.metrics import kitti_ap

    truth, detections = _kitti_files(args) if args.gt.is_file() else _kitti_folders(args)
    results = kitti_ap.evaluate(truth, detections)
    rows = [
        (name, level, row.n_gt, _percent(row.ap40), _percent(row.ap11))
        for name, levels in results.items()
        for level, row in levels.items()
    ]
    ap40 = {name: {level: 100 * row.ap40 for level, row in levels.items()} for name, levels in results.items()}
    console.numbers(frames=len(truth.frames), AP40=ap40)
    say(f"KITTI 2-D: {len(truth.frames)} frames, average precision in %")
    table("", ["class", "difficulty", "objects", "AP40", "AP11"], rows)
    silent = [name for name in results if name not in detections.names]
    if silent:
        warn(f"no detections of {', '.join(silent)}: counted as zero precision, not left out")
    return {
        name: {
            level: {"AP40": 100 * row.ap40, "AP11": 100 * row.ap11, "precision_41": row.precision_41, "n_gt": row.n_gt}
            for level, row in levels.items()
        }
        for name, levels in results.items()
    }


def _kitti_folders(args: argparse.Namespace) -> tuple[KittiObjects, KittiObjects]:
    from drivetl.metrics import kitti_objects

    if len(args.predictions) > 1:
        raise ConfigError("--protocol kitti takes one folder of results", remedy="join the folders first")
    frames = None
    if args.frames:
        frames = [word for line in read_text(args.frames).splitlines() for word in line.split()[:1]]
    truth = kitti_objects.read_labels(args.gt, frames)
    return truth, kitti_objects.read_results(args.predictions[0], truth.frames)


def _kitti_files(args: argparse.Namespace) -> tuple[KittiObjects, KittiObjects]:
    """(truth, detections) from a dataset that convert-kitti wrote, which keeps KITTI's labels, and COCO results."""
    if args.frames:
        raise ConfigError("--frames needs a label folder as --gt", remedy="split the dataset instead")

    from drivetl.coco.io import read_dataset
    from drivetl.metrics import kitti_objects
    from drivetl.metrics.results import read_coco_results

    dataset = read_dataset(args.gt)
    results = read_coco_results(args.predictions, dataset)
    return kitti_objects.labels_of(dataset), kitti_objects.detections_of(results, dataset)


def _percent(value: float) -> str:
    return "-" if value != value else f"{100 * value:.2f}"
