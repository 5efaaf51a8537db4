"""`drivetl compare`: is run A better than run B, with intervals; and a release gate on the result."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivetl import console
from drivetl.commands.evaluate import write_numbers
from drivetl.commands.flags import input_path, seed
from drivetl.console import say, table, warn, wrote
from drivetl.errors import ConfigError, DataError
from drivetl.files.runs import BEST_DETECTIONS, validation_data

if TYPE_CHECKING:  # a mistake in the flags is reported before numpy is loaded
    from drivetl.coco.records import Dataset
    from drivetl.conditions import Cell
    from drivetl.metrics.comparison import Comparison
    from drivetl.metrics.gate import Gate, Verdict
    from drivetl.metrics.match_store import MatchStore
    from drivetl.metrics.results import Results
    from drivetl.metrics.truth import GroundTruth
    from drivetl.robustness.detection_cache import DetectionCache

    Matched = Callable[[str, Cell], MatchStore]
    """("a" or "b", cell) -> the detections of that side, matched to the ground truth."""
    MatchedClean = Callable[[str], MatchStore]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    add = parser.add_argument
    add("a", type=Path, metavar="A", help="the candidate: a run directory, or COCO results (then --data is required)")
    add("b", type=Path, metavar="B", help="the reference to compare with: also a run directory or COCO results")
    add("--data", type=input_path, metavar="GT.json", help="dataset of both (default: data.val of run A)")
    add(
        "--gate",
        type=input_path,
        metavar="FILE.yaml",
        help="release gate with a tolerance per row: exit code 1 when A fails it",
    )
    add("--metric", choices=("AP", "AP50"), help="metric to compare (default: AP, or the gate's)")
    add("--draws", type=int, default=1000, metavar="N", help="bootstrap and permutation draws (default: 1000)")
    add("--seed", type=seed, default=0, help="random seed of the draws (default: 0)")
    add("--out", type=Path, metavar="FILE.json", help="json file for the table and the verdicts")


def run(args: argparse.Namespace) -> int:
    """Compare, print, evaluate the gate. Returns 0 (no gate, or passed) or 1 (the gate failed)."""
    if args.draws < 100:
        raise ConfigError(f"--draws {args.draws} is too few", remedy="use 1000")
    _check_sides(args)

    from drivetl.metrics.comparison import compare
    from drivetl.metrics.gate import check_gate, load_gate

    gate = load_gate(args.gate) if args.gate else None
    metric = _metric(args.metric, gate)
    matched, cells, clean = _files(args) if args.a.is_file() else _runs(args)
    comparison = compare(matched, cells, metric, args.draws, args.seed, clean=clean)
    _print(comparison)
    verdicts = check_gate(gate, comparison) if gate else []
    _record(comparison, verdicts)
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


def _check_sides(args: argparse.Namespace) -> None:
    """Raises DataError or ConfigError unless A and B are two runs, or two results files with a ground truth."""
    files = args.a.is_file()
    for path in (args.a, args.b):
        if not path.exists() or files != path.is_file():
            reason = "no such results file" if files else "no such run directory"
            raise DataError(reason, remedy="name two run directories or two results files", file=path)
    if files and args.data is None:
        raise ConfigError("results files need a ground truth", remedy="name it with --data")


def _record(comparison: Comparison, verdicts: list[Verdict]) -> None:
    """The numbers of the --json line: those of the clean images, and whether the gate passed."""
    clean = comparison.rows[0]
    console.numbers(
        metric=comparison.metric,
        images=clean.n_images,
        a=clean.a,
        b=clean.b,
        delta=clean.delta.point,
        low=clean.delta.low,
        high=clean.delta.high,
        p=clean.p,
        gate=all(row.passed for row in verdicts) if verdicts else None,
    )


def _files(args: argparse.Namespace) -> tuple[Matched, list[Cell], MatchedClean | None]:
    """Two COCO results files with one ground truth: clean images only."""
    from drivetl.coco.io import load_json
    from drivetl.metrics.match_store import match
    from drivetl.metrics.results import read_coco_results
    from drivetl.metrics.truth import from_coco

    truth = from_coco(load_json(args.data), args.data)
    stores = {side: match(truth, read_coco_results(path, truth)) for side, path in (("a", args.a), ("b", args.b))}
    return lambda side, _: stores[side], [], None


def _runs(args: argparse.Namespace) -> tuple[Matched, list[Cell], MatchedClean | None]:
    """Two run directories: every cell and image that both have stored, and all clean images that both have."""
    from drivetl.coco.io import read_dataset
    from drivetl.conditions import CLEAN
    from drivetl.metrics.match_store import match
    from drivetl.metrics.truth import from_dataset
    from drivetl.robustness.detection_cache import complete_images, image_keys

    caches = {side: _cache(run) for side, run in (("a", args.a), ("b", args.b))}
    data = args.data or validation_data(args.a)
    dataset = read_dataset(data)
    known = [cache for cache in caches.values() if cache is not None]
    keys = image_keys(dataset) if known else []
    clean = {
        side: _clean_detections(run, caches[side], dataset, keys, data) for side, run in (("a", args.a), ("b", args.b))
    }
    both = set(clean["a"].indices) & set(clean["b"].indices)
    if not both:
        raise DataError(
            "no clean image of it has stored detections of both runs",
            remedy="run eval-robustness on both runs with this --data",
            file=data,
        )
    cells = _shared_cells(known, keys) if len(known) == 2 else []
    shared = sorted(both & set(complete_images(known, keys, cells))) if cells else sorted(both)
    if not shared:
        warn("no image was evaluated in every shared cell by both runs: compared on clean images alone")
        cells, shared = [], sorted(both)
    if len(both) < len(dataset.images) or len(shared) < len(both):
        few = f", in the conditions on {len(shared)}" if cells else ""
        warn(f"compared on {len(both)} of {len(dataset.images)} clean images{few}: those that both runs have stored")
    truth = from_dataset(dataset.subset([dataset.images[index] for index in shared]))
    all_clean = from_dataset(dataset.subset([dataset.images[index] for index in sorted(both)]))
    ids = {keys[index]: dataset.images[index].id for index in shared} if cells else {}

    def matched(side: str, cell: Cell) -> MatchStore:
        cache = caches[side]
        if cell == CLEAN or cache is None:
            return match(truth, clean[side].of_images(truth))
        return match(truth, cache.results(cell, ids))

    wide = None if len(shared) == len(both) else lambda side: match(all_clean, clean[side].of_images(all_clean))
    return matched, cells, wide


@dataclass(frozen=True)
class _CleanDetections:
    """What a run detected in clean images of the dataset."""

    indices: Sequence[int]
    """Of the images that it has seen, in the dataset's order."""
    results: Results

    def of_images(self, truth: GroundTruth) -> Results:
        """The detections in the images of the ground truth."""
        import numpy as np

        return self.results.where(np.isin(self.results.image_id, truth.image_ids))


def _cache(run: Path) -> DetectionCache | None:
    """The cached cells of a run; None for a run that was never swept but kept the detections of its validation."""
    from drivetl.robustness.detection_cache import CELLS_FOLDER
    from drivetl.robustness.find_cells import open_cache

    return open_cache(run) if (run / CELLS_FOLDER).is_dir() or not (run / BEST_DETECTIONS).is_file() else None


def _clean_detections(
    run: Path, cache: DetectionCache | None, dataset: Dataset, keys: Sequence[str], data: Path
) -> _CleanDetections:
    """A run's detections in clean images: of its sweep, or of its validation where that saw more images."""
    from drivetl.conditions import CLEAN
    from drivetl.metrics.results import load_results
    from drivetl.robustness.detection_cache import complete_images

    swept = [] if cache is None else complete_images([cache], keys, [CLEAN])
    if len(swept) < len(dataset.images) and (run / BEST_DETECTIONS).is_file():
        problem = _not_validated_on(run, dataset, data)
        if not problem:
            return _CleanDetections(range(len(dataset.images)), load_results(run / BEST_DETECTIONS))
        if cache is None:
            raise DataError(problem, remedy="run eval-robustness on it with this --data", file=run)
        if "changed" in problem:
            warn(f"{run}: {problem}: compared on the images of its sweep")
    assert cache is not None
    ids = {keys[index]: dataset.images[index].id for index in swept}
    return _CleanDetections(swept, cache.results(CLEAN, ids))


def _not_validated_on(run: Path, dataset: Dataset, data: Path) -> str:
    """Why the run's stored validation is not of this dataset; empty when it is.

    It is of another file, or the file or its images are not those whose hashes the run recorded.
    """
    from drivetl.coco.hashes import file_hash, images_hash
    from drivetl.coco.io import load_json

    try:
        same = validation_data(run).resolve() == data.resolve()
    except ConfigError:
        same = False
    if not same:
        return f"it has stored detections of its own validation data only, not of {data}"
    provenance = load_json(run / "provenance.json") if (run / "provenance.json").is_file() else {}
    recorded = provenance if isinstance(provenance, dict) else {}
    if recorded.get("val_sha256", now := file_hash(data)) != now:
        return f"{data} has changed since the run stored its detections"
    if "val_images_sha256" in recorded and recorded["val_images_sha256"] != images_hash(dataset):
        return f"the images of {data} have changed since the run stored its detections"
    return ""


def _shared_cells(caches: Sequence[DetectionCache], keys: Sequence[str]) -> list[Cell]:
    """The conditions and severities in which both have an image of this data."""
    from drivetl.conditions import CLEAN

    first, second = caches
    shared = sorted(set(first.cells()) & set(second.cells()) - {CLEAN})
    return [cell for cell in shared if any(first.has(key, cell) and second.has(key, cell) for key in keys)]


def _print(comparison: Comparison) -> None:
    from drivetl.api.evaluation import number
    from drivetl.metrics.statistics import allows_intervals

    images, resampled = len(comparison.drives.names), comparison.drives.units_in_words()
    intervals = f"95 % intervals over {resampled}" if allows_intervals(comparison.drives) else "too few for intervals"
    say(f"{comparison.metric} of A minus B: {images} images, {intervals}")
    table(
        "",
        ["", "images", "A", "B", "A - B", "interval", "p", "p (Holm)", "detectable"],
        [
            (
                row.name,
                row.n_images,
                number(row.a),
                number(row.b),
                _signed(row.delta.point),
                "-" if row.delta.low != row.delta.low else f"{_signed(row.delta.low)} .. {_signed(row.delta.high)}",
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
    from drivetl.api.evaluation import number

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
