"""The published results: docs/results/NAME.csv, and the short tables and figures of docs/results.md made from them.

    python tools/results.py         rewrite the short tables and the figures from the CSV files

`tools/benchmark.py --write` and `tools/study.py --write` save a CSV here and then do the same.
"""

from __future__ import annotations

import csv
import io
import os
import platform
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import figures

from drivetl import console
from drivetl.files.write import write_atomically

DOCS = Path(__file__).parents[1] / "docs"
PAGE, FOLDER = DOCS / "results.md", DOCS / "results"
INDEX = FOLDER / "index.csv"
"""When and where each CSV was measured."""
INTERVAL = re.compile(r"(\S+) \[(\S+), (\S+)\]")
BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

Row = dict[str, str]


@dataclass(frozen=True)
class Short:
    """What docs/results.md shows of one CSV."""

    columns: Mapping[str, str]
    """CSV column -> its heading on the page."""
    shown: Callable[[Row], bool] = lambda row: True
    """Whether a row is shown."""


def _one_of(column: str, *values: str) -> Callable[[Row], bool]:
    return lambda row: row[column] in values


EMPTY_ROADS = [
    *(("night: road without traffic", name) for name in ("real night", *(f"night {n} from day" for n in (1, 2, 5)))),
    *(("wet_road: road without traffic", name) for name in ("real wet_road", "wet_road 5 from day")),
]
"""Rows of realism that the page shows."""
FOOTAGE_ROWS = [
    *(("night", name) for name in ("dry", "night_tuned", "night_reported", "wet_reported")),
    *(("wet", name) for name in ("wet_tuned", "wet_reported")),
]
"""Rows of unlabelled that the page shows."""
FOOTAGE_LINES = ("unlabelled", "rate 3e-4, not blended", "no ignore band", "weight 0.25", "threshold 0.4")
"""Lines of unlabelled_lines that the page shows."""

ROBUST = {
    "measured on": "measured on",
    "trained with": "preset and length",
    "seeds": "seeds",
    "AP50": "AP50",
    "AP50 - none": "gain over none",
}
FOOTAGE = {
    "without labels": "footage",
    "measured on": "measured on",
    "AP50": "AP50",
    "AP50 - labelled only": "gain over labelled frames alone",
    "AP50 - teacher": "gain over the teacher",
}
REPLAY = {
    "line": "training",
    "labels": "labelled frames",
    "seeds": "seeds",
    "AP50": "AP50",
    "AP50 of frequent classes": "AP50, frequent classes",
    "AP50 of frequent classes gain": "gain",
}
"""Columns of two tables each."""

SHORT = {
    "city": Short(
        {
            "line": "training",
            "labels": "labelled frames",
            "AP50": "AP50",
            "AP50 gain": "gain",
            "AP50 of frequent classes": "AP50, frequent classes",
            "AP50 of frequent classes gain": "gain, frequent classes",
        },
        lambda row: row["line"] == "full recipe" or row["labels"] == "0",
    ),
    "convergence": Short(
        {
            "steps of two images": "steps",
            "full recipe": "five cities first",
            "features alone": "features alone",
            "features alone, own recipe": "features alone, own recipe",
            "steps from features alone": "steps from features to the same AP50",
        },
        _one_of("steps of two images", "0", "200", "400", "800", "1200", "1600"),
    ),
    "relation": Short({"line": "training", "AP50": "AP50", "AP50 gain": "gain", "AP": "AP", "AP gain": "AP gain"}),
    "masks": Short(
        {
            "line": "training",
            "compared with": "compared with",
            "mask AP50": "mask AP50",
            "mask AP50 gain": "gain",
            "box AP50": "box AP50",
            "box AP50 gain": "box gain",
        }
    ),
    "weather": Short(
        {"measured on": "measured on", "trained with": "preset", "AP50": "AP50", "AP50 - none": "gain over none"},
        lambda row: row["measured on"] in ("night_reported", "dry") and row["trained with"] != "none",
    ),
    "robust": Short(
        ROBUST,
        lambda row: (
            row["measured on"] in ("dry", "night_reported", "mPC", "fog_reported")
            and row["trained with"] in ("none", "severe long")
        ),
    ),
    "robust_steps": Short(
        {"trained with": "preset", "steps": "steps", "seeds": "seeds", "AP50": "AP50"},
        lambda row: row["measured on"] == "night_reported" and row["trained with"] in ("none", "severe long"),
    ),
    "robust_default": Short(
        {"measured on": "measured on", "images": "images", "AP50": "AP50", "AP50 - none": "gain over none"},
        _one_of("trained with", "default"),
    ),
    "robust_fog": Short(ROBUST, _one_of("measured on", "fog_reported", "clear")),
    "replay": Short(REPLAY),
    "replay_source": Short(REPLAY),
    "keys": Short(
        {
            "line": "changed key",
            "seeds": "seeds",
            "AP50": "AP50",
            "AP50 gain": "gain",
            "AP50 of frequent classes": "AP50, frequent classes",
            "AP50 of frequent classes gain": "gain, frequent classes",
        }
    ),
    "select": Short(
        {
            "frames": "frames",
            "chosen": "chosen",
            "seeds": "seeds",
            "objects": "objects",
            "AP50 of frequent classes": "AP50, frequent classes",
            "AP50 of frequent classes gain": "gain over the source",
        }
    ),
    "unlabelled_city": Short(
        {
            "without labels": "frames with labels",
            "trained with": "training",
            "seeds": "seeds",
            "AP50 of frequent classes": "AP50, frequent classes",
            "AP50 of frequent classes - labelled only": "gain over labelled frames alone",
            "AP50 of frequent classes - teacher": "gain over the teacher",
        },
        lambda row: row["trained with"] != "teacher",
    ),
    "unlabelled": Short(
        FOOTAGE,
        lambda row: row["trained with"] == "unlabelled" and (row["without labels"], row["measured on"]) in FOOTAGE_ROWS,
    ),
    "unlabelled_fog": Short(FOOTAGE, _one_of("trained with", "unlabelled")),
    "unlabelled_lines": Short(
        {
            "trained with": "training",
            "seeds": "seeds",
            "AP50": "AP50",
            "AP50 - unlabelled": "difference to the default",
            "AP50 - teacher": "gain over the teacher",
        },
        lambda row: (
            row["measured on"] == "night_tuned"
            and row["without labels"] == "night"
            and row["trained with"] in FOOTAGE_LINES
        ),
    ),
    "real": Short(
        {
            "trained": "detector",
            "real": "real condition",
            "real drop": "real drop",
            "synthetic drop": "synthetic drop",
            "synthetic - real": "synthetic - real",
        },
        _one_of("trained", "cities", "highway_none_0"),
    ),
    "real_labels": Short(
        {"clip": "clip", "median": "median IoU", "recall at 0.3": "recall, IoU 0.3", "recall at 0.5": "recall, IoU 0.5"}
    ),
    "doubt": Short(
        {
            "kind": "kind",
            "ranking": "ranked by",
            "faults": "planted faults",
            "AP": "AP",
            "threshold": "threshold",
            "precision": "precision",
            "recall": "recall",
        },
        lambda row: (
            (row["recording"], row["objects"]) == ("reported", "all")
            and row["ranking"] in ("drivetl doubt", "confidence alone")
        ),
    ),
    "ignore": Short(
        {
            "labels of town A": "labels",
            "AP50": "AP50",
            "recall at score 0.5": "recall at score 0.5",
            "recall at 0.3 false alarms": "recall at 0.3 false alarms per image",
        }
    ),
    "realism": Short(
        {"images": "images", "luma": "luma", "5 %": "5 %", "95 %": "95 %", "saturation": "saturation"},
        lambda row: (row["what"], row["images"]) in EMPTY_ROADS,
    ),
    "severity": Short(
        {"condition": "condition", "ladder": "severity ladder", "kept at 1": "kept at 1", "kept at 5": "kept at 5"},
        _one_of("condition", "fog", "rain", "snowfall", "night", "low_sun", "lens_dirt"),
    ),
    "training": Short(
        {
            "model": "model",
            "input": "input",
            "torchvision s/img": "torchvision, s/image",
            "drivetl s/img": "drivetl, s/image",
            "torchvision / drivetl": "ratio",
        }
    ),
    "augmentation": Short(
        {
            "what": "what",
            "ms 1242x375": "1242x375, ms",
            "ms 800x400": "800x400, ms",
            "images/s of a worker, 800x400": "images/s of a loader process",
            "% of a step, 800x400": "% of a training step",
        },
        lambda row: row["what"].startswith(("read", "preset", "training step")),
    ),
    "export": Short(
        {
            "model": "model",
            "network input": "network input",
            "torch ms": "PyTorch, ms",
            "fixed size ms": "fixed size, ms",
            "any size ms": "any size, ms",
            "torch / any size": "PyTorch / any size",
        }
    ),
    "evaluate": Short(
        {"what": "what", "side": "side", "cpu_s": "CPU s", "peak_mb": "peak MB", "ratio": "ratio"},
        lambda row: row["what"].startswith("COCO") or row["side"] == "ratio to the slower half",
    ),
    "convert": Short(
        {"what": "dataset", "tool": "tool", "wall_s": "wall s", "cpu_s": "CPU s", "peak_mb": "peak MB"},
        lambda row: row["tool"] in ("drivetl", "drivetl on one processor", "datumaro") and "52,698" not in row["what"],
    ),
    "conditions": Short(
        {
            "what": "what",
            "ms_1242x375": "1242x375, ms",
            "ms_1280x720": "1280x720, ms",
            "imagecorruptions_1242x375": "imagecorruptions, 1242x375, ms",
        },
        lambda row: row["what"].startswith(("once", "the published", "median")),
    ),
}
"""CSV name -> the part of it that the page shows, six rows at most."""


def save(name: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Write a table's CSV, and note when and where it was measured."""
    write_atomically(FOLDER / f"{name}.csv", csv_text([{key: cell(row.get(key)) for key in rows[0]} for row in rows]))
    index = {row["name"]: row for row in load("index")} if INDEX.is_file() else {}
    index[name] = {"name": name, "date": date.today().isoformat(), "machine": machine()}
    write_atomically(INDEX, csv_text([index[key] for key in sorted(index)]))
    console.wrote(FOLDER / f"{name}.csv")


def render() -> None:
    """Rewrite the short tables of docs/results.md and every figure from the CSV files."""
    write_atomically(PAGE, with_tables(PAGE.read_text("utf-8")))
    for path in figures.draw_all(FOLDER):
        console.wrote(path)
    console.wrote(PAGE)


def with_tables(page: str) -> str:
    """The page with the text between `<!-- table: NAME -->` and `<!-- end -->` made from NAME.csv."""
    index = {row["name"]: row for row in load("index")}

    def block(match: re.Match[str]) -> str:
        begin, name, end = match.groups()
        rows = load(name)
        measured = f"Measured {index[name]['date']} on {index[name]['machine']}."
        return f"{begin}{markdown(SHORT[name], rows)}\nAll rows: [{name}.csv](results/{name}.csv). {measured}\n{end}"

    return BLOCK.sub(block, page)


def markdown(short: Short, rows: list[Row]) -> str:
    """The chosen rows and columns as a Markdown table; an interval's three columns are one cell again."""
    lines = ["| " + " | ".join(short.columns.values()) + " |", "|" + "---|" * len(short.columns)]
    shown = [[figures.interval(row, column) for column in short.columns] for row in rows if short.shown(row)]
    lines += ["| " + " | ".join(cells) + " |" for cells in shown]
    return "\n".join(lines) + "\n"


def cell(value: object) -> str:
    """Three significant digits for numbers, text as it is, a dash for a missing value."""
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def csv_text(rows: Sequence[Row]) -> str:
    """Rows as CSV. `AP: 9.6 [7.6, 15.5]` takes three columns: AP, AP low, AP high; a dash is an empty field."""
    columns: list[str] = []
    for key in rows[0]:
        columns += [key, f"{key} low", f"{key} high"] if any(INTERVAL.fullmatch(row[key]) for row in rows) else [key]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        fields: Row = {}
        for key, text in row.items():
            if match := INTERVAL.fullmatch(text):
                fields |= dict(zip((key, f"{key} low", f"{key} high"), match.groups(), strict=True))
            else:
                fields[key] = "" if text == "-" else text
        writer.writerow(fields)
    return buffer.getvalue()


def load(name: str) -> list[Row]:
    """The rows of docs/results/NAME.csv, every field as text."""
    return figures.load(FOLDER, name)


def machine() -> str:
    """The machine in words: processor, cores, versions."""
    import torch

    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        line = re.search(r"model name\s*:\s*(.+)", info.read_text())
        model = line.group(1) if line else model
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{model}, {os.cpu_count()} cores{gpu}, Python {platform.python_version()}, torch {torch.__version__}"


if __name__ == "__main__":
    render()
    sys.exit(0)
