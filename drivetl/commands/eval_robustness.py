"""`drivetl eval-robustness`: evaluate a run, or results of any detector, under conditions; write the report."""

from __future__ import annotations

import argparse
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivetl import console
from drivetl.commands.flags import (
    add_class_map,
    add_old_name,
    given_flags,
    input_path,
    parse_shard,
    run_directory,
    run_or_detector,
    seed,
)
from drivetl.detectors.spec import parse_spec
from drivetl.errors import ConfigError, DataError, check_least
from drivetl.files.write import check_new

if TYPE_CHECKING:
    from drivetl.coco.class_map import ClassMap
    from drivetl.coco.records import Dataset
    from drivetl.detectors.spec import DetectorSpec
    from drivetl.robustness.real_vs_synthetic import Pairs
    from drivetl.robustness.results_folder import ResultsFolder
    from drivetl.robustness.run import FinishedSweep
    from drivetl.robustness.sweep import SweptDetector


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    _add_detector(parser)
    _add_cells(parser)
    _add_output(parser)
    _add_real_arguments(parser)
    _add_cost(parser)
    parser.epilog = (
        "To share the images among GPUs: torchrun --nproc-per-node 4 -m drivetl eval-robustness --run-dir RUN ..., "
        "among jobs: --shard. See docs/distributed.md."
    )


def _add_detector(parser: argparse.ArgumentParser) -> None:
    """What is evaluated, and on which data."""
    add = parser.add_argument
    run = add(
        "--run",
        dest="run_dir",
        type=run_directory,
        metavar="RUN",
        help="run directory to evaluate (below torchrun, which has options that begin with --run: --run-dir)",
    )
    add_old_name(parser, "--run-dir", run)
    add(
        "--detector",
        metavar="KIND:NAME",
        help=(
            "instead of --run, any detector: results:DIR, a folder of COCO results (clean/0.json, fog/3.json, ...) on "
            "the images that `drivetl conditions --write` wrote; python:FILE.py:FACTORY or python:MODULE:FACTORY, a "
            "function of yours that returns an object with categories and infer(images); torchvision:NAME, published "
            "weights; onnx:FILE.onnx, an export (docs/any_detector.md)"
        ),
    )
    add(
        "--augmentation",
        type=input_path,
        action="append",
        metavar="FILE",
        help=(
            "with --detector: what it was trained on, a manifest (template: drivetl conditions --augmentation-template "
            "FILE.yaml) or a pipeline that albumentations saved (A.save); repeat it for several (default: unknown, "
            "UNVERIFIED)"
        ),
    )
    add("--data", type=input_path, required=True, metavar="VAL.json", help="COCO dataset json to evaluate it on")
    add_class_map(parser)


def _add_cells(parser: argparse.ArgumentParser) -> None:
    """Under which conditions, on how many images, next to which baseline."""
    add = parser.add_argument
    add(
        "--conditions",
        default="held_out",
        metavar="SET|NAME,NAME",
        help=(
            "held_out: those the run was not trained on; drive: weather, light and camera; common: the 15 published "
            "corruptions; all; or names from `drivetl conditions --list` (default: held_out)"
        ),
    )
    add("--severities", default="1,2,3,4,5", metavar="S,S", help="severities from 1 to 5 (default: 1,2,3,4,5)")
    add(
        "--baseline",
        type=run_or_detector,
        metavar="RUN|DETECTOR",
        help="a second run, or another detector as for --detector, evaluated on the same images",
    )
    add(
        "--images",
        type=int,
        metavar="N",
        help="at most N clean images, spread over the drives, the same ones on every machine (default: all)",
    )
    add(
        "--budget",
        metavar="TIME",
        help=(
            "time limit for inference, like 90s, 10m or 1h: as many images as fit, the same ones for all cells; "
            "0: only what is stored"
        ),
    )
    add(
        "--shard",
        metavar="I/N",
        help=(
            "only the I-th of N equal parts of the images, without a report: for the tasks of a job array. Detections "
            "are kept in the run or in --cache; the same command without --shard makes the report of all"
        ),
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    """Where to, and which metric."""
    add = parser.add_argument
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help="new folder for the report (default: RUN/robustness/<name of the json>; with --detector it is required)",
    )
    add(
        "--cache",
        type=Path,
        metavar="DIR",
        help=(
            "folder that keeps the detections, so that the same command continues after an interruption (default: in "
            "the run; nothing is kept of another detector)"
        ),
    )
    add("--metric", choices=("AP", "AP50"), default="AP", help="metric of the report (default: AP)")
    add(
        "--iou-type",
        choices=("bbox", "segm"),
        default="bbox",
        help="evaluate boxes, or the masks of a Mask R-CNN (default: bbox)",
    )


def _add_cost(parser: argparse.ArgumentParser) -> None:
    """Draws, and how the work is done."""
    add = parser.add_argument
    add("--draws", type=int, default=400, metavar="N", help="bootstrap draws for the intervals (default: 400)")
    add("--seed", type=seed, default=0, help="random seed of the draws (default: 0)")
    add("--workers", type=int, metavar="N", help="processes that apply the conditions (default: one per core)")
    add("--batch-size", type=int, default=8, metavar="N", help="images per forward pass (default: 8)")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")


def _add_real_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("real conditions (images taken in rain, at night, ...)")
    group.add_argument(
        "--slices",
        default="",
        metavar="NAME,NAME|FILE.csv",
        help=(
            "image attributes to slice by, like weather,timeofday; or a CSV with file_name and such columns. "
            "Conditions are then applied only to the clean slice"
        ),
    )
    group.add_argument(
        "--clean",
        default="",
        metavar="NAME=VALUE,...",
        help="attribute values of the clean slice (default: values like dry, clear, day or daytime)",
    )
    group.add_argument(
        "--pairs",
        default="",
        metavar="NAME=VALUE:CONDITION+CONDITION,...",
        help="synthetic conditions to compare with a real slice (default: those of the same phenomenon)",
    )


def run(args: argparse.Namespace) -> None:
    """Run the sweep and write the report. Raises DataError when the output folder is not empty."""
    budget_s = parse_budget(args.budget)
    _check_numbers(args)
    foreign = foreign_detector(args)
    shard = _check_shard(args, foreign) if args.shard else None
    out = args.out or args.run_dir / "robustness" / args.data.stem
    check_new(out, remedy="name another folder with --out (stored detections are reused)")

    from drivetl.coco.class_map import parse_class_map
    from drivetl.coco.io import read_dataset
    from drivetl.conditions import parse_severities
    from drivetl.robustness.clean_slice import choose_clean, clean_images, values_as_text
    from drivetl.robustness.held_out import check_names, levels

    severities, given_classes = parse_severities(args.severities), parse_class_map(args.class_map)
    check_names(args.conditions)
    dataset = read_dataset(args.data)
    slices = _slices(args.slices, dataset)
    clean = choose_clean(dataset.images, slices, parse_assignments(args.clean, "--clean"))
    pairs = parse_pairs(args.pairs)
    with console.loading("torch"):
        from drivetl.metrics.truth import from_dataset
        from drivetl.processes import join_sweep
        from drivetl.robustness.condition_slices import slices_of
        from drivetl.robustness.real_vs_synthetic import check_pairs
        from drivetl.robustness.results_folder import ResultsFolder
        from drivetl.robustness.run import at_most, maps_of, run_shard, run_sweep

    group, wait = join_sweep()
    device = group.device(args.device)
    second = parse_spec(args.baseline) if isinstance(args.baseline, str) else None
    for spec in (foreign, second):
        if spec is not None and spec.kind != "results" and group.world > 1:
            raise ConfigError(f"a detector {spec.kind}: runs in one process", remedy="start it without torchrun")
    detector, conditions = _detector(args, foreign, dataset, severities, device)
    if isinstance(detector, ResultsFolder) and group.leads:
        _list_missing(detector)
    dataset = at_most(dataset, clean, args.images)
    baseline = _baseline(args, second, dataset, (conditions, severities), device)
    detectors = {"run": detector} | ({"baseline": baseline} if baseline else {})
    classes = maps_of(detectors, dataset, given_classes)
    if group.leads:
        _show_classes(detectors, classes, dataset)
    check_pairs(pairs, slices_of(from_dataset(dataset), slices, clean), conditions)
    held_out = levels(detector.augmentation, conditions, severities)
    if group.leads:
        n_clean = len(clean_images(dataset.images, clean))
        _announce(detector, n_clean, held_out.of_condition, severities)
        if clean:
            console.say(
                f"clean slice ({values_as_text(clean)}): {n_clean} of {len(dataset.images)} images; conditions are "
                "applied to these, the other images stay unchanged"
            )
    if shard is not None:
        done, total = run_shard(
            detector,
            dataset,
            conditions,
            severities,
            shard,
            baseline=baseline,
            cache=args.cache,
            clean=clean,
            workers=args.workers,
            batch_size=args.batch_size,
            iou_type=args.iou_type,
            class_map=given_classes,
        )
        _say_shard(args, done, total)
        return
    swept = run_sweep(
        detector,
        dataset,
        conditions,
        severities,
        baseline=baseline,
        cache=args.cache,
        clean=clean,
        budget_s=budget_s,
        workers=args.workers,
        batch_size=args.batch_size,
        iou_type=args.iou_type,
        class_map=given_classes,
        shard=(group.rank, group.world),
        wait=wait,
    )
    if group.leads:
        write_report(swept, out, args, slices, pairs)


def resume_flags(args: argparse.Namespace) -> list[str] | None:
    """Nothing to add: the inferred cells are kept in the run, or in --cache."""
    from drivetl.robustness.detection_cache import CELLS_FOLDER

    folders = [run / CELLS_FOLDER for run in (args.run_dir, args.baseline) if isinstance(run, Path)]
    folders = folders if args.cache is None else [args.cache]
    return [] if any(any(folder.glob("*/*.npz")) for folder in folders) else None


def _check_shard(args: argparse.Namespace, foreign: DetectorSpec | None) -> tuple[int, int]:
    """--shard as (rank, world). Raises ConfigError, also for flags that do not go with it."""
    if args.cache is None and (foreign is not None or not isinstance(args.baseline, Path | None)):
        raise ConfigError(
            "--shard with a detector that is not a run", remedy="name a folder for the detections with --cache"
        )
    if args.budget is not None:
        raise ConfigError("--shard with --budget", remedy="limit the images with --images, which every shard knows")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("--shard below torchrun", remedy="leave it out: the processes share the images")
    return parse_shard(args.shard)


def _say_shard(args: argparse.Namespace, done: int, total: int) -> None:
    """How much of the sweep is there, and the command that makes the report."""
    console.say(f"shard {args.shard} is done: {done} of {total} images are complete in every cell")
    console.numbers(images=total, complete=done)
    whole = console.command("eval-robustness", *given_flags(args, without=("shard",)))
    if done == total:
        console.suggest(whole)
    else:
        console.say(f"when the other shards are done too: {whole}")


def foreign_detector(args: argparse.Namespace) -> DetectorSpec | None:
    """What --detector names; None for a run.

    Raises ConfigError for flags that do not go together, DataError for a folder or file that does not exist.
    """
    if (args.run_dir is None) == (args.detector is None):
        raise ConfigError("needs one of --run and --detector", remedy="--run RUN, or --detector results:DIR")
    if args.detector is None:
        if args.augmentation is not None:
            raise ConfigError("--augmentation goes with --detector", remedy="leave it out: a run has its own manifest")
        return None
    spec = parse_spec(args.detector)
    if args.out is None:
        raise ConfigError("--detector needs --out", remedy="name a new folder for the report")
    return spec


def _detector(
    args: argparse.Namespace, foreign: DetectorSpec | None, dataset: Dataset, severities: list[int], device: str
) -> tuple[SweptDetector, list[str]]:
    """The detector and the conditions that it is evaluated in."""
    from drivetl.detectors.spec import open_detector
    from drivetl.models.checkpoint import load_detector
    from drivetl.robustness.augmentation import read_augmentation
    from drivetl.robustness.held_out import choose_conditions
    from drivetl.robustness.results_folder import read_results_folder

    manifest = read_augmentation(args.augmentation or [])
    if foreign is None or foreign.kind != "results":
        detector = (
            load_detector(args.run_dir, device=device)
            if foreign is None
            else open_detector(foreign, device=device, manifest=manifest)
        )
        return detector, choose_conditions(args.conditions, detector.augmentation, severities)
    folder = Path(foreign.name)
    conditions = choose_conditions(args.conditions, manifest, severities)
    if "held_out" in args.conditions:  # the folder need not have all of that set, but those that are named
        conditions = _of_folder(folder, conditions, args.conditions, severities)
    return (
        read_results_folder(folder, dataset, conditions, severities, manifest=manifest, iou_type=args.iou_type),
        conditions,
    )


def _baseline(
    args: argparse.Namespace,
    spec: DetectorSpec | None,
    dataset: Dataset,
    cells: tuple[Sequence[str], Sequence[int]],
    device: str,
) -> SweptDetector | None:
    """What --baseline names, a run or another detector; cells: (conditions, severities) to read from a folder."""
    from drivetl.detectors.spec import open_detector
    from drivetl.models.checkpoint import load_detector
    from drivetl.robustness.results_folder import read_results_folder

    if spec is None:
        return None if args.baseline is None else load_detector(args.baseline, device=device)
    if spec.kind == "results":
        return read_results_folder(Path(spec.name), dataset, *cells, iou_type=args.iou_type)
    return open_detector(spec, device=device)


def _show_classes(detectors: Mapping[str, SweptDetector], maps: Mapping[str, ClassMap], dataset: Dataset) -> None:
    """Print which classes are evaluated as which, unless all are the data's own."""
    from drivetl.report.texts import class_sentences
    from drivetl.robustness.class_match import class_document

    names = {name: detector.name or name for name, detector in detectors.items()}
    categories = {name: detector.categories for name, detector in detectors.items()}
    document = {
        "class_match": class_document(maps, names, categories, dataset),
        "data": {"categories": dataset.categories},
    }
    for sentence in class_sentences(document | {name: {"name": text} for name, text in names.items()}):
        console.warn(sentence)


def _of_folder(folder: Path, conditions: Sequence[str], selection: str, severities: Sequence[int]) -> list[str]:
    """The conditions that the folder has or that the selection names; says which others of held_out it lacks."""
    from drivetl.conditions import select
    from drivetl.robustness.results_folder import conditions_in

    extra = ",".join(name for name in selection.split(",") if name.strip() != "held_out")
    kept = {*conditions_in(folder, conditions, severities), *(select(extra) if extra.strip() else ())}
    if lacking := [name for name in conditions if name not in kept]:
        console.say(f"not in the folder, so not in the report: {', '.join(lacking)}")
    return [name for name in conditions if name in kept]


def _list_missing(detector: ResultsFolder) -> None:
    """The cells without a file, and in how many images the clean file has detections."""
    from drivetl.conditions import CLEAN, cell_name

    absent = [cell_name(cell) for cell in sorted(detector.cache.absent)]
    if absent:
        console.warn(f"no results in {len(absent)} cells, whose numbers are missing: {', '.join(absent)}")
    found = detector.cache.of_cell[CLEAN]
    console.say(f"clean/0.json: {len(found)} detections in {len(set(found.image_id.tolist()))} images")


def write_report(
    swept: FinishedSweep, out: Path, args: argparse.Namespace, slices: Sequence[str], pairs: Pairs
) -> None:
    """Score the sweep and write the report; the folder appears complete or not at all."""
    from drivetl.api.robustness import Robustness
    from drivetl.robustness.report_document import report_document

    results = report_document(swept, metric=args.metric, n_draws=args.draws, seed=args.seed, slices=slices, pairs=pairs)
    Robustness(results, swept).report(out)
    _print(results)
    head = results["headline"]
    console.numbers(
        metric=results["metric"],
        clean=results["clean"]["value"]["point"],
        mPC=head["mpc"]["point"],
        rPC=head["rpc"]["point"],
        conditions=len(head["conditions"]),
        images=results["data"]["images"],
    )
    console.wrote(out / "report.html")
    console.say("open it in a browser")


def parse_budget(text: str | None) -> float | None:
    """`10m`, `90s`, `1.5h`, `600` (seconds) -> seconds; None for no budget. Raises ConfigError naming the flag."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|sec|m|min|h|)", text.strip().lower())
    if not match:
        raise ConfigError(f"--budget {text!r} is not a time", remedy="write 90s, 10m or 1h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2][:1]]


def _slices(text: str, dataset: Dataset) -> list[str]:
    """Attribute names of --slices. The columns of a CSV are merged into the images first."""
    if not text.lower().endswith(".csv"):
        return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    from drivetl.adapters.footage import merge_attributes

    names = merge_attributes(dataset.images, Path(text), partial=True)
    if not names:
        raise DataError("no column to slice by", remedy="add one next to file_name, like weather", file=text)
    return names


def parse_assignments(text: str, flag: str) -> dict[str, str]:
    """`weather=dry,timeofday=daytime` -> a dict. Raises ConfigError naming the flag."""
    assignments = {}
    for word in (part.strip() for part in text.split(",") if part.strip()):
        name, sign, value = word.partition("=")
        if not (name and sign and value):
            raise ConfigError(f"{flag} {word!r} is not NAME=VALUE", remedy="for example weather=dry")
        assignments[name.strip()] = value.strip()
    return assignments


def parse_pairs(text: str) -> dict[tuple[str, str], list[str]]:
    """`timeofday=night:night+dusk` -> {("timeofday", "night"): ["night", "dusk"]}. Raises ConfigError."""
    pairs: dict[tuple[str, str], list[str]] = {}
    for word in (part.strip() for part in text.split(",") if part.strip()):
        real, _, names = word.rpartition(":")
        slices = parse_assignments(real, "--pairs")
        conditions = [name.strip() for name in names.split("+") if name.strip()]
        if not slices or not conditions:
            raise ConfigError(
                f"--pairs {word!r} is not NAME=VALUE:CONDITION", remedy="for example timeofday=night:night"
            )
        pairs |= dict.fromkeys(slices.items(), conditions)
    return pairs


def _check_numbers(args: argparse.Namespace) -> None:
    check_least(
        ("--batch-size", args.batch_size, 1),
        ("--workers", args.workers, 0),
        ("--images", args.images, 1),
        ("--draws", args.draws, 50),
    )


def _announce(detector: SweptDetector, n_images: int, of_condition: Mapping[str, str], severities: list[int]) -> None:
    from drivetl.robustness.held_out import missing_manifest

    counts = Counter(of_condition.values())
    by_level = ", ".join(f"{count} {level}" for level, count in sorted(counts.items()))
    console.say(
        f"{len(of_condition)} conditions ({by_level}) x severities {','.join(map(str, severities))}, "
        f"{n_images} images" + (f", on {detector.device}" if detector.device else "")
    )
    if reason := missing_manifest(detector.run, detector.augmentation):
        console.warn(f"{reason}: every condition that may have been trained on is UNVERIFIED")


def _print(results: dict[str, Any]) -> None:
    from drivetl.report import texts

    console.table(*texts.condition_table(results))
    head = results["headline"]
    if head["conditions"] and results["data"]["sufficient"]:
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
        if warning and results["data"]["sufficient"]:
            console.warn(warning)
    if results["timing"]["out_of_budget"]:
        console.say("the time budget ran out: the same command with another --out continues from what is stored")
    console.say(texts.timing_line(results["timing"]))
