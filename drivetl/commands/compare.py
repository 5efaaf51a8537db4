"""Is run A better than run B, with intervals; and the release gate that follows from it."""

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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    parser.add_argument(
        "a", type=Path, metavar="A", help="the new one: a run directory, or COCO results (then --data is its truth)"
    )
    parser.add_argument("b", type=Path, metavar="B", help="what it is compared with, of the same kind")
    parser.add_argument(
        "--data", type=Path, metavar="GT.json", help="the dataset both were measured on (default: A's data.val)"
    )
    parser.add_argument(
        "--gate",
        type=Path,
        help="YAML of tolerances: exit 1 when A loses more than its tolerance in any row, with confidence",
    )
    parser.add_argument("--metric", choices=("AP", "AP50"), help="what is compared (default AP, or the gate's)")
    parser.add_argument("--draws", type=int, default=1000, help="bootstrap and permutation draws (default 1000)")
    parser.add_argument("--seed", type=seed, default=0, help="seed of the draws (default 0)")
    parser.add_argument("--out", type=Path, help="json for the table and the verdicts")


def run(args: argparse.Namespace) -> int:
    """Compare, print, decide. 0: done or gate passed; 1: the gate fails."""
    gate = load_gate(args.gate) if args.gate else None
    metric = _metric(args.metric, gate)
    if args.draws < 100:
        raise ConfigError(f"--draws {args.draws} is too few", remedy="use 1000")
    matched, cells = _files(args) if args.a.is_file() else _runs(args)
    found = compare(matched, cells, metric, args.draws, args.seed)
    _print(found)
    verdicts = check_gate(gate, found) if gate else []
    if gate:
        _print_verdicts(gate, verdicts)
    if args.out:
        document: dict[str, Any] = found.as_dict() | {"a": str(args.a), "b": str(args.b)}
        document["gate"] = [
            {"name": one.name, "drop": one.drop, "budget": one.tolerance, "p": one.p, "passed": one.passed}
            for one in verdicts
        ]
        write_numbers(document, args.out)
        wrote(args.out)
    return int(any(not one.passed for one in verdicts))


def _metric(wanted: str | None, gate: Gate | None) -> str:
    if gate is not None and wanted not in (None, gate.metric):
        raise ConfigError(f"--metric {wanted} is not the gate's metric {gate.metric}", remedy="leave it out")
    return gate.metric if gate is not None else wanted or "AP"


def _files(args: argparse.Namespace) -> tuple[Matched, list[Cell]]:
    """Two COCO results files on one ground truth: clean images only."""
    if args.data is None:
        raise ConfigError("results files need their truth", remedy="name it with --data")
    truth = from_coco(load_json(args.data), args.data)
    stores = {who: match(truth, read_coco_results(path, truth)) for who, path in (("a", args.a), ("b", args.b))}
    return lambda who, _: stores[who], []


def _runs(args: argparse.Namespace) -> tuple[Matched, list[Cell]]:
    """Two run directories with stored cells: every cell and image that both have seen."""
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
    places = complete_images(caches.values(), keys, cells)
    if not places:
        raise DataError(
            "no image of it was seen by both runs in every shared cell",
            remedy="run eval-robustness on both runs with this --data",
            file=data,
        )
    if len(places) < len(keys):
        warn(f"compared on {len(places)} of {len(keys)} images: those that both runs have seen in every shared cell")
    measured = dataset.subset([dataset.images[place] for place in places])
    truth = from_dataset(measured)
    ids = {keys[place]: dataset.images[place].id for place in places}
    return lambda name, cell: match(truth, caches[name].results(cell, ids)), cells[1:]


def _validation_data(run_folder: Path) -> Path:
    """The validation set in a run's config. Raises ConfigError when it names none."""
    path = run_folder / "config.yaml"
    config = load_yaml(path) if path.is_file() else None
    section = config.get("data") if isinstance(config, dict) else None
    if not isinstance(section, dict) or not section.get("val"):
        raise ConfigError(f"{run_folder} names no validation data", remedy="name the dataset with --data")
    return Path(str(section["val"]))


def _print(found: Comparison) -> None:
    images, resampled = len(found.drives.names), found.drives.units_in_words()
    say(f"{found.metric} of A minus B: {images} images, 95 % intervals over {resampled}")
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
            for row in found.rows
        ],
    )
    objects = found.objects
    say(
        f"objects found on clean images: {objects.both} by both, {objects.only_a} only by A, "
        f"{objects.only_b} only by B, {objects.neither} by neither (p {number(objects.p)})"
    )
    say("detectable: the smallest true difference this data would show in 80 % of cases")
    if found.warning:
        warn(found.warning)


def _signed(value: float) -> str:
    return "-" if value != value else f"{value:+.3f}"


def _print_verdicts(gate: Gate, verdicts: list[Verdict]) -> None:
    failed = [one.name for one in verdicts if not one.passed]
    say(f"gate: {gate.must} at confidence {gate.confidence:g}")
    table(
        "",
        ["", "loss", "tolerance", "p", "verdict"],
        [
            (
                one.name,
                f"{one.drop:+.3f}",
                number(one.tolerance),
                number(one.p),
                f"{'pass' if one.passed else 'FAIL'}: {one.note}",
            )
            for one in verdicts
        ],
    )
    say(f"gate: FAIL ({', '.join(failed)})" if failed else "gate: pass")
