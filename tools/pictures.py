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
NIGHT = tuple(("night", severity) for severity in range(6))
WEATHER = (("fog", 3), ("rain", 4), ("snowfall", 3), ("night", 3), ("low_sun", 3), ("lens_dirt", 5))


def main() -> int:
    """Write docs/city.jpg (both towns, their boxes), docs/conditions.jpg (one frame in held-out weather) and
    docs/results/night.jpg (another at every severity of the night)."""
    from drivetl.data.dataset import read_image
    from drivetl.data.vehicles import vehicle_boxes

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
    clear = [image for image in data.images if image.attributes == {"timeofday": "day", "weather": "clear"}]
    busiest = max(clear, key=lambda image: len(image.annotations))
    for name, record, cells in (("conditions.jpg", busiest, WEATHER), ("results/night.jpg", busiest, NIGHT)):
        frame, vehicles = read_image(record, data.images_root), vehicle_boxes(record, data.categories)
        shown = [conditions.apply(frame, *cell, 0, vehicles=vehicles) for cell in cells]
        titles = ["by day" if cell[1] == 0 else f"{cell[0]}, severity {cell[1]}" for cell in cells]
        save(name, contact_sheet(list(zip(titles, shown, strict=True)), columns=2, tile_width=520))
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
