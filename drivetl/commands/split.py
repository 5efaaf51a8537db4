"""Split a COCO dataset without leaking a drive, and say what the two sides share."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

from drivetl.coco.io import read_dataset
from drivetl.coco.records import Dataset
from drivetl.convert.build import Account
from drivetl.convert.run import print_summary, write_split
from drivetl.convert.split import add_split_arguments, split_options
from drivetl.errors import DataError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    parser.add_argument("data", type=Path, metavar="DATA.json", help="a dataset in drivetl's form")
    parser.add_argument("--out", type=Path, required=True, help="new folder for the json files")
    add_split_arguments(parser, standard=False)
    parser.add_argument(
        "--no-check-images",
        action="store_true",
        help="do not decode the images to look for near-duplicates across the split",
    )


def run(args: argparse.Namespace) -> None:
    """Split, print the summary. Pictures are compared where the images are there."""
    dataset = read_dataset(args.data)
    options = split_options(args)
    there = all(os.path.isfile(dataset.images_root / image.file_name) for image in dataset.images[:1])  # noqa: PTH113
    options = replace(options, check_images=not args.no_check_images and there)
    try:
        summary = write_split(dataset, options, args.out, account_of(dataset))
    except DataError as error:
        raise error.at(args.data) from None
    print_summary(summary, f"drivetl audit {args.out}/all.json")


def account_of(dataset: Dataset) -> Account:
    """The account of a dataset that is converted already: everything in it is kept or ignored."""
    account = Account()
    for image in dataset.images:
        for item in image.annotations:
            name = dataset.categories[item.category_id - 1]
            account.read[str(item.attributes.get("source_label", name))] += 1
            account.kept[name] += 1
        for region in image.ignore_regions:
            label = str(region.attributes.get("source_label", "unnamed"))
            account.read[label] += 1
            account.ignored[f"label {label}"] += 1
    return account
