"""Weather, lighting and camera conditions that follow physics, and the published corruptions, on RGB uint8 images.

    image = apply(image, "fog", severity=3, seed=pixel_seed("000042", "fog", 3))

Severity 0 is the identity; 1..5 walk the condition's ladder in physical units. The result is a pure function of
(image, name, severity, seed) and, where given, depth, camera and vehicles. `CATALOG` says what each condition is.
"""

from __future__ import annotations

import hashlib
from collections.abc import MutableMapping
from typing import Any

import numpy as np
import numpy.typing as npt

from drivetl.conditions.catalog import CATALOG, PROTOCOL_VERSION, SETS, Condition
from drivetl.conditions.optics import Boxes, Rgb
from drivetl.conditions.scene import Camera, Scene
from drivetl.conditions.vocabulary import (
    CLEAN,
    SEVERITIES,
    Cell,
    Family,
    Phenomenon,
    cell_name,
    check_severity,
    parse_severities,
)
from drivetl.errors import ConfigError, nearest
from drivetl.files.images import check_rgb

__all__ = [
    "CATALOG",
    "CLEAN",
    "PROTOCOL_VERSION",
    "SETS",
    "SEVERITIES",
    "Camera",
    "Cell",
    "Condition",
    "Family",
    "Phenomenon",
    "apply",
    "cell_name",
    "parse_severities",
    "pixel_seed",
    "render",
    "scene_of",
    "select",
]


def apply(
    image: Rgb,
    name: str,
    severity: int,
    seed: int,
    depth: npt.NDArray[np.float32] | None = None,
    cache: MutableMapping[str, Any] | None = None,
    camera: Camera | None = None,
    vehicles: Boxes | None = None,
) -> Rgb:
    """The (H, W, 3) uint8 RGB image under a condition; a new array of the same shape.

    severity: 0 (identity) to 5. depth: (H, W) metres where known; otherwise estimated from the image. camera: what
    is known of it. vehicles: (N, 4) xyxy px boxes of the vehicles, for their lamps at night; None: unknown. cache: a
    dict kept for one image, so that its variants share linear light, sky and depth; it never changes the result. Raises
    ConfigError for an unknown name, severity or an impossible camera, DataError for an image or boxes of another form.
    """
    condition = get(name)
    step = check_severity(severity)
    checked = checked_image(image)
    if step == 0:
        return checked.copy()
    parameters = condition.ladder[step - 1]
    return render(condition, parameters, scene_of(checked, depth, cache, camera, vehicles), np.random.default_rng(seed))


def render(condition: Condition, parameters: dict[str, float], scene: Scene, rng: np.random.Generator) -> Rgb:
    """The condition with any parameters, not only those of its ladder; (H, W, 3) uint8 RGB."""
    return condition.effect(scene, rng, **parameters)


def scene_of(
    image: Rgb,
    depth: npt.NDArray[np.float32] | None = None,
    cache: MutableMapping[str, Any] | None = None,
    camera: Camera | None = None,
    vehicles: Boxes | None = None,
) -> Scene:
    """What is known about the image; from the cache when it holds this very image, depth, camera and vehicles."""
    known = None if cache is None else cache.get("scene")
    if (
        isinstance(known, Scene)
        and known.given_depth is depth
        and known.camera == (camera or Camera())
        and known.given_vehicles is vehicles
        and (known.image is image or np.array_equal(known.image, image))
    ):
        return known
    scene = Scene(image, depth, camera, vehicles)
    if cache is not None:
        cache["scene"] = scene
    return scene


def pixel_seed(image_key: str | int, condition: str, severity: int) -> int:
    """The seed of an evaluated pixel: blake2b of image, condition, severity and protocol version, 63 bits.

    The same for every model, batch size, worker count and order.
    """
    text = "\x1f".join((str(image_key), condition, str(int(severity)), str(PROTOCOL_VERSION)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def get(name: str) -> Condition:
    """The condition of that name. Raises ConfigError with the nearest known name."""
    if name not in CATALOG:
        raise ConfigError(f"unknown condition {name!r}", remedy=_hint(name, list(CATALOG)))
    return CATALOG[name]


def select(names_or_set: str) -> list[str]:
    """Names of `all`, `drive`, `common`, `common_aligned` or `NAME,NAME`, in order and without repeats.

    Raises ConfigError with the nearest known name. (`held_out` depends on a run; evaluation resolves it.)
    """
    names: list[str] = []
    for word in (part.strip() for part in names_or_set.split(",")):
        if word in SETS:
            names += SETS[word]
        elif word in CATALOG:
            names.append(word)
        elif word:
            raise ConfigError(f"unknown condition {word!r}", remedy=_hint(word, [*SETS, *CATALOG]))
    if not names:
        raise ConfigError(
            f"no condition in {names_or_set!r}", remedy=f"name some, or one of the sets {', '.join(SETS)}"
        )
    return list(dict.fromkeys(names))


def _hint(word: str, known: list[str]) -> str:
    listing = "`drivetl conditions --list` shows all"
    hint = nearest(word, known, listing)
    return hint if hint == listing else f"{hint} ({listing})"


def checked_image(image: Any) -> Rgb:
    """(H, W, 3) uint8, contiguous. Raises DataError saying what it is instead and how to fix it."""
    check_rgb(image)
    return np.ascontiguousarray(image)
