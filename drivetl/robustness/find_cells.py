"""Open the detections that a run's robustness sweep cached, without loading the run's model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from drivetl.conditions import PROTOCOL_VERSION
from drivetl.errors import DataError
from drivetl.robustness.detection_cache import CELLS_FOLDER, DetectionCache

_FIRST = "run eval-robustness on both runs and the same data first"


def open_cache(run: Path) -> DetectionCache:
    """The detection cache of a run directory (or of a cache folder); caches with masks are skipped.

    Of several detectors in one cache the one that the newest `results.json` names is taken. Raises DataError when
    there are no cached detections, when they belong to another protocol version, or when the detector is ambiguous.
    """
    about = _about_of_caches(run)
    if not about:
        raise DataError("no stored detections", remedy=_FIRST, file=run)
    current = {path: content for path, content in about.items() if content.get("protocol_version") == PROTOCOL_VERSION}
    if not current:
        versions = sorted({str(content.get("protocol_version")) for content in about.values()})
        raise DataError(
            f"its cells are of protocol version {', '.join(versions)}, not {PROTOCOL_VERSION}",
            remedy="run eval-robustness again",
            file=run,
        )
    reported = _reported_weights(run)
    if len(current) > 1 and reported:
        current = {path: content for path, content in current.items() if content.get("weights") == reported}
    if len(current) != 1:
        raise DataError(
            f"its cache holds cells of {len(about)} detectors",
            remedy="keep the folder of one of them, or run eval-robustness again",
            file=next(iter(about)).parent,
        )
    path, content = next(iter(current.items()))
    identity = {key: value for key, value in content.items() if key not in ("format", "protocol_version")}
    return DetectionCache(path.parent, identity)


def _about_of_caches(run: Path) -> dict[Path, dict[str, Any]]:
    """Folder of each detector's cached cells -> its about.json."""
    about = {}
    for cache in (run / CELLS_FOLDER, run):
        for path in sorted(cache.glob("*/about.json")):
            content = _json(path)
            if isinstance(content, dict) and "weights" in content and "masks" not in content:
                about[path.parent] = content
        if about:
            break
    return about


def _reported_weights(run: Path) -> str | None:
    """The hash of the weights that the newest report of the run is about."""
    reports = sorted(run.glob("robustness/*/results.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in [*reports, run / "results.json"]:
        content = _json(path)
        if isinstance(content, dict) and isinstance(content.get("run"), dict):
            return str(content["run"].get("weights"))
    return None


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
