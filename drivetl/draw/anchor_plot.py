"""A plot of a dataset's box sizes and the anchors."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from drivetl.files.write import write_atomically

MAX_POINTS = 5000


@dataclass(frozen=True)
class AnchorSet:
    """One panel: a set of anchors and how well it covers the boxes."""

    shapes_px: Sequence[npt.NDArray[np.float64]]
    """Per pyramid level (A, 2) widths and heights of its anchors."""
    best_iou: npt.NDArray[np.float64]
    """(N,) IoU of each box with its best anchor."""


def plot(sides_px: npt.NDArray[np.float64], sets: Mapping[str, AnchorSet], path: Path) -> None:
    """Write a PNG: per set of anchors, width against height at network input (log scales).

    `sides_px` is (N, 2), widths and heights of the boxes, N may be 0. Boxes are coloured by the IoU with their best
    anchor; anchors are crosses, one colour per pyramid level.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.2 * len(sets), 5.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = np.atleast_1d(np.asarray(figure.subplots(1, len(sets), sharex=True, sharey=True, squeeze=True)))
    shown = np.random.default_rng(0).permutation(len(sides_px))[:MAX_POINTS]
    for axis, (name, anchors) in zip(axes, sets.items(), strict=True):
        best_iou = anchors.best_iou
        points = axis.scatter(
            *sides_px[shown].T, c=best_iou[shown], s=5, cmap="viridis", vmin=0.3, vmax=1, alpha=0.6, linewidths=0
        )
        for level, shapes in enumerate(anchors.shapes_px):
            color = f"C{(1, 3, 6, 9, 5)[level % 5]}"
            style = {"marker": "P", "s": 75, "color": color, "edgecolors": "black", "linewidths": 0.8}
            axis.scatter(*shapes.T, label=f"level {level}", zorder=3, **style)
        share = "no boxes"
        if len(best_iou):
            share = f"{np.mean(best_iou >= 0.5):.1%} at IoU .5, {np.mean(best_iou >= 0.7):.1%} at .7"
        axis.set(xscale="log", yscale="log", xlabel="width, px at network input", title=f"{name}: {share}")
        axis.set_aspect("equal")
        axis.grid(alpha=0.25, which="both")
    axes[0].set_ylabel("height, px at network input")
    axes[0].legend(title="anchors", fontsize=8)
    figure.colorbar(points, ax=list(axes), label="IoU with the best anchor", shrink=0.85)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    write_atomically(path, buffer.getvalue())
