"""Which real images are clean, and which synthetic conditions stand for a real one.

An attribute of the images is a condition attribute when one of its values means clean (dry, clear, daytime, ...). The
clean slice is the images that are clean in all of them. Synthetic conditions are applied there and nowhere else.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from drivetl.coco.records import ImageRecord
from drivetl.conditions import CATALOG, Phenomenon
from drivetl.errors import ConfigError

UNKNOWN = "(not given)"
CLEAN_WORDS = frozenset({"clean", "clear", "day", "daytime", "dry", "fair", "fine", "none", "normal", "sunny"})
P = Phenomenon
STANDS_FOR: dict[str, Phenomenon] = {
    "rain": P.RAIN,
    "rainy": P.RAIN,
    "raining": P.RAIN,
    "wet": P.WET_ROAD,
    "fog": P.FOG,
    "foggy": P.FOG,
    "mist": P.FOG,
    "misty": P.FOG,
    "haze": P.FOG,
    "snow": P.SNOW,
    "snowy": P.SNOW,
    "snowing": P.SNOW,
    "spray": P.SPRAY,
    "glare": P.GLARE,
    "tunnel": P.TUNNEL,
    "shadow": P.SHADOWS,
    "shadows": P.SHADOWS,
    "overexposed": P.EXPOSURE,
    "blurred": P.MOTION_BLUR,
    "defocused": P.DEFOCUS,
    "noisy": P.NOISE,
    "dirty": P.DIRT,
    "drops": P.WATER_ON_LENS,
}
"""Word of an attribute's value -> the phenomenon whose conditions stand for it."""
STANDS_FOR_ONE = {
    "darkness": "night",
    "night": "night",
    "nighttime": "night",
    "dark": "night",
    "dawn": "dusk",
    "dusk": "dusk",
    "twilight": "dusk",
}
"""Word -> the one condition that stands for it, where its phenomenon has several that differ: darkness."""


def value_of(attributes: Mapping[str, Any], drive: str, name: str) -> str:
    """An image's attribute as text (`sequence`: its drive); UNKNOWN where it is not given."""
    value = drive if name == "sequence" else attributes.get(name)
    return UNKNOWN if value is None or value == "" else str(value)


def choose_clean(images: Sequence[ImageRecord], attributes: Sequence[str], chosen: Mapping[str, str]) -> dict[str, str]:
    """Condition attribute -> its clean value: the chosen one, else the most frequent that consists of CLEAN_WORDS.

    Attributes without such a value (scene, drive) are left out: nothing says what a clean one would be. Raises
    ConfigError for an attribute that no image has, a chosen value that does not occur, an empty clean slice.
    """
    for name in chosen:
        if name not in attributes:
            raise ConfigError(f"--clean names {name!r}, which --slices does not", remedy="name it in both")
    clean = {}
    for name in attributes:
        counts = Counter(value_of(image.attributes, image.sequence, name) for image in images)
        if images and set(counts) == {UNKNOWN}:
            known = sorted({key for image in images for key in image.attributes} | {"sequence"})
            raise ConfigError(f"no image has the attribute {name!r}", remedy=f"the data knows {', '.join(known)}")
        clean_values = [value for value, _ in counts.most_common() if is_clean(value)]
        if name in chosen and not counts[chosen[name]]:
            raise ConfigError(
                f"--clean {name}={chosen[name]}: no image has this value",
                remedy=f"available values: {', '.join(sorted(counts))}",
            )
        if name in chosen or clean_values:
            clean[name] = chosen.get(name, clean_values[0] if clean_values else "")
    if clean and not clean_images(images, clean):
        raise ConfigError(
            f"no image is {in_words(clean)}", remedy="name the clean images with --clean, or slice by fewer attributes"
        )
    return clean


def is_clean(value: str) -> bool:
    """Whether every word of a value means clean: `dry`, `clear/daytime`."""
    words = _words(value)
    return bool(words) and all(word in CLEAN_WORDS for word in words)


def clean_images(images: Sequence[ImageRecord], clean: Mapping[str, str]) -> list[ImageRecord]:
    """The images with the clean value in every condition attribute; all of them where there is none."""
    return [
        image
        for image in images
        if all(value_of(image.attributes, image.sequence, name) == value for name, value in clean.items())
    ]


def stand_ins(value: str, conditions: Sequence[str]) -> list[str]:
    """Of these conditions, those that imitate what a value names, by the phenomenon the catalog gives them.

    `wet_road` -> wet_road, `rainy` -> rain, `foggy` -> fog, plasma_fog; nothing for `overcast`.
    """
    words = _words(value)
    phenomena = {STANDS_FOR[word] for word in words if word in STANDS_FOR}
    names = {STANDS_FOR_ONE[word] for word in words if word in STANDS_FOR_ONE}
    return [name for name in conditions if name in names or CATALOG[name].phenomenon in phenomena]


def in_words(values: Mapping[str, str]) -> str:
    """`weather=dry, timeofday=daytime`."""
    return ", ".join(f"{name}={value}" for name, value in values.items())


def _words(value: str) -> list[str]:
    return [word for word in re.split(r"[^a-z]+", value.lower()) if word]
