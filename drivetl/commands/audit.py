"""`drivetl audit`: errors and oddities of a COCO dataset as a table, audit.json, and audit.html with images."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from drivetl import console
from drivetl.commands.flags import input_path, new_path, seed
from drivetl.errors import ConfigError, DataError
from drivetl.files.write import free_path, new_directory

if TYPE_CHECKING:  # a mistake in the flags is reported before numpy is loaded
    from drivetl.audit.run import Audit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    parser.add_argument("data", type=input_path, metavar="DATASET.json", help="any COCO json, even a broken one")
    parser.add_argument(
        "--out",
        type=new_path,
        metavar="DIR",
        help="new folder for audit.json and audit.html (default: DATASET_audit next to the json)",
    )
    parser.add_argument("--images", type=input_path, metavar="DIR", help="images root (default: the one in the json)")
    parser.add_argument(
        "--min-size",
        type=float,
        default=800,
        metavar="PX",
        help="shorter image side at the network's input (default: 800)",
    )
    parser.add_argument(
        "--max-size", type=float, default=1333, metavar="PX", help="limit of the longer side (default: 1333)"
    )
    parser.add_argument("--quick", action="store_true", help="do not open the image files")
    parser.add_argument("--seed", type=seed, default=0, help="random seed of the choice of gallery images (default: 0)")


def run(args: argparse.Namespace) -> None:
    """Audit, print the table, write json and page. The exit code is 0 whatever the findings."""
    if not 1 <= args.min_size <= args.max_size <= 100_000:
        raise ConfigError(
            f"--min-size {args.min_size:g} and --max-size {args.max_size:g} are not a valid resize",
            remedy="name sides in px from 1 to 100000, --min-size at most --max-size",
        )

    import orjson

    from drivetl.audit.page import html_page
    from drivetl.audit.run import audit

    out = args.out or free_path(args.data.with_name(f"{args.data.stem}_audit"))
    with new_directory(out) as folder:
        result = audit(args.data, args.images, min_size=args.min_size, max_size=args.max_size, quick=args.quick)
        (folder / "audit.json").write_bytes(
            orjson.dumps(result.as_dict(), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
        )
        (folder / "audit.html").write_text(html_page(result, args.seed), "utf-8")
    _print(result)
    console.wrote(out / "audit.html", _next(args, result))


def _next(args: argparse.Namespace, result: Audit) -> str:
    """`drivetl view` where the dataset can be drawn: in drivetl's form, with its images, and without errors."""
    if args.images is not None or result.counts()["error"]:
        return ""

    from drivetl.coco.io import read_dataset

    try:
        dataset = read_dataset(args.data)
    except DataError:
        return ""
    if not dataset.images or not all((dataset.images_root / image.file_name).is_file() for image in dataset.images):
        return ""
    return console.command("view", args.data, "--out", free_path(args.data.with_name(f"{args.data.stem}_view")))


def _print(result: Audit) -> None:
    """The findings, the most severe first, each with two examples and a remedy."""
    from drivetl.audit.page import amount

    overview = result.statistics["overview"]
    facts = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in overview.items())
    console.say(f"{result.tables.path.name}: {facts}")
    for finding in result.findings:
        console.say("", f"{finding.severity}: {finding.title}: {amount(finding)}")
        for example in finding.examples[:2]:
            number = "" if example.annotation_id is None else f" #{example.annotation_id}"
            console.say(f"  {example.image}{number}  {example.detail}".rstrip())
        console.say(f"  -> {finding.remedy}")
    counts = result.counts()
    console.numbers(**overview, findings=counts)
    console.say("", ", ".join(f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts.items()))
