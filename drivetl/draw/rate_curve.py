"""The loss of a learning rate range test against the rate, as one PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from drivetl.files.write import write_atomically


def plot(
    rates: Sequence[float], losses: Sequence[float], smooth: Sequence[float], picked: float | None, path: Path
) -> None:
    """Write a PNG: the loss of each step, the smoothed loss, and the rate that was picked, if one was."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.4), layout="tight")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.plot(rates, losses, ".", color="0.6", markersize=4, label="a step")
    axis.plot(rates, smooth, color="black", label="smoothed")
    if picked is not None:
        axis.axvline(picked, color="C1", label=f"picked: {picked:g}")
    most = max(smooth[: max(1, len(smooth) // 2)])
    axis.set(xscale="log", xlabel="learning rate", ylabel="training loss", ylim=(0, 2.2 * most))
    axis.set_title("learning rate range test: the loss falls most steeply at the picked rate" if picked else "no fall")
    axis.grid(alpha=0.25)
    axis.legend(fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
    write_atomically(path, buffer.getvalue())
