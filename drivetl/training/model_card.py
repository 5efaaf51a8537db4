"""What a finished training has to say: was adapting worth it, the model card, the closing table."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from drivetl import __version__
from drivetl.coco.drives import Drives, drives_in_words
from drivetl.coco.records import Dataset
from drivetl.config import FinetuneConfig
from drivetl.metrics.comparison import compare
from drivetl.metrics.match_store import match
from drivetl.metrics.results import load_results
from drivetl.metrics.statistics import FEW_DRIVES
from drivetl.training import forgetting
from drivetl.training.trainer import BEST_DETECTIONS, SOURCE_DETECTIONS

HANDFUL = 6
"""With n drives a paired test cannot give a p below 2^(1 - n): fewer than 6 never reach 5 %."""


def outcome(run: Path, rows: list[dict[str, Any]], best: dict[str, Any], val: Dataset) -> dict[str, Any]:
    """Best against the source before the first step, on the same validation images, drives resampled (images, where
    their drive is unknown).

    rows: of metrics.jsonl. `delta` is best minus source with its 95 % interval, p and the smallest difference that
    could be seen; None where the source was not judged, or is itself the best.
    """
    before = rows[0] if rows and rows[0]["epoch"] == 0 else None
    found: dict[str, Any] = {"metric": "AP", "before": before, "best": best, "delta": None}
    found["drives"] = Drives.of(val.images).n_drives
    found["images"] = len(val.images)
    if before is not None and best["epoch"] > 0:
        stores = {
            "a": match(val, load_results(run / BEST_DETECTIONS)),
            "b": match(val, load_results(run / SOURCE_DETECTIONS)),
        }
        compared = compare(lambda who, _: stores[who], []).as_dict()
        keys = ("delta", "low", "high", "p", "minimum_detectable")
        found["delta"] = {"point" if key == "delta" else key: compared["rows"][0][key] for key in keys}
        found |= {"draws": compared["draws"], "warning": compared["warning"]}
    return found | {"verdict": verdict(found, rows, Drives.of(val.images))}


def verdict(found: dict[str, Any], rows: list[dict[str, Any]], drives: Drives) -> str:
    """One line: whether adapting helped, by how much, how sure. Empty where the source was not evaluated.

    drives: of the validation images.
    """
    before, best, delta = found["before"], found["best"], found["delta"]
    if before is None:
        return ""
    if before["AP"] is None:
        return "adapting cannot be judged: the validation images hold no object"
    if delta is None:
        tried = [row for row in rows if row["epoch"] > 0 and row["AP"] is not None]
        after = max(tried, key=lambda row: float(row["AP"]), default=None)
        reached = f" (best {after['AP']:.3f}, epoch {after['epoch']})" if after else ""
        return (
            f"adapting did not help: no epoch{reached} beats the source, AP {_number(before['AP'])}; "
            "checkpoints/best is the source as it was"
        )
    change = f"AP {_number(before['AP'])} -> {_number(best['AP'])}"
    count, over, what = drives.n_independent, drives.independent_in_words(), "images" if drives.n_unknown else "drives"
    unknown = drives.unknown_in_words()
    note = f"; {unknown}" if unknown else ""
    if count < HANDFUL:
        return (
            f"adapting gained {delta['point']:+.3f} ({change}), but {over} {'is' if count == 1 else 'are'} too few to"
            f" tell it from luck - validate on at least {HANDFUL}{note}"
        )
    interval = f"95 % interval {delta['low']:+.3f} to {delta['high']:+.3f} over {over}{note}"
    sure = delta["low"] > 0 and delta["p"] < 0.05
    word = "adapting helped" if sure else f"adapting may have helped, which so few {what} cannot tell"
    if not sure and count >= FEW_DRIVES:
        word = "adapting made no difference that can be told"
    return f"{word}: {change} ({delta['point']:+.3f}, {interval}, p {delta['p']:.3f})"


def _forgotten(found: dict[str, Any]) -> list[str]:
    table = ["| source's class | objects | now | before | after | change (95 %) |", "|---|---|---|---|---|---|"]
    table += [f"| {' | '.join(row)} |" for row in forgetting.lines(found)]
    about = f"What it forgot: AP on `{found['data']}`, {found['images']} images of {drives_in_words(found['drives'])}."
    return [about, "", *table, "", *(f"{remark[:1].upper()}{remark[1:]}.\n" for remark in forgetting.remarks(found))]


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


def model_card(name: str, config: FinetuneConfig, facts: dict[str, Any]) -> str:
    """README.md of a run: what it is, what it was made of, how good it is, what it forgot, how to use it."""
    found = facts["outcome"]
    before, best = found["before"], found["best"]
    lines = [
        f"# {name}",
        "",
        f"A `{config.model.arch}` fine-tuned with drivetl {__version__} from {facts['start']}.",
        "",
        f"- classes: {', '.join(facts['categories'])}",
        (
            f"- trained on {facts['train_images']} images of {facts['train_drives']}, evaluated on"
            f" {found['images']} images of {drives_in_words(found['drives'])}"
        ),
        f"- input: shorter side {config.model.min_size} px, longer side at most {config.model.max_size} px",
        f"- augmentation: {facts['augmentation']}",
        "",
        "| | AP | AP50 |",
        "|---|---|---|",
    ]
    if before is not None:
        lines.append(f"| source, before the first step | {_number(before['AP'])} | {_number(before['AP50'])} |")
    lines += [f"| best (epoch {best['epoch']}) | {_number(best['AP'])} | {_number(best['AP50'])} |", ""]
    if found["verdict"]:
        lines += [f"{found['verdict'][:1].upper()}{found['verdict'][1:]}.", ""]
    lines += [
        "AP is COCO's, on the validation drives, which also chose the epoch: other drives will say a little less.",
        "",
    ]
    if facts["forgetting"] is not None:
        lines += _forgotten(facts["forgetting"])
    lines += [
        "How it holds up in fog, rain and darkness:",
        "",
        f"    drivetl eval-robustness --run {facts['path']} --data {config.data.val}",
        "",
    ]
    return "\n".join(lines)
