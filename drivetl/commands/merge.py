"""`drivetl merge`: several COCO datasets to one that records for every image which classes its source labels."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from drivetl import console
from drivetl.coco.records import Dataset
from drivetl.commands.flags import input_path
from drivetl.commands.split import account_of
from drivetl.convert.build import Account
from drivetl.convert.merge import Source, alike, kept_split, merge_datasets, read_source
from drivetl.convert.run import count_classes, print_summary, write_split
from drivetl.convert.split import add_split_arguments, has_split, split_options
from drivetl.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    parser.add_argument(
        "data", type=input_path, nargs="+", metavar="DATA", help="dataset jsons, or folders written by a conversion"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="new folder for the json files")
    add_split_arguments(parser, standard=False)
    parser.add_argument(
        "--keep-split", action="store_true", help="keep the split of the folders: every image stays in train or val"
    )


def run(args: argparse.Namespace) -> None:
    """Merge, split, and print the objects of each source and the summary."""
    options = split_options(args)
    if args.keep_split:
        if options.method != "auto":
            raise ConfigError(f"--keep-split and --split {options.method} contradict", remedy="give one of the two")
        options = replace(options, method="kept")
        files = [path for path in args.data if not path.is_dir()]
        if files:
            raise ConfigError(
                f"--keep-split: {files[0]} is not a folder", remedy="name folders with train.json and val.json"
            )
    sources = [read_source(path) for path in args.data]
    merged = merge_datasets(sources)
    options = replace(options, own_split=all(has_split(source.dataset.images) for source in sources))
    split = kept_split(args.data, sources, merged) if args.keep_split else None
    summary = write_split(merged, options, args.out, account_of_merge(sources, merged), split)
    print_sources(sources, merged)
    print_summary(summary, console.command("audit", args.out / "all.json"))


def account_of_merge(sources: Sequence[Source], merged: Dataset) -> Account:
    """The account of a merge: objects read from the sources, and what became of them in the merged dataset."""
    account = account_of(merged)
    account.read = sum((account_of(source.dataset).read for source in sources), Counter())
    n_partly = sum(image.labelled is not None for image in merged.images)
    if n_partly:
        account.notes["images label only some classes; the others are unknown there, not absent"] = n_partly
    return account


def print_sources(sources: Sequence[Source], merged: Dataset) -> None:
    """Print the objects per source and class, with a warning for classes whose names look the same."""
    counts = [count_classes(source.dataset.categories, source.dataset.images) for source in sources]
    rows: list[list[object]] = [["images", *(len(source.dataset.images) for source in sources)]]
    rows += [[name, *(count.get(name, "not labelled") for count in counts)] for name in merged.categories]
    console.table("objects of each source", ["", *(source.name for source in sources)], rows)
    for first, second in alike(merged.categories):
        console.warn(
            f"classes {first!r} and {second!r} stay separate, though they look the same: convert both with one taxonomy"
        )
