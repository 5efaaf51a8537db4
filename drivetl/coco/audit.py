"""What is wrong and what is odd in a COCO dataset: findings and statistics, from any json however broken."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drivetl.coco import audit_boxes, audit_files, audit_frames, audit_masks, audit_pairs, audit_records
from drivetl.coco.audit_findings import SEVERITIES, Finding
from drivetl.coco.audit_stats import statistics
from drivetl.coco.audit_tables import Tables, load_tables
from drivetl.coco.pause import no_garbage_collection


@dataclass(frozen=True)
class Audit:
    """The result: findings from the gravest to the mildest, and the dataset in numbers."""

    tables: Tables
    findings: list[Finding]
    statistics: dict[str, Any]
    min_size: float
    max_size: float
    files_checked: bool

    def counts(self) -> dict[str, int]:
        """Severity -> number of findings."""
        found = Counter(finding.severity for finding in self.findings)
        return {severity: found[severity] for severity in SEVERITIES}

    def as_dict(self) -> dict[str, Any]:
        """What stands in audit.json."""
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
    path: Path,
    images_root: Path | None = None,
    *,
    min_size: float = 800,
    max_size: float = 1333,
    quick: bool = False,
) -> Audit:
    """Run every check. min_size, max_size: the network's resize in px. quick: leave the image files alone.

    Raises DataError only when the json itself is missing or no JSON.
    """
    with no_garbage_collection():
        return _audit(load_tables(path, images_root), min_size, max_size, quick)


def _audit(tables: Tables, min_size: float, max_size: float, quick: bool) -> Audit:
    findings = [
        *audit_records.check_lists(tables),
        *audit_records.check_categories(tables),
        *audit_records.check_images(tables),
        *audit_records.check_references(tables),
        *audit_records.check_annotation_ids(tables),
        *audit_boxes.check_boxes(tables, min_size, max_size),
        *audit_pairs.check_duplicates(tables),
        *audit_pairs.check_ignored_objects(tables),
        *audit_masks.check_segmentations(tables),
        *audit_pairs.check_areas(tables),
        *audit_frames.check_classes(tables),
        *audit_frames.check_empty_images(tables),
        *audit_frames.check_suddenly_empty(tables),
        *audit_frames.check_sequences(tables),
        *audit_records.check_id_gaps(tables),
        *([] if quick else audit_files.check_files(tables)),
    ]
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Audit(tables, findings, statistics(tables, min_size, max_size), min_size, max_size, not quick)
