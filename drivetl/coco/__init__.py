"""The data format: one COCO dataset json, images left where they are. Free of torch.

Boxes in files are xywh, in memory xyxy; float pixels, origin top-left, continuous (x2 = x + w, no +1).
"""
