"""Detectors: subclasses of torchvision's, with the same state dict keys."""
