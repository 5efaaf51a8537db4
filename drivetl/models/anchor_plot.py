"""A picture of a dataset's boxes against the anchors that are to find them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from drivetl.coco.files import write_atomically
from drivetl.models.anchors import AnchorSpec, Coverage, ScaledBoxes

MAX_POINTS = 5000


def plot(boxes: ScaledBoxes, specs: dict[str, AnchorSpec], covers: dict[str, Coverage], path: Path) -> None:
    """Write a PNG: per set of anchors, width against height at network input (log scales).

    Boxes are coloured by the IoU with their best anchor; anchors are crosses, one colour per pyramid level.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.2 * len(specs), 5.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = np.atleast_1d(np.asarray(figure.subplots(1, len(specs), sharex=True, sharey=True, squeeze=True)))
    shown = np.random.default_rng(0).permutation(len(boxes))[:MAX_POINTS]
    sides = (boxes.boxes[:, 2:] - boxes.boxes[:, :2])[shown]
    for axis, (name, spec) in zip(axes, specs.items(), strict=True):
        cover = covers[name]
        points = axis.scatter(
            *sides.T, c=cover.best_iou[shown], s=5, cmap="viridis", vmin=0.3, vmax=1, alpha=0.6, linewidths=0
        )
        for level in range(len(spec.sizes)):
            color = f"C{(1, 3, 6, 9, 5)[level % 5]}"
            style = {"marker": "P", "s": 75, "color": color, "edgecolors": "black", "linewidths": 0.8}
            axis.scatter(*spec.shapes(level).T, label=f"level {level}", zorder=3, **style)
        share = (
            f"{cover.share(0.5):.1%} at IoU .5, {cover.share(0.7):.1%} at .7" if len(boxes) else "no boxes"
        )
        axis.set(xscale="log", yscale="log", xlabel="width, px at network input", title=f"{name}: {share}")
        axis.set_aspect("equal")
        axis.grid(alpha=0.25, which="both")
    axes[0].set_ylabel("height, px at network input")
    axes[0].legend(title="anchors", fontsize=8)
    figure.colorbar(points, ax=list(axes), label="IoU with the best anchor", shrink=0.85)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    write_atomically(path, buffer.getvalue())
