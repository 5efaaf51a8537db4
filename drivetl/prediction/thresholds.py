"""Score thresholds per class: given as numbers, or taken from the operating points of a run's own validation."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from drivetl.coco.io import read_dataset
from drivetl.errors import ConfigError, DataError, nearest
from drivetl.files.runs import BEST_DETECTIONS, validation_data
from drivetl.metrics.match_store import MatchStore, match
from drivetl.metrics.operating import (
    OperatingPoint,
    ScoreCurve,
    at_threshold,
    choose_threshold,
    score_curve,
    within_false_alarms,
)
from drivetl.metrics.results import load_results
from drivetl.metrics.truth import Floats

DEFAULT_SCORE = 0.3
RULES = ("recall", "fp")


@dataclass(frozen=True, slots=True)
class Scores:
    """The text of --score: a score for each class that is named, and one for all others."""

    others: float
    by_class: Mapping[str, float]


def parse_scores(text: str) -> Scores:
    """`0.5`, `car=0.5,person=0.3`, or both: `0.2,car=0.5`. Raises ConfigError."""
    others, by_class = DEFAULT_SCORE, {}
    for part in text.split(","):
        name, equals, value = (word.strip() for word in part.rpartition("="))
        score = _number(value, "--score", 0, 1)
        if equals and name in by_class:
            raise ConfigError(f"--score names {name!r} more than once", remedy="give one score for each class")
        if equals:
            by_class[name] = score
        else:
            others = score
    return Scores(others, by_class)


def scores_of(scores: Scores, categories: Sequence[str]) -> Floats:
    """(K,) the score of each class."""
    return np.array([scores.by_class.get(name, scores.others) for name in categories], np.float64)


def check_names(scores: Scores, categories: Sequence[str]) -> None:
    """Raises ConfigError for a score of a class that does not exist."""
    for name in scores.by_class:
        if name not in categories:
            raise ConfigError(f"--score: no class {name!r}", remedy=nearest(name, categories))


def parse_rule(text: str) -> tuple[str, float]:
    """`recall=0.9` or `fp=0.5` -> (rule, value). Raises ConfigError."""
    rule, equals, value = text.partition("=")
    if rule not in RULES or not equals:
        raise ConfigError(f"--at {text!r} is not an operating point", remedy="write recall=0.9, or fp=0.5 per image")
    return rule, _number(value, f"--at {rule}", 0, 1 if rule == "recall" else 1e6)


def _number(text: str, flag: str, least: float, most: float) -> float:
    if re.fullmatch(r"\+?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", text.strip()):
        value = float(text)
        if least <= value <= most:
            return value
    raise ConfigError(f"{flag}: {text.strip()!r} is not a number from {least:g} to {most:g}")


@dataclass(frozen=True, slots=True)
class Chosen:
    """The operating point of one class, and why it is not the one that was asked for."""

    name: str
    point: OperatingPoint
    """On the validation images; its threshold is inf where no detection is to be kept."""
    note: str = ""


def operating_points_of(run: Path, categories: Sequence[str], rule: str, value: float) -> list[Chosen]:
    """The threshold of each class on the run's own validation data, from the detections that training stored.

    recall: the highest threshold that finds that share of the objects; fp: the lowest with at most that many false
    positives of the class per image. Raises DataError when the run has stored no detections, or its validation data
    is missing or has changed; ConfigError when its config names no validation data.
    """
    store = match_on_validation(run, categories)
    curves = [score_curve(store, k) for k in range(len(categories))]
    return [_choose(name, curve, store.n_images, rule, value) for name, curve in zip(categories, curves, strict=True)]


def match_on_validation(run: Path, categories: Sequence[str]) -> MatchStore:
    """The detections that training stored, matched on the run's own validation data.

    Raises as `operating_points_of`.
    """
    path = run / BEST_DETECTIONS
    if not path.is_file():
        raise DataError("the run has stored no detections", remedy="name scores with --score", file=path)
    data = validation_data(run)
    dataset = read_dataset(data)
    if dataset.categories != tuple(categories):
        raise DataError("its classes are not those of the run", remedy="name scores with --score", file=data)
    try:
        return match(dataset, load_results(path))
    except DataError as error:
        raise DataError(f"does not fit {data} ({error.reason})", remedy="it has changed since", file=path) from None


def _choose(name: str, curve: ScoreCurve, n_images: int, rule: str, value: float) -> Chosen:
    if not len(curve.scores):
        threshold, note = DEFAULT_SCORE, f"never detected in the validation images; {DEFAULT_SCORE:g} is used"
    elif rule == "fp":
        threshold = within_false_alarms(curve, n_images, value)
        note = "" if np.isfinite(threshold) else f"no threshold has at most {value:g} per image; none is kept"
    elif not curve.n_gt:
        threshold, note = DEFAULT_SCORE, f"no object in the validation images; {DEFAULT_SCORE:g} is used"
    else:
        threshold, note = choose_threshold(curve, n_images, "recall", value), ""
        if not np.isfinite(threshold):
            threshold = float(curve.scores[-1])
            note = f"recall {value:g} is out of reach; the lowest stored score is used"
    return Chosen(name, at_threshold(curve, threshold, n_images), note)
