"""What is wrong and what is odd in a COCO dataset: a table, audit.json, and audit.html with pictures."""

from __future__ import annotations

import argparse
from pathlib import Path

import orjson
from rich.table import Table
from rich.text import Text

from drivetl import console
from drivetl.audit.findings import Severity
from drivetl.audit.page import amount, html_page
from drivetl.audit.run import Audit, audit
from drivetl.commands.flags import seed
from drivetl.errors import ConfigError
from drivetl.files.write import new_directory

_PAINTS: dict[Severity, str] = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    parser.add_argument("data", type=Path, metavar="DATASET.json", help="any COCO json, broken ones included")
    parser.add_argument(
        "--out", type=Path, help="new folder for audit.json and audit.html (DATASET_audit beside the json)"
    )
    parser.add_argument("--images", type=Path, help="images root, where it is not what the json says")
    parser.add_argument("--min-size", type=float, default=800, metavar="PX", help="the network's short side (800)")
    parser.add_argument("--max-size", type=float, default=1333, metavar="PX", help="the network's longest side (1333)")
    parser.add_argument("--quick", action="store_true", help="do not open the image files to check them")
    parser.add_argument("--seed", type=seed, default=0, help="chooses the pictures of the gallery (0)")


def run(args: argparse.Namespace) -> None:
    """Audit, print the table, write json and page. Exit code 0 whatever was found."""
    if not 1 <= args.min_size <= args.max_size <= 100_000:
        raise ConfigError(
            f"--min-size {args.min_size:g} --max-size {args.max_size:g} is no resize",
            remedy="the short side comes first, both in px",
        )
    out = args.out or _free_folder(args.data)
    with new_directory(out) as folder:
        result = audit(args.data, args.images, min_size=args.min_size, max_size=args.max_size, quick=args.quick)
        (folder / "audit.json").write_bytes(
            orjson.dumps(result.as_dict(), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
        )
        (folder / "audit.html").write_text(html_page(result, args.seed), "utf-8")
    _print(result)
    console.wrote(out / "audit.html", f"drivetl view {args.data} --out {args.data.parent / 'pictures'}")


def _free_folder(data: Path) -> Path:
    """DATASET_audit, or the first of DATASET_audit_2, _3, ... that is free: an audit is repeated after mending."""
    number = 1
    while True:
        folder = data.parent / (f"{data.stem}_audit" if number == 1 else f"{data.stem}_audit_{number}")
        if not folder.exists():
            return folder
        number += 1


def _print(result: Audit) -> None:
    """One table of findings, the gravest first, each with two examples and what to do."""
    overview = result.statistics["overview"]
    facts = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in overview.items())
    console.say(f"{result.tables.path.name}: {facts}")
    grid = Table(show_lines=True)
    grid.add_column("severity")
    grid.add_column("finding", overflow="fold")
    grid.add_column("found", justify="right")
    for finding in result.findings:
        text = Text(finding.title, style="bold")
        for example in finding.examples[:2]:
            number = "" if example.annotation_id is None else f" #{example.annotation_id}"
            text.append(f"\n{f'{example.image}{number}  {example.detail}'.strip()}", style="not bold dim")
        text.append(f"\n-> {finding.remedy}", style="not bold")
        grid.add_row(
            Text(finding.severity, style=_PAINTS[finding.severity]), text, amount(finding).replace(" (", "\n(")
        )
    if result.findings:
        console.out.print(grid, soft_wrap=False)
    counts = result.counts()
    console.say(", ".join(f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts.items()))
