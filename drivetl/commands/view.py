"""`drivetl view`: a dataset's images with boxes, masks and ignore regions drawn, to look at before training."""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from drivetl import console
from drivetl.coco.io import read_dataset
from drivetl.coco.records import Dataset, ImageRecord
from drivetl.commands.flags import add_old_name, input_path, new_path, seed
from drivetl.errors import ConfigError, DataError
from drivetl.files.images import Rgb, read_rgb
from drivetl.files.write import new_directory, write_atomically

if TYPE_CHECKING:  # a mistake in the flags or the json is reported before OpenCV is loaded
    from drivetl.draw.gallery import Detections


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    parser.add_argument("data", type=input_path, metavar="DATASET.json", help="dataset json in drivetl's format")
    parser.add_argument(
        "--out",
        type=new_path,
        required=True,
        metavar="FILE.png|DIR",
        help="FILE.png: a contact sheet; otherwise a new folder with sheet.png and the single images",
    )
    count = parser.add_argument("--count", type=int, default=24, metavar="N", help="number of images (default: 24)")
    add_old_name(parser, "--images", count)
    parser.add_argument("--seed", type=seed, default=0, help="random seed of the choice of images (default: 0)")
    parser.add_argument(
        "--predictions",
        type=input_path,
        metavar="RESULTS.json",
        help="COCO results to draw as solid boxes; labels are then dashed",
    )
    score = parser.add_argument(
        "--score",
        type=float,
        default=0.3,
        metavar="SCORE",
        help="lowest score of a prediction that is drawn (default: 0.3)",
    )
    add_old_name(parser, "--min-score", score)
    parser.add_argument(
        "--tile-width", type=int, default=640, metavar="PX", help="image width on the contact sheet (default: 640)"
    )


def run(args: argparse.Namespace) -> None:
    """Draw and write. Raises DataError for an image that cannot be read; `drivetl audit` lists all of them."""
    if args.count < 1 or not 32 <= args.tile_width <= 4096:
        raise ConfigError("--count must be at least 1 and --tile-width between 32 and 4096")
    dataset = read_dataset(args.data)
    if not dataset.images:
        raise DataError("holds no images", remedy="check the conversion and the split", file=args.data)

    from drivetl.draw.gallery import choose, sheet_of
    from drivetl.draw.objects import png

    detections = _detections(args.predictions, dataset, args.score) if args.predictions else None
    chosen = choose(dataset, args.count, args.seed)
    single = args.out.suffix.lower() == ".png"
    if single:
        tiles = [_tile(dataset, image, detections, args.tile_width) for image in console.track(chosen, "drawing")]
        write_atomically(args.out, png(sheet_of(tiles, dataset.categories, args.tile_width)))
    else:
        with new_directory(args.out) as folder:
            _fill(folder, dataset, chosen, detections, args.tile_width)
    objects = sum(len(image.annotations) for image in chosen)
    regions = sum(len(image.ignore_regions) for image in chosen)
    console.numbers(images=len(chosen), objects=objects, ignore_regions=regions)
    console.say(f"{len(chosen)} of {len(dataset.images)} images, {objects} objects, {regions} ignore regions drawn")
    console.wrote(args.out if single else args.out / "sheet.png", console.command("audit", args.data))


def _fill(
    folder: Path, dataset: Dataset, chosen: list[ImageRecord], detections: dict[int, Detections] | None, tile_width: int
) -> None:
    """sheet.png, and images/*.png at the images' own size, at least 960 px wide so that labels can be read."""
    from drivetl.draw.gallery import sheet_of
    from drivetl.draw.objects import png

    (folder / "images").mkdir()
    tiles = []
    for image in console.track(chosen, "drawing"):
        title, pixels = _tile(dataset, image, detections, max(960, image.width))
        name = image.file_name.rsplit(".", 1)[0].replace("/", "__")
        (folder / "images" / f"{name}__{image.id}.png").write_bytes(png(pixels))
        tiles.append((title, _tile(dataset, image, detections, tile_width)[1]))
    (folder / "sheet.png").write_bytes(png(sheet_of(tiles, dataset.categories, tile_width)))


def _tile(
    dataset: Dataset, image: ImageRecord, detections: dict[int, Detections] | None, width: int
) -> tuple[str, Rgb]:
    """(title, the image with its objects drawn). Raises DataError when its size is not that of the json."""
    from drivetl.draw.gallery import Detections, draw_record

    pixels = read_rgb(dataset.images_root / image.file_name)
    if pixels.shape[:2] != (image.height, image.width):
        raise DataError(
            f"is {pixels.shape[1]} x {pixels.shape[0]}, the json says {image.width} x {image.height}",
            remedy="see `drivetl audit`",
            file=dataset.images_root / image.file_name,
        )
    of_image = None if detections is None else detections.get(image.id, Detections())
    words = [image.file_name, *(str(value) for value in image.attributes.values() if isinstance(value, str))]
    return "  ".join(words), draw_record(image, pixels, dataset.categories, width, of_image, dataset.file)


def _detections(path: Path, dataset: Dataset, min_score: float) -> dict[int, Detections]:
    """Image id -> its detections with at least this score."""
    from drivetl.draw.gallery import Detections
    from drivetl.metrics.results import read_coco_results

    results = read_coco_results(path, dataset)
    detections: dict[int, Detections] = defaultdict(Detections)
    for row in (results.scores >= min_score).nonzero()[0]:
        x, y, w, h = (float(value) for value in results.boxes_xywh[row])
        image = detections[int(results.image_id[row])]
        image.boxes_xywh.append((x, y, w, h))
        image.category_ids.append(int(results.category_id[row]))
        image.scores.append(float(results.scores[row]))
        image.segmentations.append(None if results.segmentations is None else results.segmentations[row])
    return detections
