"""Detectors that are not runs: the user's own code, published weights, ONNX files; one protocol for all."""
