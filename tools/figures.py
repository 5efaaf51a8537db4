"""The figures of docs/results.md, drawn from the CSV files of docs/results."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivetl.files.write import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = dict[str, str]
COLOURS = {"full recipe": "#1f77b4", "features alone": "#d95f02", "features alone, own recipe": "#7570b3"}
PRESETS = {"weather": "#1f77b4", "severe": "#d95f02", "photometric": "#7570b3"}
STEPS = {
    "none": ("0.4", "no augmentation, short"),
    "none long": ("black", "no augmentation"),
    "weather long": ("#1f77b4", "weather"),
    "severe long": ("#d95f02", "severe"),
    "mixed long": ("#1b9e77", "mixed"),
}
"""Line -> its colour and name."""
WEATHER_SETS = {
    "dry": "dry day (the clip of the training)",
    "night_tuned": "real night, first half",
    "night_reported": "real night, second half",
    "wet_tuned": "real wet road, first half",
    "wet_reported": "real wet road, second half",
    "fog_tuned": "real fog, even photos",
    "fog_reported": "real fog, odd photos",
    "clear": "clear city",
}


def draw_all(folder: Path) -> list[Path]:
    """Draw every figure next to the CSV files; returns the paths written."""
    made: dict[str, Callable[[Path], Figure]] = {
        "transfer": transfer,
        "parts": parts,
        "weather": weather,
        "robust": robust,
        "real": real,
        "severity": severity,
        "conditions": conditions,
    }
    return [_write(draw(folder), folder / f"{name}.png") for name, draw in made.items()]


def load(folder: Path, name: str) -> list[Row]:
    """The rows of one CSV, every field as text."""
    with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def interval(row: Row, column: str) -> str:
    """`9.6 [7.6, 15.5]` where the column has an interval, its text where it has none, a dash where it is empty."""
    text = row[column] or "-"
    low = row.get(f"{column} low")
    return f"{text} [{low}, {row[f'{column} high']}]" if low else text


def transfer(folder: Path) -> Figure:
    """AP50 of the frequent classes against labelled frames (city.csv) and against steps (convergence.csv)."""
    figure = _figure(10, 4)
    left, right = figure.subplots(1, 2, sharey=True)
    rows, steps = load(folder, "city"), load(folder, "convergence")
    column = "AP50 of frequent classes"
    left.axhline(float(rows[0][column]), color="0.4", linestyle=":", label="five other cities, before adaptation")
    labels = {"full recipe": "five other cities, adapted", "features alone": "features alone, the same steps"}
    for line, colour in COLOURS.items():
        _band(left, [row for row in rows if row["line"] == line], "labels", column, colour, labels.get(line, line))
        _band(right, [row for row in steps if row[line]], "steps of two images", line, colour, line)
    left.set(xlabel="labelled frames of the new city", ylabel="AP50 of the 5 frequent classes, %", xscale="log")
    left.set_xticks([25, 50, 100, 200], ["25", "50", "100", "200"])
    left.minorticks_off()
    right.set(xlabel="steps of two images, 200 labelled frames")
    left.set_ylim(0, 54)  # shared; room for the legend
    left.legend(frameon=False, loc="upper left")
    for axis, title in ((left, "More labelled frames"), (right, "More steps")):
        axis.set_title(title, loc="left")
        _plain(axis)
    return figure


def parts(folder: Path) -> Figure:
    """What each part of the recipe adds at 50 labelled frames (city.csv)."""
    rows = [row for row in load(folder, "city") if row["line"].startswith("+") or row["line"] == "full recipe"]
    rows = [row for row in rows if row["AP50 gain over base"]]
    names = {"+ surgery": "head surgery", "full recipe": "all parts together"}
    figure = _figure(7, 3)
    axis = figure.subplots()
    _forest(axis, rows, "AP50 gain over base", [names.get(row["line"], row["line"][2:]) for row in rows], "#1f77b4")
    axis.set_xlabel("AP50 gained over the same training without it, points (95 % interval)")
    return figure


def weather(folder: Path) -> Figure:
    """AP50 of every training preset minus that of no augmentation, on every set (weather.csv)."""
    rows = load(folder, "weather")
    figure = _figure(9, 5)
    axis = figure.subplots()
    for place, (preset, colour) in enumerate(PRESETS.items()):
        chosen = {row["measured on"]: row for row in rows if row["trained with"] == preset}
        ordered = [chosen[name] for name in WEATHER_SETS]
        shift = 0.22 * (place - 1)
        _forest(axis, ordered, "AP50 - none", list(WEATHER_SETS.values()), colour, shift=shift, label=preset)
    axis.set_xlabel("AP50 minus that of training without augmentation, points (95 % interval)")
    figure.legend(frameon=False, loc="outside upper center", ncols=3)
    return figure


def robust(folder: Path) -> Figure:
    """AP50 on the motorway camera's real night and on its dry day against training steps (robust_steps.csv)."""
    rows = load(folder, "robust_steps")
    figure = _figure(10, 4)
    axes = figure.subplots(1, 2)
    sets = {"night_reported": "Real night, never trained on", "dry": "Dry day, as trained on"}
    for axis, (name, title) in zip(axes, sets.items(), strict=True):
        for line, (colour, label) in STEPS.items():
            chosen = [row for row in rows if (row["measured on"], row["trained with"]) == (name, line)]
            if chosen:
                seeds = chosen[0]["seeds"]
                _band(axis, chosen, "steps", "AP50", colour, f"{label} ({seeds} seed{'s' * (seeds != '1')})")
        axis.set(xlabel="training steps of four dry-day images", ylabel="AP50, %")
        axis.set_title(title, loc="left")
        _plain(axis)
    axes[0].legend(frameon=False, loc="lower right", title="training preset")
    return figure


def real(folder: Path) -> Figure:
    """AP50 lost on real conditions next to what the synthetic ones cost (real.csv)."""
    rows = [row for row in load(folder, "real") if row["trained"] in ("cities", "highway_none_0")]
    figure = _figure(7.5, 2.8)
    axis = figure.subplots()
    names = {
        "weather=fog": "fog: photos, clear cities",
        "weather=wet_road": "wet road: motorway camera",
        "timeofday=night": "night: motorway camera",
    }
    labels = [names[row["real"]] for row in rows]
    _forest(axis, rows, "real drop", labels, "#d95f02", shift=-0.12, label="real")
    _forest(axis, rows, "synthetic drop", labels, "#1f77b4", shift=0.12, label="synthetic, mean of severities")
    for place, row in enumerate(rows):
        ends = [float(row["synthetic, mildest"]), float(row["synthetic, strongest"])]
        axis.plot(ends, [place + 0.12] * 2, color="#1f77b4", alpha=0.25, linewidth=6, solid_capstyle="butt", zorder=1)
    axis.set_xlabel("AP50 lost, points (bars: 95 % interval; band: mildest to strongest severity)")
    figure.legend(frameon=False, loc="outside upper center", ncols=2)
    return figure


def severity(folder: Path) -> Figure:
    """Share of fine image structure that is left at each severity (severity.csv)."""
    rows = load(folder, "severity")
    figure = _figure(6, 6)
    axis = figure.subplots()
    kept = [[float(row[f"kept at {level}"]) for level in range(1, 6)] for row in rows]
    mesh = axis.imshow(kept, cmap="viridis", vmin=0, vmax=1, aspect="auto")
    for y, values in enumerate(kept):
        for x, value in enumerate(values):
            colour = "black" if value > 0.6 else "white"
            axis.text(x, y, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=8)
    axis.set_yticks(range(len(rows)), [row["condition"] for row in rows])
    axis.set_xticks(range(5), [str(level) for level in range(1, 6)])
    axis.set_xlabel("severity")
    figure.colorbar(mesh, label="fine structure kept")
    return figure


def conditions(folder: Path) -> Figure:
    """Milliseconds per image and core of the physical conditions (conditions.csv)."""
    names = {row["condition"] for row in load(folder, "severity")} | {"rolling_shutter"}
    rows = [row for row in load(folder, "conditions") if row["what"] in names]
    figure = _figure(7, 5)
    axis = figure.subplots()
    for shift, size, colour in ((-0.2, "1242x375", "#1f77b4"), (0.2, "1280x720", "#d95f02")):
        values = [float(row[f"ms_{size}"]) for row in rows]
        axis.barh([place + shift for place in range(len(rows))], values, 0.4, color=colour, label=size)
    axis.set_yticks(range(len(rows)), [row["what"] for row in rows])
    axis.invert_yaxis()
    axis.set_xlabel("ms per image on one core")
    axis.legend(frameon=False)
    _plain(axis)
    return figure


def _forest(
    axis: Any, rows: list[Row], column: str, names: list[str], colour: str, *, shift: float = 0.0, label: str = ""
) -> None:
    """A point and its 95 % interval per row, the first row on top."""
    points, low, high = ([float(row[f"{column}{end}"]) for row in rows] for end in ("", " low", " high"))
    reach = [[point - end for point, end in zip(points, low, strict=True)]]
    reach += [[end - point for point, end in zip(points, high, strict=True)]]
    places = [place + shift for place in range(len(rows))]
    axis.errorbar(points, places, xerr=reach, fmt="o", color=colour, capsize=3, label=label or None)
    axis.axvline(0, color="0.4", linewidth=1, zorder=0)
    axis.set_yticks(range(len(rows)), names)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    _plain(axis)


def _band(axis: Any, rows: list[Row], x: str, column: str, colour: str, label: str) -> None:
    """A line through the points with the band of their 95 % intervals."""
    columns = (x, column, f"{column} low", f"{column} high")
    at, points, low, high = ([float(row[key]) for row in rows] for key in columns)
    axis.fill_between(at, low, high, color=colour, alpha=0.18, linewidth=0)
    axis.plot(at, points, color=colour, marker="o", label=label)


def _figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches that draws without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _plain(axis: Any) -> None:
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)


def _write(figure: Figure, path: Path) -> Path:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    write_atomically(path, buffer.getvalue())
    return path
