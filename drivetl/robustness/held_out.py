"""Was the model trained on this condition? Levels proven from the augmentation manifests of a run and its ancestors.

L0 seen: the same model of the phenomenon, inside the trained range. L1: the same model, outside the trained range.
L2: the same phenomenon by another model. L3: a phenomenon never trained. L4: real images (slices of the data).
The headline is over L2 and L3. Without a manifest nothing is proven: every condition is UNVERIFIED.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from drivetl.conditions import CATALOG, SETS, Condition, select
from drivetl.errors import CheckpointError, ConfigError

MEANING = {
    "L0": "seen in training, same model and range",
    "L1": "same model, outside the trained range",
    "L2": "same phenomenon, another model",
    "L3": "phenomenon never trained",
    "L4": "real images",
    "UNVERIFIED": "the run has no augmentation manifest",
}
HEADLINE = ("L2", "L3")
_ORDER = ("L0", "L1", "L2", "L3")

_COVERS = {
    "brightness": ("overexposure", "underexposure", "darkness", "twilight"),
    "exposure": ("overexposure", "underexposure", "darkness", "twilight"),
    "illumination": ("overexposure", "underexposure", "darkness", "twilight", "shadows"),
    "gamma": ("overexposure", "underexposure", "low contrast"),
    "tone": ("overexposure", "underexposure", "low contrast"),
    "contrast": ("low contrast",),
    "color": ("colour",),
    "saturation": ("colour",),
    "hue": ("colour",),
    "white balance": ("colour",),
    "noise": ("sensor noise",),
    "sensor noise": ("noise",),
    "blur": ("motion blur", "defocus", "frosted glass"),
    "compression": ("image coding", "video coding"),
    "image coding": ("video coding",),
    "video coding": ("image coding",),
    "downscale": ("low resolution",),
    "resolution": ("low resolution",),
    "shadow": ("shadows",),
    "sun": ("glare",),
    "flare": ("glare",),
    "dropout": ("row loss",),
    "occlusion": ("dirt", "row loss"),
    "splashes": ("dirt", "water on lens"),
    "water on lens": ("dirt",),
    "night": ("darkness", "twilight"),
    "snowfall": ("snow",),
}
"""What a trained phenomenon covers beside itself: transforms have wider names than conditions."""


@dataclass(frozen=True)
class Trained:
    """One transform of a manifest."""

    name: str
    phenomena: frozenset[str]
    model: str
    ranges: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Levels:
    """The level of every condition and of every cell, with the reason."""

    verified: bool
    of_condition: dict[str, str] = field(default_factory=dict)
    """The most seen of its cells."""
    of_cell: dict[tuple[str, int], str] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)
    """Condition -> what in training decided, in one sentence."""


def trained_transforms(manifest: Mapping[str, Any] | None) -> list[Trained] | None:
    """Every transform of a manifest and its ancestors; None when one of them has no manifest.

    Raises CheckpointError for a manifest of another form.
    """
    if manifest is None:
        return None
    found: list[Trained] = []
    for part in _with_ancestors(manifest):
        if part is None:
            return None
        try:
            found += [_transform(item) for item in part["transforms"]]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(
                f"augmentation.json is not a manifest ({error!r})",
                remedy="restore the run's file, or remove it: its conditions are then UNVERIFIED",
            ) from None
    return found


def _with_ancestors(manifest: Any, depth: int = 0) -> Iterator[Any]:
    yield manifest
    if depth > 50:
        raise CheckpointError("augmentation.json: more than 50 generations of ancestors", remedy="it is damaged")
    ancestors = manifest.get("ancestors", []) if isinstance(manifest, Mapping) else []
    for ancestor in ancestors or []:
        yield from _with_ancestors(ancestor, depth + 1)


def _transform(item: Mapping[str, Any]) -> Trained:
    ranges = {}
    for name, bounds in (item.get("range") or {}).items():
        low, high = (float(bounds), float(bounds)) if isinstance(bounds, int | float) else map(float, bounds)
        ranges[str(name)] = (min(low, high), max(low, high))
    words = re.split(r",|/|\+|\band\b", _plain(str(item["phenomenon"])))
    named = {word.strip() for word in words if word.strip()}
    covered = named | {other for word in named for other in _COVERS.get(word, ())}
    return Trained(str(item["name"]), frozenset(covered), _plain(str(item["model"])), ranges)


def _plain(text: str) -> str:
    return " ".join(text.lower().replace("_", " ").split())


def levels(manifest: Mapping[str, Any] | None, conditions: Sequence[str], severities: Sequence[int]) -> Levels:
    """The level of each condition at each severity (1..5) for a model with this manifest."""
    trained = trained_transforms(manifest)
    if trained is None:
        unknown = dict.fromkeys(conditions, "UNVERIFIED")
        return Levels(
            False,
            unknown,
            {(name, severity): "UNVERIFIED" for name in conditions for severity in severities},
            dict.fromkeys(conditions, MEANING["UNVERIFIED"]),
        )
    found = Levels(True)
    for name in conditions:
        known = {severity: _level(CATALOG[name], severity, trained) for severity in severities}
        for severity, (level, _) in known.items():
            found.of_cell[name, severity] = level
        found.of_condition[name], found.why[name] = min(known.values(), key=lambda one: _ORDER.index(one[0]))
    return found


def _level(condition: Condition, severity: int, trained: Sequence[Trained]) -> tuple[str, str]:
    same = [one for one in trained if one.model == _plain(condition.model)]
    step = condition.ladder[severity - 1]
    for one in same:
        if _inside(step, one.ranges):
            return "L0", f"trained on as {one.name}, same model and range"
    if same:
        return "L1", f"trained on as {same[0].name}, outside its range"
    for one in trained:
        if _plain(condition.phenomenon) in one.phenomena:
            return "L2", f"trained on the phenomenon as {one.name}, by another model"
    return "L3", "phenomenon never trained"


def _inside(step: Mapping[str, float], ranges: Mapping[str, tuple[float, float]]) -> bool:
    """Every parameter the manifest bounds lies within; one it does not mention counts as trained."""
    return all(
        ranges[name][0] - 1e-9 <= value <= ranges[name][1] + 1e-9 for name, value in step.items() if name in ranges
    )


def choose_conditions(words: str, manifest: Mapping[str, Any] | None, severities: Sequence[int]) -> list[str]:
    """What `--conditions` names. `held_out`: the conditions of `all` (labels stay true) that are L2 or L3 at every
    severity asked for; all of them for an unverified run.

    Raises ConfigError for an unknown name, and when a condition named beside `held_out` was trained on.
    """
    parts = [part.strip() for part in words.split(",") if part.strip()]
    if "held_out" not in parts:
        return select(words)
    extra = [name for name in parts if name != "held_out"]
    named = select(",".join(extra)) if extra else []
    pool = list(dict.fromkeys([*SETS["all"], *named]))
    known = levels(manifest, pool, severities)
    for name in named:
        if known.of_condition[name] in ("L0", "L1"):
            raise ConfigError(
                f"condition {name!r} is not held out: {known.why[name]}",
                remedy=f"drop it, or ask for --conditions {','.join(named)} to see it marked as seen",
            )
    chosen = [name for name in pool if known.of_condition[name] not in ("L0", "L1")]
    if not chosen:
        raise ConfigError("no condition is held out from this run", remedy="name conditions, or use --conditions all")
    return chosen
