"""From a COCO dataset to batches: uint8 until the device."""
