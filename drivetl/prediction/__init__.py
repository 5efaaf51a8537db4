"""Detections of new images and videos: inputs, thresholds, tracks, drawing, output files."""
