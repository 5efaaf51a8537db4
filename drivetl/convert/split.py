"""Split into train and val without leaks: images of one group (a drive, a day) are never on both sides.

Methods: `standard` (the published lists of a source), `folders` (the train, valid and test folders of an export, or the
subsets that it lists),
`sequence` (whole drives, stratified over classes and image attributes), `random` (image by image, with a warning), a
file of val ids, and `auto`: the first of standard, folders, sequence, random that applies. Augmented copies of one
image (Roboflow's NAME.rf.HASH) stay on one side. In a split by drive, each image of unknown drive is its own group,
with a warning: it may be a neighbour of any other. The result depends on the seed alone, not on the platform's random
generators.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from drivetl.coco.drives import Drives, shared_drives
from drivetl.coco.records import ImageRecord
from drivetl.convert.split_file import read_split_file, sides_of
from drivetl.errors import ConfigError, DataError

METHODS = ("auto", "standard", "folders", "sequence", "random")

FOLDER_SIDES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Name of a folder in lower case -> the side of the images below it."""

SAMPLED_IMAGES = 1000
"""Number of images that a conversion compares by default: a few seconds."""

_COPY = re.compile(r"(.+)\.rf\.[0-9A-Za-z]{16,}")
"""Stem of an image exported by Roboflow: the name of its original and a hash that is new for each copy."""


@dataclass(frozen=True, slots=True)
class StandardSplit:
    """A published split: the image ids (file names without folder and suffix) of both sides."""

    name: str
    train: frozenset[str]
    val: frozenset[str]
    applies: bool = True
    """False when the images only share the ids (frame 000001 of another dataset)."""
    reason: str = ""
    """Why it applies or not, in one sentence."""


@dataclass(frozen=True, slots=True)
class SplitOptions:
    """How to split; the fields are the flags of `add_split_arguments`."""

    method: str = "auto"
    """auto, standard, sequence, random, or the path of a file that lists the val side."""
    val_fraction: float = 0.2
    """Target share of images in val, 0..1 exclusive."""
    seed: int = 0
    by: tuple[str, ...] = ("sequence",)
    """What groups images: `sequence` (the drive) and names of image attributes (city, day, ...)."""
    standard: StandardSplit | None = None
    check_images: bool = False
    """Also decode all images and search for near-duplicates across the split."""
    sample_images: int = 0
    """Without check_images: the number of images to compare, evenly spaced; 0 compares none."""
    own_split: bool = True
    """Whether auto may take the folders or subsets of the export: not when a part of the images has no such split."""

    def __post_init__(self) -> None:
        if not 0 < self.val_fraction < 1:
            raise ConfigError(f"--val-fraction {self.val_fraction:g} is not between 0 and 1", remedy="for example 0.2")
        if not -(2**63) <= self.seed < 2**63:
            raise ConfigError(f"--seed {self.seed} has more than 64 bits", remedy="for example 0")


@dataclass(slots=True)
class Split:
    """The result: every image is in exactly one of the three lists; each list keeps the order of the input."""

    train: list[ImageRecord]
    val: list[ImageRecord]
    left_out: list[ImageRecord] = field(default_factory=list)
    """On neither side: the gap of a split by time, or images that a split file does not name."""
    method: str = ""
    reason: str = ""
    warnings: list[str] = field(default_factory=list)


def add_split_arguments(parser: argparse.ArgumentParser, standard: bool = True) -> None:
    """The flags --split, --val-fraction, --seed, --by and --check-images."""
    lists = "standard: the published lists; " if standard else ""
    parser.add_argument(
        "--split",
        default="auto",
        metavar="HOW",
        help=(
            f"{lists}folders: the export's own train, valid and test folders or lists; sequence: whole drives; "
            "random: image by image; FILE: names of the val images or drives, one per line, or a json with lists `val` "
            "(and `train`); auto: the first that applies (default: auto)"
        ),
    )
    parser.add_argument(
        "--val-fraction", type=float, default=0.2, metavar="SHARE", help="target share of val (default: 0.2)"
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed of the split (default: 0)")
    parser.add_argument(
        "--by",
        default="sequence",
        metavar="NAME[,NAME]",
        help=(
            "what keeps images on one side: sequence (the drive), and names of image attributes such as city or day "
            "(default: sequence)"
        ),
    )
    parser.add_argument(
        "--check-images",
        action="store_true",
        help="decode all images and search for near-duplicates across the split (slow)"
        + ("" if standard else f" (default: {SAMPLED_IMAGES} of them)"),
    )
    parser.set_defaults(sample_images=0 if standard else SAMPLED_IMAGES)


def split_options(args: argparse.Namespace, standard: StandardSplit | None = None) -> SplitOptions:
    """The options in parsed flags. Raises ConfigError for a share outside 0..1."""
    by = tuple(name.strip() for name in str(args.by).split(",") if name.strip()) or ("sequence",)
    return SplitOptions(args.split, args.val_fraction, args.seed, by, standard, args.check_images, args.sample_images)


def split_images(images: Sequence[ImageRecord], options: SplitOptions) -> Split:
    """Split images into train and val.

    Raises ConfigError for a method that cannot be used, DataError for a split file with an unknown name and for two
    images with the same file name.
    """
    _check_unique_files(images)
    method = options.method
    if method == "auto":
        result = _auto(images, options)
    elif method == "standard":
        result = _standard(images, options.standard)
    elif method == "folders":
        result = _by_folder(images)
    elif method == "sequence":
        result = _by_group(images, options)
    elif method == "random":
        result = _random(images, options, "requested")
    else:
        result = _from_file(images, Path(method))
    for side, records in (("train", result.train), ("val", result.val)):
        if not records:
            result.warnings.append(f"{side} is empty: {len(images)} images cannot be split further")
    return result


def _check_unique_files(images: Iterable[ImageRecord]) -> None:
    """Raises DataError when two images have the same file name: they could be on both sides."""
    first: dict[str, int] = {}
    for image in images:
        if first.setdefault(image.file_name, image.id) != image.id:
            raise DataError(
                f"images {first[image.file_name]} and {image.id} have the same file_name {image.file_name!r}",
                remedy="keep one of them, or write their folders into file_name",
            )


def _auto(images: Sequence[ImageRecord], options: SplitOptions) -> Split:
    standard = options.standard
    if standard is not None and standard.applies and options.by == ("sequence",):
        ids = {stem(image.file_name) for image in images}
        if ids <= standard.train | standard.val and ids & standard.train and ids & standard.val:
            return _standard(images, standard)
    if options.by == ("sequence",) and options.own_split and has_split(images):
        return _by_folder(images)
    if options.by != ("sequence",) or Drives.of(images).known:
        return _by_group(images, options)
    result = _random(images, options, "no image has a drive")
    if images:
        result.warnings.append(
            "only a random split is possible, because no image has a drive: frames of one drive may be on "
            "both sides, so the val score will be too optimistic"
        )
    return result


def _standard(images: Sequence[ImageRecord], standard: StandardSplit | None) -> Split:
    if standard is None:
        raise ConfigError("--split standard: this dataset has no published split", remedy="use --split sequence")
    known = standard.train | standard.val
    unlisted = next((image for image in images if stem(image.file_name) not in known), None)
    if unlisted is not None:
        raise ConfigError(
            f"--split standard: image {unlisted.file_name!r} is in neither list of {standard.name}",
            remedy="use --split sequence",
        )
    if not standard.applies:
        raise ConfigError(f"--split standard: {standard.reason}", remedy="use --split sequence")
    train = [image for image in images if stem(image.file_name) in standard.train]
    val = [image for image in images if stem(image.file_name) in standard.val]
    return Split(train, val, method="standard", reason=standard.reason or standard.name)


def folder_side(file_name: str) -> str:
    """`train`, `val` or `test` by the first folder of a file name that is called so, else ""."""
    folders = file_name.lower().split("/")[:-1]
    return next((FOLDER_SIDES[folder] for folder in folders if folder in FOLDER_SIDES), "")


def _side(image: ImageRecord) -> str:
    """`train`, `val` or `test` by the subset that its source names, else by its folder; "" for neither."""
    return _subset(image) or folder_side(image.file_name)


def _subset(image: ImageRecord) -> str:
    return FOLDER_SIDES.get(str(image.attributes.get("subset", "")).lower(), "")


def has_split(images: Sequence[ImageRecord]) -> bool:
    """Whether every image is in a train, val or test folder, and each train folder has a val or test folder next to it.

    In merged datasets, train of one source and val of another are not a split. A subset that the source names, such as
    CVAT's, is like a folder.
    """
    sides: dict[str, set[str]] = {}
    for image in images:
        if subset := _subset(image):
            sides.setdefault("", set()).add(subset)
            continue
        folders = image.file_name.lower().split("/")[:-1]
        at = next((number for number, folder in enumerate(folders) if folder in FOLDER_SIDES), None)
        if at is None:
            return False
        sides.setdefault("/".join(folders[:at]), set()).add(FOLDER_SIDES[folders[at]])
    return bool(sides) and all({"train"} < names for names in sides.values())


def _by_folder(images: Sequence[ImageRecord]) -> Split:
    """The split of an export by its folders or subsets; `test` is val where there is no val, else on neither side."""
    side = {image.id: _side(image) for image in images}
    names = set(side.values())
    if "" in names or not {"train"} < names:
        outside = next((image.file_name for image in images if not side[image.id]), "")
        raise ConfigError(
            "--split folders: "
            + (f"image {outside!r} is not" if outside else "images are not")
            + " in folders called train and val (or valid, validation, test)",
            remedy="use --split sequence",
        )
    val = "val" if "val" in names else "test"
    kind = "subsets" if all(map(_subset, images)) else "folders"
    train, val_images, left_out = (
        [image for image in images if side[image.id] in sides] for sides in (("train",), (val,), {"test"} - {val})
    )
    result = Split(train, val_images, left_out, "folders", f"the export's own {kind}")
    if left_out:
        result.reason += f"; {len(left_out)} images of test are on neither side"
    copies = {origin(image) for image in train} & {origin(image) for image in val_images} - {""}
    shared = shared_drives(train, val_images)
    if copies or shared:
        reasons = [f"{len(shared)} drives, the first is {shared[0]!r}"] if shared else []
        reasons += [f"copies of {len(copies)} images, the first is {min(copies)!r}"] if copies else []
        result.warnings.append(
            f"the export's own {kind} have {' and '.join(reasons)} on both sides: the val score will be too "
            "optimistic; --split sequence keeps each on one side"
        )
    return result


def origin(image: ImageRecord) -> str:
    """The name of the image that an augmented copy was made from; "" for other images."""
    match = _COPY.fullmatch(stem(image.file_name))
    return match[1] if match else ""


def _by_group(images: Sequence[ImageRecord], options: SplitOptions) -> Split:
    groups = group_images(images, options.by)
    names = " and ".join(options.by)
    if len(groups) == 1 and len(images) > 1:
        if options.by != ("sequence",):
            raise ConfigError(
                f"--by {','.join(options.by)}: all {len(images)} images are in one group by {names} or drive",
                remedy="group by an attribute with more values",
            )
        return _by_time(images, options)
    from drivetl.convert.stratify import choose_val_groups  # imports numpy

    val_keys = choose_val_groups(groups, options.val_fraction, options.seed)
    chosen = {image.id for key in val_keys for image in groups[key]}
    result = Split(
        [image for image in images if image.id not in chosen],
        [image for image in images if image.id in chosen],
        method="sequence",
        reason=f"{len(groups)} groups by {names}, stratified over classes and attributes",
    )
    share = len(result.val) / len(images) if images else options.val_fraction
    if abs(share - options.val_fraction) > max(0.1, options.val_fraction / 2):
        result.warnings.append(
            f"val holds {share:.0%} of the images, {options.val_fraction:.0%} were requested: {len(groups)} whole "
            "groups do not allow a better balance of images, classes and attributes"
        )
    alone = Drives.of(images).n_unknown
    if alone and options.by == ("sequence",):
        result.warnings.append(
            f"{alone} of {len(images)} images have no drive; each is its own group, so neighbouring frames may "
            "be on both sides"
        )
    return result


def group_images(images: Iterable[ImageRecord], by: Sequence[str]) -> dict[str, list[ImageRecord]]:
    """Groups of images that must stay on one side. The key of a group is its smallest file name.

    Two images are in one group when they share a drive or the value of any name in `by`, or are copies of one image,
    directly or through other images. An image of unknown drive without such a value is its own group.
    Raises ConfigError when a name is neither `sequence` nor an attribute of any image, DataError for two images with
    the same file name.
    """
    records = list(images)
    _check_unique_files(records)
    for name in by:
        if name != "sequence" and records and not any(name in image.attributes for image in records):
            known = sorted({key for image in records for key in image.attributes})
            raise ConfigError(
                f"--by {name}: no image has this attribute", remedy=f"choose from {', '.join(['sequence', *known])}"
            )
    parent = list(range(len(records)))

    def find(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    first: dict[tuple[str, str], int] = {}
    for number, image in enumerate(records):
        tokens = [("sequence", image.drive)] if image.drive else []
        tokens += [("copies of", name)] if (name := origin(image)) else []
        tokens += [(name, str(image.attributes[name])) for name in by if name in image.attributes]
        for token in tokens:
            parent[find(number)] = find(first.setdefault(token, number))
    members: dict[int, list[ImageRecord]] = {}
    for number, image in enumerate(records):
        members.setdefault(find(number), []).append(image)
    keyed = ((min(image.file_name for image in group), group) for group in members.values())
    return dict(sorted(keyed, key=lambda pair: pair[0]))


def _by_time(images: Sequence[ImageRecord], options: SplitOptions) -> Split:
    """Split one drive: its last frames are val, and a gap of frames before them is on neither side."""
    ordered = sorted(images, key=lambda image: (image.frame_index is None, image.frame_index, image.file_name))
    count = len(ordered)
    val = min(max(1, round(options.val_fraction * count)), count - 1)
    gap = min(max(1, round(0.05 * count)), count - val - 1) if count >= 5 else 0
    rank = {image.id: number for number, image in enumerate(ordered)}
    border = count - val
    return Split(
        [image for image in images if rank[image.id] < border - gap],
        [image for image in images if rank[image.id] >= border],
        [image for image in images if border - gap <= rank[image.id] < border],
        method="time",
        reason=f"all {count} images are of one drive: its last frames are val",
        warnings=[
            f"all images are of one drive, so the split is by time: the last {val} frames are val, {gap} before "
            "them are left out as a gap. Both sides show the same place; the val score will be too optimistic"
        ],
    )


def _random(images: Sequence[ImageRecord], options: SplitOptions, reason: str) -> Split:
    copies: dict[str, list[ImageRecord]] = {}
    for image in images:
        copies.setdefault(origin(image) or f"/{image.file_name}", []).append(image)
    groups = sorted(copies.values(), key=lambda group: _shuffle_key(options.seed, group[0].file_name))
    count = min(max(1, round(options.val_fraction * len(images))), len(images) - 1) if len(images) > 1 else 0
    chosen: set[int] = set()
    for group in groups[:-1]:
        if len(chosen) >= count:
            break
        chosen |= {image.id for image in group}
    result = Split(
        [image for image in images if image.id not in chosen],
        [image for image in images if image.id in chosen],
        method="random",
        reason=reason,
    )
    shared = shared_drives(result.train, result.val)
    if shared:
        result.warnings.append(
            f"a random split puts frames of {len(shared)} drives on both sides: the val score will be too optimistic; "
            "--split sequence avoids it"
        )
    return result


def _shuffle_key(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()


def _from_file(images: Sequence[ImageRecord], path: Path) -> Split:
    if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises for a name that is too long
        raise ConfigError(f"--split {str(path)[:200]}: neither one of {', '.join(METHODS)} nor a file that exists")
    lists = read_split_file(path)
    side = sides_of(images, lists, path)
    default = "left out" if "train" in lists else "train"
    at = {image.id: side.get(image.id, default) for image in images}
    train, val, left_out = (
        [image for image in images if at[image.id] == name] for name in ("train", "val", "left out")
    )
    result = Split(train, val, left_out, "file", path.name)
    shared = shared_drives(result.train, result.val)
    if shared:
        result.warnings.append(
            f"{path.name} puts {len(shared)} drives on both sides, the first is {shared[0]!r}: neighbouring "
            "frames leak, the val score will be too optimistic"
        )
    return result


def stem(file_name: str) -> str:
    """The name without folder and suffix; ten times faster than PurePosixPath."""
    name = file_name.rpartition("/")[2]
    return name if name.rfind(".") <= 0 else name[: name.rfind(".")]
