"""A contact sheet for people who decide: numbered tiles, each with a title and a few lines of text below."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from drivetl.draw.objects import BACKGROUND, TEXT, font_of, legend, one_line, resize_to_width, shorten
from drivetl.draw.palette import Colour
from drivetl.files.images import Rgb, check_rgb

_QUIET: Colour = (160, 166, 176)
_MARK: Colour = (240, 228, 66)
_GAP, _LINE, _MARGIN = 14, 20, 10


@dataclass(frozen=True)
class Tile:
    """One image of the sheet."""

    image: Rgb
    """(H, W, 3), with its objects drawn."""
    title: str
    lines: Sequence[str]
    """Below the title, each wrapped to the width of the tile."""


def captioned_sheet(
    tiles: Sequence[Tile], heading: str, subheading: str, categories: Sequence[str], columns: int, tile_width: int
) -> Rgb:
    """(H, W, 3) RGB: a heading, the legend of the classes, and the tiles, numbered from 1, `columns` per row.

    Rows are as high as their highest tile. Raises ValueError without tiles.
    """
    if not tiles:
        raise ValueError("a contact sheet needs at least one tile")
    columns = max(1, min(columns, len(tiles)))
    cards = [_card(number, tile, tile_width) for number, tile in enumerate(tiles, 1)]
    width = columns * tile_width + (columns + 1) * _GAP
    rows = [cards[start : start + columns] for start in range(0, len(cards), columns)]
    strips = [_heading(heading, subheading, width), legend(categories, width, ignored=False)]
    for row in rows:
        strip = Image.new("RGB", (width, max(len(card) for card in row) + _GAP), BACKGROUND)
        for column, card in enumerate(row):
            strip.paste(Image.fromarray(card), (_GAP + column * (tile_width + _GAP), _GAP))
        strips.append(np.asarray(strip, np.uint8))
    strips.append(np.full((_GAP, width, 3), BACKGROUND, np.uint8))
    return np.concatenate(strips)


def _heading(heading: str, subheading: str, width: int) -> Rgb:
    strip = Image.new("RGB", (width, 74), BACKGROUND)
    pen = ImageDraw.Draw(strip)
    pen.text((_GAP, 14), shorten(heading, font_of(24), width - 2 * _GAP), fill=TEXT, font=font_of(24))
    pen.text((_GAP, 48), shorten(subheading, font_of(15), width - 2 * _GAP), fill=_QUIET, font=font_of(15))
    return np.asarray(strip, np.uint8)


def _card(number: int, tile: Tile, width: int) -> Rgb:
    """A tile's image with its number in the corner, and its texts below."""
    check_rgb(tile.image, f"tiles[{number - 1}]")
    image = tile.image if tile.image.shape[1] == width else resize_to_width(tile.image, width)
    lines = [part for line in tile.lines for part in _wrapped(line, width - 2 * _MARGIN)]
    height = len(image)
    card = Image.new("RGB", (width, height + (1 + len(lines)) * _LINE + _MARGIN + 6), (36, 39, 45))
    card.paste(Image.fromarray(image), (0, 0))
    pen = ImageDraw.Draw(card)
    text, large = str(number), font_of(20)
    badge = int(font_of(20).getlength(text)) + 16
    pen.rectangle((0, 0, badge, 28), fill=_MARK)
    pen.text((8, 2), text, fill=(0, 0, 0), font=large)
    top = height + 6
    pen.text((_MARGIN, top), shorten(tile.title, font_of(13), width - 2 * _MARGIN), fill=_QUIET, font=font_of(13))
    for line in lines:
        top += _LINE
        pen.text((_MARGIN, top), line, fill=TEXT, font=font_of(15))
    return np.asarray(card, np.uint8)


def _wrapped(text: str, width_px: int) -> list[str]:
    """The text in lines of at most that width in px; a line after the first is indented."""
    face: ImageFont.FreeTypeFont | ImageFont.ImageFont = font_of(15)
    text = one_line(text)
    letters = max(8, int(width_px / max(face.getlength(text) / max(len(text), 1), 1.0)))
    lines = textwrap.wrap(text, letters, subsequent_indent="   ") or [""]
    return [shorten(line, face, width_px) if face.getlength(line) > width_px else line for line in lines]
