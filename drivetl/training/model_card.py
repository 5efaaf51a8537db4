"""The results of a finished training: whether adapting helped, and the model card."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import Any

from drivetl import __version__
from drivetl.coco.drives import Drives, drives_in_words
from drivetl.coco.records import Dataset
from drivetl.config import FinetuneConfig
from drivetl.console.text import counted, markdown, markdown_code, printable
from drivetl.files.runs import BEST_DETECTIONS
from drivetl.metrics.statistics import FEW_DRIVES
from drivetl.training import forgetting
from drivetl.training.footage_gain import card_section
from drivetl.training.paired import difference, interval_in_words, is_better, too_few
from drivetl.training.replay import Replay
from drivetl.training.trainer import SOURCE_DETECTIONS
from drivetl.training.unlabelled import Pseudo


def outcome(
    run: Path, rows: list[dict[str, Any]], best: dict[str, Any], val: Dataset, metric: str = "AP"
) -> dict[str, Any]:
    """outcome.json: the best checkpoint against the source before the first step, on the same validation images.
    Drives are resampled, or images where their drive is unknown.

    rows: of metrics.jsonl. metric: the one that `best` is the best in. `delta` is best minus source with its 95 %
    interval, p and the smallest detectable difference; None where the source was not evaluated, or is itself the best.
    """
    before = rows[0] if rows and rows[0]["epoch"] == 0 else None
    drives = Drives.of(val.images)
    document: dict[str, Any] = {"metric": metric, "before": before, "best": best, "delta": None}
    document |= {"drives": drives.n_drives, "images": len(val.images)}
    if before is not None and best["epoch"] > 0:
        compared = difference(run / BEST_DETECTIONS, run / SOURCE_DETECTIONS, val, metric)
        document |= {key: compared[key] for key in ("delta", "draws", "warning")}
    return document | {"verdict": verdict(document, rows, drives)}


def verdict(comparison: dict[str, Any], rows: list[dict[str, Any]], drives: Drives) -> str:
    """One line: whether adapting helped, by how much, and how certain that is. Empty where the source was not
    evaluated.

    drives: of the validation images.
    """
    before, best, delta = comparison["before"], comparison["best"], comparison["delta"]
    if before is None:
        return ""
    metric = comparison.get("metric", "AP")
    if before[metric] is None:
        return "adapting cannot be evaluated: the validation images contain no objects"
    if delta is None:
        trained = [row for row in rows if row["epoch"] > 0 and row[metric] is not None]
        after = max(trained, key=lambda row: float(row[metric]), default=None)
        reached = f" (best {after[metric]:.3f}, epoch {after['epoch']})" if after else ""
        return (
            f"adapting did not help: no epoch{reached} beats the source, {metric} {_number(before[metric])}; "
            "checkpoints/best is the source before training"
        )
    change = f"{metric} {_number(before[metric])} -> {_number(best[metric])}"
    if why := too_few(delta, drives):
        return f"adapting gained {delta['point']:+.3f} ({change}), but {why}"
    if is_better(delta, drives):
        result = "adapting helped"
    elif drives.n_independent < FEW_DRIVES:
        unit = "images" if drives.n_unknown else "drives"
        result = f"adapting may have helped, but there are too few {unit} to establish it"
    else:
        result = "adapting made no statistically significant difference"
    return f"{result}: {change} ({interval_in_words(delta, drives)})"


def _forgetting_section(ledger: dict[str, Any]) -> list[str]:
    table = ["| source's class | objects | now | before | after | change (95 %) |", "|---|---|---|---|---|---|"]
    table += [f"| {' | '.join(map(markdown, row))} |" for row in forgetting.lines(ledger)]
    images = f"{counted(ledger['images'], 'image')} of {drives_in_words(ledger['drives'])}"
    title = f"Forgetting: AP on the source's own domain, {markdown_code(str(ledger['data']))}, {images}."
    remarks = [f"{markdown(remark[:1].upper() + remark[1:])}.\n" for remark in forgetting.remarks(ledger)]
    return [title, "", *table, "", *remarks]


def _replay_line(replay: Replay | None, config: FinetuneConfig) -> list[str]:
    """The line about data.source, if there was one."""
    if replay is None:
        return []
    used = f"replayed from {markdown_code(config.data.source)}: {replay.in_words()}"
    return [f"- {used} ({markdown(replay.classes_in_words())})"]


def _pseudo_line(pseudo: Pseudo | None, config: FinetuneConfig) -> list[str]:
    """The line about data.unlabelled, if there was one."""
    if pseudo is None:
        return []
    of_file, frames = config.data.pseudo, config.data.unlabelled or config.data.pseudo
    teacher = f"the file {markdown_code(of_file)}" if of_file else f"the detector {markdown_code(config.model.start)}"
    return [f"- footage without labels: {markdown_code(frames)}, with pseudo-labels by {teacher}: {pseudo.in_words()}"]


def _word(path: object) -> str:
    """A path as a word of a shell command."""
    return printable(shlex.quote(str(path)))


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


def model_card(name: str, config: FinetuneConfig, facts: dict[str, Any]) -> str:
    """README.md of a run: what the model is, its data, its AP, what it forgot, and how to evaluate its robustness."""
    comparison = facts["outcome"]
    before, best = comparison["before"], comparison["best"]
    lines = [
        f"# {markdown(name)}",
        "",
        f"A `{config.model.arch}` fine-tuned with drivetl {__version__} from {markdown(facts['start'])}.",
        "",
        f"- classes: {markdown(', '.join(facts['categories']))}",
        (
            f"- trained on {counted(facts['train_images'], 'image')} of {facts['train_drives']}, evaluated on"
            f" {counted(comparison['images'], 'image')} of {drives_in_words(comparison['drives'])}"
        ),
        *_replay_line(facts.get("replay"), config),
        *_pseudo_line(facts.get("pseudo"), config),
        f"- input: shorter side {config.model.min_size} px, longer side at most {config.model.max_size} px",
        f"- augmentation: {markdown(str(facts['augmentation']))}",
        *(f"- {markdown(remark)}" for remark in facts.get("remarks", ())),
        "",
        "| | AP | AP50 |",
        "|---|---|---|",
    ]
    if before is not None:
        lines.append(f"| source, before the first step | {_number(before['AP'])} | {_number(before['AP50'])} |")
    lines += [f"| best (epoch {best['epoch']}) | {_number(best['AP'])} | {_number(best['AP50'])} |", ""]
    if comparison["verdict"]:
        lines += [f"{markdown(comparison['verdict'][:1].upper() + comparison['verdict'][1:])}.", ""]
    lines += [
        "AP is COCO's, on the validation drives, which were also used to choose the epoch: expect slightly less on"
        " other drives.",
        "",
    ]
    if facts.get("pseudo") is not None:
        lines += [*card_section(config, facts["path"], None), ""]
    if facts["forgetting"] is not None:
        lines += _forgetting_section(facts["forgetting"])
    lines += [
        "To evaluate robustness to fog, rain and darkness:",
        "",
        f"    drivetl eval-robustness --run {_word(facts['path'])} --data {_word(config.data.val)}",
        "",
    ]
    return "\n".join(lines)
