"""Audit of a COCO dataset: findings, statistics and an HTML page. Does not import torch."""
