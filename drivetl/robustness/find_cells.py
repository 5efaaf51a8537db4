"""The detections that a run's robustness sweep left behind, read again without its model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from drivetl.conditions import PROTOCOL_VERSION
from drivetl.errors import DataError
from drivetl.robustness.detection_cache import CELLS_FOLDER, DetectionCache

_FIRST = "run eval-robustness on both runs and the same data first"


def open_cache(run: Path) -> DetectionCache:
    """The cells of a run directory (or of a folder that holds a cache of cells).

    Of several detectors in one cache the one that the newest `results.json` names is taken; cells that keep masks are
    left aside. Raises DataError when there are no cells, when they belong to another protocol version, or when it is
    not clear whose they are.
    """
    about = _abouts(run)
    if not about:
        raise DataError("no stored detections", remedy=_FIRST, file=run)
    current = {path: one for path, one in about.items() if one.get("protocol_version") == PROTOCOL_VERSION}
    if not current:
        known = sorted({str(one.get("protocol_version")) for one in about.values()})
        raise DataError(
            f"its cells are of protocol version {', '.join(known)}, not {PROTOCOL_VERSION}",
            remedy="run eval-robustness again",
            file=run,
        )
    wanted = _reported_weights(run)
    if len(current) > 1 and wanted:
        current = {path: one for path, one in current.items() if one.get("weights") == wanted}
    if len(current) != 1:
        raise DataError(
            f"its cache holds cells of {len(about)} detectors",
            remedy="keep the folder of one of them, or run eval-robustness again",
            file=next(iter(about)).parent,
        )
    path, one = next(iter(current.items()))
    identity = {key: value for key, value in one.items() if key not in ("format", "protocol_version")}
    return DetectionCache(path.parent, identity)


def _abouts(run: Path) -> dict[Path, dict[str, Any]]:
    """Folder of each detector's cells -> what it says about them."""
    found = {}
    for cache in (run / CELLS_FOLDER, run):
        for path in sorted(cache.glob("*/about.json")):
            content = _json(path)
            if isinstance(content, dict) and "weights" in content and "masks" not in content:
                found[path.parent] = content
        if found:
            break
    return found


def _reported_weights(run: Path) -> str | None:
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
