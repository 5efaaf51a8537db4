"""Robustness of one detector (and a baseline): a sweep over synthetic conditions and severities, and its report data.

`run.run_sweep` detects in every cell (condition, severity) and caches the detections, `score_cells` measures them,
`held_out` tells which conditions the model was not trained on, and `report_document` assembles results.json.
"""

from drivetl.metrics.aggregates import summarize as summarize
