"""Draw boxes, masks, ignore regions and labels on images, and contact sheets of several images.

Functions take and return (H, W, 3) uint8 RGB and do not change their input. The colours of classes are
those of `palette.colours_of`, in every drawing of a dataset or run.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from drivetl.coco.boxes import area, intersection
from drivetl.coco.masks import Mask
from drivetl.draw.palette import Colour, colour_of, colours_of, ink_on
from drivetl.errors import DataError
from drivetl.files.arrays import numbers
from drivetl.files.images import Rgb, check_rgb

BACKGROUND: Colour = (24, 26, 30)
TEXT: Colour = (236, 238, 242)
"""Of contact sheets and titles."""
_IGNORED: Colour = (225, 225, 225)
_MAX_COORDINATE = 100_000.0
LEAST_TEXT_PX, MOST_TEXT_PX = 11, 64
"""Of a label; between them 1/85 of the longer side."""


def draw_objects(
    image: Rgb,
    boxes_xyxy: npt.ArrayLike,
    labels: Sequence[int | str],
    scores: Sequence[float] | None = None,
    colours: Sequence[Colour] | None = None,
    masks: Sequence[Mask | None] | None = None,
    ignore_boxes: npt.ArrayLike | None = None,
    categories: Sequence[str] = (),
    *,
    ignore_masks: Sequence[Mask | None] | None = None,
    width: int | None = None,
    dashed: bool = False,
    show_labels: bool = True,
) -> Rgb:
    """Draw N objects and M ignore regions on a copy of the image.

    boxes_xyxy, ignore_boxes: (N, 4), (M, 4) px of `image`; boxes that are not finite are skipped.
    labels: category ids 1..K (named by `categories`) or texts. scores: 0..1, written after the label.
    masks, ignore_masks: (H, W) of 0 and 1 each, or None. colours: RGB per object; default: by class.
    width: scale the image to this width in px first, so that lines and text stay sharp. dashed: dashed boxes, to
    distinguish two sets of boxes in one image. Raises DataError for an argument of another shape or type.
    """
    check_rgb(image)
    _check_objects(image, boxes_xyxy, {"labels": labels, "scores": scores, "colours": colours, "masks": masks}, masks)
    _check_objects(image, () if ignore_boxes is None else ignore_boxes, {"ignore_masks": ignore_masks}, ignore_masks)
    scale = 1.0 if width is None else width / image.shape[1]
    canvas = image.copy() if width is None else resize_to_width(image, width)
    names = [_name(label, categories) for label in labels]
    of_class = colours_of(categories)
    paints = list(colours) if colours is not None else [of_class.get(name) or colour_of(name) for name in names]
    boxes, ignored = _as_boxes(boxes_xyxy) * scale, _as_boxes(ignore_boxes) * scale
    thickness = max(1, round(max(canvas.shape[:2]) / 640))
    for number, box in enumerate(ignored):
        if np.isfinite(box).all():
            _hatch(canvas, box, _mask_at(ignore_masks, number, canvas), thickness)
    usable = [number for number in range(len(boxes)) if np.isfinite(boxes[number]).all()]
    for number in usable:
        mask = _mask_at(masks, number, canvas)
        if mask is not None:
            _fill(canvas, mask, paints[number])
    # Small boxes are drawn last, on top of large ones.
    usable.sort(key=lambda number: -abs(float(area(boxes[number : number + 1])[0])))
    for number in usable:
        _outline(canvas, boxes[number], paints[number], thickness, dashed)
    if show_labels:
        texts = [name if scores is None else f"{name} {scores[i]:.2f}" for i, name in enumerate(names)]
        _write_labels(canvas, [(boxes[i], one_line(texts[i]), paints[i]) for i in usable])
    return canvas


def _check_objects(
    image: Rgb,
    boxes: npt.ArrayLike,
    columns: Mapping[str, Sequence[object] | None],
    masks: Sequence[Mask | None] | None,
) -> None:
    """Raises DataError unless boxes are (N, 4), every column has N values and the masks the size of the image."""
    count = len(numbers(boxes, "boxes", ("N", 4)))
    for name, column in columns.items():
        if column is not None and len(column) != count:
            raise DataError(f"{count} boxes but {len(column)} {name}", remedy="pass one for each box")
    for number, mask in enumerate(masks if masks is not None else ()):
        if mask is not None:
            numbers(mask, f"masks[{number}]", image.shape[:2])


def resize_to_width(image: Rgb, width: int) -> Rgb:
    """The image scaled to a width in px with its aspect ratio."""
    check_rgb(image)
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    interpolation = cv2.INTER_AREA if width < image.shape[1] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (width, height), interpolation=interpolation), np.uint8)


def titled(image: Rgb, title: str) -> Rgb:
    """The image below a strip with its title; the strip has an even height, and its text is as large as labels are."""
    size = _text_px(image)
    font = font_of(size)
    strip = Image.new("RGB", (image.shape[1], 2 * (size * 9 // 10)), BACKGROUND)
    pen = ImageDraw.Draw(strip)
    pen.text(
        (size // 2, strip.height // 2), shorten(title, font, strip.width - size), fill=TEXT, font=font, anchor="lm"
    )
    return np.concatenate([np.asarray(strip, np.uint8), image])


def contact_sheet(tiles: Sequence[tuple[str, Rgb]], columns: int, tile_width: int) -> Rgb:
    """Tiles in a grid: each scaled to `tile_width` px below its title, `columns` per row.

    Raises ValueError without tiles.
    """
    if not tiles:
        raise ValueError("a contact sheet needs at least one tile")
    columns = max(1, min(columns, len(tiles)))
    gap, font = 8, font_of(13)
    bar = 20
    for number, (_, image) in enumerate(tiles):
        check_rgb(image, f"tiles[{number}]")
    scaled = [image if image.shape[1] == tile_width else resize_to_width(image, tile_width) for _, image in tiles]
    rows = [range(start, min(start + columns, len(tiles))) for start in range(0, len(tiles), columns)]
    heights = [max(scaled[i].shape[0] for i in row) + bar for row in rows]
    sheet_width = columns * tile_width + (columns + 1) * gap
    sheet = Image.new("RGB", (sheet_width, sum(heights) + (len(rows) + 1) * gap), BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    top = gap
    for row, height in zip(rows, heights, strict=True):
        for column, i in enumerate(row):
            left = gap + column * (tile_width + gap)
            pen.text((left, top + 1), shorten(tiles[i][0], font, tile_width), fill=TEXT, font=font)
            sheet.paste(Image.fromarray(scaled[i]), (left, top + bar))
        top += height + gap
    return np.asarray(sheet, np.uint8)


def legend(names: Sequence[str], width: int, *, ignored: bool = True) -> Rgb:
    """A strip of this width in px with the name and colour of each class, and, where there may be any, the hatching of
    ignore regions."""
    font, line = font_of(14), 26
    entries = [(one_line(name), colour) for name, colour in colours_of(names).items()]
    entries += [("ignored", _IGNORED)] if ignored else []
    positions, left, top = [], 10, 6
    for name, _ in entries:
        needed = int(font.getlength(name)) + 40
        if left + needed > width and left > 10:
            left, top = 10, top + line
        positions.append((left, top))
        left += needed
    strip = Image.new("RGB", (width, top + line), BACKGROUND)
    pen = ImageDraw.Draw(strip)
    for (name, paint), (x, y) in zip(entries, positions, strict=True):
        if name == "ignored":
            patch = np.full((14, 14, 3), 60, np.uint8)
            _hatch(patch, np.array([0.0, 0.0, 14.0, 14.0]), None, 1)
            strip.paste(Image.fromarray(patch), (x, y + 2))
        else:
            pen.rectangle((x, y + 2, x + 13, y + 15), fill=paint)
        pen.text((x + 20, y), name, fill=TEXT, font=font)
    return np.asarray(strip, np.uint8)


def jpeg(image: Rgb, quality: int = 85) -> bytes:
    """The image as a JPEG file, for pages with many images."""
    check_rgb(image)
    flag = [cv2.IMWRITE_JPEG_QUALITY, quality]
    encoded, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), flag)
    assert encoded
    return bytes(data)


def png(image: Rgb) -> bytes:
    """The image as a PNG file."""
    check_rgb(image)
    encoded, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 6])
    assert encoded
    return bytes(data)


def _name(label: int | str, categories: Sequence[str]) -> str:
    if isinstance(label, str):
        return label
    return categories[int(label) - 1] if 1 <= int(label) <= len(categories) else f"class {int(label)}"


def one_line(text: str) -> str:
    """The text with spaces for line breaks and other control characters, which Pillow cannot measure."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _text_px(image: Rgb) -> int:
    longer = int(max(image.shape[:2]))
    return min(MOST_TEXT_PX, max(LEAST_TEXT_PX, round(longer / 85)))


def _as_boxes(boxes: npt.ArrayLike | None) -> npt.NDArray[np.float64]:
    """(N, 4) clipped to the range of OpenCV's integer coordinates."""
    array = np.asarray(() if boxes is None else boxes, np.float64).reshape(-1, 4)
    return np.clip(
        array, -_MAX_COORDINATE, _MAX_COORDINATE
    )  # NaN stays NaN; infinite coordinates become finite ones outside the canvas


def _mask_at(masks: Sequence[Mask | None] | None, number: int, canvas: Rgb) -> npt.NDArray[np.bool_] | None:
    """(H, W) bool in the size of the canvas."""
    mask = None if masks is None else masks[number]
    if mask is None:
        return None
    height, width = canvas.shape[:2]
    array = np.asarray(mask, np.uint8)
    if array.shape != (height, width):
        array = np.asarray(cv2.resize(array, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    return array > 0


def _fill(canvas: Rgb, mask: npt.NDArray[np.bool_], paint: Colour) -> None:
    """Fill the mask with a translucent colour and an opaque outline."""
    canvas[mask] = (canvas[mask] * 0.55 + np.array(paint) * 0.45).astype(np.uint8)
    rims, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, rims, -1, paint, 1, cv2.LINE_AA)


def _hatch(canvas: Rgb, box: npt.NDArray[np.float64], mask: npt.NDArray[np.bool_] | None, thickness: int) -> None:
    """Fill an ignore region with diagonal stripes."""
    height, width = canvas.shape[:2]
    x1, y1 = max(0, int(np.floor(box[0]))), max(0, int(np.floor(box[1])))
    x2, y2 = min(width, int(np.ceil(box[2]))), min(height, int(np.ceil(box[3])))
    if x2 <= x1 or y2 <= y1:
        return
    part = canvas[y1:y2, x1:x2]
    rows, columns = np.mgrid[y1:y2, x1:x2]
    period = 6 * thickness + 2
    inside = np.ones(part.shape[:2], np.bool_) if mask is None else mask[y1:y2, x1:x2]
    phase = (rows + columns) % period
    for lit, paint, share in ((phase < 1 + thickness, _IGNORED, 0.65), (phase > 1 + thickness, BACKGROUND, 0.25)):
        chosen = lit & inside
        part[chosen] = (part[chosen] * (1 - share) + np.array(paint) * share).astype(np.uint8)
    if mask is None:
        cv2.rectangle(canvas, (x1, y1), (x2 - 1, y2 - 1), _IGNORED, 1)


def _outline(canvas: Rgb, box: npt.NDArray[np.float64], paint: Colour, thickness: int, dashed: bool) -> None:
    """Draw a box with a dark rim, visible on a bright sky and on a dark road."""
    x1, y1, x2, y2 = (round(float(value)) for value in box)
    corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]
    if not dashed:
        rim = thickness // 2 + 1  # only outside: inside it would cover small objects
        cv2.rectangle(canvas, (x1 - rim, y1 - rim), (x2 + rim, y2 + rim), (0, 0, 0), 1)
        cv2.rectangle(canvas, (x1, y1), (x2, y2), paint, thickness)
        return
    height, width = canvas.shape[:2]
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        ax, bx = (min(max(x, -9), width + 9) for x in (ax, bx))
        ay, by = (min(max(y, -9), height + 9) for y in (ay, by))
        cv2.line(canvas, (ax, ay), (bx, by), (0, 0, 0), thickness)
        length = max(abs(bx - ax), abs(by - ay), 1)
        dash = 3 + 3 * thickness
        for start in range(0, length, dash + 4 * thickness):
            a, b = (
                (round(ax + (bx - ax) * t / length), round(ay + (by - ay) * t / length))
                for t in (start, min(start + dash, length))
            )
            cv2.line(canvas, a, b, paint, thickness)


def _write_labels(canvas: Rgb, entries: list[tuple[npt.NDArray[np.float64], str, Colour]]) -> None:
    """Draw each label next to its box where it covers the least; skip a label that would cover an object."""
    if not entries:
        return
    height, width = canvas.shape[:2]
    font = font_of(_text_px(canvas))
    ascent, descent = font.getmetrics() if isinstance(font, ImageFont.FreeTypeFont) else (10, 2)
    chip_height = ascent + descent
    labelled = Image.fromarray(canvas)
    pen = ImageDraw.Draw(labelled)
    objects = np.array([box for box, _, _ in entries])
    placed, covered = np.zeros((0, 4)), np.zeros(len(entries))
    for box, text, paint in entries:
        chip_width = font.getlength(text) + 6
        columns = np.clip([box[0], box[2] - chip_width], 0, max(0.0, width - chip_width))
        rows = [y for y in (box[1] - chip_height - 1, box[3] + 1, box[1] + 1) if 0 <= y <= height - chip_height]
        chips = np.array([(x, y, x + chip_width, y + chip_height) for y in rows for x in columns]).reshape(-1, 4)
        chips = chips[intersection(chips, placed).sum(axis=1) == 0]
        if not len(chips):
            continue
        share = intersection(chips, objects) / np.maximum(area(objects), 1.0)  # (chips, objects)
        worst = (share + np.where(share > 0, covered, 0)).max(axis=1)
        best = int(np.argmin(np.round(worst, 2)))
        if worst[best] > 0.5:
            continue
        covered += share[best]
        placed = np.concatenate([placed, chips[best : best + 1]])
        x, y = float(chips[best][0]), float(chips[best][1])
        pen.rectangle((x, y, x + chip_width - 1, y + chip_height - 1), fill=paint)
        pen.text((x + 3, y), text, fill=ink_on(paint), font=font)
    canvas[:] = np.asarray(labelled)


def shorten(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """The text, without its beginning when it is too wide: the end of a file name is the informative part."""
    text = one_line(text)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength("…" + text) > width:
        text = text[1:]
    return "…" + text


@lru_cache
def font_of(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu Sans from matplotlib, which has more alphabets than Pillow's own font."""
    spec = importlib.util.find_spec("matplotlib")
    if spec is not None and spec.origin is not None:
        file = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if file.is_file():
            return ImageFont.truetype(str(file), size_px)
    return ImageFont.load_default(size_px)
