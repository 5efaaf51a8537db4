"""Detections against ground truth: matching, COCO and KITTI AP, error analysis, bootstrap intervals and paired tests.

`match_store.match(truth, results)` matches detections to objects once; the other modules read their numbers from the
`MatchStore` it returns, and `comparison` and `gate` decide between two detectors. Nothing here needs torch.
"""
