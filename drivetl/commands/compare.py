"""`drivetl compare`: is run A better than run B, with intervals; and a release gate on the result."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from drivetl.coco.io import load_json, read_dataset
from drivetl.commands.evaluate import number, write_numbers
from drivetl.commands.flags import seed
from drivetl.conditions import CLEAN, Cell
from drivetl.console import say, table, warn, wrote
from drivetl.errors import ConfigError, DataError
from drivetl.files.yaml_reader import load_yaml
from drivetl.metrics.comparison import Comparison, compare
from drivetl.metrics.gate import Gate, Verdict, check_gate, load_gate
from drivetl.metrics.match_store import MatchStore, match
from drivetl.metrics.results import read_coco_results
from drivetl.metrics.truth import from_coco

Matched = Callable[[str, Cell], MatchStore]
"""("a" or "b", cell) -> the detections of that side, matched to the ground truth."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    add = parser.add_argument
    add("a", type=Path, metavar="A", help="the candidate: a run directory, or COCO results (then --data is required)")
    add("b", type=Path, metavar="B", help="the reference to compare with: also a run directory or COCO results")
    add("--data", type=Path, metavar="GT.json", help="dataset both were evaluated on (default: data.val of run A)")
    add(
        "--gate",
        type=Path,
        metavar="FILE.yaml",
        help="release gate with a tolerance per row: exit code 1 when A fails it",
    )
    add("--metric", choices=("AP", "AP50"), help="metric to compare (default: AP, or the gate's)")
    add("--draws", type=int, default=1000, metavar="N", help="bootstrap and permutation draws (default: 1000)")
    add("--seed", type=seed, default=0, help="random seed of the draws (default: 0)")
    add("--out", type=Path, metavar="FILE.json", help="json file for the table and the verdicts")


def run(args: argparse.Namespace) -> int:
    """Compare, print, evaluate the gate. Returns 0 (no gate, or passed) or 1 (the gate failed)."""
    gate = load_gate(args.gate) if args.gate else None
    metric = _metric(args.metric, gate)
    if args.draws < 100:
        raise ConfigError(f"--draws {args.draws} is too few", remedy="use 1000")
    matched, cells = _files(args) if args.a.is_file() else _runs(args)
    comparison = compare(matched, cells, metric, args.draws, args.seed)
    _print(comparison)
    verdicts = check_gate(gate, comparison) if gate else []
    if gate:
        _print_verdicts(gate, verdicts)
    if args.out:
        document: dict[str, Any] = comparison.as_dict() | {"a": str(args.a), "b": str(args.b)}
        document["gate"] = [
            {"name": row.name, "drop": row.drop, "budget": row.tolerance, "p": row.p, "passed": row.passed}
            for row in verdicts
        ]
        write_numbers(document, args.out)
        wrote(args.out)
    return int(any(not row.passed for row in verdicts))


def _metric(flag: str | None, gate: Gate | None) -> str:
    """The metric of --metric, which must agree with the gate's. Raises ConfigError."""
    if gate is not None and flag not in (None, gate.metric):
        raise ConfigError(f"--metric {flag} is not the gate's metric {gate.metric}", remedy="leave it out")
    return gate.metric if gate is not None else flag or "AP"


def _files(args: argparse.Namespace) -> tuple[Matched, list[Cell]]:
    """Two COCO results files with one ground truth: clean images only."""
    if args.data is None:
        raise ConfigError("results files need a ground truth", remedy="name it with --data")
    truth = from_coco(load_json(args.data), args.data)
    stores = {side: match(truth, read_coco_results(path, truth)) for side, path in (("a", args.a), ("b", args.b))}
    return lambda side, _: stores[side], []


def _runs(args: argparse.Namespace) -> tuple[Matched, list[Cell]]:
    """Two run directories with stored cells: every cell and image that both have."""
    from drivetl.metrics.truth import from_dataset
    from drivetl.robustness.detection_cache import complete_images, image_keys
    from drivetl.robustness.find_cells import open_cache

    for path in (args.a, args.b):
        if not path.is_dir():
            raise DataError("no such run directory", remedy="name two run directories or two results files", file=path)
    caches = {"a": open_cache(args.a), "b": open_cache(args.b)}
    data = args.data or _validation_data(args.a)
    dataset = read_dataset(data)
    keys = image_keys(dataset)
    shared = set(caches["a"].cells()) & set(caches["b"].cells())
    of_this_data = [
        cell
        for cell in sorted(shared)
        if any(caches["a"].has(key, cell) and caches["b"].has(key, cell) for key in keys)
    ]
    cells = [CLEAN, *(cell for cell in of_this_data if cell != CLEAN)]
    indices = complete_images(caches.values(), keys, cells)
    if not indices:
        raise DataError(
            "no image of it has stored detections of both runs in every shared cell",
            remedy="run eval-robustness on both runs with this --data",
            file=data,
        )
    if len(indices) < len(keys):
        warn(
            f"compared on {len(indices)} of {len(keys)} images: those with stored detections of both runs in every "
            "shared cell"
        )
    truth = from_dataset(dataset.subset([dataset.images[index] for index in indices]))
    ids = {keys[index]: dataset.images[index].id for index in indices}
    return lambda side, cell: match(truth, caches[side].results(cell, ids)), cells[1:]


def _validation_data(run_folder: Path) -> Path:
    """The validation set in a run's config. Raises ConfigError when it names none."""
    path = run_folder / "config.yaml"
    config = load_yaml(path) if path.is_file() else None
    section = config.get("data") if isinstance(config, dict) else None
    if not isinstance(section, dict) or not section.get("val"):
        raise ConfigError(f"{run_folder} names no validation data", remedy="name the dataset with --data")
    return Path(str(section["val"]))


def _print(comparison: Comparison) -> None:
    images, resampled = len(comparison.drives.names), comparison.drives.units_in_words()
    say(f"{comparison.metric} of A minus B: {images} images, 95 % intervals over {resampled}")
    table(
        "",
        ["", "A", "B", "A - B", "interval", "p", "p (Holm)", "detectable"],
        [
            (
                row.name,
                number(row.a),
                number(row.b),
                _signed(row.delta.point),
                f"{_signed(row.delta.low)} .. {_signed(row.delta.high)}",
                number(row.p),
                number(row.p_holm),
                number(row.minimum_detectable),
            )
            for row in comparison.rows
        ],
    )
    objects = comparison.objects
    say(
        f"objects found on clean images: {objects.both} by both, {objects.only_a} only by A, "
        f"{objects.only_b} only by B, {objects.neither} by neither (p {number(objects.p)})"
    )
    say("detectable: the smallest true difference that this data would show with 80 % power")
    if comparison.warning:
        warn(comparison.warning)


def _signed(value: float) -> str:
    return "-" if value != value else f"{value:+.3f}"


def _print_verdicts(gate: Gate, verdicts: list[Verdict]) -> None:
    failed = [row.name for row in verdicts if not row.passed]
    say(f"gate: {gate.must} at confidence {gate.confidence:g}")
    table(
        "",
        ["", "loss", "tolerance", "p", "verdict"],
        [
            (
                row.name,
                f"{row.drop:+.3f}",
                number(row.tolerance),
                number(row.p),
                f"{'pass' if row.passed else 'FAIL'}: {row.note}",
            )
            for row in verdicts
        ],
    )
    say(f"gate: FAIL ({', '.join(failed)})" if failed else "gate: pass")
