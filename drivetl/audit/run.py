"""Audit of a COCO dataset: findings and statistics from any JSON file, valid or not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drivetl.audit import boxes, files, frames, masks, pairs, records
from drivetl.audit.findings import SEVERITIES, Finding
from drivetl.audit.stats import statistics
from drivetl.audit.tables import Tables, load_tables
from drivetl.files.gc_pause import no_garbage_collection


@dataclass(frozen=True)
class Audit:
    """Result of an audit: findings, most severe first, and dataset statistics."""

    tables: Tables
    findings: list[Finding]
    statistics: dict[str, Any]
    min_size: float
    max_size: float
    files_checked: bool

    def counts(self) -> dict[str, int]:
        """Severity -> number of findings."""
        counts = Counter(finding.severity for finding in self.findings)
        return {severity: counts[severity] for severity in SEVERITIES}

    def as_dict(self) -> dict[str, Any]:
        """The content of audit.json."""
        return {
            "dataset": self.tables.path.name,
            "source": self.tables.info.get("source", ""),
            "files_checked": self.files_checked,
            "resize": {"min_size": self.min_size, "max_size": self.max_size},
            "findings_by_severity": self.counts(),
            "findings": [finding.as_dict() for finding in self.findings],
            "statistics": self.statistics,
        }


def audit(
    path: Path, images_root: Path | None = None, *, min_size: float = 800, max_size: float = 1333, quick: bool = False
) -> Audit:
    """Run all checks.

    min_size, max_size: short and long side of the model's resize, px. quick: do not open the image files.
    Raises DataError only if the file is missing or is not JSON.
    """
    with no_garbage_collection():
        return _audit(load_tables(path, images_root), min_size, max_size, quick)


def _audit(tables: Tables, min_size: float, max_size: float, quick: bool) -> Audit:
    findings = [
        *records.check_lists(tables),
        *records.check_categories(tables),
        *records.check_images(tables),
        *records.check_references(tables),
        *records.check_crowd(tables),
        *records.check_annotation_ids(tables),
        *boxes.check_boxes(tables, min_size, max_size),
        *pairs.check_duplicates(tables),
        *pairs.check_ignored_objects(tables),
        *masks.check_segmentations(tables),
        *pairs.check_areas(tables),
        *frames.check_classes(tables),
        *frames.check_empty_images(tables),
        *frames.check_suddenly_empty(tables),
        *frames.check_drives(tables),
        *records.check_id_gaps(tables),
        *([] if quick else files.check_files(tables)),
    ]
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Audit(tables, findings, statistics(tables, min_size, max_size), min_size, max_size, not quick)
