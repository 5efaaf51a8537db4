"""`drivetl split`: split a COCO dataset by drive and report what the two sides share."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

from drivetl import console
from drivetl.coco.io import read_dataset
from drivetl.coco.records import Dataset
from drivetl.commands.flags import input_path
from drivetl.convert.build import Account
from drivetl.convert.run import print_summary, write_split
from drivetl.convert.split import add_split_arguments, split_options
from drivetl.errors import DataError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    parser.add_argument("data", type=input_path, metavar="DATA.json", help="dataset json in drivetl's format")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="new folder for the json files")
    add_split_arguments(parser, standard=False)
    parser.add_argument(
        "--no-check-images",
        action="store_false",
        dest="check_images",
        help="do not decode the images to look for near-duplicates (default: they are compared if they are on disk)",
    )
    parser.set_defaults(check_images=True)


def run(args: argparse.Namespace) -> None:
    """Split and print the summary. Images are compared when the first one exists on disk."""
    dataset = read_dataset(args.data)
    options = split_options(args)
    exist = all(os.path.isfile(dataset.images_root / image.file_name) for image in dataset.images[:1])  # noqa: PTH113
    options = replace(options, check_images=options.check_images and exist, sample_images=0)
    try:
        summary = write_split(dataset, options, args.out, account_of(dataset))
    except DataError as error:
        raise error.at(args.data) from None
    print_summary(summary, console.command("audit", args.out / "all.json"))


def account_of(dataset: Dataset) -> Account:
    """The account of a converted dataset: every object in it is kept or ignored."""
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
