"""The audit of a COCO dataset: findings, statistics and a page. Free of torch."""
