"""The colours of classes and outcomes in every drawing, chart and page: colour-blind people can distinguish them.

The first seven are Okabe and Ito's (Color Universal Design, 2008) without black; the others were added one by one, each
the farthest from all before it. Any two are at least 16 CIELAB units apart, for normal vision and for protanopia,
deuteranopia and tritanopia as simulated by Machado et al. (IEEE TVCG 15(6), 2009); a test checks it.
"""

from __future__ import annotations

import colorsys
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache

Colour = tuple[int, int, int]
"""RGB, 0..255."""

SKY_BLUE: Colour = (86, 180, 233)
ORANGE: Colour = (230, 159, 0)
VERMILLION: Colour = (213, 94, 0)
YELLOW: Colour = (240, 228, 66)
GREEN: Colour = (0, 158, 115)
PINK: Colour = (204, 121, 167)
BLUE: Colour = (0, 114, 178)
VIOLET: Colour = (136, 17, 255)
PALE_GREEN: Colour = (204, 255, 204)
OLIVE: Colour = (153, 187, 102)
LILAC: Colour = (187, 85, 255)
CRIMSON: Colour = (204, 0, 51)
CYAN: Colour = (0, 255, 255)
ROSE: Colour = (221, 170, 170)
MINT: Colour = (153, 255, 153)
PLUM: Colour = (136, 85, 119)

PALETTE = (
    *(SKY_BLUE, VERMILLION, YELLOW, GREEN, ORANGE, PINK, BLUE, VIOLET),
    *(PALE_GREEN, CRIMSON, CYAN, LILAC, OLIVE, ROSE, MINT, PLUM),
)
"""In the order in which classes without a colour of their own get one."""

FOUND: Colour = GREEN
"""An object that was detected."""
MISSED: Colour = VERMILLION
"""An object that was not detected; always dashed."""
INVENTED: Colour = YELLOW
"""A detection without an object: a false positive."""
UNCOUNTED: Colour = (190, 190, 190)
"""Neither right nor wrong: a detection in an ignore region, or an object that another view misses as well."""

_KNOWN: Mapping[str, Colour] = {
    "car": SKY_BLUE,
    "van": BLUE,
    "truck": ORANGE,
    "bus": GREEN,
    "tram": VIOLET,
    "train": VIOLET,
    "pedestrian": VERMILLION,
    "person": VERMILLION,
    "person_sitting": ROSE,
    "rider": PINK,
    "cyclist": YELLOW,
    "bicycle": PALE_GREEN,
    "motorcycle": CRIMSON,
    "traffic light": CYAN,
    "traffic sign": OLIVE,
    "misc": PLUM,
}


def colours_of(names: Sequence[str]) -> Mapping[str, Colour]:
    """The colour of each class of a dataset or run, by its name.

    Common driving classes have the same colour everywhere. Others get what is left of PALETTE in their order, and
    beyond its end a colour of `colour_of`. So up to 16 classes are distinct.
    """
    return _colours_of(tuple(names))


@cache
def _colours_of(names: tuple[str, ...]) -> dict[str, Colour]:
    colours: dict[str, Colour] = {}
    for name in names:
        colour = _KNOWN.get(_key(name))
        if colour is not None and colour not in colours.values():  # a pedestrian and a person, in one dataset
            colours[name] = colour
    left = (colour for colour in PALETTE if colour not in set(colours.values()))
    return colours | {name: next(left, None) or _hashed(_key(name)) for name in names if name not in colours}


def colour_of(name: str) -> Colour:
    """The colour of a class by its name alone: fixed for common driving classes, from a hash of the name for others."""
    return _KNOWN.get(_key(name)) or _hashed(_key(name))


def _key(name: str) -> str:
    return name.strip().lower()


def _hashed(key: str) -> Colour:
    digest = hashlib.sha256(key.encode()).digest()
    hue, light = digest[0] / 256, (0.55, 0.65, 0.75)[digest[1] % 3]
    red, green, blue = colorsys.hls_to_rgb(hue, light, 0.85)
    return round(255 * red), round(255 * green), round(255 * blue)


def css(colour: Colour) -> str:
    """A colour as CSS writes it."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def luminance(colour: Colour) -> float:
    """Relative luminance, 0..1 (WCAG 2.1)."""
    red, green, blue = (
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (channel / 255 for channel in colour)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def ink_on(colour: Colour) -> Colour:
    """Black or white, whichever has more contrast with the colour: at least 4.5:1 on any (WCAG 2.1)."""
    return (0, 0, 0) if luminance(colour) > 0.179 else (255, 255, 255)
