"""The embedded default: a procedural city with exact boxes, masks and depth. Free of torch."""
