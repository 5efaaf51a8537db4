"""The last steps of every conversion: build, split, check for leaks, write all files or none."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any

import orjson

from drivetl import console
from drivetl.coco.records import Dataset, ImageRecord, SourceImage
from drivetl.coco.taxonomy import Taxonomy
from drivetl.coco.writing import Lines, encode_datasets
from drivetl.convert.build import OUTSIDE, Account, build_dataset
from drivetl.convert.leaks import LeakReport, leak_report
from drivetl.convert.split import Split, SplitOptions, split_images
from drivetl.errors import DataError
from drivetl.files.gc_pause import no_garbage_collection
from drivetl.files.write import new_directory

OUTSIDE_SHARE, CLIPPED_SHARE = 0.01, 0.2
"""Shares of boxes outside, or partly outside, their image above which the labels may be for images of another size."""


@dataclass(slots=True)
class Summary:
    """What a conversion did; `document` is the content of summary.json."""

    outline: Dataset
    """The images written, with the classes of their objects; objects may lose other fields once encoded."""
    account: Account
    split: Split
    leaks: LeakReport
    out: Path
    unchanged: bool = False
    """True when the folder already held the same files, byte for byte."""
    document: dict[str, Any] = field(default_factory=dict)


def add_error_argument(parser: argparse.ArgumentParser) -> None:
    """The flag --on-error."""
    parser.add_argument(
        "--on-error",
        choices=("stop", "skip"),
        default="stop",
        help="what to do with a broken record: stop, or skip it and list it in the summary (default: stop)",
    )


def convert_and_write(
    images: Iterable[SourceImage],
    taxonomy: Taxonomy,
    images_root: Path,
    out: Path,
    *,
    source: str,
    split: SplitOptions,
    on_error: str = "stop",
    account: Account | None = None,
) -> Summary:
    """Convert source images and write `out`/{all,train,val}.json and summary.json, all of them or none.

    An adapter that skips broken records itself (`on_error="skip"`) counts them with `account.reject`, counts its
    remarks in `account.notes`, and passes that account.
    A folder that already holds exactly these files is left unchanged; any other content is refused.
    Raises DataError for records that cannot be converted and when there are no images.
    """
    _refuse_early(out)
    account = Account() if account is None else account
    with no_garbage_collection():
        lines = Lines(len(taxonomy.categories))
        outline = build_dataset(
            console.track(images, "converting"),
            taxonomy,
            images_root,
            source=source,
            account=account,
            on_error=on_error,
            finished=lines.take,
        )
        return _write(outline, lines, split, out, account)


def write_split(
    dataset: Dataset, options: SplitOptions, out: Path, account: Account, split: Split | None = None
) -> Summary:
    """Split a dataset and write `out`/{all,train,val}.json and summary.json, all of them or none.

    `split`: a split that is already known; else `options` decide.
    """
    _refuse_early(out)
    return _write(dataset, None, options, out, account, split)


def _write(
    dataset: Dataset,
    lines: Lines | None,
    options: SplitOptions,
    out: Path,
    account: Account,
    split: Split | None = None,
) -> Summary:
    """Like `write_split`; `lines`: the annotations when they are encoded already."""
    if not dataset.images:
        raise DataError("contains no images", remedy="check the folder", file=dataset.images_root)
    if not account.balanced():
        raise AssertionError(f"objects read and accounted for differ: {account.as_dict()}")
    split = split_images(dataset.images, options) if split is None else split
    split.warnings += _one_sided_classes(dataset.categories, split)
    compare = options.check_images or options.sample_images > 0
    limit = None if options.check_images else options.sample_images
    leaks = leak_report(split.train, split.val, dataset.images_root if compare else None, limit)
    parts = {"all": dataset.images, "train": split.train, "val": split.val}
    summary = Summary(dataset, account, split, leaks, out)
    summary.document = summary_document(summary, parts, options)
    datasets = {f"{name}.json": _part(dataset, name, part) for name, part in parts.items()}
    files = encode_datasets(datasets, out, lines)
    options_json = orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    files["summary.json"] = [orjson.dumps(summary.document, option=options_json)]
    summary.unchanged = _write_folder(out, files)
    return summary


def _one_sided_classes(categories: tuple[str, ...], split: Split) -> list[str]:
    """A warning for each class that is on one side only."""
    train, val = (count_classes(categories, images) for images in (split.train, split.val))
    warnings = []
    for name in categories:
        if val[name] and not train[name]:
            warnings.append(f"class {name!r} has {val[name]} objects in val and none in train: it cannot be trained")
        elif train[name] and not val[name] and split.val:
            warnings.append(
                f"class {name!r} has {train[name]} objects in train and none in val: it cannot be evaluated"
            )
    return warnings


def _part(dataset: Dataset, name: str, images: list[ImageRecord]) -> Dataset:
    part = dataset.subset(images)
    part.info["split"] = name
    return part


def _refuse_early(out: Path) -> None:
    """Refuse an output folder with other content before anything is read."""
    if out.exists() and not out.is_dir():
        raise DataError("is a file, not a folder", remedy="name another folder with --out", file=out)
    if out.is_dir() and any(out.iterdir()) and not (out / "summary.json").is_file():
        raise DataError(
            "exists, is not empty and does not hold a conversion", remedy="name another folder with --out", file=out
        )


def _write_folder(out: Path, files: Mapping[str, list[bytes]]) -> bool:
    """Write all files; True when the folder already holds them, byte for byte."""
    if out.is_dir() and any(out.iterdir()):
        for name, pieces in files.items():
            if not _holds(out / name, pieces):
                raise DataError(
                    "holds another conversion, which is never overwritten",
                    remedy="name another folder with --out, or remove this one",
                    file=out,
                )
        return True
    with new_directory(out) as folder:
        try:
            for name, pieces in files.items():
                with (folder / name).open("wb", buffering=1 << 20) as file:
                    file.writelines(pieces)
        except OSError as error:
            reason = f"cannot be written ({error.strerror or error})"
            raise DataError(reason, remedy="choose a writable folder with free space with --out", file=out) from None
    return False


def _holds(path: Path, pieces: Iterable[bytes]) -> bool:
    """Whether the content of a file is exactly these pieces."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return all(file.read(len(piece)) == piece for piece in pieces) and not file.read(1)


def summary_document(summary: Summary, parts: Mapping[str, list[ImageRecord]], options: SplitOptions) -> dict[str, Any]:
    """The content of summary.json; without paths and times, so that it is reproducible."""
    dataset, split = summary.outline, summary.split
    return {
        "source": dataset.info.get("source", ""),
        "taxonomy_hash": dataset.info.get("taxonomy_hash", ""),
        "categories": list(dataset.categories),
        "images": {name: len(images) for name, images in parts.items()} | {"left_out": len(split.left_out)},
        "images_without_objects": {
            name: sum(not image.annotations for image in images) for name, images in parts.items()
        },
        "objects": {name: count_classes(dataset.categories, images) for name, images in parts.items()},
        "ignore_regions": {name: sum(len(image.ignore_regions) for image in images) for name, images in parts.items()},
        "account": summary.account.as_dict(),
        "split": {
            "method": split.method,
            "reason": split.reason,
            "warnings": split.warnings,
            "asked": {
                "method": Path(options.method).name,
                "val_fraction": options.val_fraction,
                "seed": options.seed,
                "by": list(options.by),
            },
            "left_out": [image.file_name for image in split.left_out],
        },
        "leaks": summary.leaks.as_dict(),
    }


def count_classes(categories: tuple[str, ...], images: Iterable[ImageRecord]) -> dict[str, int]:
    """Number of annotations per class in category order; ignore regions are not counted."""
    annotations = chain.from_iterable(map(attrgetter("annotations"), images))
    counts = Counter(map(attrgetter("category_id"), annotations))
    return {name: counts[number] for number, name in enumerate(categories, 1)}


def print_summary(summary: Summary, next_command: str = "") -> None:
    """Print the table of counts, what was left out and why, warnings, the path and the next command."""
    document, account = summary.document, summary.account
    sides = ("all", "train", "val")
    rows: list[list[object]] = [["images", *(document["images"][side] for side in sides)]]
    rows.append(["  without objects", *(document["images_without_objects"][side] for side in sides)])
    rows += [[name, *(document["objects"][side][name] for side in sides)] for name in document["categories"]]
    rows.append(["ignore regions", *(document["ignore_regions"][side] for side in sides)])
    console.numbers(
        images=document["images"], objects=document["objects"], ignored=account.ignored, dropped=account.dropped
    )
    console.table(f"{document['source']}: {sum(account.read.values())} objects read", ["", *sides], rows)
    for outcome, counter in (("ignored", account.ignored), ("dropped", account.dropped)):
        if counter:
            reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(counter.items()))
            console.say(f"{outcome}: {reasons}")
    if account.clipped:
        console.say(f"clipped to the image: {account.clipped} boxes")
    outside, n_read = account.dropped[OUTSIDE], sum(account.read.values())
    if outside > OUTSIDE_SHARE * n_read or account.clipped > CLIPPED_SHARE * n_read:
        console.warn(
            f"{outside} of {n_read} boxes are outside their image, {account.clipped} reach beyond it: check that the "
            "labels were made for these images, and that boxes are not x, y, x, y where x, y, width, height is expected"
        )
    if doubt := account.frame.doubt():
        console.warn(doubt)
    for note, count in sorted(account.notes.items()):
        console.say(f"{count} {note}")
    if account.rejections:
        count = sum(account.rejected.values())
        what = f"{count} broken objects" if count else f"{len(account.rejections)} broken files"
        console.warn(f"{what} skipped; the first: {account.rejections[0]}")
    console.say(f"split: {summary.split.method} ({summary.split.reason})")
    console.say(f"leaks: {summary.leaks.sentence()}")
    for warning in [*summary.split.warnings, *summary.leaks.warnings()]:
        console.warn(warning)
    if summary.unchanged:
        console.say(f"unchanged: {summary.out} already holds exactly these files")
    else:
        console.wrote(summary.out, next_command)
