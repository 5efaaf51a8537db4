"""From a COCO dataset to training batches; images stay uint8 until they are on the device."""
