"""Losses, learning rate and AP of a training against its steps, as one PNG."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivetl.files.write import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Series = tuple[list[int], list[float]]
"""(steps, values)."""
LEAST_AP = 0.05
"""The AP axis reaches at least this far, so that noise next to zero looks like zero."""


def plot(rows: Sequence[Mapping[str, Any]], rate: Series, path: Path) -> None:
    """Write `figure_of` as a PNG."""
    buffer = io.BytesIO()
    figure_of(rows, rate).savefig(buffer, format="png", dpi=100, metadata={"Software": None})
    write_atomically(path, buffer.getvalue())


def figure_of(rows: Sequence[Mapping[str, Any]], rate: Series) -> Figure:
    """Three panels: losses, learning rate, and AP with AP50.

    rows: those of metrics.jsonl in order, may be empty. A loss is the mean over the steps since the row before; row 0,
    the start before the first step, is a dashed line. A missing or null value is a gap. rate: learning rate at steps.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.8, 3.8))
    FigureCanvasAgg(figure)
    margins = {"left": 0.05, "right": 0.985, "bottom": 0.14, "top": 0.9, "wspace": 0.2}  # a layout engine draws twice
    losses, rates, scores = figure.subplots(1, 3, gridspec_kw=margins)
    for name, (steps, values) in losses_of(rows).items():
        style = {"color": "black", "linewidth": 2.0} if name == "loss" else {"linewidth": 1.0}
        losses.plot(steps, values, marker="o", markersize=3, clip_on=False, label=name.removeprefix("loss_"), **style)
    rates.plot(*rate, color="black")
    rates.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
    for name, color in (("AP", "C0"), ("AP50", "C1")):
        scores.plot(*series(rows, name), marker="o", markersize=3, clip_on=False, color=color, label=name)
        start = next((row[name] for row in rows if row["epoch"] == 0 and row.get(name) is not None), None)
        if start is not None:
            scores.axhline(start, color=color, linestyle="--", linewidth=1, label=f"{name} of the start")
    last = max([1, *(step + 1 for step in rate[0]), *(row["step"] for row in rows)])
    for axis, title in (
        (losses, "training loss, mean since the last point"),
        (rates, "learning rate"),
        (scores, "validation"),
    ):
        axis.set(title=title, xlabel="step", xlim=(0, last))
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.set_ylim(bottom=0, top=max(LEAST_AP, axis.get_ylim()[1]) if axis is scores else None)
        axis.grid(alpha=0.25)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=8)
    return figure


def losses_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Series]:
    """Name of a loss, the sum (`loss`) first -> its series."""
    names = dict.fromkeys(key for row in rows for key in sorted(row) if key.startswith("train_loss"))
    return {name.removeprefix("train_"): series(rows, name) for name in names}


def series(rows: Sequence[Mapping[str, Any]], key: str) -> Series:
    """Steps and values of a key in the rows that have it; NaN where it is null."""
    having = [row for row in rows if key in row]
    return [row["step"] for row in having], [math.nan if row[key] is None else float(row[key]) for row in having]
