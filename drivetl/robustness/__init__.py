"""Robustness: the sweep over conditions, held-out levels, and the document behind the report."""

from drivetl.metrics.aggregates import summarize as summarize
