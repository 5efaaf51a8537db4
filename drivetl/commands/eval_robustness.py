"""`drivetl eval-robustness`: a run and a dataset in, a robustness report out."""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivetl import console
from drivetl.commands.flags import seed
from drivetl.errors import ConfigError, DataError

if TYPE_CHECKING:
    from drivetl.coco.records import Dataset
    from drivetl.models.detector import Detector
    from drivetl.robustness.real_vs_synthetic import Pairs
    from drivetl.robustness.run import FinishedSweep


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    parser.add_argument("--run", dest="run_dir", type=Path, required=True, metavar="RUN", help="run directory to judge")
    parser.add_argument("--data", type=Path, required=True, metavar="VAL.json", help="COCO dataset json to judge it on")
    parser.add_argument(
        "--conditions",
        default="held_out",
        metavar="NAMES",
        help="held_out (default: never trained on), all, drive, common, or NAME,NAME",
    )
    parser.add_argument("--severities", default="1,2,3,4,5", help="which of 1..5 (default all)")
    parser.add_argument("--baseline", type=Path, metavar="RUN", help="another run, judged on the same pictures")
    parser.add_argument("--budget", metavar="TIME", help="infer for so long, like 10m, 90s, 1h; 0: only what is stored")
    parser.add_argument("--out", type=Path, help="new folder (default RUN/robustness/<name of the json>)")
    parser.add_argument("--metric", choices=("AP", "AP50"), default="AP", help="what the report is about (AP)")
    parser.add_argument(
        "--iou-type", choices=("bbox", "segm"), default="bbox", help="judge boxes, or the masks of a Mask R-CNN (bbox)"
    )
    _add_real_arguments(parser)
    parser.add_argument("--draws", type=int, default=400, help="bootstrap draws of the intervals (400)")
    parser.add_argument("--seed", type=seed, default=0, help="seed of the draws (0)")
    parser.add_argument("--workers", type=int, help="processes that make the pictures (default: one per core)")
    parser.add_argument("--batch-size", type=int, default=8, help="pictures per forward pass (8)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.epilog = (
        "Several GPUs or machines share the images: torchrun --nproc_per_node 4 -- tools/eval_robustness.py --run ..."
    )


def _add_real_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("real conditions (images that were taken in them)")
    group.add_argument(
        "--slices",
        default="",
        metavar="NAME,NAME|FILE.csv",
        help=(
            "image attributes to slice by, like weather,timeofday; or a CSV of file_name and such columns. "
            "Conditions are then applied to the clean slice alone"
        ),
    )
    group.add_argument(
        "--clean",
        default="",
        metavar="NAME=VALUE,...",
        help="which images are clean (default: dry, clear, day, daytime, ... where a value says so)",
    )
    group.add_argument(
        "--pairs",
        default="",
        metavar="NAME=VALUE:CONDITION+CONDITION,...",
        help="conditions to hold against a real slice (default: those of the same phenomenon)",
    )


def run(args: argparse.Namespace) -> None:
    """Sweep, score, draw, write."""
    from drivetl.conditions import parse_severities

    severities, budget_s = parse_severities(args.severities), parse_budget(args.budget)
    _check_numbers(args)
    out = args.out or args.run_dir / "robustness" / args.data.stem
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(
            "exists already and is never overwritten",
            remedy="name another folder with --out (stored cells are used again)",
            file=out,
        )

    from drivetl.coco.io import read_dataset
    from drivetl.metrics.truth import from_dataset
    from drivetl.models.checkpoint import load_detector
    from drivetl.processes import join_sweep
    from drivetl.robustness.clean_slice import choose_clean, clean_images, values_as_text
    from drivetl.robustness.condition_slices import slices_of
    from drivetl.robustness.held_out import choose_conditions, levels
    from drivetl.robustness.real_vs_synthetic import check_pairs
    from drivetl.robustness.run import run_sweep

    dataset = read_dataset(args.data)
    slices = _slices(args.slices, dataset)
    clean = choose_clean(dataset.images, slices, parse_assignments(args.clean, "--clean"))
    pairs = parse_pairs(args.pairs)
    group, wait = join_sweep()
    device = group.device(args.device)
    detector = load_detector(args.run_dir, device=device)
    baseline = load_detector(args.baseline, device=device) if args.baseline else None
    conditions = choose_conditions(args.conditions, detector.augmentation, severities)
    check_pairs(pairs, slices_of(from_dataset(dataset), slices, clean), conditions)
    known = levels(detector.augmentation, conditions, severities)
    if group.leads:
        chosen = len(clean_images(dataset.images, clean))
        _announce(detector, chosen, known.of_condition, severities)
        if clean:
            console.say(
                f"clean slice ({values_as_text(clean)}): {chosen} of {len(dataset.images)} images; conditions are "
                "applied to these, the others are seen as they are"
            )
    swept = run_sweep(
        detector,
        dataset,
        conditions,
        severities,
        baseline=baseline,
        clean=clean,
        budget_s=budget_s,
        workers=args.workers,
        batch_size=args.batch_size,
        iou_type=args.iou_type,
        shard=(group.rank, group.world),
        wait=wait,
    )
    if group.leads:
        write_report(swept, out, args, slices, pairs)


def write_report(
    swept: FinishedSweep, out: Path, args: argparse.Namespace, slices: Sequence[str], pairs: Pairs
) -> None:
    """Score the sweep and write everything; the folder appears whole or not at all."""
    from drivetl.files.write import new_directory
    from drivetl.report.document import write_document
    from drivetl.robustness.report_document import report_document

    results = report_document(swept, metric=args.metric, n_draws=args.draws, seed=args.seed, slices=slices, pairs=pairs)
    with new_directory(out, remedy="name another folder with --out") as folder:
        write_document(swept, results, folder)
    _print(results)
    console.wrote(out / "report.html", f"open {out / 'report.html'} in a browser")


def parse_budget(text: str | None) -> float | None:
    """`10m`, `90s`, `1.5h`, `600` (seconds) -> seconds; None for no budget. Raises ConfigError naming the flag."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|sec|m|min|h|)", text.strip().lower())
    if not found:
        raise ConfigError(f"--budget {text!r} is no time", remedy="write 90s, 10m or 1h")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2][:1]]


def _slices(text: str, dataset: Dataset) -> list[str]:
    """Names of the attributes; those of a CSV are merged into the images first."""
    if not text.lower().endswith(".csv"):
        return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    from drivetl.adapters.footage import merge_attributes

    names = merge_attributes(dataset.images, Path(text), partial=True)
    if not names:
        raise DataError("no column to slice by", remedy="add one beside file_name, like weather", file=text)
    return names


def parse_assignments(text: str, flag: str) -> dict[str, str]:
    """`weather=dry,timeofday=daytime` -> a dict. Raises ConfigError naming the flag."""
    found = {}
    for word in (part.strip() for part in text.split(",") if part.strip()):
        name, sign, value = word.partition("=")
        if not (name and sign and value):
            raise ConfigError(f"{flag} {word!r}", remedy="write NAME=VALUE, like weather=dry")
        found[name.strip()] = value.strip()
    return found


def parse_pairs(text: str) -> dict[tuple[str, str], list[str]]:
    """`timeofday=night:night+dusk` -> {("timeofday", "night"): ["night", "dusk"]}. Raises ConfigError."""
    found: dict[tuple[str, str], list[str]] = {}
    for word in (part.strip() for part in text.split(",") if part.strip()):
        real, _, names = word.rpartition(":")
        known = parse_assignments(real, "--pairs")
        conditions = [name.strip() for name in names.split("+") if name.strip()]
        if not known or not conditions:
            raise ConfigError(f"--pairs {word!r}", remedy="write NAME=VALUE:CONDITION, like timeofday=night:night")
        found |= dict.fromkeys(known.items(), conditions)
    return found


def _check_numbers(args: argparse.Namespace) -> None:
    for flag, value, least in (
        ("--batch-size", args.batch_size, 1),
        ("--workers", args.workers, 0),
        ("--draws", args.draws, 50),
    ):
        if value is not None and value < least:
            raise ConfigError(f"{flag} is {value}", remedy=f"it must be at least {least}")


def _announce(detector: Detector, n_images: int, of_condition: Mapping[str, str], severities: list[int]) -> None:
    counts = Counter(of_condition.values())
    found = ", ".join(f"{count} {level}" for level, count in sorted(counts.items()))
    console.say(
        f"{len(of_condition)} conditions ({found}) x severities {','.join(map(str, severities))}, "
        f"{n_images} images, on {detector.device}"
    )
    if detector.augmentation is None:
        console.warn(
            "the run has no augmentation.json: nothing proves what it was trained on, so every condition is UNVERIFIED"
        )


def _print(results: dict[str, Any]) -> None:
    from drivetl.report import texts

    cells = {(row["condition"], row["severity"]): row for row in results["cells"]}
    severities = results["protocol"]["severities"]
    compared = results["baseline"] is not None
    rows = []
    for row in results["conditions"]:
        values = [texts.percent(cells[row["name"], one]["value"]["point"]) for one in severities]
        delta = (
            [f"{texts.signed(row['delta']['point'])} (p {texts.p_value(row['delta']['p_holm'])})"] if compared else []
        )
        rows.append((row["name"], row["level"], *values, texts.with_span(row["mean"]), *delta))
    against = [f"- {results['baseline']['name']}"] if compared else []
    clean = texts.with_span(results["clean"]["value"])
    console.table(
        f"{results['metric']} x 100 of {results['run']['name']}, clean {clean}; {texts.data_line(results)}",
        ["condition", "level", *(f"s{one}" for one in severities), "mean (95 %)", *against],
        rows,
    )
    head = results["headline"]
    if head["conditions"]:
        console.say(
            f"{head['label']} ({' + '.join(head['levels'])}, {len(head['conditions'])} conditions): "
            f"{texts.with_span(head['mpc'])}, rPC {texts.with_span(head['rpc'])} %"
        )
    for sentence in texts.verdict(results):
        console.say(sentence)
    for line in texts.agreement_lines(results):
        console.say(line)
    real = results["real"] or {}
    for warning in dict.fromkeys((results["data"]["warning"], real.get("note"))):
        if warning:
            console.warn(warning)
    if results["timing"]["out_of_budget"]:
        console.say("the budget ended: the same command with another --out goes on from what is stored")
    console.say(texts.timing_line(results["timing"]))
