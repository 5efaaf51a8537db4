"""Detections of new images and videos: inputs, thresholds, drawing, output files."""
