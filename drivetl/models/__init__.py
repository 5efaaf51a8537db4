"""Detectors: torchvision's classes, extended at their seams."""
