"""`drivetl conditions`: a contact sheet of an image under any conditions, the images of a sweep as files, and the list
of all conditions.
"""

from __future__ import annotations

import argparse
import base64
import html
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from drivetl import console
from drivetl.commands.flags import add_old_name, input_path, new_path, parse_shard, seed
from drivetl.errors import ConfigError, DataError
from drivetl.files.images import Rgb, read_rgb
from drivetl.files.write import write_atomically

MOST_TILES = 400


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    add = parser.add_argument
    add("source", type=input_path, nargs="?", metavar="IMAGE|DATASET.json", help="an image, or a dataset of images")
    add("--out", type=new_path, metavar="FILE", help="new file: .png for a contact sheet, .html for a page")
    conditions = add(
        "--conditions",
        dest="names",
        default="drive",
        metavar="SET|NAME,NAME",
        help=(
            "drive: weather, light and camera; common: the 15 published corruptions; common_aligned: the same without "
            "moving content; all; or names (default: drive)"
        ),
    )
    add_old_name(parser, "--names", conditions)
    add("--severities", default="1,3,5", metavar="S,S", help="severities from 1 to 5 (default: 1,3,5)")
    count = add("--count", type=int, default=1, metavar="N", help="number of images of a dataset to show (default: 1)")
    add_old_name(parser, "--images", count)
    add("--seed", type=seed, default=0, help="random seed of the noise and of the choice of images (default: 0)")
    add("--tile-width", type=int, default=420, metavar="PX", help="width of each image (default: 420)")
    add("--list", action="store_true", help="instead, print every condition with its value at each severity")
    add(
        "--augmentation-template",
        type=new_path,
        metavar="FILE.yaml",
        help="instead, write a manifest to fill in: what a detector was trained on, for eval-robustness --augmentation",
    )
    _add_write_arguments(parser)


def _add_write_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "images as files", "for a detector that runs elsewhere: eval-robustness --detector reads its results"
    )
    add = group.add_argument
    add("--data", type=input_path, metavar="VAL.json", help="COCO dataset json with the images")
    add(
        "--write",
        type=Path,
        metavar="DIR",
        help=(
            "folder for CONDITION/SEVERITY/NAME.png, the pixels that eval-robustness evaluates, and manifest.json; the "
            "same command continues a folder it has begun. `clean` is one of the --conditions too"
        ),
    )
    add("--jpeg", type=int, metavar="QUALITY", help="write JPEG, which changes the pixels, at a quality from 1 to 100")
    add("--shard", default="1/1", metavar="I/N", help="the I-th of N equal parts of the images (default: 1/1)")
    add("--workers", type=int, metavar="N", help="processes that apply the conditions (default: one per core)")


def run(args: argparse.Namespace) -> None:
    """Print the list, write the images, the template of a manifest, or the contact sheet."""
    if args.augmentation_template is not None:
        _write_template(args)
        return
    if args.write is not None or args.data is not None:
        _write(args)
        return
    if not args.list:
        _check_output(args)

    from drivetl.conditions import CATALOG, parse_severities, select
    from drivetl.draw.objects import contact_sheet, png

    names, severities = select(args.names), parse_severities(args.severities)
    if args.list:
        _print_list(names if args.names != "drive" else list(CATALOG))
        return
    n_tiles = len(names) * (len(severities) + 1) * args.count
    if n_tiles > MOST_TILES:
        raise ConfigError(
            f"{n_tiles} tiles do not fit on a sheet (at most {MOST_TILES})", remedy="fewer --conditions or --count"
        )
    console.numbers(tiles=n_tiles, conditions=len(names))
    sources = list(_sources(args.source, args.count, args.seed))
    rows = list(_rows(sources, names, severities, args.seed, args.tile_width))
    if args.out.suffix.lower() == ".html":
        write_atomically(args.out, _page(rows))
    else:
        tiles = [tile for _, row in rows for tile in row]
        write_atomically(args.out, png(contact_sheet(tiles, len(severities) + 1, args.tile_width)))
    console.wrote(args.out, console.command("conditions", "--list"))


def _write_template(args: argparse.Namespace) -> None:
    """Write the manifest to fill in. Raises ConfigError for flags that do not go with it."""
    if any((args.source, args.out, args.write, args.data, args.list)):
        raise ConfigError("--augmentation-template is written alone", remedy="leave the other arguments out")
    from drivetl.conditions.manifest_template import template

    write_atomically(args.augmentation_template, template())
    console.wrote(args.augmentation_template)
    console.say("fill it in, then: drivetl eval-robustness --detector ... --augmentation FILE")


def resume_flags(args: argparse.Namespace) -> list[str] | None:
    """Nothing to add: the images that --write has finished are kept."""
    return [] if args.write is not None and (args.write / "manifest.json").is_file() else None


def _write(args: argparse.Namespace) -> None:
    """Write the images of a sweep. Raises ConfigError for flags that do not go together."""
    shard = _check_write(args)

    from drivetl.coco.io import read_dataset
    from drivetl.conditions import CLEAN, parse_severities, select

    words = [word.strip() for word in args.names.split(",") if word.strip()]
    others = [word for word in words if word != CLEAN[0]]
    names, severities = select(",".join(others)) if others or not words else [], parse_severities(args.severities)
    cells = [CLEAN] if CLEAN[0] in words else []
    cells += [(name, severity) for name in names for severity in severities]
    dataset = read_dataset(args.data)
    with console.loading("torch"):
        from drivetl.robustness.sweep import default_workers
        from drivetl.robustness.write_conditions import write_conditions

    workers = default_workers("") if args.workers is None else args.workers
    done = write_conditions(dataset, cells, args.write, jpeg=args.jpeg, workers=workers, shard=shard)
    console.say(f"{len(cells)} cells: {done.n_rendered} files written, {done.n_finished} were there already")
    if done.n_missing:
        console.say(f"{done.n_missing} files are still missing: those of the other shards")
    console.numbers(cells=len(cells), written=done.n_rendered, finished=done.n_finished, missing=done.n_missing)
    console.wrote(done.manifest)


def _check_write(args: argparse.Namespace) -> tuple[int, int]:
    """The shard as (rank, world). Raises ConfigError."""
    if args.write is None or args.data is None:
        raise ConfigError("--write and --data need each other", remedy="name both: --data VAL.json --write DIR")
    if args.source is not None or args.out is not None or args.list:
        raise ConfigError("--write goes with --data alone", remedy="leave out the image, --out and --list")
    for flag, value, default in (
        ("--seed", args.seed, 0),
        ("--count", args.count, 1),
        ("--tile-width", args.tile_width, 420),
    ):
        if value != default:
            raise ConfigError(f"{flag} changes nothing with --write", remedy="leave it out: all pixels are the sweep's")
    if args.jpeg is not None and not 1 <= args.jpeg <= 100:
        raise ConfigError(f"--jpeg is {args.jpeg}", remedy="it must be from 1 to 100")
    if args.workers is not None and args.workers < 0:
        raise ConfigError(f"--workers is {args.workers}", remedy="it must be at least 0")
    return parse_shard(args.shard)


def _check_output(args: argparse.Namespace) -> None:
    """Raises ConfigError."""
    if args.source is None or args.out is None:
        raise ConfigError("needs an image or a dataset, and --out FILE.png", remedy="or --list to see all conditions")
    if args.out.suffix.lower() not in (".png", ".html"):
        raise ConfigError(f"--out {args.out} is neither .png nor .html", remedy="name a file that ends in one of them")
    if args.count < 1 or not 32 <= args.tile_width <= 4096:
        raise ConfigError("--count must be at least 1 and --tile-width between 32 and 4096")


def _sources(path: Path, count: int, seed: int) -> Iterator[tuple[str, Rgb]]:
    """(name, pixels) of the image itself, or of `count` images of a dataset."""
    if path.suffix.lower() != ".json":
        yield path.name, read_rgb(path)
        return
    from drivetl.coco.io import read_dataset
    from drivetl.draw.gallery import choose

    dataset = read_dataset(path)
    if not dataset.images:
        raise DataError("holds no images", remedy="check the conversion and the split", file=path)
    for record in choose(dataset, count, seed):
        yield record.file_name, read_rgb(dataset.images_root / record.file_name)


Row = tuple[str, list[tuple[str, Rgb]]]
"""(condition, its tiles: (title, pixels))."""


def _rows(
    sources: list[tuple[str, Rgb]], names: list[str], severities: list[int], seed: int, width: int
) -> Iterator[Row]:
    """A row of tiles per condition and image, the unchanged image first."""
    from drivetl.conditions import CATALOG, apply, pixel_seed
    from drivetl.draw.objects import resize_to_width

    caches: list[dict[str, Any]] = [{} for _ in sources]
    for name in console.track(names, "drawing"):
        condition = CATALOG[name]
        for (file, image), cache in zip(sources, caches, strict=True):
            row = [(file, resize_to_width(image, width))]
            for severity in severities:
                changed = apply(image, name, severity, pixel_seed(f"{seed}/{file}", name, severity), cache=cache)
                title = f"{name} {severity}: {condition.axis[severity - 1]:g} {condition.unit[1]}"
                row.append((title, resize_to_width(changed, width)))
            yield name, row


def _print_list(names: list[str]) -> None:
    from drivetl.conditions import CATALOG, PROTOCOL_VERSION

    console.numbers(conditions=len(names), protocol_version=PROTOCOL_VERSION)
    console.say(f"{len(names)} conditions, protocol version {PROTOCOL_VERSION}; severities 1 to 5")
    for name in names:
        item = CATALOG[name]
        ladder = " ".join(f"{value:g}" for value in item.axis)
        labels = "labels stay valid" if item.label_safe else f"moves content: {item.shift_note}"
        as_published = f" (published as {item.published})" if item.published not in ("", name) else ""
        console.say(f"{name:<22}{ladder} {item.unit[1]}")
        console.say(f"{'':<22}{item.phenomenon} by {item.model}, {item.family}{as_published}; {labels}")


def _page(rows: list[Row]) -> str:
    """One self-contained page: images embedded as JPEG, a section per condition with its model and its values."""
    from drivetl.conditions import CATALOG

    parts, last = [], ""
    for name, tiles in rows:
        if name != last:
            item = CATALOG[name]
            ladder = ", ".join(f"{value:g}" for value in item.axis)
            about = (item.effect.__doc__ or "").strip().split("\n\n")[0]
            labels = "" if item.label_safe else f" Moves content: {item.shift_note}."
            parts.append(
                f"<h2 id='{name}'>{name}</h2><p><b>{html.escape(item.phenomenon)}</b>, model <code>{item.model}</code>,"
                f" severities 1 to 5: {html.escape(ladder)}"
                f" {html.escape(item.unit[1])}.{html.escape(labels)}</p><p>{html.escape(about)}</p>"
            )
            last = name
        figures = "".join(
            f"<figure><img alt='{html.escape(title, quote=True)}'"
            f" src='data:image/jpeg;base64,{_jpeg(pixels)}'><figcaption>{html.escape(title)}</figcaption></figure>"
            for title, pixels in tiles
        )
        parts.append(f"<div class='row'>{figures}</div>")
    style = (
        "body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:110rem;padding:0 1rem;color-scheme:light"
        " dark}.row{display:flex;flex-wrap:wrap;gap:.5rem}figure{margin:0;flex:1 1"
        " 16rem;max-width:34rem}img{width:100%;height:auto;border-radius:4px}figcaption{font-size:.85rem}"
    )
    head = "<meta charset='utf-8'><meta name='viewport' content='width=device-width,initial-scale=1'>"
    title = "<title>drivetl conditions</title>"
    return (
        f"<!doctype html><html lang='en'><head>{head}{title}<style>{style}</style></head>"
        f"<body><h1>Conditions</h1>{''.join(parts)}</body></html>\n"
    )


def _jpeg(image: Rgb) -> str:
    import cv2

    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])
    assert done
    return base64.b64encode(bytes(data)).decode("ascii")
