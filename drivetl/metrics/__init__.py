"""Metrics, statistics and robustness: every number has an oracle."""
