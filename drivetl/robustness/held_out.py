"""Held-out levels: whether a model was trained on a condition, by the augmentation manifests of its run and ancestors.

`Level` gives the meaning of each level; the headline is over L2 and L3. Without a manifest every condition is
UNVERIFIED. A manifest with a phenomenon that is not in the vocabulary is an error: ignoring it could make a trained
condition look held out. Where the phenomenon or the model of a transform is `unknown`, what it may have shown is
UNVERIFIED, never held out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from drivetl.conditions import CATALOG, SETS, Condition, Phenomenon, select
from drivetl.conditions.vocabulary import ALIASES, COVERS
from drivetl.errors import CheckpointError, ConfigError, DrivetlError, nearest
from drivetl.files.yaml_reader import load_yaml


class Level(StrEnum):
    """How close a condition is to what the model was trained on, from the closest; the strings sort in this order."""

    L0 = "L0", "seen in training, same model and range"
    L1 = "L1", "same model, outside the trained range"
    L2 = "L2", "same phenomenon, another model"
    L3 = "L3", "phenomenon never trained"
    L4 = "L4", "real images"
    UNVERIFIED = "UNVERIFIED", "the augmentation of its training is unknown"

    meaning: str

    def __new__(cls, value: str, meaning: str) -> Level:
        level = str.__new__(cls, value)
        level._value_ = value
        level.meaning = meaning
        return level


_FILE = "augmentation.json"
UNKNOWN = "unknown"
"""The phenomenon or the model of a transform of which nothing more is known."""

SEEN = (Level.L0, Level.L1)
"""Trained on: never in the headline of a run with a manifest."""
HEADLINE = (Level.L2, Level.L3)
"""Held out. Real images (L4) are reported separately."""
MEANING = {str(level): level.meaning for level in Level}


@dataclass(frozen=True)
class TrainedTransform:
    """One transform of a manifest."""

    name: str
    phenomena: frozenset[Phenomenon]
    """Those the manifest names, and that of the catalogue's conditions with the same model."""
    covered: frozenset[Phenomenon]
    """Other phenomena that training on these covers (`vocabulary.COVERS`)."""
    model: str
    ranges: Mapping[str, tuple[float, float]]
    """Parameter -> (lowest, highest) trained value, in the unit of the condition's ladder."""
    shows_anything: bool = False
    """Its phenomenon is unknown."""

    @property
    def unknown(self) -> bool:
        """Whether it may have the model of any condition of its phenomena."""
        return self.shows_anything or self.model == UNKNOWN


@dataclass(frozen=True)
class Levels:
    """The level of every condition and of every cell, with the reason.

    verified is False for a run without a manifest, and for one with a transform of unknown phenomenon.
    """

    verified: bool
    of_condition: dict[str, Level] = field(default_factory=dict)
    """The lowest level (closest to training) of its cells."""
    of_cell: dict[tuple[str, int], Level] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)
    """Condition -> the reason of its level, in one sentence."""


def trained_transforms(manifest: Mapping[str, Any] | None) -> list[TrainedTransform] | None:
    """Every transform of a manifest and its ancestors; None when one of them has no manifest.

    Raises CheckpointError for a malformed manifest, and for an unknown phenomenon.
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
                remedy="restore the run's file, or remove it (all conditions are then UNVERIFIED)",
                file=_FILE,
            ) from None
    return trained


def _with_ancestors(manifest: Any, depth: int = 0) -> Iterator[Any]:
    yield manifest
    if depth > 50:
        raise CheckpointError(
            "more than 50 generations of ancestors", remedy="the file is damaged: restore it", file=_FILE
        )
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
    name, model = str(row["name"]), _normalised(str(row["model"]))
    shows_anything = _normalised(str(row["phenomenon"])) == UNKNOWN
    phenomena = frozenset(Phenomenon) if shows_anything else _phenomena(str(row["phenomenon"]), name)
    phenomena |= {condition.phenomenon for condition in CATALOG.values() if _normalised(condition.model) == model}
    covered = frozenset(other for phenomenon in phenomena for other in COVERS.get(phenomenon, ()))
    return TrainedTransform(name, phenomena, covered, model, ranges, shows_anything)


def _phenomena(text: str, transform: str) -> frozenset[Phenomenon]:
    """The phenomena that a manifest's text names: `fog`; `brightness, contrast`; the name of a condition.

    Raises CheckpointError for an unknown word: it could mean any condition, so none could be called "never trained".
    """
    words = [word.strip() for word in re.split(r",|/|\+|\band\b", _normalised(text)) if word.strip()]
    for word in words or [""]:
        if word not in _WORDS:
            raise CheckpointError(
                f"transform {transform!r} has the unknown phenomenon {word!r}",
                remedy=nearest(word, _WORDS, f"write one of: {', '.join(Phenomenon)}"),
                file=_FILE,
            )
    return frozenset(phenomenon for word in words for phenomenon in _WORDS[word])


def _normalised(text: str) -> str:
    """Lower case, underscores and runs of blanks as one blank."""
    return " ".join(text.lower().replace("_", " ").split())


_WORDS: Mapping[str, frozenset[Phenomenon]] = {
    **{_normalised(name): frozenset({condition.phenomenon}) for name, condition in CATALOG.items()},
    **ALIASES,
    **{str(phenomenon): frozenset({phenomenon}) for phenomenon in Phenomenon},
}
"""Every word by which a manifest may name phenomena; where several tables have it, the last one wins."""


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
    result = Levels(not any(transform.shows_anything for transform in trained))
    for name in conditions:
        by_severity = {severity: _level(CATALOG[name], severity, trained) for severity in severities}
        for severity, (level, _) in by_severity.items():
            result.of_cell[name, severity] = level
        result.of_condition[name], result.why[name] = min(by_severity.values(), key=lambda pair: pair[0])
    return result


def _level(condition: Condition, severity: int, trained: Sequence[TrainedTransform]) -> tuple[Level, str]:
    same_model = [transform for transform in trained if transform.model == _normalised(condition.model)]
    step = condition.ladder[severity - 1]
    for transform in same_model:
        if _inside(step, transform.ranges):
            return Level.L0, f"trained on as {transform.name}, same model and range"
    if same_model:
        return Level.L1, f"trained on as {same_model[0].name}, outside its range"
    for transform in trained:
        if transform.unknown and condition.phenomenon in transform.phenomena | transform.covered:
            return Level.UNVERIFIED, f"may have been trained on as {transform.name}, of which the model is unknown"
    same_phenomenon = [transform for transform in trained if condition.phenomenon in transform.phenomena]
    covering = [transform for transform in trained if condition.phenomenon in transform.covered]
    for transform in same_phenomenon + covering:
        return Level.L2, f"trained on the phenomenon as {transform.name}, by another model"
    return Level.L3, Level.L3.meaning


def _inside(step: Mapping[str, float], ranges: Mapping[str, tuple[float, float]]) -> bool:
    """Whether every parameter that the manifest bounds is in its range; unmentioned parameters count as trained."""
    return all(
        ranges[name][0] - 1e-9 <= value <= ranges[name][1] + 1e-9 for name, value in step.items() if name in ranges
    )


def missing_manifest(run: Path | None, manifest: Mapping[str, Any] | None) -> str:
    """Why levels are not verified, in words: which model lacks an augmentation manifest, the run or an ancestor, or
    which transforms are unknown; "" if they are.

    run: the run's directory, whose config.yaml names its start weights; None for a detector that is not a run.
    """
    trained = trained_transforms(manifest)
    if trained is not None:
        unknown = list(dict.fromkeys(transform.name for transform in trained if transform.shows_anything))
        return f"it is unknown what {', '.join(unknown)} of its training changed" if unknown else ""
    model = "the detector" if run is None else "the run"
    if manifest is None:
        return f"{model} has no augmentation manifest"
    start = _start_weights(run)
    ancestors = manifest.get("ancestors") or []
    deeper = next((ancestor for ancestor in ancestors if isinstance(ancestor, Mapping)), None)
    if None not in ancestors and deeper is not None:
        return (
            missing_manifest(Path(start), deeper) if start else f"an ancestor of {model} has no augmentation manifest"
        )
    return f"{model}'s start weights{f' {start}' if start else ''} have no augmentation manifest"


def _start_weights(run: Path | None) -> str:
    """`model.start` of a run's config; "" where it is unknown."""
    path = None if run is None else run / "config.yaml"
    try:
        config = load_yaml(path) if path is not None and path.is_file() else None
    except DrivetlError:
        return ""
    section = config.get("model") if isinstance(config, dict) else None
    return str(section.get("start") or "") if isinstance(section, dict) else ""


def check_names(selection: str) -> None:
    """Check the names of `--conditions` without a run. Raises ConfigError for an unknown one."""
    names = [part for part in selection.split(",") if part.strip() not in ("", "held_out")]
    if names:
        select(",".join(names))


def choose_conditions(selection: str, manifest: Mapping[str, Any] | None, severities: Sequence[int]) -> list[str]:
    """The conditions that `--conditions` selects.

    `held_out`: the label-safe conditions of `all` that are L2 or L3 at every severity; all of them for an unverified
    run. Raises ConfigError for an unknown name, and when a condition named next to `held_out` was trained on.
    """
    parts = [part.strip() for part in selection.split(",") if part.strip()]
    if "held_out" not in parts:
        return select(selection)
    extra = [name for name in parts if name != "held_out"]
    named = select(",".join(extra)) if extra else []
    pool = list(dict.fromkeys([*SETS["all"], *named]))
    known = levels(manifest, pool, severities)
    for name in named:
        if known.of_condition[name] in SEEN:
            raise ConfigError(
                f"condition {name!r} is not held out: {known.why[name]}",
                remedy=f"remove it, or use --conditions {','.join(named)} to report it as seen in training",
            )
    chosen = [name for name in pool if known.of_condition[name] not in SEEN]
    if not chosen:
        raise ConfigError(
            "no condition is held out from this training", remedy="name conditions, or use --conditions all"
        )
    return chosen
