"""Was the model trained on this condition? Levels proven from the augmentation manifests of a run and its ancestors.

`Level` says what each level means; the headline is over L2 and L3. Without a manifest nothing is proven: every
condition is UNVERIFIED. A manifest with a word that is not a known phenomenon is an error, never a reason to call a
condition "never trained".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from drivetl.conditions import CATALOG, SETS, Condition, Phenomenon, select
from drivetl.conditions.vocabulary import ALIASES, COVERS
from drivetl.errors import CheckpointError, ConfigError, nearest


class Level(StrEnum):
    """How close a condition is to what the model was trained on; in this order, which is also that of the strings."""

    L0 = "L0", "seen in training, same model and range"
    L1 = "L1", "same model, outside the trained range"
    L2 = "L2", "same phenomenon, another model"
    L3 = "L3", "phenomenon never trained"
    L4 = "L4", "real images"
    UNVERIFIED = "UNVERIFIED", "the run has no augmentation manifest"

    meaning: str

    def __new__(cls, value: str, meaning: str) -> Level:
        level = str.__new__(cls, value)
        level._value_ = value
        level.meaning = meaning
        return level


_FILE = "augmentation.json"

SEEN = (Level.L0, Level.L1)
"""Trained on: never in the headline of a run with a manifest."""
HEADLINE = (Level.L2, Level.L3)
"""Held out. Real images (L4) are reported next to it, never mixed in."""
MEANING = {str(level): level.meaning for level in Level}


@dataclass(frozen=True)
class TrainedTransform:
    """One transform of a manifest."""

    name: str
    phenomena: frozenset[Phenomenon]
    """What the manifest names, and the phenomenon of the model where a condition has it."""
    covered: frozenset[Phenomenon]
    """What a model has seen with these as well."""
    model: str
    ranges: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Levels:
    """The level of every condition and of every cell, with the reason."""

    verified: bool
    of_condition: dict[str, Level] = field(default_factory=dict)
    """The most seen of its cells."""
    of_cell: dict[tuple[str, int], Level] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)
    """Condition -> what in training decided, in one sentence."""


def trained_transforms(manifest: Mapping[str, Any] | None) -> list[TrainedTransform] | None:
    """Every transform of a manifest and its ancestors; None when one of them has no manifest.

    Raises CheckpointError for a manifest of another form, and for a phenomenon that is not known.
    """
    if manifest is None:
        return None
    trained: list[TrainedTransform] = []
    for part in _with_ancestors(manifest):
        if part is None:
            return None
        try:
            if not isinstance(part["transforms"], list):
                raise TypeError("transforms is not a list")
            trained += [_transform(row) for row in part["transforms"]]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(
                f"not a manifest ({error!r})",
                remedy="restore the run's file, or remove it: its conditions are then UNVERIFIED",
                file=_FILE,
            ) from None
    return trained


def _with_ancestors(manifest: Any, depth: int = 0) -> Iterator[Any]:
    yield manifest
    if depth > 50:
        raise CheckpointError("more than 50 generations of ancestors", remedy="it is damaged", file=_FILE)
    ancestors = manifest.get("ancestors", []) if isinstance(manifest, Mapping) else []
    if not isinstance(ancestors, list):
        raise CheckpointError(
            f"ancestors is {ancestors!r}",
            remedy="write a list of manifests, with null for an ancestor whose training is unknown",
            file=_FILE,
        )
    for ancestor in ancestors:
        yield from _with_ancestors(ancestor, depth + 1)


def _transform(row: Mapping[str, Any]) -> TrainedTransform:
    ranges = {}
    for parameter, bounds in (row.get("range") or {}).items():
        low, high = (float(bounds), float(bounds)) if isinstance(bounds, int | float) else map(float, bounds)
        ranges[str(parameter)] = (min(low, high), max(low, high))
    name, model = str(row["name"]), _plain(str(row["model"]))
    phenomena = _phenomena(str(row["phenomenon"]), name)
    phenomena |= {condition.phenomenon for condition in CATALOG.values() if _plain(condition.model) == model}
    covered = frozenset(other for phenomenon in phenomena for other in COVERS.get(phenomenon, ()))
    return TrainedTransform(name, phenomena, covered, model, ranges)


def _phenomena(text: str, transform: str) -> frozenset[Phenomenon]:
    """What a manifest's text names: `fog`; `brightness, contrast`; the name of a condition.

    Raises CheckpointError for an unknown word: any condition could be what it means, so none could be "never trained".
    """
    words = [word.strip() for word in re.split(r",|/|\+|\band\b", _plain(text)) if word.strip()]
    for word in words or [""]:
        if word not in _WORDS:
            raise CheckpointError(
                f"transform {transform!r} has the unknown phenomenon {word!r}",
                remedy=nearest(word, _WORDS, f"write one of: {', '.join(Phenomenon)}"),
                file=_FILE,
            )
    return frozenset(phenomenon for word in words for phenomenon in _WORDS[word])


def _plain(text: str) -> str:
    return " ".join(text.lower().replace("_", " ").split())


_WORDS: Mapping[str, frozenset[Phenomenon]] = {
    **{_plain(name): frozenset({condition.phenomenon}) for name, condition in CATALOG.items()},
    **ALIASES,
    **{str(phenomenon): frozenset({phenomenon}) for phenomenon in Phenomenon},
}
"""Every word by which a manifest may name phenomena; where several tables have it, the last one decides."""


def levels(manifest: Mapping[str, Any] | None, conditions: Sequence[str], severities: Sequence[int]) -> Levels:
    """The level of each condition at each severity (1..5) for a model with this manifest.

    Raises CheckpointError as `trained_transforms` does.
    """
    trained = trained_transforms(manifest)
    if trained is None:
        return Levels(
            False,
            dict.fromkeys(conditions, Level.UNVERIFIED),
            {(name, severity): Level.UNVERIFIED for name in conditions for severity in severities},
            dict.fromkeys(conditions, Level.UNVERIFIED.meaning),
        )
    result = Levels(True)
    for name in conditions:
        by_severity = {severity: _level(CATALOG[name], severity, trained) for severity in severities}
        for severity, (level, _) in by_severity.items():
            result.of_cell[name, severity] = level
        result.of_condition[name], result.why[name] = min(by_severity.values(), key=lambda pair: pair[0])
    return result


def _level(condition: Condition, severity: int, trained: Sequence[TrainedTransform]) -> tuple[Level, str]:
    same_model = [transform for transform in trained if transform.model == _plain(condition.model)]
    step = condition.ladder[severity - 1]
    for transform in same_model:
        if _inside(step, transform.ranges):
            return Level.L0, f"trained on as {transform.name}, same model and range"
    if same_model:
        return Level.L1, f"trained on as {same_model[0].name}, outside its range"
    same_phenomenon = [transform for transform in trained if condition.phenomenon in transform.phenomena]
    covering = [transform for transform in trained if condition.phenomenon in transform.covered]
    for transform in same_phenomenon + covering:
        return Level.L2, f"trained on the phenomenon as {transform.name}, by another model"
    return Level.L3, Level.L3.meaning


def _inside(step: Mapping[str, float], ranges: Mapping[str, tuple[float, float]]) -> bool:
    """Every parameter the manifest bounds lies within; one it does not mention counts as trained."""
    return all(
        ranges[name][0] - 1e-9 <= value <= ranges[name][1] + 1e-9 for name, value in step.items() if name in ranges
    )


def choose_conditions(words: str, manifest: Mapping[str, Any] | None, severities: Sequence[int]) -> list[str]:
    """The conditions that `--conditions` names. `held_out`: those of `all` (labels stay true) that are L2 or L3 at
    every severity; all of them for an unverified run.

    Raises ConfigError for an unknown name, and when a condition named next to `held_out` was trained on.
    """
    parts = [part.strip() for part in words.split(",") if part.strip()]
    if "held_out" not in parts:
        return select(words)
    extra = [name for name in parts if name != "held_out"]
    named = select(",".join(extra)) if extra else []
    pool = list(dict.fromkeys([*SETS["all"], *named]))
    known = levels(manifest, pool, severities)
    for name in named:
        if known.of_condition[name] in SEEN:
            raise ConfigError(
                f"condition {name!r} is not held out: {known.why[name]}",
                remedy=f"drop it, or ask for --conditions {','.join(named)} to see it marked as seen",
            )
    chosen = [name for name in pool if known.of_condition[name] not in SEEN]
    if not chosen:
        raise ConfigError("no condition is held out from this run", remedy="name conditions, or use --conditions all")
    return chosen
