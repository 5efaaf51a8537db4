"""Two detectors on the same validation images: the difference with its interval, as numbers and in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from drivetl.coco.drives import Drives
from drivetl.coco.records import Dataset
from drivetl.metrics.comparison import compare
from drivetl.metrics.match_store import match
from drivetl.metrics.results import load_results

MIN_DRIVES = 6
"""With n drives a paired test cannot give a p below 2^(1 - n): fewer than 6 never reach 5 %."""


def difference(ours: Path, theirs: Path, val: Dataset, metric: str) -> dict[str, Any]:
    """Ours minus theirs, of two files of detections in all images of `val`: `a`, `b` and `delta` with its 95 %
    interval, p and the smallest detectable difference; drives are resampled, or images where their drive is unknown.
    """
    stores = {"a": match(val, load_results(ours)), "b": match(val, load_results(theirs))}
    compared = compare(lambda side, _: stores[side], [], metric).as_dict()
    row = compared["rows"][0]
    delta = {"point": row["delta"]} | {key: row[key] for key in ("low", "high", "p", "minimum_detectable")}
    return {"a": row["a"], "b": row["b"], "delta": delta, "draws": compared["draws"], "warning": compared["warning"]}


def too_few(delta: dict[str, Any], drives: Drives) -> str:
    """Why a difference cannot be tested: `5 drives are too few for a significance test - ...`; '' where it can."""
    count = drives.n_independent
    if count >= MIN_DRIVES and delta["p"] is not None:
        return ""
    verb = "is" if count == 1 else "are"
    advice = f"validate on at least {MIN_DRIVES}{_unknown(drives)}"
    return f"{drives.independent_in_words()} {verb} too few for a significance test - {advice}"


def interval_in_words(delta: dict[str, Any], drives: Drives) -> str:
    """`+0.043, 95 % interval +0.010 to +0.080 over 12 drives, p 0.012`."""
    interval = f"95 % interval {delta['low']:+.3f} to {delta['high']:+.3f}"
    return (
        f"{delta['point']:+.3f}, {interval} over {drives.independent_in_words()}{_unknown(drives)}, p {delta['p']:.3f}"
    )


def is_better(delta: dict[str, Any], drives: Drives) -> bool:
    """Whether ours is better: the interval is above 0, and so is what the test says at 5 %."""
    return not too_few(delta, drives) and delta["low"] > 0 and delta["p"] < 0.05


def is_worse(delta: dict[str, Any], drives: Drives) -> bool:
    """Whether theirs is better."""
    return not too_few(delta, drives) and delta["high"] < 0 and delta["p"] < 0.05


def _unknown(drives: Drives) -> str:
    return f"; {drives.unknown_in_words()}" if drives.n_unknown else ""
