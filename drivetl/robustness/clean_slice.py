"""Which real images are clean, and which synthetic conditions stand for a real one.

An attribute of the images is a condition attribute when one of its values says clean (dry, clear, daytime, ...). The
clean slice are the images that are clean in all of them. Synthetic conditions are applied there and nowhere else.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from drivetl.coco.records import ImageRecord
from drivetl.conditions import CATALOG
from drivetl.errors import ConfigError

UNKNOWN = "(not given)"
CLEAN_WORDS = frozenset({"clean", "clear", "day", "daytime", "dry", "fair", "fine", "none", "normal", "sunny"})
STANDS_FOR = {
    "darkness": "night",
    "night": "night",
    "nighttime": "night",
    "dark": "night",
    "dawn": "dusk",
    "dusk": "dusk",
    "twilight": "dusk",
    "rain": "rain",
    "rainy": "rain",
    "raining": "rain",
    "wet": "wet road",
    "fog": "fog",
    "foggy": "fog",
    "mist": "fog",
    "misty": "fog",
    "haze": "fog",
    "snow": "snow",
    "snowy": "snow",
    "snowing": "snow",
    "spray": "spray",
    "glare": "glare",
    "tunnel": "tunnel",
    "shadow": "shadows",
    "shadows": "shadows",
    "overexposed": "exposure",
    "blurred": "motion blur",
    "defocused": "defocus",
    "noisy": "noise",
    "dirty": "dirt",
    "drops": "water on lens",
}
"""Word of an attribute's value -> name of a condition, or the phenomenon of several."""


def value_of(attributes: Mapping[str, Any], drive: str, name: str) -> str:
    """An image's attribute as text (`sequence`: its drive); UNKNOWN where it is not given."""
    value = drive if name == "sequence" else attributes.get(name)
    return UNKNOWN if value is None or value == "" else str(value)


def choose_clean(images: Sequence[ImageRecord], attributes: Sequence[str], wanted: Mapping[str, str]) -> dict[str, str]:
    """Condition attribute -> its clean value: the wanted one, else the most frequent that consists of CLEAN_WORDS.

    Attributes without such a value (scene, sequence) are left out: nothing says what a clean one would be. Raises
    ConfigError for an attribute that no image has, a wanted value that does not occur, an empty clean slice.
    """
    for name in wanted:
        if name not in attributes:
            raise ConfigError(f"--clean names {name!r}, which --slices does not", remedy="name it in both")
    clean = {}
    for name in attributes:
        counts = Counter(value_of(one.attributes, one.sequence, name) for one in images)
        if images and set(counts) == {UNKNOWN}:
            known = sorted({key for one in images for key in one.attributes} | {"sequence"})
            raise ConfigError(f"no image has the attribute {name!r}", remedy=f"the data knows {', '.join(known)}")
        found = [value for value, _ in counts.most_common() if is_clean(value)]
        if name in wanted and not counts[wanted[name]]:
            raise ConfigError(
                f"--clean {name}={wanted[name]}: no image is so", remedy=f"{name} is {', '.join(sorted(counts))}"
            )
        if name in wanted or found:
            clean[name] = wanted.get(name, found[0] if found else "")
    if clean and not clean_images(images, clean):
        raise ConfigError(
            f"no image is {in_words(clean)}",
            remedy="say with --clean which images are clean, or slice by fewer attributes",
        )
    return clean


def is_clean(value: str) -> bool:
    """Whether every word of a value says clean: `dry`, `clear/daytime`."""
    words = _words(value)
    return bool(words) and all(word in CLEAN_WORDS for word in words)


def clean_images(images: Sequence[ImageRecord], clean: Mapping[str, str]) -> list[ImageRecord]:
    """The images with the clean value in every condition attribute; all of them where there is none."""
    return [
        one
        for one in images
        if all(value_of(one.attributes, one.sequence, name) == value for name, value in clean.items())
    ]


def stand_ins(value: str, conditions: Sequence[str]) -> list[str]:
    """Of these conditions, those that imitate what a value names, by the phenomenon the catalog gives them.

    `wet_road` -> wet_road, `rainy` -> rain, `foggy` -> fog, plasma_fog; nothing for `overcast`.
    """
    wanted = {STANDS_FOR[word] for word in _words(value) if word in STANDS_FOR}
    return [name for name in conditions if {name, CATALOG[name].phenomenon} & wanted]


def in_words(values: Mapping[str, str]) -> str:
    """`weather=dry, timeofday=daytime`."""
    return ", ".join(f"{name}={value}" for name, value in values.items())


def _words(value: str) -> list[str]:
    return [word for word in re.split(r"[^a-z]+", value.lower()) if word]
