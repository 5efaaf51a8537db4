"""The README's images, made from what `make demo` wrote.

python tools/pictures.py
"""

from __future__ import annotations

import sys
from pathlib import Path

from drivetl import conditions, console
from drivetl.coco.boxes import xywh_to_xyxy
from drivetl.coco.io import read_dataset
from drivetl.coco.records import ImageRecord
from drivetl.draw.objects import contact_sheet, draw_objects, jpeg
from drivetl.files.images import Rgb
from drivetl.files.write import write_atomically

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "runs" / "demo"
WEATHER = (("fog", 3), ("rain", 4), ("snowfall", 3), ("night", 3), ("low_sun", 3), ("lens_dirt", 5))


def main() -> int:
    """Write docs/city.jpg (both towns, their boxes) and docs/conditions.jpg (one frame in held-out weather)."""
    from drivetl.data.dataset import read_image

    towns: list[tuple[str, Rgb]] = []
    for town, wanted in (("a", 3), ("b", 3)):
        data = read_dataset(DEMO / f"town_{town}" / "all.json")
        for record in spread(data.images, wanted):
            boxes = [xywh_to_xyxy(item.bbox_xywh) for item in record.annotations]
            labels = [item.category_id for item in record.annotations]
            image = draw_objects(
                read_image(record, data.images_root), boxes, labels, categories=data.categories, show_labels=False
            )
            seen = ", ".join(
                str(record.attributes[key]) for key in ("timeofday", "weather") if key in record.attributes
            )
            towns.append((f"town {town.upper()}, {seen}", image))
    order = [towns[index] for index in (0, 3, 1, 4, 2, 5)]
    save("city.jpg", contact_sheet(order, columns=2, tile_width=520))
    data = read_dataset(DEMO / "town_b" / "val.json")
    frame = read_image(max(data.images, key=lambda image: len(image.annotations)), data.images_root)
    tiles = [(f"{name}, severity {severity}", conditions.apply(frame, name, severity, 0)) for name, severity in WEATHER]
    save("conditions.jpg", contact_sheet(tiles, columns=2, tile_width=520))
    return 0


def spread(images: list[ImageRecord], wanted: int) -> list[ImageRecord]:
    """Images with many objects, of different light and weather."""
    best: dict[str, ImageRecord] = {}
    for image in images:
        key = f"{image.attributes.get('timeofday')} {image.attributes.get('weather')}"
        if key not in best or len(image.annotations) > len(best[key].annotations):
            best[key] = image
    return [best[key] for key in sorted(best)][:wanted]


def save(name: str, sheet: Rgb) -> None:
    """Write an image under docs/."""
    write_atomically(ROOT / "docs" / name, jpeg(sheet))
    console.wrote(ROOT / "docs" / name)


if __name__ == "__main__":
    sys.exit(main())
