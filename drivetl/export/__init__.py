"""Trained detectors for other runtimes."""
